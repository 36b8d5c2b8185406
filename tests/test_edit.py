"""`pr edit` offers anew, signed anew; `pr checkout` puts a pull request's files in front of one's editor, and no more."""

from __future__ import annotations

import json
import subprocess

import pytest

from souq.pulls import land, reviews
from souq.pulls import pull as pulls
from souq.records import digest_files


def git(bazaar, *words, who="amira"):
    done = subprocess.run(["git", *words], cwd=bazaar.actors[who].clone, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def offered(bazaar):
    """Chen's greetings, #2."""
    assert bazaar.offer("chen", bazaar.delta("greet")) == 2
    return bazaar


def offer(bazaar, number=2, who="bruno"):
    return pulls.get(bazaar.repo(who), number).offer


# -- pr edit -----------------------------------------------------------------------------------------------------------


def test_what_is_edited_is_signed_anew_and_voted_on_anew(offered):
    """The new words stand under the same number and name, by the author's signature; votes on the old are void."""
    before = offer(offered)
    assert offered("amira", "pr checks 2") == 0
    assert offered("amira", "pr review 2 --approve --reason fine") == 0
    words = ["--title", "Friendly greetings", "--provenance", "by hand", "--licence", "CC0-1.0", "--signoff"]

    code, out, _ = offered.says("chen", ["pr", "edit", "2", *words, "--json"])

    after, c = offer(offered), offer(offered).contribution
    assert code == 0
    assert json.loads(out) == {"number": 2, "digest": after.digest, "was": before.digest}
    assert (c.title, c.provenance, c.licence, c.fixes) == ("Friendly greetings", "by hand", "CC0-1.0", ("greet",))
    assert after.slug == before.slug
    assert after.delta == before.delta
    pull, main = pulls.get(offered.repo("bruno"), 2), offered.main("bruno")
    assert reviews.signed_off(pull, main).outcome == "pass"
    assert land.decision_on(pull, main).missing[-1].endswith("(have nobody)")
    offered.land(2, "amira", "bruno")
    assert offered("bruno", "verify") == 0


def test_other_weights_take_the_place_of_its_own(offered):
    assert offered("chen", ["pr", "edit", "2", "--delta", offered.delta("count"), "--fixes", "count"]) == 0

    assert offer(offered).contribution.fixes == ("count",)
    assert reviews.look(offered.repo("bruno"), 2).verdicts
    assert digest_files(dict(offer(offered).files)) == offer(offered).digest


@pytest.mark.parametrize(
    ("who", "words", "code", "line"),
    [
        ("amira", ["--title", "Mine"], 3, "only its author"),
        ("chen", [], 2, "nothing to change"),
        ("chen", ["--licence", "MIT"], 2, "add --signoff"),
        ("chen", ["--licence", "MTI", "--signoff", "--fixes", "gret"], 2, "no eval gret on main (did you mean 'greet'?)"),
        ("chen", ["--fixes", "count", "--no-fixes"], 2, "one of them"),
        ("chen", ["--delta", "nowhere.delta"], 1, "no file nowhere.delta"),
        ("chen", ["--title", "\x1b[31m"], 3, "control character"),
    ],
)  # fmt: skip
def test_what_cannot_be_edited_changes_nothing(offered, who, words, code, line):
    before = offer(offered).digest

    done, _, err = offered.says(who, ["pr", "edit", "2", *words])

    assert (done, offer(offered).digest) == (code, before)
    assert line in err


def test_what_landed_is_not_edited(offered):
    code, _, err = offered.says("chen", ["pr", "edit", "1", "--title", "Other evals"])

    assert code == 3
    assert "#1 is already merged" in err


# -- pr checkout -------------------------------------------------------------------------------------------------------


def test_checkout_is_a_branch_as_hands_know_it(offered):
    """The working files are the pull request's, main stays where it is, and its own souq lines still work."""
    assert offered("amira", "pull") == 0
    main = git(offered, "rev-parse", "main")

    code, _, _ = offered.says("amira", "pr checkout 2")

    home = offered.actors["amira"].clone / "contributions" / "0002-greetings"
    assert code == 0
    assert git(offered, "branch", "--show-current") == "pr/2"
    assert git(offered, "rev-parse", "main") == main
    assert {path.name for path in home.iterdir()} == {"contribution.toml", "delta.lock"}
    assert offered("amira", "status") == 0
    assert offered("amira", "pr view 2 --no-forecast") == 0
    git(offered, "switch", "--quiet", "main")
    assert not home.exists()


def test_checkout_again_follows_its_author_only_when_told(offered):
    assert offered("amira", "pr checkout 2") == 0
    assert offered("amira", "pr checkout 2") == 0
    assert offered("chen", ["pr", "edit", "2", "--title", "Others"]) == 0

    code, _, err = offered.says("amira", "pr checkout 2")

    assert code == 2
    assert "the branch pr/2 is at" in err
    assert offered("amira", "pr checkout 2 --force") == 0
    assert git(offered, "rev-parse", "HEAD") == pulls.get(offered.repo("amira"), 2).head


def test_checkout_loses_nothing_that_was_changed_by_hand(offered):
    clone = offered.actors["amira"].clone
    (clone / "contributions" / "0002-greetings").mkdir(parents=True)
    (clone / "contributions" / "0002-greetings" / "contribution.toml").write_text("mine")

    code, _, err = offered.says("amira", "pr checkout 2")

    assert code == 2
    assert "git stash" in err
    assert (clone / "contributions" / "0002-greetings" / "contribution.toml").read_text() == "mine"
    assert git(offered, "branch", "--show-current") == "main"


def test_checkout_into_a_folder(offered):
    code, out, _ = offered.says("amira", ["pr", "checkout", "2", "--to", offered.folder / "look", "--json"])

    assert code == 0
    assert json.loads(out)["files"] == ["contribution.toml", "delta.lock"]
    assert (offered.folder / "look" / "delta.lock").read_bytes() == offer(offered).files["delta.lock"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"README.md": b"mine now"}, "'README.md' outside its own folder"),
        ({".gitattributes": b"* filter=x"}, "'.gitattributes' outside"),
        ({"contributions/0002-greetings/data/.gitattributes": b"* filter=x"}, "'data/.gitattributes'"),
    ],
)
def test_checkout_brings_no_stranger_s_files_beside_its_own(offered, more, line):
    """A head may hold any tree: what is outside its folder, or git would obey, is not put into a working folder."""
    repo = offered.repo("mallory")
    pull, main = pulls.get(repo, 2), offered.main("mallory")
    files = {f"{pull.offer.home}{path}": data for path, data in pull.offer.files.items()} | more
    head = repo.write_commit([main.commit], files, "mine\n", tree_of=main.commit)
    repo.publish({f"{pulls.PULLS}2/head": (pull.head, head)}, [])

    code, _, err = offered.says("amira", "pr checkout 2")

    assert code == 1
    assert line in err
    assert git(offered, "branch", "--show-current") == "main"


