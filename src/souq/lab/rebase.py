"""Train a contribution again where it will live: in the merged model, through the merge itself.

Under a method that is linear in each change, the merged matrix is R + b a P: R is what everybody else brings, P what
the merge makes of this contribution's inputs. Here a and b learn with R and P held still, so what the fold later
builds is what was trained, to the rounding of the weights (decisions/rebase.md).

    delta, tensors, recipe = rebased(main, offer, Path("rows.jsonl"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from souq.build.deltas import from_adapter
from souq.build.lock import fold
from souq.build.merger import Merger
from souq.build.spread import Merge
from souq.errors import Hostile, UsageError
from souq.lab import lm as lab_model
from souq.lab.lm import LM
from souq.lab.packing import TokenSequence, sequences_of
from souq.lab.sketching import nats
from souq.lab.train import deterministic, shuffled, train_loop
from souq.merge import Fold
from souq.merge.exact import Float
from souq.merge.grow import VOCABULARY
from souq.merge.methods import SUMS, Change
from souq.progress import Progress, quiet
from souq.records import Digest, digest_of
from souq.repo.contribution import Offer
from souq.repo.rows import read_rows, rows_digest
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Array, Delta, Load, Lora, Tensors
from souq.workers import Workers, checked

LINEAR = tuple(SUMS)
Around = tuple[Array, Float]
"""What the others bring to a tensor, (m, n) float32, and what the merge makes of its inputs, (n, n) float64."""
Factors = dict[str, tuple[Array, Array, float]]
"""Tensor name -> (a (r, n), b (m, r), scale), as deltas.from_adapter takes them."""


class Through(torch.nn.Module):
    """A linear layer of the merged model; its own share of the change, scale * b @ a @ through, is what learns."""

    rest: torch.Tensor
    through: torch.Tensor

    def __init__(self, rest: Any, bias: Any, a: Any, b: Any, scale: float, through: Any) -> None:
        super().__init__()
        self.register_buffer("rest", rest)
        self.register_buffer("through", through)
        self.bias, self.scale = bias, scale
        self.a, self.b = torch.nn.Parameter(a), torch.nn.Parameter(b)

    def forward(self, x_TN: Any) -> Any:
        linear = torch.nn.functional.linear
        right_RN = self.a @ self.through  # R x N x N once a step: less than T x N x N
        return linear(x_TN, self.rest, self.bias) + self.scale * linear(linear(x_TN, right_RN), self.b)


def graft(
    files: Mapping[str, bytes], merged: Fold, offer: Digest, method: str, progress: Progress = quiet,
    spread: _Spread | None = None,
) -> LM:  # fmt: skip
    """The merged model, with one contribution's layers able to learn; what surrounds them may be `spread`.

    Raises:
        UsageError: the method is not linear in a change, or the contribution is not a LoRA of linear layers.
    """
    if method not in LINEAR:
        raise UsageError(
            f"`{method}` does not add up: what one brings depends on the others",
            hint=f"rebase knows {', '.join(LINEAR)}",
        )
    mine = merged.deltas[offer].parts
    if odd := [name for name, part in mine.items() if not isinstance(part, Lora) or name.endswith(VOCABULARY)]:
        raise UsageError(
            f"{odd[0]} is changed as a whole, or row by row",
            hint="rebase knows LoRAs: `souq train`, or any PEFT folder",
        )
    beside = spread or _Shares(merged, offer)
    around = dict[str, Around]()
    for name, part_of in beside.around(_alike(merged, mine)):
        progress("merge under it", len(around), len(mine))
        around[name] = part_of
    progress("merge under it", len(mine), len(mine))
    lm = lab_model.load(files, {name: around[name][0] if name in around else merged[name] for name in merged})
    for name in mine:
        part = mine[name]
        assert isinstance(part, Lora)
        _replace(lm, name, part, merged.load, around[name][1])
    return lm


def _alike(merged: Fold, names: Iterable[str]) -> list[list[str]]:
    """Tensors in groups: those together whose inputs the merge treats alike, whoever changes them."""
    groups: dict[Any, list[str]] = {}
    for name in names:
        changed = [(who, delta.gram_of(name)) for who, delta in merged.deltas.items() if name in delta.parts]
        groups.setdefault((merged.group(name) if merged.sums else None, str(changed)), []).append(name)
    return list(groups.values())


class _Shares:
    """A merge taken apart: what the others bring to a tensor, and what becomes of one contribution's inputs."""

    def __init__(self, fold: Fold, offer: Digest) -> None:
        self._fold, self._offer = fold, offer
        self._known: dict[tuple[int, ...], tuple[list[Change], Float]] = {}

    def around(self, groups: Iterable[Sequence[str]]) -> Iterator[tuple[str, Around]]:
        """What surrounds each tensor, by name."""
        for group in groups:
            yield from ((name, (self.rest(name), self.through(name))) for name in group)

    def rest(self, name: str) -> Array:
        """(m, n) float32: the base and the others' share of the merged change."""
        changes = self._fold.changes(name)
        own = changes[self._offer]
        changes[self._offer] = replace(own, right=np.zeros_like(own.right))
        total = self._fold.base(name)
        for change in self._fold.merged(name, list(changes.values())):
            total += change.right if change.left is None else change.left @ change.right
        return total.astype(np.float32)

    def through(self, name: str) -> Float:
        """P (n, n), what the method makes of an identity; computed once for layers that read the same input."""
        changes = self._fold.changes(name)
        n = changes[self._offer].right.shape[1]
        key = (n, *(id(change.gram) for change in changes.values()))
        if key not in self._known:
            empty = Change(np.zeros((1, 0)), np.zeros((0, n)), None)
            probes = {digest: replace(empty, gram=change.gram) for digest, change in changes.items()}
            probes[self._offer] = Change(None, np.eye(n), changes[self._offer].gram)
            answer = self._fold.merged(name, list(probes.values()))
            # the changes are kept, so that no other sketch can come to have the same id
            self._known[key] = list(changes.values()), answer[list(probes).index(self._offer)].right
        return self._known[key][1]


