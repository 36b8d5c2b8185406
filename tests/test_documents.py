"""Documents land like all else: by the policy, at main's top or in docs/, and nowhere that anything reads as a rule."""

from __future__ import annotations

import pytest

from souq.checks import Case
from souq.checks import run as run_checks
from souq.governance import read_policy
from souq.governance.templates import TEMPLATES
from souq.pulls import land
from souq.pulls import offer as offers
from souq.pulls import pull as pulls
from souq.pulls.offer import Draft
from souq.records import Contribution
from souq.repo.contribution import is_document
from souq.repo.landing import malformed, touched
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from tests.tiny import write_model

WORDS = ["--title", "Papers", "--licence", "CC0-1.0", "--signoff"]


def create(bazaar, who, *files, more=()):
    (bazaar.folder / "papers" / "docs").mkdir(parents=True, exist_ok=True)
    named = []
    for name, text in files:
        path = bazaar.folder / "papers" / name
        path.write_bytes(text)
        named += ["--file", f"{name}={path}"]
    return bazaar.says(who, ["pr", "create", *named, *WORDS, *more])


def draft(bazaar, who, files):
    person = bazaar.person(who)
    contribution = Contribution(title="Papers", kind="documents", author=person.author, licence="CC0-1.0", signoff=f"{who} <{person.email}>")  # fmt: skip
    return Draft(contribution, more=files)


def refusal(bazaar, files, who="chen"):
    """Why an offer past the courtesy of local checks is refused by the check `files`."""
    pull = offers.create(bazaar.repo(who), draft(bazaar, who, files), bazaar.person(who), checked=False)
    main = bazaar.main(who)
    verdicts = run_checks(Case(main, pull.head, pull.offer), costly=False)
    return next((v.because for v in verdicts if v.check == "files" and not v), None), pull, main


def test_documents_land_by_votes_and_main_verifies(bazaar):
    """LICENSE, README, a data sheet: offered by anybody, checked, voted on, at their places on main; a doubter agrees."""
    code, _, _ = create(bazaar, "mallory", ("LICENSE", b"Take it.\n"), ("README.md", b"# Better\n"), ("docs/sheet.md", b"rows\n"))  # fmt: skip
    assert code == 0

    bazaar.land(2, "amira", "bruno")

    main = bazaar.main()
    assert [main.text(name) for name in ("LICENSE", "README.md", "docs/sheet.md")] == [
        "Take it.\n",
        "# Better\n",
        "rows\n",
    ]
    assert bazaar("bruno", "pull") == 0
    assert bazaar("bruno", "verify") == 0
    assert (bazaar.actors["bruno"].clone / "LICENSE").read_text() == "Take it.\n"
    assert bazaar("chen", ["pr", "create", bazaar.delta("greet"), *WORDS, "--fixes", "greet"]) == 0


def test_a_document_is_taken_back_like_all_else(bazaar):
    """Main reads as before it; while a later one stands in its place, that has to go first."""
    assert create(bazaar, "mallory", ("README.md", b"# First\n"))[0] == 0
    bazaar.land(2, "amira", "bruno")
    assert create(bazaar, "mallory", ("README.md", b"# Second\n"), ("docs/sheet.md", b"rows\n"))[0] == 0
    bazaar.land(3, "amira", "bruno")
    first, second = sorted(slug for slug, offer in bazaar.main().offers.items() if offer.documents)

    code, _, errors = bazaar.says("amira", f"pr revert {first} --reason old")
    assert code != 0
    assert "README.md is not as" in errors
    assert bazaar("amira", f"pr revert {second} --reason worse") == 0
    bazaar.land(max(pull.number for pull in pulls.listed(bazaar.repo("amira"))), "adil", "bruno")

    assert bazaar.main().text("README.md") == "# First\n"
    assert bazaar.main().documents(["docs/sheet.md"]) == {}
    for name in (second, "3", "#3"):
        _, _, errors = bazaar.says("amira", f"pr revert {name} --reason again")
        assert f"{second} was taken back by #4" in errors
        assert "`souq pr restore 4`" in errors
    assert bazaar("amira", "pr restore 3") == 0  # by the number of what was taken, too
    assert bazaar("bruno", "pull") == 0
    assert bazaar("bruno", "verify") == 0


def test_who_approves_is_the_scope_documents(bazaar):
    policy = read_policy(bazaar.main().policy_text)

    scopes, closed = policy.scopes(["LICENSE", "NOTICE", "README.md", "docs/a.md", "CITATION.cff", "NOTES.txt"])

    assert ([scope.name for scope in scopes], closed) == (["documents"], [])


@pytest.mark.parametrize("template", [*TEMPLATES])
def test_every_template_covers_every_document(template, bazaar):
    """In each template somebody may approve them; without a scope nobody could."""
    people = list(read_policy(bazaar.main().policy_text).person)

    policy = read_policy(TEMPLATES[template](people))

    assert (
        policy.scopes(["LICENSE", "LICENSE.base", "NOTICE", "README.md", "docs/a.tex", "CITATION.cff", "A1.txt"])[1]
        == []
    )


