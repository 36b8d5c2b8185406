"""What a main may be so that everybody can read it: every limit is asked of the commit itself, before it is main."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from souq.errors import Hostile
from souq.repo import limits
from souq.repo.git import MAX_FILES, MAX_MOVED, TREE
from souq.repo.limits import LIMITS, exceeded, with_offer
from souq_conformance.git import File
from tests.annals import Annals

EXAM = 'title = "x"\nkind = "exact"\nsource = "me"\nlicence = "CC0-1.0"\n'
CASE = '{"id": "a", "prompt": "1 + 1", "expected": "2"}\n'
FILES = {f"evals/e{n}/{name}": text for n in range(3) for name, text in (("eval.toml", EXAM), ("cases.jsonl", CASE))}


def exam(*names, cases=CASE):
    return {f"evals/{name}/{path}": text.encode() for name in names for path, text in
            (("eval.toml", EXAM), ("cases.jsonl", cases))}  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Three evals at the root, a landing of data with its records, and one of two evals."""
    town = Annals(tmp_path_factory.mktemp("limits") / "a", **FILES | {"model/config.json": "{}"})
    town.open()
    town.agreed()
    town.open("evals", files=exam("more", "much"))
    town.agreed("amira", "bruno", "chen", hours=3)
    return town


def of(town, n):
    """The n-th commit of a town and the one before it."""
    from souq.repo.snapshot import Snapshot

    mains = [Snapshot(town.repo, commit, fresh=True) for commit in town.commits]
    return mains[n], mains[n - 1] if n else None


COUNTED = {  # limit -> the largest count of the root, of the landing of data and of that of evals
    "files and folders that one commit changes": (11, 7, 15),
    "bytes of one file": None,
    "files of one folder": (2, 0, 2),
    "files that one contribution offers": (0, 2, 5),
    "bytes that one contribution offers": None,
    "records of one contribution": (0, 5, 6),
    "bytes of one contribution's records": None,
    "evals": (3, 0, 5),
    "bytes of all evals": (3 * len(EXAM + CASE), 0, 5 * len(EXAM + CASE)),
}


def largest(limit, town, n):
    return max((count for _, count in limit.counts(limits.Result(*of(town, n)))), default=0)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.what)
def test_each_limit_counts_what_it_says(large, limit):
    counts = tuple(largest(limit, large, n) for n in range(3))

    assert COUNTED[limit.what] in (None, counts)
    assert max(counts) > 0


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.what)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_what_is_at_a_limit_may_land_and_what_is_past_it_may_not(large, limit, n, monkeypatch):
    """At every limit, of a beginning and of a landing."""
    if not (count := largest(limit, large, n)):
        return  # it touches nothing that this one bounds
    monkeypatch.setattr(limits, "LIMITS", [replace(limit, most=count)])
    assert exceeded(*of(large, n)) == ()

    monkeypatch.setattr(limits, "LIMITS", [replace(limit, most=count - 1)])
    lines = exceeded(*of(large, n))
    assert lines
    assert all(f"{limit.what}; the most is {count - 1:,} ({limit.raised_by} would stop)" in line for line in lines)


def test_everything_that_is_wrong_is_said_at_once(large, monkeypatch):
    monkeypatch.setattr(limits, "LIMITS", [replace(limit, most=-1) for limit in LIMITS])

    assert len(exceeded(*of(large, 2))) >= 6


def test_what_no_reader_takes_may_not_land(large, tmp_path):
    """An eval's folder with a file of another name stops whoever reads main's evals."""
    after = large.repo.write_commit([large.head], {"evals/e1/notes.bin": b"x"}, "x\n", tree_of=large.head)
    before = of(large, 2)[0]

    assert exceeded(type(before)(large.repo, after), before) == ("evals/e1 holds cases.jsonl, eval.toml, notes.bin",)


def test_an_offer_is_asked_on_the_main_it_would_make(large):
    offer = large.open("evals", files=exam("one"))
    main = of(large, 2)[0]

    after = with_offer(main, offer)

    assert exceeded(after, main) == ()
    assert after.exam == [*main.exam, "one"]
    assert main.repo.ref("refs/heads/main") == large.head


@pytest.mark.parametrize("name", ["cases.jsonl", "eval.toml", "sealed.toml"])
def test_an_exam_that_nobody_could_read_is_not_landed(large, name):
    """Asked of who lands it, and not of history: a rule of tomorrow about cases leaves yesterday's as it is."""
    odd = ({} if name == "sealed.toml" else exam("one")) | {f"evals/one/{name}": b"x = 1"}
    main = of(large, 2)[0]

    (line,) = exceeded(with_offer(main, large.open("evals", files=odd)), main)

    assert f"evals/one/{name}" in line