# -- by workers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surroundings:
    """The task of a worker: what surrounds one contribution in a merge, group by group."""

    merge: Merge
    offer: Digest
    cores = 1

    def ready(self) -> Callable[[Sequence[str]], dict[str, Around]]:
        return partial(_around, _Shares(self.merge.fold(), self.offer))


def _around(shares: _Shares, group: Sequence[str]) -> dict[str, Around]:
    with threadpool_limits(1, "blas"):
        return dict(shares.around([group]))


@dataclass(frozen=True)
class _Spread:
    """As `_Shares`, by the repository's workers; some of it is computed here too."""

    task: Surroundings
    workers: Workers

    @classmethod
    def of(cls, main: Snapshot, merged: Fold, offer: Offer) -> Self | None:
        """None where the repository has no workers."""
        if (workers := main.repo.workers) is None:
            return None
        merger = Merger(merged, main.grown(offer), merged.load, ())
        return cls(Surroundings(Merge.of(main, offer, merger, workers.store), offer.digest), workers)

    def around(self, groups: Sequence[Sequence[str]]) -> Iterator[tuple[str, Around]]:
        """What surrounds each tensor, by name.

        Raises:
            Hostile: a worker answers what was not asked, or otherwise than this machine does.
        """
        for done in checked(self.workers, self.task, groups, _close):
            shapes = {name: self.task.merge.base[name].shape for name in groups[done.piece]}
            if not _fits(done.answer, shapes):
                raise Hostile(f"{done.worker} answers other tensors than it was asked for")
            yield from done.answer.items()


