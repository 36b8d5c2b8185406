"""Dedup and decontamination beside datasketch and datatrove: the same documents, recall of planted copies, documents a second.

    python bench/near.py PYTHON     # a Python with both peers: make build/near/.ready

Documents are Debian's package descriptions; copies are planted with 2, 5 and 10% of their words changed, with words put in,
and with other capitals and punctuation. souq's time is of a warm process: numba compiles once a machine. A copy is found
where it and its original end in one cluster (datatrove: where one of the two is dropped).
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from debian import descriptions
from machine import describe
from souq.corpus.near import clusters
from souq.corpus.ngrams import Exam
from souq.text import words

DOCUMENTS, COPIES, CASES, THRESHOLD = 24_000, 900, 400, 0.5


def edits(chance: random.Random) -> dict[str, Any]:
    """Ways to copy a text, each from words to a text."""
    common = [
        "system",
        "library",
        "package",
        "tool",
        "for",
        "the",
        "of",
        "with",
        "user",
        "file",
        "data",
        "support",
        "module",
        "server",
    ]

    def changed(share: float) -> Any:
        return lambda said: " ".join(chance.choice(common) if chance.random() < share else word for word in said)

    return {
        "2% changed": changed(0.02), "5% changed": changed(0.05), "10% changed": changed(0.10),
        "3% put in": lambda said: " ".join(f"{chance.choice(common)} {w}" if chance.random() < 0.03 else w for w in said),
        "capitals, commas": lambda said: ", ".join(said).upper(),
    }  # fmt: skip


def planted(chance: random.Random) -> tuple[list[str], list[tuple[int, str]]]:
    """All texts, shuffled copies last; of each copy its original's number and how it was made."""
    texts = descriptions()[:DOCUMENTS]
    made = [(i, kind, edit(texts[i].split())) for kind, edit in edits(chance).items() for i in chance.sample(range(len(texts)), COPIES)]  # fmt: skip
    return texts + [text for _, _, text in made], [(i, kind) for i, kind, _ in made]


def jaccard(a: str, b: str) -> float:
    one, two = (set(zip(*(w[i:] for i in range(5)), strict=False)) for w in (words(a), words(b)))
    return len(one & two) / len(one | two) if one | two else 1.0


def peer(python: str, tool: str, folder: Path) -> tuple[float, list[Any]]:
    ran = subprocess.run([python, str(Path(__file__).parent / "near_peers.py"), tool, str(folder), str(THRESHOLD)], capture_output=True, text=True, check=True)  # fmt: skip
    told = json.loads(ran.stdout.strip().splitlines()[-1])
    return told["seconds"], told["found"]


def main(python: str) -> int:
    print(describe(), flush=True)
    chance = random.Random(11)
    texts, copies = planted(chance)
    first = len(texts) - len(copies)
    near = [jaccard(texts[i], texts[first + n]) >= THRESHOLD for n, (i, _) in enumerate(copies)]
    clusters(texts[:500])
    found: dict[str, tuple[float, list[bool]]] = {}
    for name, threshold in (("souq", THRESHOLD), ("souq at 0.25", 0.25)):
        begun = time.perf_counter()
        told = clusters(texts, threshold=threshold)
        found[name] = time.perf_counter() - begun, [told[i] == told[first + n] for n, (i, _) in enumerate(copies)]
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "texts.json").write_text(json.dumps(texts))
        took, told = peer(python, "datasketch", at)
        found["datasketch"] = took, [told[i] == told[first + n] for n, (i, _) in enumerate(copies)]
        took, told = peer(python, "datatrove", at)
        found["datatrove"] = took, [told[i] < 0 or told[first + n] < 0 for n, (i, _) in enumerate(copies)]
        print(f"{len(texts):,} documents, {sum(map(len, texts)) / 1e6:.1f} MB, {len(copies):,} planted copies, {sum(near):,} of them at {THRESHOLD} or above")  # fmt: skip
        kinds = list(edits(chance))
        print(f"{'':14} {'docs/s':>8} {'near':>7} " + " ".join(f"{kind:>17}" for kind in kinds))
        for name, (took, hits) in found.items():
            shares = [sum(h for h, (_, k) in zip(hits, copies, strict=True) if k == kind) / COPIES for kind in kinds]
            recall = sum(h for h, n in zip(hits, near, strict=True) if n) / sum(near)
            print(
                f"{name:14} {len(texts) / took:8,.0f} {recall:7.4f} " + " ".join(f"{share:17.4f}" for share in shares)
            )
        slowest = {name: found[name][0] / found["souq"][0] for name in ("datasketch", "datatrove")}
        print("documents a second, of the peers': " + ", ".join(f"{ratio:.1f}x {name}" for name, ratio in slowest.items()))  # fmt: skip
        exam(python, texts[:first], chance, at)
    return 0


def exam(python: str, texts: list[str], chance: random.Random, at: Path) -> None:
    """Cases are twenty to forty words of descriptions; each stands in one other text, in other capitals and punctuation."""
    picked = chance.sample(range(len(texts)), 2 * CASES)
    cases = [" ".join(texts[i].split()[:30]) for i in picked[:CASES]]
    others = [text for i, text in enumerate(texts) if i not in set(picked[:CASES])]
    where = chance.sample(range(len(others)), CASES)
    for case, i in zip(cases, where, strict=True):
        others[i] = f"{others[i]} ({case.upper()})"
    (at / "held.json").write_text(json.dumps(others))
    (at / "exam.json").write_text(json.dumps(cases))
    Exam({"warm": cases[0]}).held(others[:10])
    begun = time.perf_counter()
    index = Exam({str(i): case for i, case in enumerate(cases)})
    told = index.held(others)
    took = time.perf_counter() - begun
    theirs, found = peer(python, "decontaminate", at)
    spots = set(where)
    print(f"decontamination, {len(others):,} documents, {CASES} cases: souq {len(others) / took:,.0f} docs/s, recall {sum(bool(told[i]) for i in spots) / CASES:.4f}, {sum(map(bool, told)):,} dropped; "
          f"datatrove {len(others) / theirs:,.0f} docs/s, recall {sum(found[i] for i in spots) / CASES:.4f}, {sum(found):,} dropped; {theirs / took:.1f}x")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