NEVER = [
    "GOVERNANCE.toml", "souq.toml", "model.lock", "base.lock", "base.sketch", "model/config.json", "evals/x/eval.toml",
    "contributions/0001-evals/data.md", "releases/1.0/README.md", "releases/1.0/release.json", ".gitattributes", ".github/a.md",
    ".gitmodules", "docs/../souq.toml", "docs/a/b.md", "readme.md", "README.MD", "docs/a.html", "docs/a.svg", "setup.py",
    "LICENSE/x.md", "docs/.md", "", "docs/", "Makefile",
]  # fmt: skip


@pytest.mark.parametrize("path", NEVER)
def test_nothing_that_is_a_rule_or_runs_is_a_document(bazaar, path):
    """What a document may be called is a short list; who verifies asks it too, so no vote can lift it."""
    assert not is_document(path)
    offer = pulls.get(bazaar.repo("chen"), 1).offer
    assert "is no document" in malformed(
        type(offer)(offer.slug, draft(bazaar, "chen", {f"documents/{path}": b"x"}).files())
    )


def test_a_landing_that_was_forced_does_not_verify(bazaar):
    """Where everybody agrees to land souq.toml as a document, whoever doubts refuses it."""
    _, pull, main = refusal(bazaar, {"documents/souq.toml": b"name = 'x'\n"})

    assert land.decision_on(pull, main).missing == (
        "'souq.toml' is no document: LICENSE, NOTICE, CITATION.cff, NAME.md, NAME.txt, docs/name.md",
    )


@pytest.mark.parametrize(
    ("files", "because"),
    [
        ({"documents/README.md": b"\x1b[2J"}, "control character"),
        ({"documents/README.md": b"\xff\xfe"}, "no plain text in UTF-8"),
        ({"documents/docs/a.md": b"1", "documents/docs/A.md": b"2"}, "one file where capitals do not count"),
        ({"documents/docs/aux.md": b"1"}, "a device on Windows"),
        ({"documents/README.md": b"x" * ((1 << 20) + 1)}, "the most is 1,048,576"),
        ({"documents/README.md": b"1", "data/a.jsonl": b'{"text": "x"}\n'}, "brings no data/a.jsonl"),
        ({}, "without documents/"),
    ],
)  # fmt: skip
def test_a_document_is_plain_text_of_a_name_of_its_own(bazaar, files, because):
    assert because in str(refusal(bazaar, files)[0])


def test_a_document_that_main_changed_since_is_offered_anew(bazaar):
    """Two people edit README: the second would undo the first without having seen it."""
    assert create(bazaar, "chen", ("README.md", b"one\n"))[0] == 0
    assert create(bazaar, "mallory", ("README.md", b"two\n"))[0] == 0
    bazaar.land(2, "amira", "bruno")

    assert bazaar.refusal(3) == (
        "files",
        "README.md is another on main by now: its author looks at that and offers it anew",
    )


def test_what_a_document_touches_is_what_lands(bazaar):
    _, pull, main = refusal(bazaar, {"documents/docs/a.md": b"1"})

    assert [path for path in touched(pull.offer, main) if not path.startswith("contributions/")] == ["docs/a.md"]


def test_diff_shows_what_changes_line_by_line(bazaar):
    assert create(bazaar, "chen", ("README.md", b"# smol\n\nmine\n"))[0] == 0

    _, out, _ = bazaar.says("amira", "pr diff 2")

    assert "--- main/README.md" in out
    assert "\n+mine\n" in out


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--file", "nowhere.md"], 2, "'nowhere.md' is no document's name"),
        (["--file", "NOWHERE.md"], 1, "no file NOWHERE.md"),
        (["--file", "GOVERNANCE.toml=x"], 2, "is no document's name"),
        (["--file", "README.md", "--data", "x.jsonl"], 2, "a pull request of their own"),
    ],
)
def test_what_is_no_document_is_said_before_anything_is_sent(bazaar, words, code, line):
    done, _, err = bazaar.says("chen", ["pr", "create", *words, *WORDS])

    assert done == code
    assert line in err
    assert len(pulls.listed(bazaar.repo("amira"))) == 1


# -- init puts the licence's text in -----------------------------------------------------------------------------------


def begun(bazaar, tmp_path, *words, text=b"The licence.\r\n"):
    model = write_model(tmp_path / "model")
    if text is not None:
        (model / "LICENSE.txt").write_bytes(text)
    assert bazaar("amira", ["init", "new", "--from", model, "--no-suite", *words], at=bazaar.folder) == 0

    return Snapshot(Repo.find(bazaar.folder / "new"), "main")


def test_the_base_s_licence_text_comes_with_it(bazaar, tmp_path):
    main = begun(bazaar, tmp_path)

    assert main.text("LICENSE") == "The licence.\r\n"


def test_where_there_is_no_text_nothing_is_invented(bazaar, tmp_path):
    """And the way to bring one is said."""
    main = begun(bazaar, tmp_path, text=None)

    assert not [path for path in main.paths("") if path.startswith("LICENSE")]
