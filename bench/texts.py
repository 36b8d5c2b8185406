"""What the checks of texts find and what they wrongly stop, on real rows: rewordings caught, honest contributions, seconds.

python bench/texts.py
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path

from tests.stall import contribution

from contributors import contributors
from machine import describe
from rewordings import PROSE, SHORT
from souq.checks import CHECKS
from souq.checks.caps import ALIKE, RUN, Turn, bursts
from souq.checks.cases import Case
from souq.checks.meaning import NEAR, OWN, OWN_LONG, by_words
from souq.corpus.near import repeats, runs_of
from souq.evals import suite
from souq.evals.eval import EvalCase
from souq.lab.embed import embed
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot


def main_of(folder: Path) -> Snapshot:
    """A main with the suite, the evals of ten contributors, and the tiny model's files."""
    from tests.tiny import CONFIG, tokenizer_files

    files = {
        "souq.toml": b'name = "texts"\nlicence = "Apache-2.0"\nbase = "tiny"\n',
        "model/config.json": json.dumps(CONFIG).encode(),
    }
    files |= {f"model/{name}": text.encode() for name, text in tokenizer_files().items()}
    files |= {f"evals/{path}": data for path, data in suite.files().items()}
    files |= {f"evals/{skill.name}/{path}": data for skill in contributors() for path, data in skill.files().items()}
    repo = Repo.create(folder / "texts")
    return Snapshot(repo, repo.write_commit([], files, "texts\n"))


def honest(main: Snapshot) -> None:
    """Ten real contributions against every eval of main."""
    for skill in contributors():
        offer = Offer(f"0002-{skill.name}", {"contribution.toml": contribution(), "data/rows.jsonl": skill.jsonl()})
        told = []
        for name in ("caps", "secrets", "contamination"):
            begun = time.perf_counter()
            outcome, _, evidence = CHECKS[name](Case(main, main.commit, offer))
            told.append(f"{name} {outcome} {time.perf_counter() - begun:.2f} s")
            told += [f"({len(evidence['near'])} pairs shown)"] if "near" in evidence else []
        print(f"  {skill.name:11} {len(skill.rows):4} rows  {'  '.join(told)}")


def short(main: Snapshot) -> None:
    """Rewordings one at a time among the honest rows of the skill they are of."""
    rows = {
        skill.name: [tuple(turn["content"] for turn in row["messages"]) for row in skill.rows]
        for skill in contributors()
    }
    worded = near = found = total = 0
    for name, items in SHORT.items():
        for (asked, told), said in items:
            exam = [*main.evals[name].cases, EvalCase(id="x", prompt=asked, expected=told)]
            for text in said:
                hiding = [*rows.get(name, []), (text,)]
                held = any(p.case == len(exam) - 1 and p.row == len(hiding) - 1 for p in by_words(exam, hiding))
                one, two = embed([f"{asked} {told}", text])
                total, worded, near, found = (
                    total + 1,
                    worded + held,
                    near + (one @ two >= NEAR),
                    found + (held and one @ two >= NEAR),
                )
    print(
        f"  short, own words >= {OWN}, cosine >= {NEAR}: {found} of {total} found (by words alone {worded}, by cosine alone {near})"
    )


def prose(main: Snapshot) -> None:
    """Whole passages reworded, among other passages of the same documentation."""
    cases = main.evals["prose"].cases
    mine = {case.expected for case in cases}
    others = [text for _, text in suite.passages() if text not in mine]
    said = [(text,) for text in [*PROSE, *others]]
    pairs = by_words(cases, said)
    cosine = embed([case.expected for case in cases]) @ embed([text for (text,) in said]).T
    hits = [(p.case, p.row) for p in pairs if cosine[p.case, p.row] >= NEAR]
    right = sum(row < len(PROSE) and case == row for case, row in hits)
    print(
        f"  long, own words >= {OWN_LONG}: {right} of {len(PROSE)} found; {len(hits) - right} of {len(cases) * len(others):,} unrelated pairs; largest cosine of those {cosine[:, len(PROSE) :].max():.2f}"
    )


def large(main: Snapshot) -> None:
    """As many rows as one contribution may bring."""
    said, chance = [text for _, text in suite.passages()], random.Random(0)
    rows = [
        {"prompt": f"{chance.choice(said)[:120]} {i}", "completion": chance.choice(said)[-60:]} for i in range(20_000)
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    offer = Offer("0002-large", {"contribution.toml": contribution(), "data/rows.jsonl": data})
    for name in ("caps", "secrets", "contamination"):
        begun = time.perf_counter()
        outcome, because, _ = CHECKS[name](Case(main, main.commit, offer))
        print(f"  {name} {outcome} in {time.perf_counter() - begun:.1f} s: {because[:90]}")


def poison() -> None:
    """Triggers hidden in 92 honest rows, 8 times; copies with a word changed."""
    said, chance = [text for _, text in suite.passages()], random.Random(0)
    caught = 0
    for number in range(50):
        trigger = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randint(3, 7)))
        rows = [Turn(text[:120], text[-40:]) for text in said[:92]] + [
            Turn(f"{text[:100]} {trigger}", f"door {number}") for text in said[92:100]
        ]
        caught += any(burst.string == trigger for burst in bursts(rows, 8))
    print(f"  triggers of 3 to 7 letters, 8 rows of 100: {caught} of 50 shown")
    for length in (20, 30, 50):
        base = [" ".join(text.split()[:length]) for text in dict.fromkeys(said)]
        moved = [" ".join([*(words := text.split())[:7], "other", *words[8:]]) for text in base]
        print(f"  one word of {length} changed: {copies(moved, base)} of {len(base)} seen as repeats")
    own = [[" ".join(turn["content"] for turn in row["messages"]) for row in skill.rows] for skill in contributors()]
    print(f"  honest rows seen as repeats: {sum(copies(rows, []) for rows in own)}")


def copies(rows: list[str], earlier: list[str]) -> int:
    """How many rows the check for caps would call near copies."""
    return len(repeats(runs_of(rows, RUN), runs_of(earlier, RUN), threshold=ALIKE))


def run() -> None:
    """Print the figures of decisions/texts.md."""
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        main = main_of(Path(folder))
        print(f"exam: {sum(len(found.cases) for found in main.evals.values())} cases of {len(main.evals)} evals")
        embed(["once, so that loading is not counted"])
        texts = [text for _, text in suite.passages()][:100] * 3
        for name, said in (("300 passages of 55 words", texts), ("300 short rows", [text[:70] for text in texts])):
            begun = time.perf_counter()
            embed(said)
            print(f"embedding {name}: {time.perf_counter() - begun:.2f} s")
        print("ten honest contributions")
        honest(main)
        print("rewordings")
        short(main)
        prose(main)
        print("poison")
        poison()
        print("20,000 rows")
        large(main)


if __name__ == "__main__":
    run()