def change(repo, before, now):
    return next(repo.steps(now, before))


def unfolding(git, leaf, deep=10):
    tree = git.entries([(str(i), leaf) for i in range(10)])
    for _ in range(deep - 1):
        tree = git.entries([(str(i), File(tree, "40000")) for i in range(10)])
    return tree


@pytest.mark.parametrize("leaf", ["a file", "an empty folder"])
def test_ten_billion_paths_are_counted_no_further_than_asked(large, leaf):
    """A kilobyte of trees; git would walk them all before it says the first."""
    git, repo = large.git, large.repo
    entry = git.file(b"x") if leaf == "a file" else File(git.entries([]), "40000")
    commit = git.commit(unfolding(git, entry), [large.head], "x\n", 1_764_000_000)

    for ask in (lambda: change(repo, large.head, commit), lambda: [*repo.steps(commit)]):
        with pytest.raises(Hostile, match=f"changes more than {MAX_MOVED:,} files and folders"):
            ask()
    with pytest.raises(Hostile, match=f"changes more than {MAX_FILES:,} files and folders"):
        repo.changed(large.head, commit)
    after, before = (SimpleNamespace(repo=repo, commit=each) for each in (commit, large.head))
    assert f"changes more than {MAX_MOVED:,}" in exceeded(after, before)[0]


def test_folders_deeper_than_any_disk_takes(large):
    """Each level costs a question, and a path as long as all above it."""
    git = large.git
    tree = git.entries([("a", git.file(b"x"))])
    for _ in range(3_000):
        tree = git.entries([("a", File(tree, "40000"))])

    with pytest.raises(Hostile, match="a path of more than 4,096 letters: 'a/a/a"):
        change(large.repo, large.head, git.commit(tree, [large.head], "x\n", 1_764_000_000))


def test_what_a_commit_changes_is_what_git_says(large):
    """Files that become folders and folders that become files, links and modes among them."""
    git, repo = large.git, large.repo
    x, y = git.file(b"x"), git.file(b"y")
    old = git.tree({"a": x, "b/c": x, "b/d": x, "e/f/g": x, "k": x, "m\nn": x})
    new = git.tree({"a/z": x, "b": y, "e/f/g": y, "k": File(x.oid, "120000"), "m\nn": y, "é": x})
    first = git.commit(old, [], "x\n", 1)
    second = git.commit(new, [first], "x\n", 2)

    moved = change(repo, first, second).moved

    words = ("diff-tree", "-r", "-z", "--no-renames", old, new)
    rows = repo._git(*words).stdout.decode().split("\0")
    said = [(name, *facts.lstrip(":").split()[1:4]) for facts, name in zip(rows[::2], rows[1::2], strict=False)]
    assert sorted((each.path, each.mode, each.old or "0" * 40, each.new or "0" * 40) for each in moved) == sorted(said)
    assert repo.changed(first, second) == sorted({name for name, *_ in said})
    assert [each.path for each in change(repo, "", first).moved] == ["a", "b/c", "b/d", "e/f/g", "k", "m\nn"]
    assert TREE not in {each.mode for each in moved}


# -- as people meet it -------------------------------------------------------------------------------------------------


def lower(monkeypatch, what, most):
    monkeypatch.setattr(
        limits, "LIMITS", [replace(each, most=most if each.what == what else each.most) for each in LIMITS]
    )


def test_the_checks_say_it_before_anybody_votes_and_the_landing_does_not_begin(bazaar, monkeypatch):
    number = bazaar.offer("chen", bazaar.delta("greet"))
    bazaar.says("amira", f"pr checks {number}")
    for who in ("amira", "bruno"):
        assert bazaar(who, f"pr review {number} --approve --reason x") == 0
    before = bazaar.main().commit
    lower(monkeypatch, "files that one contribution offers", 1)

    assert "nobody could read main with it: contributions/" in bazaar.refusal(number)[1]
    monkeypatch.setattr("souq.pulls.land.decision_on", lambda pull, main: SimpleNamespace(missing=()))
    code, _, err = bazaar.says("bruno", f"pr merge {number}")
    assert (code, "nobody could read main with #" in err) == (3, True), (code, err)
    assert bazaar.main().commit == before


def test_nothing_begins_that_nobody_could_read(bazaar, monkeypatch):
    lower(monkeypatch, "files and folders that one commit changes", 5)

    code, _, err = bazaar.says("amira", f"init other --from {bazaar.folder}/tiny --governance solo --no-suite")

    assert (code, "files and folders that one commit changes; the most is 5" in err) == (2, True), err