def test_checkout_brings_no_history_but_main_s(offered):
    repo = offered.repo("mallory")
    pull, main = pulls.get(repo, 2), offered.main("mallory")
    mine = repo.write_commit([main.commit], {"README.md": b"mine"}, "mine\n", tree_of=main.commit)
    files = {f"{pull.offer.home}{path}": data for path, data in pull.offer.files.items()}
    head = repo.write_commit([mine], files, "mine\n", tree_of=mine)
    repo.publish({f"{pulls.PULLS}2/head": (pull.head, head)}, [])

    code, _, err = offered.says("amira", "pr checkout 2")

    assert code == 1
    assert "does not stand on main" in err


def test_a_licence_is_written_down_by_its_spdx_name(offered):
    """However somebody calls it, and whichever verb is told."""
    assert offered("chen", ["pr", "edit", "2", "--licence", "cc0", "--signoff"]) == 0
    assert offer(offered).contribution.licence == "CC0-1.0"
    filed = ["bug", "file", "say x", "--expected", "x", "--signoff", "--licence"]
    assert offered("chen", [*filed, "MTI"]) == 2
    assert offered("chen", [*filed, "apache-2.0 OR CC0"]) == 0
    assert offer(offered, 3).contribution.licence == "Apache-2.0 OR CC0-1.0"
