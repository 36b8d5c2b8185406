"""refs/souq/pr/N/head that points at no contribution: a blob, a tree, a commit without a parent, two folders, none."""

import subprocess

import pytest

from souq.pulls import pull

TOML = b'title = "x"\nkind = "data"\nlicence = "MIT"\nsignoff = "a <a@b>"\n[author]\nname = "a"\nemail = "a@b"\nkey = "k"\n'


def head(repo, kind):
    main = repo.tip()
    match kind:
        case "a blob":
            return repo.write_blob(b"hello")
        case "a tree":
            return repo.commit(main) + "^{tree}"
        case "a commit without a parent":
            return repo.write_commit([], {"contributions/0009-x/contribution.toml": TOML}, "x\n")
        case "two folders":
            files = {f"contributions/000{n}-x/contribution.toml": TOML for n in (8, 9)}
            return repo.write_commit([main], files, "x\n", tree_of=main)
        case "no folder":
            return repo.write_commit([main], {}, "x\n", tree_of=main)
        case "a folder of main's":
            path = "contributions/0001-evals/contribution.toml"
            return repo.write_commit([main], {path: TOML}, "x\n", tree_of=main)


KINDS = ["a blob", "a tree", "a commit without a parent", "two folders", "no folder", "a folder of main's"]


@pytest.mark.lands
@pytest.mark.parametrize("kind", KINDS)
def test_it_stops_nobody(bazaar, kind):
    """Everybody else's verbs go on; it is never merged; whoever is enrolled closes it."""
    honest = bazaar.offer("chen", bazaar.delta("greet"))
    repo, clone = bazaar.repo("mallory"), bazaar.actors["mallory"].clone
    words = ["git", "push", "-q", "origin", f"{head(repo, kind)}:refs/souq/pr/7/head"]
    subprocess.run(words, cwd=clone, check=True)

    for line in ("fetch", "status", "pr list", f"pr view {honest}", "gc"):
        code, _, err = bazaar.says("amira", line)
        assert (code, "Traceback" in err) == (0, False), (line, err)
    for line in ("pr view 7", "pr checks 7", "pr review 7 --approve --reason ok", "pr merge 7", "pr diff 7"):
        code, _, err = bazaar.says("amira", line)
        assert "Traceback" not in err
        assert code in ((0, 1, 3) if line.startswith("pr diff") else (1, 3)), (line, err)
    assert bazaar("amira", "pr close 7 --reason nothing-there") == 0
    assert pull.get(bazaar.repo("bruno"), 7).state(bazaar.main()) == "closed"
    bazaar.land(honest)
