"""Look for how to merge: method, settings and weights, by successive halving on held-out rows, no model written.

A candidate's LoRAs are laid beside the base's layers as they are (left and right, never their product), so a candidate
costs one merge of small matrices and the tokens it reads. Half of each contribution's eval is read here, chosen by
digest; the other half is never looked at. Contributions that fix no eval speak through the rows they brought.
(Successive halving: Jamieson and Talwalkar, arXiv 1502.07943.)

    looking = Search(main, offer, texts)
    looking.cost()
    looking.run().settings
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from blake3 import blake3

from souq.build.lock import fold
from souq.errors import UsageError
from souq.evals.eval import with_answers
from souq.lab import lm as lab_model
from souq.lab.lm import LM
from souq.lab.packing import TokenSequence, learnable, log_probabilities, packed_alike, sequence_of
from souq.merge import METHODS
from souq.merge.methods import SUMS, Change, settings_of
from souq.progress import Progress, quiet
from souq.repo.contribution import Offer
from souq.repo.rows import rows_of
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.store import Stored

ROUNDS = (4, 12, 36)  # rows of each contribution that are read in turn
KEEP = 3  # one in so many goes on
GENERAL = "general text"
GRID: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("covariance", {"base_weight": b, "ridge": r}) for b in (0.5, 1.0, 2.0) for r in (1e-5, 1e-4, 1e-3)),
    ("mean", {}),
    ("task-arithmetic", {"scale": 0.3}),
    ("core-space", {"inner": "tsv", "scale": 1.0}),
)
WEIGHTS = (0.6, 1.6)  # each contribution is tried at these


@dataclass(frozen=True)
class Candidate:
    """One way to merge; weights by slug."""

    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        settings = [
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.settings.items()
        ]
        weights = [f"{slug} x{weight:g}" for slug, weight in self.weights.items()]
        return " ".join([self.method, *settings, *weights])


@dataclass(frozen=True)
class Found:
    """The best candidate; `score` and `now` (main's own way) are shares of the base's loss that are left."""

    method: str
    settings: dict[str, Any]
    weights: dict[str, float]
    name: str
    score: float
    now: float
    tried: list[dict[str, Any]]


class Search:
    """A search over one open pull request on main; `texts` are general ones that nothing here was sketched on."""

    def __init__(self, main: Snapshot, offer: Offer, texts: Sequence[str] = (), progress: Progress = quiet) -> None:
        self._progress = progress
        self._lm = lab_model.load(base_files(main), Stored(main.base, main.repo.store))
        self._rows = _rows(main, offer, self._lm, texts)
        if not self._rows:
            raise UsageError("no contribution here fixes an eval or brought rows", hint="there is nothing to search by")
        merging = main.merging(offer)
        self._slugs = names = main.members(offer)
        weights = {names[name]: weight for name, weight in merging.weights.items() if name in names}
        self.now = Candidate(merging.method, settings_of(merging.method) | dict(merging.settings), weights)
        self._fold = fold(main, offer)
        self._beside = {name: _beside(self._lm, name) for name in self._fold.changed}
        self._base = {rows: self._read(rows) for rows in ROUNDS[:1]}
        self.tried: list[dict[str, Any]] = []

    def cost(self) -> str:
        """What it will take, from one merge and one reading timed here."""
        begun = time.perf_counter()
        self._read(ROUNDS[0])
        tokens = sum(len(p.tokens) for rows in self._rows.values() for p in rows[: ROUNDS[0]])
        rate = tokens / (time.perf_counter() - begun)
        begun = time.perf_counter()
        some = list(self._beside)[:: max(1, len(self._beside) // 4)]
        for name in some:
            self._lay(self.now, name)
        merge = (time.perf_counter() - begun) * len(self._beside) / len(some)
        runs = self._runs(len(self._grid())) + self._runs(1 + len(WEIGHTS) * len(self._slugs))
        read = sum(count * min(rows / ROUNDS[0], self._most() / ROUNDS[0]) * tokens for count, rows in runs)
        merges = sum(count for count, _ in runs)
        minutes = (merges * merge + read / rate) / 60
        return f"{merges} merges and {read:,.0f} tokens of {len(self._rows)} kinds of rows: about {minutes:.1f} min"

    def run(self) -> Found:
        """Settings first, then each contribution's weight; main's own way takes part to the end."""
        best = self._halve(self._grid())
        if best.method in SUMS:
            tries = [best]
            for slug in sorted(self._slugs.values()):
                for weight in WEIGHTS:
                    tries.append(Candidate(best.method, best.settings, {**best.weights, slug: weight}))
            best = self._halve(tries)
        last = ROUNDS[-1]
        score, now = self._score(best, last), self._score(self.now, last)
        if now <= score:
            best, score = self.now, now
        return Found(best.method, best.settings, best.weights, best.name, score, now, self.tried)

    def _grid(self) -> list[Candidate]:
        grid = [Candidate(method, dict(settings)) for method, settings in GRID]
        return [self.now, *(candidate for candidate in grid if candidate != self.now)]

    @staticmethod
    def _runs(count: int) -> list[tuple[int, int]]:
        """How many candidates read how many rows, round by round."""
        runs = []
        for rows in ROUNDS:
            runs.append((count, rows))
            count = max(1, -(-count // KEEP))
        return runs

    def _most(self) -> int:
        return max(len(rows) for rows in self._rows.values())

    def _halve(self, candidates: Sequence[Candidate]) -> Candidate:
        left = list(candidates)
        for rows in ROUNDS:
            scores = []
            for done, candidate in enumerate(left):
                self._progress(f"ways to merge, {rows} rows each", done, len(left))
                scores.append(self._score(candidate, rows))
            self._progress(f"ways to merge, {rows} rows each", len(left), len(left))
            order = sorted(range(len(left)), key=lambda i: (scores[i], left[i].name))
            left = [left[i] for i in order[: max(1, -(-len(left) // KEEP))]]
        return left[0]

    def _score(self, candidate: Candidate, rows: int) -> float:
        """The mean over kinds of rows of loss over the base's loss."""
        known = next((t["score"] for t in self.tried if (t["name"], t["rows"]) == (candidate.name, rows)), None)
        if known is not None:
            return float(known)
        if rows not in self._base:
            self._clear()
            self._base[rows] = self._read(rows)
        for name in self._beside:
            self._lay(candidate, name)
        losses, base = self._read(rows), self._base[rows]
        score = float(np.mean([losses[kind] / base[kind] for kind in base]))
        self.tried.append({"name": candidate.name, "rows": rows, "score": score})
        return score

    def _lay(self, candidate: Candidate, name: str) -> None:
        """Put a candidate's merged change beside one layer."""
        weights = {digest: candidate.weights.get(slug, 1.0) for digest, slug in self._slugs.items()}
        changes = [
            Change(change.left, change.right, change.gram, weights.get(digest, 1.0))
            for digest, change in self._fold.changes(name).items()
        ]
        self._beside[name].lay(self._fold.apply_method(name, changes, METHODS[candidate.method], candidate.settings))

    def _clear(self) -> None:
        for beside in self._beside.values():
            beside.lay([])

    def _read(self, rows: int) -> dict[str, float]:
        """Nats a token of each kind of rows."""
        tagged = [replace(s, tag=kind) for kind, sequences in self._rows.items() for s in sequences[:rows]]
        sums = {kind: [0.0, 0.0] for kind in self._rows}
        with torch.inference_mode():
            for row in packed_alike(self._lm.net, tagged):
                log_p, _, whose = log_probabilities(self._lm.net, row)
                for value, number in zip(log_p.tolist(), whose, strict=True):
                    total = sums[row.paths[number][0].tag]
                    total[0], total[1] = total[0] - value, total[1] + 1
        return {kind: loss / max(count, 1.0) for kind, (loss, count) in sums.items()}


class _Beside:
    """What a layer of the base computes, and a low-rank change beside it; a change that is whole is added to it."""

    def __init__(self, layer: Any) -> None:
        self._layer, self._weight = layer, layer.weight.data
        self._pairs: list[tuple[Any, Any]] = []
        layer.register_forward_hook(self._after)

    def lay(self, changes: Sequence[Change]) -> None:
        def like(array: Any) -> Any:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self._weight)

        whole = [change.right for change in changes if change.left is None]
        self._layer.weight.data = self._weight + like(sum(whole[1:], whole[0])) if whole else self._weight
        thin = [change for change in changes if change.left is not None]
        lefts = [change.left for change in thin if change.left is not None]
        self._pairs = []
        if thin:
            self._pairs = [(like(np.concatenate([c.right for c in thin])), like(np.concatenate(lefts, axis=1)))]

    def _after(self, module: Any, args: tuple[Any, ...], out: Any) -> Any:
        linear = torch.nn.functional.linear
        for right, left in self._pairs:
            out = out + linear(linear(args[0], right), left)
        return out


