"""What a merge keeps of a set of real contributions, by every method: the tables of decisions/merge.md.

Every merged model is scored on each contributor's held-out cases, the protected suite, and speeches nobody trained on.
Each method but the default is tried at several settings and shown at the one that keeps most, which is generous to it.

    python bench/retention.py FOLDER [METHOD …]      # FOLDER holds what was made and measured before
    python bench/retention.py FOLDER --set dev-all   # another set than the ten (bench/sets.py), in a folder of its own
    python bench/retention.py FOLDER rebase NAME …   # the default, after these were rebased one after another
    python bench/retention.py FOLDER within          # the default, every sketch taken again within the merge of all
    python bench/retention.py FOLDER guess           # the default, where nobody has data at hand and sketches are guessed
    python bench/retention.py FOLDER joint           # the ceiling: one LoRA of their kind, trained on everybody's rows
    python bench/retention.py FOLDER within everyday # how far its everyday answers are from the base's too: of one of these
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from bazaar import SUITE, Bazaar, Found, open_bazaar
from contributors import train
from machine import describe
from sets import SETS
from souq.build import delta_file, deltas
from souq.build.guess import with_guess
from souq.lab import rebase, sketching
from souq.lab.packing import sequence_of
from souq.lab.sketching import nats
from souq.merge import Fold
from souq.model.adapter.peft import open_adapter
from souq.repo.snapshot import base_files

GRID: dict[str, list[dict[str, Any]]] = {
    "covariance": [{}],
    "mean": [{}],
    "task-arithmetic": [{"scale": s} for s in (0.2, 0.3, 0.5, 1.0)],
    "ties": [{"density": d, "scale": s} for d, s in ((0.2, 1.0), (0.2, 2.0), (0.5, 1.0), (0.5, 2.0), (0.2, 3.0))],
    "dare-linear": [{"density": 0.9, "scale": s} for s in (0.2, 0.3, 0.5)],
    "dare-ties": [{"density": d, "scale": s} for d, s in ((0.5, 1.0), (0.9, 1.0), (0.9, 2.0))],
    "della": [{"density": 0.9, "epsilon": 0.05, "scale": s} for s in (0.5, 1.0, 2.0)],
    "breadcrumbs": [{"density": 0.9, "gamma": 0.01, "scale": s} for s in (0.2, 0.3, 0.5)],
    "breadcrumbs-ties": [{"density": 0.9, "gamma": 0.01, "scale": s} for s in (1.0, 2.0)],
    "sce": [{"topk": 1.0}, {"topk": 0.3}],
    "model-stock": [{}],
    "multislerp": [{}],
    "karcher": [{}],
    "ram": [{}],
    "tsv": [{"scale": s} for s in (0.7, 1.0, 1.5)],
    "iso-c": [{"scale": s} for s in (0.7, 1.0, 1.5)],
    "iso-cts": [{"scale": 1.0}],
    "knots-ties": [{"density": 0.2, "scale": s} for s in (0.5, 1.0)],
    "core-space": [{"inner": "tsv", "scale": s} for s in (0.7, 1.0)],
    "wudi": [{"pull": p} for p in (0.5, 1.0)],
}


def tag_of(method: str, settings: dict[str, Any]) -> str:
    return "-".join([method, *(f"{key}={value}" for key, value in sorted(settings.items()))])


def line(bazaar: Bazaar, name: str, found: Found) -> str:
    pooled, each = bazaar.kept(found)
    worst = min(each, key=lambda who: each[who])
    moved = {k: found.values[k] - bazaar.base.values[k] for k in (*SUITE, "prose", "unseen")}
    return (
        f"{name:44} {pooled:6.3f} {each[worst]:6.2f} ({worst:10}) {moved['capitals']:+.3f} {moved['arithmetic']:+.3f} "
        f"{moved['prose']:+.3f} {moved['unseen']:+.3f}"
    )


def heading(bazaar: Bazaar) -> str:
    """The machine, what each contribution is worth alone, and the heads of what `line` fills in."""
    base, errors = bazaar.base, ", ".join(f"{name} {bazaar.base.errors[name]:.3f}" for name in SUITE)
    lines = [describe()]
    for name, alone in bazaar.alone.items():
        shown = "" if name in bazaar.counted else "  (not counted: it taught too little to measure)"
        lines.append(f"  {name:12} base {base.values[name]:.3f}, alone {alone.values[name]:.3f}{shown}")
    prose, unseen = base.values["prose"], base.values["unseen"]
    lines.append(f"one standard error of the suite: {errors}; nats: prose {prose:.3f}, unseen {unseen:.3f}")
    heads = f"{'method at its best setting':44} {'pooled':>6} {'worst':>6} {'':12} {'capit':>6} {'arith':>6}"
    return "\n".join([*lines, f"{heads} {'prose':>6} {'unseen':>6}"])


def rebased(bazaar: Bazaar, names: list[str]) -> Found:
    """The default merge, after `souq pr rebase`'s work for some contributions, with their own rows."""
    skills = {skill.name: skill for skill in bazaar.skills}
    for name in names:
        path = bazaar.folder / f"{'-'.join([name, 'after', *names[: names.index(name)]])}.rebased.delta"
        if not path.is_file():
            lm = rebase.graft(base_files(bazaar.main), bazaar.fold(), name, "covariance")
            passages = [sequence_of(lm, row) for row in skills[name].rows]
            before = nats(lm, passages)
            rate = 0.5 * float(skills[name].training["lr"])
            rebase.train(lm, passages, epochs=1, lr=rate, batch=16)
            print(f"  {name}: its rows in the merge, nats {before:.4f} -> {nats(lm, passages):.4f}", flush=True)
            made, tensors = deltas.from_adapter(rebase.factors_of(lm), bazaar.main)
            old = bazaar.deltas[name]
            grams = {r.digest: bazaar.repo.store.get(r.digest) for g in old.grams.values() for r in (g.factor, g.diag)}
            delta_file.write_delta(path, replace(made, grams=old.grams, inputs=old.inputs), tensors | grams)
        made, tensors = delta_file.read_delta(path)
        delta_file.keep(made, tensors, bazaar.main)
        bazaar.deltas[name] = made
    fold = bazaar.fold()
    return bazaar.score("-".join(["rebased", *names]), fold, fold.changed)


