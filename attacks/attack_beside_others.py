"""Somebody else's pull request made unreadable, unmergeable or endless by what is pushed beside its records."""

import subprocess

import pytest

from attacks.by_hand import blob, git, offer, push
from souq.pulls import pull as pulls

BESIDE = {
    "a commit for a vote": lambda b, n: push(b, git(b, "rev-parse", "HEAD"), f"refs/souq/pr/{n}/vote/aaaa"),
    "two megabytes for a vote": lambda b, n: push(b, blob(b, b"x" * (2 << 20)), f"refs/souq/pr/{n}/vote/aaab"),
    "a tree for what closed it": lambda b, n: push(b, git(b, "rev-parse", "HEAD^{tree}"), f"refs/souq/pr/{n}/closed/x"),
    "a commit for a check": lambda b, n: push(b, git(b, "rev-parse", "HEAD"), f"refs/souq/pr/{n}/checked/x"),
    "a merge record of its own": lambda b, n: push(b, blob(b, b"{}"), f"refs/souq/pr/{n}/merge"),
    "a kind nobody knows": lambda b, n: push(b, blob(b, b"{}"), f"refs/souq/pr/{n}/grant/root"),
    "a name in reversed writing": lambda b, n: push(b, blob(b, b"{}"), f"refs/souq/pr/{n}/vote/\u202ex"),
    "ninety megabytes of votes": lambda b, n: many(b, n, 90, b"x" * 1_000_000),
    "three hundred votes of nobody": lambda b, n: many(b, n, 300, b"junk"),
}


def many(bazaar, number, count, data):
    oids = [blob(bazaar, b"%d" % i + data).decode() for i in range(count)]
    rows = "".join(f"create refs/souq/pr/{number}/vote/{oid[:16]} {oid}\n" for oid in oids)
    git(bazaar, "update-ref", "--stdin", data=rows.encode())
    git(bazaar, "push", "-q", "origin", f"refs/souq/pr/{number}/vote/*:refs/souq/pr/{number}/vote/*")


@pytest.mark.lands
@pytest.mark.parametrize("name", BESIDE)
def test_it_lands_all_the_same(bazaar, name):
    """One commit under pr/<n>/vote/ made a pull request unreadable to everybody, and it could not be merged."""
    number = bazaar.offer("chen", bazaar.delta("greet"))
    BESIDE[name](bazaar, number)

    assert f"\n{number}  " in bazaar.says("amira", "pr list")[1]
    bazaar.land(number)
    assert pulls.get(bazaar.repo("adil"), number).state(bazaar.main("adil")) == "merged"


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\xe2\x80\xaeb"])
def test_a_ref_whose_name_is_no_text(bazaar, name):
    """A remote may list any bytes; `pr list` was a traceback."""
    hub = bazaar.folder / "hub.git"
    main = subprocess.run(["git", "rev-parse", "main"], cwd=hub, capture_output=True, check=True).stdout.strip()
    with (hub / "packed-refs").open("ab") as refs:
        refs.write(main + b" refs/souq/pr/3/vote/" + name + b"\n")

    for line in ("fetch", "pr list", "status", "verify"):
        code, out, err = bazaar.says("amira", line)
        assert (code, "Traceback" in err, "\u202e" in out + err) == (0, False, False), (line, err)


def test_a_name_that_landed_already_is_not_merged(bazaar):
    """A head on an old main whose folder is called like a landed one was shown as merged."""
    offer(bazaar, slug=b"0001-evals", base="refs/remotes/origin/main~1")

    (pull,) = [pull for pull in pulls.listed(bazaar.repo("amira")) if pull.number == 7]
    assert pull.state(bazaar.main()) == "open"
    assert bazaar.refusal(7)[0] == "files"