def _beside(lm: LM, name: str) -> _Beside:
    _, layer = lm.module(name) or ("", None)
    if not isinstance(layer, torch.nn.Linear):
        raise UsageError(
            f"{name} is not the weight of a linear layer", hint="the search knows changes of linear layers"
        )
    return _Beside(layer)


def _rows(main: Snapshot, offer: Offer, lm: LM, texts: Sequence[str]) -> dict[str, list[TokenSequence]]:
    """Kind -> sequences in an order nobody chose: each contribution's, and general text."""
    kinds: dict[str, list[TokenSequence]] = {}
    for contribution in [*main.offers.values(), offer]:
        if contribution.delta is not None and (sequences := _own_rows(main, contribution, lm)):
            sequences.sort(key=lambda sequence: blake3(repr(sequence.tokens).encode()).digest())
            kinds[contribution.slug] = sequences[: ROUNDS[-1]]
    if kinds and texts:
        kinds[GENERAL] = [TokenSequence(lm.encode(text), 1) for text in texts[: ROUNDS[-1] // 3]]
    return kinds


def _own_rows(main: Snapshot, offer: Offer, lm: LM) -> list[TokenSequence]:
    """Half of the cases it fixes, or, where it fixes none, the rows it brought."""
    known = with_answers(main.evals)
    cases = [case for name in offer.contribution.fixes if name in known for case in known[name].cases]
    sequences = [
        TokenSequence([*(prompt := lm.chat_tokens(case.turns)), *lm.encode(case.expected), lm.eos_id], len(prompt))
        for case in cases
        if _even(case.id) and case.turns
    ]
    if sequences:
        return sequences
    return learnable(lm, [sequence_of(lm, row) for row in rows_of(offer.data)])


def _even(name: str) -> bool:
    return blake3(name.encode()).digest()[0] % 2 == 0