def within(bazaar: Bazaar) -> Fold:
    """Everybody's sketch taken again through the model that the first sketches merge to (RegMean++)."""
    skills, again = {skill.name: skill for skill in bazaar.skills}, {}
    for name, delta in bazaar.deltas.items():
        path = bazaar.folder / f"{name}.within.delta"
        if not path.is_file():
            (bazaar.folder / "rows.jsonl").write_bytes(skills[name].jsonl())
            others = {who: found for who, found in bazaar.deltas.items() if who != name}
            told = sketching.within(bazaar.main, delta, others, bazaar.folder / "rows.jsonl", rank=64)
            tensors = {ref.digest: bazaar.repo.store.get(ref.digest) for ref in delta.refs()}
            delta_file.write_delta(path, *deltas.with_sketch(delta, tensors, told.groups, told.inputs))
        again[name], tensors = delta_file.read_delta(path)
        delta_file.keep(again[name], tensors, bazaar.main)
    bazaar.deltas |= again
    return bazaar.fold()


def guessed(bazaar: Bazaar) -> Fold:
    """As if nobody had data at hand: every sketch guessed from its change (build/guess.py)."""
    for name, delta in list(bazaar.deltas.items()):
        bare = replace(delta, grams={}, inputs={})
        tensors = {ref.digest: bazaar.repo.store.get(ref.digest) for ref in bare.refs()}
        bazaar.deltas[name], held = with_guess(bazaar.main, bare, tensors)
        delta_file.keep(bazaar.deltas[name], held, bazaar.main)
    return bazaar.fold()


def joint(bazaar: Bazaar) -> Fold:
    """One LoRA of the same kind trained for as many epochs on all rows together, which needs everybody's data."""
    first = bazaar.skills[0]
    rows = tuple(row for skill in bazaar.skills for row in skill.rows)
    replayed = sum(int(skill.training.get("replay", 0)) for skill in bazaar.skills)
    training = first.training | ({"replay": replayed} if replayed else {})
    train(bazaar.folder / "people", [replace(first, name="joint", rows=rows, training=training)])
    made, tensors = deltas.from_adapter(open_adapter(bazaar.folder / "people" / "joint"), bazaar.main)
    delta_file.keep(made, tensors, bazaar.main)
    return replace(bazaar, deltas={"joint": made}).fold("mean")


WAYS = {
    "covariance": ("covariance", Bazaar.fold),
    "within": ("covariance, sketched within the merge", within),
    "guess": ("covariance, sketches guessed", guessed),
    "joint": ("one LoRA trained on all rows", joint),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/retention.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("methods", nargs="*", default=list(GRID))
    parser.add_argument("--set", default="home", choices=["home", *SETS])
    asked = parser.parse_intermixed_args()  # `FOLDER --set dev-all within` too
    methods = asked.methods
    bazaar = open_bazaar(asked.folder, asked.set)
    print(heading(bazaar))
    if methods[0] in WAYS and (len(methods) == 1 or "everyday" in methods):
        title, way = WAYS[methods[0]]
        fold = way(bazaar)
        print(line(bazaar, title, bazaar.score(methods[0], fold, fold.changed)))
        if "everyday" in methods:
            print(f"  everyday answers are {bazaar.everyday(methods[0], fold, fold.changed):.3f} nats from the base's")
        return
    if methods[0] == "rebase":
        print(line(bazaar, "covariance", bazaar.score("covariance", fold := bazaar.fold(), fold.changed)))
        found = rebased(bazaar, methods[1:])
        print(line(bazaar, f"covariance, {' '.join(methods[1:])} rebased", found))
        print({name: round(share, 3) for name, share in bazaar.kept(found)[1].items()})
        return
    for method in methods:
        best: tuple[float, str, Found] | None = None
        for settings in GRID[method]:
            tag = tag_of(method, settings)
            fold = bazaar.fold(method, **settings)
            found = bazaar.score(tag, fold, fold.changed)
            if best is None or bazaar.kept(found)[0] > best[0]:
                best = bazaar.kept(found)[0], tag, found
        assert best is not None
        print(line(bazaar, *best[1:]), flush=True)


if __name__ == "__main__":
    main()
