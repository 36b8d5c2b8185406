"""What a hand that knows git types without thinking: nothing of it poisons a repository or sends votes astray."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from souq.repo.git import MAIN
from souq.repo.remote import Repo


def git(bazaar, *words, who="amira"):
    done = subprocess.run(["git", *words], cwd=bazaar.actors[who].clone, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def committed(bazaar):
    """Amira has committed a file on main, as one does."""
    assert bazaar("amira", "pull") == 0
    (bazaar.actors["amira"].clone / "NOTES.md").write_text("mine\n")
    git(bazaar, "add", "NOTES.md")
    git(bazaar, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "notes")
    return bazaar


def remote_main(bazaar):
    return subprocess.run(["git", "rev-parse", MAIN], cwd=bazaar.folder / "hub.git", capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip


# -- git commit on main ------------------------------------------------------------------------------------------------


def test_a_commit_beside_what_others_landed_is_told_too(bazaar):
    """Behind and ahead at once: typing the same again would never help."""
    git(bazaar, "reset", "-q", "--hard", git(bazaar, "rev-list", "--max-parents=0", "main"))
    git(bazaar, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "mine")

    code, _, err = bazaar.says("amira", "push")

    assert code == 3
    assert "nobody could verify" in err


def test_who_is_behind_is_told_to_pull(bazaar):
    git(bazaar, "reset", "-q", "--hard", git(bazaar, "rev-list", "--max-parents=0", "main"))

    code, _, err = bazaar.says("amira", "push")

    assert code == 1
    assert "Hint: `souq pull`, then push" in err
    assert bazaar("amira", "pull") == bazaar("amira", "push") == 0


def test_a_commit_on_main_is_not_pushed(committed):
    before = remote_main(committed)

    code, _, err = committed.says("amira", "push")

    assert code == 3
    assert "main here has commits that nobody could verify: changes NOTES.md without a pull request" in err
    assert remote_main(committed) == before


def test_status_says_so_first(committed):
    code, _, err = committed.says("amira", "status")

    assert code == 0
    assert "nobody could verify" in err
    assert committed.says("bruno", "status")[2].count("nobody") == 0


def test_the_way_back_that_is_named_goes_back_and_loses_nothing(committed):
    err = committed.says("amira", "push")[2]
    line = err.split("go back: `")[1].split("`")[0]
    for command in line.split(" && "):
        git(committed, *shlex.split(command)[1:])

    assert committed("amira", "push") == 0
    assert git(committed, "show", "aside:NOTES.md") == "mine"
    assert committed("amira", "verify") == 0


def test_what_was_never_shared_is_judged_too(committed, tmp_path):
    """A first push: nobody has a main yet."""
    git(committed, "remote", "remove", "origin")
    repo = Repo.find(committed.actors["amira"].clone)
    assert repo.remote is None

    code, _, err = committed.says("amira", f"push {tmp_path / 'fresh.git'}")

    assert (code, "nobody could verify" in err, (tmp_path / "fresh.git").exists()) == (3, True, False)


def test_landings_of_one_s_own_are_pushed(bazaar):
    """What only this clone has and everybody would verify is no fault: it was merged while the remote was away."""
    assert bazaar("amira", "pull") == 0
    git(bazaar, "update-ref", "refs/remotes/origin/main", git(bazaar, "rev-list", "--max-parents=0", "main"))

    assert bazaar("amira", "push") == 0


# -- where to ----------------------------------------------------------------------------------------------------------


def test_origin_is_the_remote_called_origin(bazaar):
    assert bazaar("amira", "pull") == 0
    code, out, _ = bazaar.says("amira", "push origin")

    assert (code, out) == (0, f"pushed to {bazaar.folder / 'hub.git'}\n")
    assert not (bazaar.actors["amira"].clone / "origin").exists()


def test_another_place_is_asked_for_in_words(bazaar, tmp_path):
    before, other = bazaar.repo("amira").remote, tmp_path / "other.git"

    code, _, err = bazaar.says("amira", f"push {other}")

    assert (code, other.exists(), bazaar.repo("amira").remote) == (2, False, before)
    assert f"this clone is shared with {before}" in err
    assert f"`souq push {other} --set-remote`" in err
    code, _, err = bazaar.says("amira", f"push {other} --set-remote")
    assert (code, bazaar.repo("amira").remote) == (0, str(other))
    assert "it becomes a new bare repository" in err


def test_a_name_that_is_none_makes_no_folder(bazaar):
    git(bazaar, "remote", "remove", "origin")

    code, _, err = bazaar.says("amira", "push upstream")

    assert (code, "git knows no remote called upstream" in err) == (1, True)
    assert not (bazaar.actors["amira"].clone / "upstream").exists()


def test_another_remote_of_git_s_is_another_place(bazaar):
    git(bazaar, "remote", "add", "fork", str(bazaar.folder / "fork.git"))

    code, _, err = bazaar.says("amira", "push fork")

    assert code == 2
    assert "`souq push fork --set-remote`" in err


# -- names of what one means -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["1", "#1", "0001-evals", "evals", "eval"])
def test_a_pull_request_goes_by_its_number_or_any_part_of_its_name(bazaar, word):
    code, out, _ = bazaar.says("amira", ["pr", "view", word, "--json"])

    assert code == 0
    assert '"number":1' in out.replace(" ", "")


@pytest.mark.parametrize(
    ("word", "line"),
    [("nobody", "no pull request has 'nobody' in its name"), ("0", "no pull request #0"), ("#", "no pull request")],
)  # fmt: skip
def test_a_name_of_none_is_said(bazaar, word, line):
    code, _, err = bazaar.says("amira", ["pr", "view", word])

    assert code in (1, 2)
    assert line in err


def test_a_part_of_several_names_is_of_none(bazaar):
    for skill in ("greet", "count"):
        bazaar.offer("chen", bazaar.delta(skill), title=f"{skill} them", fixes=skill)

    assert bazaar("amira", "pull") == 0
    code, _, err = bazaar.says("amira", "pr view them")
    assert code == 2
    assert "#2 0002-greet-them" in err
    assert "#3 0003-count-them" in err
    assert bazaar("amira", "pr view greet") == 0


def test_what_landed_goes_by_its_number_too(bazaar):
    assert bazaar("amira", "pull") == 0
    shown = [bazaar.says("amira", ["show", word]) for word in ("1", "#1", "evals", "0001-evals")]

    assert {code for code, _, _ in shown} == {0}
    assert len({out for _, out, _ in shown}) == 1
    assert bazaar("amira", ["pr", "revert", "1", "--reason", "mistaken"]) == 0


# -- words -------------------------------------------------------------------------------------------------------------


def test_checks_nobody_ran_are_one_line(bazaar):
    bazaar.offer("chen", bazaar.delta("greet"))

    code, _, err = bazaar.says("amira", "pr merge 2")

    lines = [line for line in err.splitlines() if "missing: " in line]
    assert code == 3
    assert (
        lines[0]
        == "  missing: 14 checks have not been run by an enrolled person other than the author: `souq pr checks 2`"
    )
    assert len(lines) == 2


def test_pull_is_fetch(bazaar):
    assert bazaar.says("bruno", "pull")[:2] == bazaar.says("bruno", "fetch")[:2]


@pytest.mark.parametrize("words", ["help", "help pr", "help pr create", "help verify"])
def test_help_is_a_verb_as_it_is_in_git(bazaar, words):
    code, out, _ = bazaar.says("amira", words)

    verb = words.removeprefix("help").strip()
    assert (code, out) == bazaar.says("amira", f"{verb} --help".strip())[:2]


def test_help_of_nothing_names_the_nearest(bazaar):
    code, _, err = bazaar.says("amira", "help verfy")

    assert code == 2
    assert "verify" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(bazaar, shell):
    code, out, _ = bazaar.says("amira", f"completion {shell}")

    assert code == 0
    assert "_SOUQ_COMPLETE" in out


# -- cheap mistakes are told before expensive work ---------------------------------------------------------------------

OFFER = ["pr", "create", "--title", "x", "--signoff"]


def test_all_that_is_mistyped_is_told_at_once_and_nothing_is_opened(bazaar):
    (bazaar.folder / "no.delta").write_bytes(b"not opened: it would be told first")
    words = [*OFFER, bazaar.folder / "no.delta", "--licence", "MTI", "--fixes", "gret", "--data", "rows.jsonl"]

    code, _, err = bazaar.says("chen", words)

    assert code in (1, 2)
    assert "MTI is no licence's name (did you mean 'MIT'?)" in err
    assert "no eval gret on main (did you mean 'greet'?)" in err
    assert "no file rows.jsonl" in err
    assert "delta" not in err


@pytest.mark.parametrize("licence", ["MIT", "apache-2.0", "LicenseRef-acme", "MIT OR (Apache-2.0 AND CC0-1.0)", "GPL-2.0-only WITH Classpath-exception-2.0", "llama3.1"])  # fmt: skip
def test_names_that_are_some_are_taken(bazaar, licence):
    (bazaar.folder / "r.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')

    assert "is no licence's name" not in bazaar.says("chen", [*OFFER, "--licence", licence, "--data", bazaar.folder / "r.jsonl"])[2]  # fmt: skip


def test_init_knows_a_mistyped_licence_too(bazaar, tmp_path):
    words = ["init", "x", "--from", bazaar.folder / "tiny", "--licence", "Apche-2.0", "--no-suite"]
    code, _, err = bazaar.says("amira", words)

    assert code == 2
    assert "Apche-2.0 is no licence's name (did you mean 'Apache-2.0'?)" in err
