"""Bad input: one line that says what is wrong, a hint that says what to type, the right exit code, and nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.tiny import write_model


def state(bazaar, who):
    """Everything a failed command must leave alone: refs, the working tree, the tensors."""
    bazaar.repo(who)  # what a fetch would bring is there before and after
    clone = bazaar.actors[who].clone
    refs = subprocess.run(["git", "for-each-ref"], cwd=clone, capture_output=True, text=True, check=True).stdout
    files = {
        str(path.relative_to(clone)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(clone.rglob("*"))
        if path.is_file() and (".git" not in path.parts or "objects" in path.relative_to(clone / ".git").parts[:2])
        and path.relative_to(clone).parts[:2] != (".git", "objects")
    }  # fmt: skip
    return refs, files


def broken(bazaar, name):
    """A file or folder of each kind that people get wrong."""
    place = bazaar.folder / "broken"
    place.mkdir(exist_ok=True)
    path = place / name
    match name:
        case "empty.delta":
            path.write_bytes(b"")
        case "cut.delta":
            path.write_bytes(bazaar.delta("greet").read_bytes()[:-100])
        case "words.gguf":
            path.write_bytes(b"not a gguf at all" * 10)
        case "nothing":
            path.mkdir(exist_ok=True)
        case "rows.jsonl":
            path.write_text('{"messages": [\n')
        case "cut":
            write_model(path)
            whole = (path / "model.safetensors").read_bytes()
            (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    return path


CASES = [
    # who types, what, exit code, what the line says, what the hint says
    ("amira", "statuz", 2, "no verb 'statuz' (did you mean 'status'?)", ""),
    ("amira", "pr view 99", 1, "no pull request #99", "souq pr list"),
    ("amira", "pr checks 99", 1, "no pull request #99", "souq pr list"),
    ("amira", "delta make --from /no/where --out /tmp/x.delta", 1, "/no/where", ""),
    ("amira", "delta make --from {nothing} --out /tmp/x.delta", 1, "nothing", ""),
    ("amira", "delta show {empty.delta}", 1, "empty.delta", ""),
    ("amira", "delta show {cut.delta}", 1, "cut.delta", ""),
    ("amira", "delta show /no/x.delta", 1, "/no/x.delta", ""),
    ("amira", "init new --from {words.gguf}", 1, "words.gguf", ""),
    ("amira", "init new --from {cut} --no-suite", 1, "model.safetensors", ""),
    ("amira", "init new --from /no/where", 1, "/no/where", ""),
    ("amira", "init new --from {tiny} --no-suite --governance oligarchy", 1, "oligarchy", ""),
    ("amira", "train {rows.jsonl} --out /tmp/adapter-x", 2, "rows.jsonl", ""),
    ("amira", "export .", 2, "already", ""),
    ("amira", "eval gard", 1, "did you mean 'guard'?", ""),
    ("amira", "pr create {cut.delta} --title x --licence MIT --signoff --fixes greet", 1, "cut.delta", ""),
    ("amira", "pr create --title x --licence MIT --signoff", 2, "", ""),
    ("amira", "pr review 1 --approve", 3, "#1 is already merged", "souq pr view 1"),
    ("amira", "show no.such.tensor", 1, "no.such.tensor", ""),
    ("amira", "corpus make /no/prompts.jsonl --out /tmp/corpus-x", 1, "/no/prompts.jsonl", ""),
    ("amira", "verify --root 0000000", 2, "0000000", "40 digits"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "line", "code", "said", "hint"), CASES, ids=[case[1] for case in CASES])
def test_bad_input_is_one_line_and_changes_nothing(bazaar, who, line, code, said, hint):
    line = line.replace("{tiny}", str(bazaar.folder / "tiny"))
    for name in ("empty.delta", "cut.delta", "words.gguf", "nothing", "rows.jsonl", "cut"):
        if "{" + name + "}" in line:
            line = line.replace("{" + name + "}", str(broken(bazaar, name)))
    before = state(bazaar, who)

    found, out, err = bazaar.says(who, line)

    assert found == code, err
    assert said in err
    assert hint in err
    assert "Traceback" not in err
    assert out == ""
    assert len([row for row in err.splitlines() if row.startswith("Error")]) == 1, err
    assert state(bazaar, who) == before


def test_outside_a_repository(bazaar, tmp_path):
    code = bazaar("amira", "status", at=tmp_path)

    err = bazaar.capfd.readouterr().err
    assert (code, "souq init" in err or "souq clone" in err) == (1, True), err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: 'licens = "x"\n' + s, "did you mean 'licence'?"),
        (lambda s: s.replace('"covariance"', '"covariants"'), "did you mean 'covariance'?"),
        (lambda s: s.replace("[merge]\n", "[merge]\nrigde = 1.0\n"), "did you mean 'ridge'?"),
        (lambda s: s + "= =\n", "souq.toml"),
    ],
)
def test_a_wrong_key_in_souq_toml(bazaar, change, said):
    """souq.toml of main is what counts; a wrong key there is named with the nearest right one."""
    repo = bazaar.repo("amira")
    text = change(bazaar.main().text("souq.toml"))
    commit = repo.write_commit([repo.tip()], {"souq.toml": text.encode()}, "x\n", tree_of=repo.tip())
    clone = bazaar.actors["amira"].clone
    subprocess.run(["git", "push", "-q", "origin", f"{commit}:refs/heads/main"], cwd=clone, check=True)

    code, _, err = bazaar.says("amira", "build")

    assert (code, said in err, "Traceback" in err) == (2, True, False), err


def typed(bazaar, who, words, *, at=None):
    """A verb in a process of its own, so that it can be shot."""
    actor = bazaar.actors[who]
    role = {"NAME": who, "EMAIL": actor.email}
    env = os.environ | {"SOUQ_KEY": str(actor.key)}
    env |= {f"GIT_{r}_{k}": v for r in ("AUTHOR", "COMMITTER") for k, v in role.items()}
    words = [sys.executable, "-m", "souq", *map(str, words)]
    return subprocess.Popen(words, cwd=at or actor.clone, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("shot", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after", [0.1, 0.3, 0.5, 0.8])
def test_init_is_whole_or_not_there(bazaar, tmp_path, shot, after):
    """Ctrl-C or kill -9 at any moment; the same command then works."""
    words = ["init", "new", "--from", bazaar.folder / "tiny", "--no-suite"]
    process = typed(bazaar, "amira", words, at=tmp_path)
    time.sleep(after)
    process.send_signal(shot)
    _, err = process.communicate()

    assert b"Traceback" not in err or shot == signal.SIGKILL or process.returncode < 0
    if (tmp_path / "new").exists():
        assert bazaar("amira", "fsck", at=tmp_path / "new") == 0
    else:
        assert bazaar("amira", words, at=tmp_path) == 0


@pytest.mark.parametrize("shot", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after", [0.15, 0.4, 0.7, 1.0])
def test_a_merge_happened_or_it_did_not(bazaar, shot, after):
    """Stopped at any moment, main is where it was or where it should be; merging again ends the same either way."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    assert bazaar("amira", f"pr checks {number}") == 0
    for who in ("amira", "bruno"):
        assert bazaar(who, f"pr review {number} --approve --reason fine") == 0
    process = typed(bazaar, "bruno", ["pr", "merge", number])
    time.sleep(after)
    process.send_signal(shot)
    process.communicate()

    code = bazaar("bruno", f"pr merge {number}")

    assert code in (0, 3)
    listed = json.loads(bazaar.says("amira", "pr list --all --json")[1])
    assert [row["state"] for row in listed if row["number"] == number] == ["merged"]
    assert bazaar("amira", "fetch") == 0
    assert bazaar("amira", "fsck") == 0
    assert bazaar("amira", "verify") == 0


@pytest.mark.parametrize("after", [0.2, 0.5, 0.8])
def test_an_offer_stopped_half_way_is_offered_again(bazaar, after):
    words = [
        "pr",
        "create",
        bazaar.delta("greet"),
        "--title",
        "Hi",
        "--licence",
        "MIT",
        "--signoff",
        "--fixes",
        "greet",
    ]
    process = typed(bazaar, "mallory", words)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert bazaar("mallory", words) == 0
    for pull in json.loads(bazaar.says("amira", "pr list --json")[1]):
        if pull["state"] == "open":
            assert bazaar("amira", f"pr checks {pull['number']}") == 0
