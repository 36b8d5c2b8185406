"""The four tutorials and README's ten lines run word for word on the real model, in an environment made from the wheel."""

from __future__ import annotations

import json
import re
import resource

import pytest

from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import make_key
from tests.test_readme import TEN
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


@pytest.mark.slow
@pytest.mark.timeout(7200)  # on whatever machine this is, and whoever else works on it
def test_the_four_tutorials(whole, town):
    """Word for word, in an environment that holds the wheel and what its page says to install."""
    printed = "".join(whole.shell(block, town / who, **OLD) for who, block in pages())

    assert "fixes `greetings`: +" in printed
    assert "\nverified\n" in printed
    assert "0 of 70 tensors differ" in printed
    assert "Salaam, Leila! Tea is ready." in printed
    assert Snapshot(Repo.find(town / "maintainer" / "smol"), "main").sketch is not None
    scored = json.loads(whole.shell("souq eval greetings --json", town / "maintainer", town / "maintainer" / "smol"))
    transformers_agrees(town / "startup" / "smol-1.0", town / "maintainer" / "greetings", scored["greetings"]["cases"])


def transformers_agrees(folder, suite, scored):
    """transformers itself, on the exported folder, answers as the eval says."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for case in map(json.loads, (suite / "cases.jsonl").read_text().splitlines()):
        turns = [{"role": "user", "content": case["prompt"]}]
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        made = net.generate(**asked, max_new_tokens=16, do_sample=False)[0, asked["input_ids"].shape[1] :]
        assert (tokenizer.decode(made, skip_special_tokens=True) == case["expected"]) == bool(scored[case["id"]])


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
