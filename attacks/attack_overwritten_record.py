"""A server takes a no away: it deletes the ref that holds it, or puts other bytes under the same name."""

import subprocess

import pytest


def git(at, *words, data=b""):
    return subprocess.run(["git", *words], cwd=at, input=data, capture_output=True, check=True).stdout.decode().strip()


@pytest.mark.lands
@pytest.mark.parametrize("how", ["deleted", "overwritten", "under another kind", "moved to another number"])
def test_whoever_has_seen_it_keeps_it(bazaar, how):
    """Every clone that fetched it holds on to it, counts it, and says what the remote has done."""
    hub, number = bazaar.folder / "hub.git", bazaar.offer("mallory", bazaar.delta("greet"))
    assert bazaar("chen", f"pr review {number} --reject --reason no") == 0
    before = bazaar.repo("bruno").refs(f"refs/souq/pr/{number}/")
    ref = next(name for name in before if "/vote/" in name)
    if how == "overwritten":
        git(hub, "update-ref", ref, git(hub, "hash-object", "-w", "--stdin", data=b"nothing"))
    else:
        git(hub, "update-ref", "-d", ref)
    if how == "under another kind":
        git(hub, "update-ref", ref.replace("/vote/", "/praise/"), before[ref])
    if how == "moved to another number":
        git(hub, "update-ref", ref.replace(f"/{number}/", f"/{number + 90}/"), before[ref])

    code, _, err = bazaar.says("bruno", "status")
    assert code == 0
    assert ref in err
    assert bazaar.repo("bruno").refs(f"refs/souq/pr/{number}/").items() >= before.items()
    assert bazaar("amira", f"pr checks {number}") == 0
    for who in ("amira", "bruno"):
        assert bazaar(who, f"pr review {number} --approve --reason fine") == 0
    code, _, err = bazaar.says("bruno", f"pr merge {number}")
    assert code == 3
    assert "chen" in err


def test_a_fresh_clone_takes_no_lie(bazaar):
    """Other bytes under a record's name are nobody's record, and stop nobody who clones."""
    hub, number = bazaar.folder / "hub.git", bazaar.offer("mallory", bazaar.delta("greet"))
    blob = git(hub, "hash-object", "-w", "--stdin", data=b"nothing")
    git(hub, "update-ref", f"refs/souq/pr/{number}/vote/0123456789abcdef", blob)

    assert bazaar("adil", ["clone", hub, "fresh"], at=bazaar.folder) == 0
    assert "0123456789abcdef" not in git(bazaar.folder / "fresh", "for-each-ref")
