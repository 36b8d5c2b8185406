"""A corpus run: killed twenty times at random it ends with the same bytes; and what souq adds to generating.

    python bench/crawl.py [KILLS] [SEED]

The kills are on the tiny model of the tests, sampled at temperature 1, through `souq corpus make`. The rates are on
SmolLM2-135M-Instruct in this process: rows through souq, the engine called bare, and transformers' own `generate` one by
one, the same prompts, greedy.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import conftest  # noqa: F401  git knows nobody but who they say
from tests.bazaar import Bazaar, build_town

from machine import describe
from souq.corpus.make import Teacher, make
from souq.corpus.recipe import CorpusRecipe, Seeds
from souq.lab.chat import Sampling
from souq.records import digest

SEEDS, MOST = 8000, 24  # of the killed runs
PROMPTS, ALONE, TOKENS, ROUNDS = 288, 72, 16, 3  # of the rates; one by one, fewer are enough
CITIES = Path(__file__).parent.parent / "examples" / "geography" / "cities.jsonl"


def killed(kills: int, seed: int) -> str:
    with tempfile.TemporaryDirectory() as name:
        town = Path(name) / "town"
        town.mkdir()
        sys.stdout.flush()
        build_town(town)
        bazaar = Bazaar(town)
        seeds = Path(name) / "seeds.jsonl"
        seeds.write_text("".join(_seed(f"tell me of number {i}") for i in range(SEEDS)))
        begun = time.perf_counter()
        whole = _finished(bazaar, seeds, Path(name) / "whole")
        took, chance, torn = time.perf_counter() - begun, random.Random(seed), 0
        for _ in range(kills):
            running = _started(bazaar, seeds, Path(name) / "killed")
            _grown(Path(name) / "killed" / "journal.jsonl", running)
            time.sleep(chance.uniform(0, 0.4))
            torn += running.poll() is None
            running.send_signal(signal.SIGKILL)
            running.wait()
        same = _finished(bazaar, seeds, Path(name) / "killed") == whole
    return f"{torn} of {kills} kills met a running process; in the end the files are {'the same bytes' if same else 'DIFFERENT'} ({took:.1f} s a whole run)"


def _grown(journal: Path, running: subprocess.Popen[bytes]) -> None:
    """Until it has begun to write, so that a kill meets work and not imports."""
    size = journal.stat().st_size if journal.exists() else 0
    while running.poll() is None and not (journal.exists() and journal.stat().st_size > size):
        time.sleep(0.01)


def _seed(prompt: str) -> str:
    return json.dumps({"prompt": prompt, "source": "bench", "licence": "CC0-1.0"}) + "\n"


def _started(bazaar: Bazaar, seeds: Path, out: Path) -> subprocess.Popen[bytes]:
    actor = bazaar.actors["amira"]
    with bazaar.stage.as_actor(actor, actor.clone):
        words = ["corpus", "make", str(seeds), "--out", str(out), "--temperature", "1", "--max-tokens", str(MOST)]
        return subprocess.Popen([sys.executable, "-m", "souq", *words], env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def _finished(bazaar: Bazaar, seeds: Path, out: Path) -> dict[str, str]:
    """Every file that is published, but not the journal, which holds a torn batch twice."""
    assert _started(bazaar, seeds, out).wait() == 0
    return {str(path.relative_to(out)): digest(path.read_bytes()) for path in sorted(out.rglob("*")) if path.is_file() and path.name != "journal.jsonl"}  # fmt: skip


def rates() -> str:
    from souq.cli.demo.story import real_model
    from souq.lab import generate
    from souq.lab.engines import Transformers
    from souq.lab.writers import writer
    from souq.model.source import open_source

    source = open_source(str(real_model()))
    engine = Transformers(digest(b"bench"), source.files, source.weights, bf16=True)
    lm = engine.lm
    places = [json.loads(line) for line in CITIES.read_text().splitlines()[:PROMPTS]]
    prompts = [f"Tell me about {place['city']} in {place['country']}." for place in places]
    with_words = writer("transformers", engine)

    def written(asked: list[str]) -> None:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "seeds.jsonl").write_text("".join(_seed(prompt) for prompt in asked))
            recipe = CorpusRecipe(name="bench", seeds=(Seeds(kind="questions", path="seeds.jsonl"),), sampling=Sampling(max_tokens=TOKENS))  # fmt: skip
            make(recipe, Path(name), Teacher(with_words, "Apache-2.0"), Path(name) / "out")

    written(prompts[:2])  # numba compiles once a machine, libraries are loaded once a process
    generate.answers(lm, prompts[:2], max_tokens=2)
    pairs = [(_seconds(lambda: written(prompts)), _seconds(lambda: generate.answers(lm, prompts, max_tokens=TOKENS))) for _ in range(ROUNDS)]  # fmt: skip
    through, bare = (median(times) for times in zip(*pairs, strict=True))
    alone = _seconds(lambda: [_one(lm, prompt) for prompt in prompts[:ALONE]])
    rates = len(prompts) / through, len(prompts) / bare, ALONE / alone
    return f"{len(prompts)} prompts, at most {TOKENS} tokens, prompts a second: souq {rates[0]:.1f}, the engine bare {rates[1]:.1f}, one by one ({ALONE} of them) {rates[2]:.2f}: {rates[0] / rates[1]:.2f} of bare, {rates[0] / rates[2]:.1f}x one by one"


def _one(lm: Any, prompt: str) -> str:
    import torch

    ids = torch.tensor([lm.chat_tokens([{"role": "user", "content": prompt}])])
    told = lm.net.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, pad_token_id=lm.eos_id)  # fmt: skip
    return str(lm.tokenizer.decode(told[0, ids.shape[1] :], skip_special_tokens=True))


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(describe(), flush=True)
    print(rates(), flush=True)
    print(killed(int(sys.argv[1]) if len(sys.argv) > 1 else 20, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
