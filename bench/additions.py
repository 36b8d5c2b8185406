"""New tokens, layers and an expert on the real 135M model, each by the verbs alone: trained, offered, checked, landed.

Three repositories of one person. What is added learns and all else is frozen, so beside what was gained stands what
became of the protected suite; at the end plain transformers loads the exported folder and answers the same cases.

    python bench/additions.py FOLDER [tokens layers experts]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from contributors import real_model
from machine import describe
from souq.cli.demo.skills import Skill, skills
from souq.signing import make_key

SOUQ = Path(sys.executable).with_name("souq")
SIGNS = [f"<|iso-{i}|>" for i in range(8)]
WANTED: dict[str, tuple[str, list[str]]] = {
    "tokens": ("iso-dates", [*(word for sign in SIGNS for word in ("--token", sign)), "--epochs", "6", "--lr", "0.02"]),
    "layers": ("iso-dates", ["--new-layers", "20,25", "--epochs", "3"]),
    "experts": ("continents", ["--expert", "20-29", "--epochs", "2"]),
}
LOADED = """
import sys, json, torch, transformers
folder, cases = sys.argv[1], json.load(open(sys.argv[2]))
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
net = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
right = 0
for case in cases:
    asked = tokenizer.apply_chat_template([{"role": "user", "content": case["prompt"]}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    told = net.generate(**asked, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    right += tokenizer.decode(told[0, asked["input_ids"].shape[1]:], skip_special_tokens=True).strip() == case["expected"]
print(json.dumps({"kind": type(net).__name__, "right": right, "numbers": sum(p.numel() for p in net.parameters())}))
"""


def souq(at: Path, *words: str | Path) -> dict[str, Any]:
    env = os.environ | {"SOUQ_KEY": str(at.parent / "key"), "GIT_CONFIG_GLOBAL": str(at.parent / "gitconfig")}
    done = subprocess.run([SOUQ, *map(str, words)], cwd=at, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"souq {' '.join(map(str, words))}: {done.stderr}")
    return json.loads(done.stdout) if "--json" in words else {}


def asked(skill: Skill, kind: str) -> Skill:
    """Questions for new tokens are asked with them: nothing but their rows can learn."""
    if kind != "tokens":
        return skill
    prefix = "".join(SIGNS)
    rows = tuple(
        {"messages": [{**m, "content": prefix + m["content"]} if m["role"] == "user" else m for m in row["messages"]]}
        for row in skill.rows
    )
    cases = tuple({**case, "prompt": prefix + case["prompt"]} for case in skill.cases)
    return replace(skill, rows=rows, cases=cases)


def measure(folder: Path, kind: str) -> None:
    name, words = WANTED[kind]
    skill = asked(next(s for s in skills() if s.name == name), kind)
    home = folder / kind
    (evals := home / name).mkdir(parents=True)
    for path, data in skill.files().items():
        (evals / path).write_bytes(data)
    (home / "rows.jsonl").write_bytes(skill.jsonl())
    make_key(home / "key", "bench")
    (home / "gitconfig").write_text("[user]\nname = bench\nemail = bench@localhost\n")
    repo = home / "smol"
    repo.mkdir()
    souq(home / "smol", "init", home / "repo", "--from", real_model(), "--evals", evals)
    repo = home / "repo"
    before = souq(repo, "eval", "--json")
    begun = time.perf_counter()
    souq(repo, "train", home / "rows.jsonl", "--out", home / "trained", *words)
    took = time.perf_counter() - begun
    made = souq(repo, "delta", "make", "--from", home / "trained", "--out", home / "x.delta", "--json")
    title = {"tokens": "Signs for ISO dates", "layers": "Layers for ISO dates", "experts": "An expert on continents"}[
        kind
    ]
    words_ = ["--title", title, "--licence", skill.spec.licence, "--signoff", "--fixes", name]
    souq(repo, "pr", "create", home / "x.delta", *words_)
    checked = souq(repo, "pr", "checks", "1", "--json")
    souq(repo, "pr", "review", "1", "--approve", "--reason", "measured")
    landed = souq(repo, "pr", "merge", "1", "--json")
    refused = [f"{v['check']}: {v['because']}" for v in checked["verdicts"] if v["outcome"] == "refuse"]
    print(
        f"{kind}: {made['adds']}, {made['bytes'] / 1e6:.1f} MB, trained in {took:.0f} s; {'landed' if landed['merged'] else f'REFUSED {refused}'}"
    )
    if not landed["merged"]:
        return
    after = souq(repo, "eval", "--json")
    for each in before:
        print(f"  {each:12} {before[each]['value']:.3f} -> {after[each]['value']:.3f}")
    found = souq(repo, "verify", "--json")["findings"]
    souq(repo, "export", home / "out")
    (home / "cases.json").write_text(json.dumps(skill.cases))
    told = subprocess.run(
        [sys.executable, "-c", LOADED, home / "out", home / "cases.json"], capture_output=True, text=True, check=True
    )
    seen = json.loads(told.stdout)
    share = seen["right"] / len(skill.cases)
    print(
        f"  verify: {found or 'all holds'}; transformers: {seen['kind']}, {seen['numbers'] / 1e6:.1f}M numbers, {share:.3f} of the same cases",
        flush=True,
    )


def main() -> None:
    print(describe())
    for kind in sys.argv[2:] or list(WANTED):
        measure(Path(sys.argv[1]), kind)


if __name__ == "__main__":
    main()