def _fits(answer: Any, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if not isinstance(answer, dict) or answer.keys() != shapes.keys():
        return False
    expected = {name: ((shape, "float32"), (2 * shape[1:], "float64")) for name, shape in shapes.items()}
    return all(tuple((a.shape, str(a.dtype)) for a in pair) == expected[name] for name, pair in answer.items())


def _close(theirs: dict[str, Around], ours: dict[str, Around]) -> bool:
    if not isinstance(theirs, dict) or theirs.keys() != ours.keys():
        return False
    return all(np.allclose(a, b, 1e-5) for name in ours for a, b in zip(theirs[name], ours[name], strict=True))


def _replace(lm: LM, name: str, part: Lora, load: Load, through: Float) -> None:
    """Put a layer that learns where a linear layer was."""
    path, old = lm.module(name) or ("", None)
    if not isinstance(old, torch.nn.Linear):
        raise UsageError(f"{name} is not the weight of a linear layer", hint="rebase knows LoRAs of linear layers")
    a, b = (lab_model.tensor(load(ref.digest)).float().to(lm.device) for ref in (part.a, part.b))
    held = torch.from_numpy(through.astype(np.float32)).to(lm.device)
    lm.net.set_submodule(path, Through(old.weight.data, old.bias, a, b, part.scale, held))


def train(
    lm: LM,
    sequences: Sequence[TokenSequence],
    *,
    epochs: int,
    lr: float,
    batch: int,
    seed: int = 0,
    progress: Progress = quiet,
) -> tuple[float, ...]:
    """Teach the layers that can learn; the loss of every batch.

    They start from where the contribution was, so a short way is enough.

    Raises:
        UsageError: no rows.
    """
    if not sequences:
        raise UsageError("no rows to train on", hint="name a JSONL file with --data")
    with deterministic():
        curve = train_loop(lm.net, shuffled(sequences, epochs, batch, seed), lr, progress)
    lm.net.requires_grad_(False)
    return curve


def factors_of(lm: LM) -> Factors:
    """What the layers have learned, by tensor name: a (r, n) and b (m, r), float32, and the scale."""
    return {
        lm.names[f"{name}.weight"]: (layer.a.detach().cpu().numpy(), layer.b.detach().cpu().numpy(), layer.scale)
        for name, layer in lm.net.named_modules()
        if isinstance(layer, Through)
    }


def rebased(
    main: Snapshot, offer: Offer, data: Path, *, epochs: int = 1, lr: float = 0.0, progress: Progress = quiet
) -> tuple[Delta, Tensors, dict[str, Any]]:
    """An offer trained again within main's merge, with its own rows: the delta, its tensors, and the recipe to record.

    Its sketches stay as they are: the merge then does with the new change exactly what it did in training. `lr` 0
    means half of the offer's own.

    Raises:
        UsageError: it is not a LoRA, the merge is not linear in it, or there are no rows.
    """
    delta = offer.delta
    if delta is None:
        raise UsageError("it changes no weights", hint="only weights can be rebased")
    recipe = offer.contribution.recipe
    merged = fold(main, offer)
    around = _Spread.of(main, merged, offer)
    lm = graft(base_files(main), merged, offer.digest, main.merging(offer).method, progress, around)
    rows = read_rows(data)
    sequences = sequences_of(lm, rows)
    before = nats(lm, sequences, "read before", progress)
    rate = lr or 0.5 * _number(recipe.get("lr"), 2e-3)
    train(lm, sequences, epochs=epochs, lr=rate, batch=int(_number(recipe.get("batch"), 16)), progress=progress)
    after = nats(lm, sequences, "read after", progress)
    made, tensors = from_adapter(factors_of(lm), main)
    made = replace(made, grams=delta.grams, inputs=delta.inputs)
    tensors |= {
        ref.digest: main.repo.store.get(ref.digest) for gram in delta.grams.values() for ref in (gram.factor, gram.diag)
    }
    note = {
        "onto": main.commit, "epochs": epochs, "lr": rate, "before": round(before, 6), "after": round(after, 6),
        "data": rows_digest(rows), "through": merge_digest(main, offer), "times": 1 + _times(recipe.get("rebase")),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    return made, tensors, {**recipe, "rebase": note}


def merge_digest(main: Snapshot, offer: Offer) -> Digest:
    """The name of the `[merge]` table an offer was rebased through: as main has it, or as the offer asks for."""
    return digest_of(main.config_with(offer).merge)


def _times(note: Any) -> int:
    """How often it was rebased before; a note that does not say was one rebase."""
    return int(_number(note.get("times"), 1)) if isinstance(note, dict) else 0


def _number(value: Any, usual: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else usual
