"""A full fine-tune as a delta: the exact difference of its tensors, or the nearest of low rank, its error stated.

A fine-tune comes as its trainer left it: under a wrapper's names, in another dtype, with buffers and heads that the
base does not hold, with other settings beside it. Whatever is not the base's way is either carried exactly, rounded
with its error said, or refused with what to type next; nothing is left out in silence.

    made = from_tune(open_source("trained"), main)
    made.delta, made.notes, made.recipe()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from souq.build.additions import Get, Taken, take
from souq.build.deltas import Bag, Rounding, smaller
from souq.build.lock import fold
from souq.errors import UsageError
from souq.merge.exact import Float
from souq.merge.grow import grow
from souq.model.base import is_tied
from souq.model.config import settings_in
from souq.model.names import HEAD, TOKENS, Renamed, in_layer, is_buffer, is_second_head, renamed
from souq.model.settings import Differences, WriteOut, compare
from souq.model.source import Source
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.repo.snapshot import Snapshot, base_files
from souq.text import shortlist
from souq.weights.computed import Computed
from souq.weights.delta import Array, Checkpoint, Delta, Lora, Part, TensorRef, Tensors, dtype_name
from souq.weights.store import Stored

F32 = NDArray[np.float32]
LowRank = Callable[[F32, int], tuple[F32, F32]]
"""The nearest product b (m, r) @ a (r, n) to a matrix, as (a, b)."""

MOST_LOST = 0.5  # of a change's norm, by rounding: beyond it what lands is more rounding than training
FLOATS = {"BF16", "F16", "F32", "F64"}
BLOCK = 1 << 22  # numbers looked at together
MOST_ERRORS = 400  # tensors whose own error stands in a recipe
MOST_ASKED, SURE = 32, 0.1  # tensors asked where a tune began; the most a share's standard error may be
ON_MAIN = 0.5  # of what main moved, in the tune: trained on main it is 1, on the base 0


@dataclass(frozen=True)
class Choices:
    """What its owner wants: weights without the settings, rounding whatever it costs, a LoRA of a rank, on what."""

    weights_only: bool = False
    cast: bool = False
    rank: int = 0
    of: Literal["", "base", "main"] = ""
    low_rank: LowRank | None = None
    write_out: WriteOut | None = None


@dataclass
class Tuned:
    """A fine-tune's delta, with what a reader should know of it."""

    delta: Delta
    tensors: Tensors
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # settings that its owner offers the weights without
    errors: dict[str, float] = field(default_factory=dict)  # of the tensors kept as low rank: ||d - b a|| / ||d||
    error: float = 0.0  # of all of them together

    def recipe(self) -> dict[str, Any]:
        """What the recipe says of it, for who looks at the pull request."""
        made: dict[str, Any] = {"notes": self.notes} if self.notes else {}
        if self.left_out:
            made["weights_only"] = self.left_out
        if self.errors:
            worst = dict(sorted(self.errors.items(), key=lambda item: -item[1])[:MOST_ERRORS])
            made["low_rank"] = {
                "error": round(self.error, 6), "tensors": len(self.errors),
                "errors": {name: round(worst[name], 6) for name in sorted(worst)},
            }  # fmt: skip
        return made


def from_model(source: Source, main: Snapshot, progress: Progress = quiet) -> tuple[Delta, Tensors]:
    """The exact difference of a trained model; what it adds beside.

    Raises:
        UsageError: the folder is another model: other names, shapes or settings.
    """
    made = from_tune(source, main, Choices(of="base"), progress)
    return made.delta, made.tensors


def from_tune(source: Source, main: Snapshot, choices: Choices = Choices(), progress: Progress = quiet) -> Tuned:
    """A trained model's difference from the base, or from main: for each tensor that moved, positions and values, the
    whole, or factors; and the tokens, layers and experts that the base does not have.

    Raises:
        UsageError: another model, other settings, or a dtype that holds too little of the change.
    """
    return _Tune(source, main, choices, progress).made()


class _Tune:
    """A fine-tune being fitted to its base, step by step."""

    def __init__(self, source: Source, main: Snapshot, choices: Choices, progress: Progress) -> None:
        self.main, self.choices, self.progress = main, choices, progress
        self.bag, self.notes, self.trained_apart = Bag(), list[str](), ""
        self.base = Stored(main.base, main.repo.store)
        self.source, self.config = source, settings_in(source.files)
        self.missed2 = self.extracted2 = self.faded2 = 0.0
        self.rounding = Rounding()
        self.cast: dict[tuple[str, str], int] = {}

    def made(self) -> Tuned:
        names = renamed(self.source.weights, self.main.base)
        self.notes += names.changes
        weights = self._weights(names)
        heads_alike = self._fit_heads(weights)
        taken = take(replace(self.source, weights=Computed(weights)), self.main, self.bag.add)
        self._check_names(taken)
        left_out = self._settings(taken, heads_alike)
        parts, errors = self._parts(taken)
        if not parts and not taken.new:
            raise UsageError("nothing differs from the base", hint="did you save the fine-tuned weights?")
        delta = Delta(self.main.base_digest, parts, new=taken.new)
        return Tuned(delta, self.bag.tensors, self.notes, left_out, errors, _ratio(self.missed2, self.extracted2))

    # -- names ---------------------------------------------------------------------------------------------------------

    def _weights(self, names: Renamed) -> dict[str, Get]:
        """Its tensors under the base's spelling: without buffers, which the configuration computes, and without heads
        that do not write."""
        self._refuse_unmerged(names)
        self._refuse_classifier(names)
        weights, left = dict[str, Get](), dict[str, list[str]]()
        for name, own in names.names.items():
            if name in self.main.base or not (why := self._not_taken(name, own)):
                weights[name] = partial(self.source.weights.__getitem__, own)
            else:
                left.setdefault(why, []).append(name)
        self.notes += [f"{_listed(some)}: {why}" for why, some in left.items()]
        for name, ref in self.main.base.items():
            if is_buffer(name, ref.shape):
                weights[name] = self._own(name)
        return weights

    def _not_taken(self, name: str, own: str) -> str:
        if is_second_head(name):
            return "a head that scores, which this base does not have: it stays behind"
        if is_buffer(name) or (name.endswith(".bias") and is_buffer(name, self.source.weights[own].shape)):
            return "computed from the configuration, so not taken"
        return ""

    def _refuse_unmerged(self, names: Renamed) -> None:
        if factors := [name for name in names.names if ".lora_" in name and name not in self.main.base]:
            raise UsageError(
                f"{len(factors)} of its tensors are factors of an adapter that was not merged: {_listed(factors)}",
                hint="name the adapter's own folder, or save `model.merge_and_unload()`",
            )

    def _refuse_classifier(self, names: Renamed) -> None:
        scoring = [name for name in names.names if is_second_head(name)]
        if scoring and self._heads() and not any(HEAD.search(name) for name in names.names):
            raise UsageError(
                f"{self.source.name} scores or classifies: it has {_listed(scoring)}, and no {_listed(self._heads())}",
                hint="offer the language model it was made of, or start a repository of its own with `souq init`",
            )

    def _heads(self) -> list[str]:
        return [name for name in self.main.base if HEAD.search(name)]

    def _fit_heads(self, weights: dict[str, Get]) -> bool:
        """A head that is tied in one and written out in the other: the same tensor twice is one. Whether the tune
        computes the same with its head tied or not."""
        heads, tables = self._heads(), [name for name in self.main.base if TOKENS.search(name)]
        own = next((name for name in weights if HEAD.search(name)), None)
        if len(tables) != 1 or tables[0] not in weights or len(heads) > 1:
            return False
        table = weights[tables[0]]
        if own is not None and not heads:
            apart = _apart(weights.pop(own)(), table())
            if apart:
                tied = f"{own}: tied to {tables[0]} in the base"
                self.trained_apart = f"{tied}, trained apart in the tune and {apart:.2g} of its norm away"
            return not apart
        if own is None and heads:
            if is_tied(self.config):
                weights[heads[0]] = table
                return True
            weights[heads[0]] = self._own(heads[0])
            self.notes.append(f"it has no {heads[0]} (the backbone alone was saved): the base's stays as it is")
            return False
        return own is not None and not _apart(weights[own](), table())

    def _own(self, name: str) -> Get:
        return partial(self.base.__getitem__, name)

    def _check_names(self, taken: Taken) -> None:
        """All that is on one side only, and what that most often comes from.

        Raises:
            UsageError: a name is on one side only.
        """
        absent, extra = self.main.base.keys() - taken.base.keys(), taken.base.keys() - self.main.base.keys()
        wrong = [f"{len(absent)} of the base's {len(self.main.base)} tensors are not in it: {_listed(absent)}"] * bool(
            absent
        )
        wrong += [f"{len(extra)} of its tensors are not in the base: {_listed(extra)}"] * bool(extra)
        if wrong:
            raise UsageError(f"not a fine-tune of this base: {'; '.join(wrong)}", hint=self._cause(extra))

    def _cause(self, extra: Collection[str]) -> str:
        """What such names most often come from, and what to type then."""
        if any(name.endswith((".qweight", ".scales", ".absmax", "_scale_inv", "_blocks", "_scales")) for name in extra):
            return "it is quantised: save `model.dequantize()` in 16 bits, and offer that"
        kinds = [config.get("model_type") for config in (self.config, settings_in(base_files(self.main)))]
        own = "start a repository of its own with `souq init`"
        if kinds[0] != kinds[1]:
            return f"it is a {kinds[0]}, and the base a {kinds[1]}: {own}"
        depths = [_depth(self.source.weights), _depth(self.main.base)]
        if depths[0] != depths[1]:
            return f"it has {depths[0]} layers, and the base {depths[1]}: {own}"
        return f"if it was trained from another model, {own}"

    # -- settings ------------------------------------------------------------------------------------------------------

    def _settings(self, taken: Taken, heads_alike: bool) -> list[str]:
        """What a delta does not carry: refused, or left out by its owner's word.

        Raises:
            UsageError: settings differ, and nobody said that the weights are offered without them.
        """
        larger = grow(self.main.base, base_files(self.main), [Delta(self.main.base_digest, {}, new=taken.new)])
        differences = compare(larger.files, self.source.files, self.choices.write_out, heads_alike=heads_alike)
        if self.trained_apart:
            differences.network.append(self.trained_apart)
        self.notes += differences.notes
        left_out = differences.network + differences.conduct
        if left_out and not self.choices.weights_only:
            raise UsageError(
                "\n  ".join([_refusal(differences), *left_out]),
                hint="start a repository of its own with `souq init NAME --from …`, or add --weights-only: the weights "
                "are offered without these settings, and the pull request says so",
            )
        return left_out

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _parts(self, taken: Taken) -> tuple[dict[str, Part], dict[str, float]]:
        parts, errors, wrong = dict[str, Part](), dict[str, float](), dict[str, list[str]]()
        under = self._trained_on(taken)
        for done, (name, ref) in enumerate(self.main.base.items()):
            self.progress("compare", done, len(self.main.base))
            new = np.ascontiguousarray(taken.base[name]())
            if new.size == ref.size == 1:  # one number is saved as () or as (1,), by release
                new = new.reshape(ref.shape)
            if why := _unlike(new, ref):
                wrong.setdefault(why, []).append(name)
            if wrong or TensorRef.of(new) == ref:
                continue
            before = self.base[name]
            if name in under:
                new = _laid_over(before, under[name], new)
            if self.choices.rank and (factors := self._low_rank(name, before, new, errors)) is not None:
                parts[name] = factors
            elif TensorRef.of(fitted := self._in_dtype(name, before, new)) != ref:
                parts[name] = smaller(self.bag, before, fitted)
        self.progress("compare", len(self.main.base), len(self.main.base))
        if wrong:
            sentences = [f"{_listed(names)}: {why}" for why, names in wrong.items()]
            raise UsageError("\n  ".join(["not a fine-tune of this base", *sentences]), hint=_UNLIKE)
        self._say_cast()
        return parts, errors

    def _low_rank(self, name: str, before: Array, new: Array, errors: dict[str, float]) -> Part | None:
        """Factors, where they are smaller than what is exact."""
        rank, extract = self.choices.rank, self.choices.low_rank
        if extract is None or before.ndim != 2:
            return None
        change = _single(new) - _single(before)
        exact = min(int(np.count_nonzero(change)) * (4 + before.dtype.itemsize), before.nbytes)
        if 4 * rank * sum(before.shape) >= exact or not np.isfinite(change).all():
            return None  # what is not finite is kept for the check `tensors` to refuse
        a, b = extract(change, rank)
        whole, product = _square(change), b @ a
        self.faded2 += _square(_single((_single(before) + product).astype(before.dtype)) - (_single(before) + product))
        change -= product
        missed = _square(change)
        self.missed2, self.extracted2 = self.missed2 + missed, self.extracted2 + whole
        errors[name] = _ratio(missed, whole)
        return Lora(a=self.bag.add(a), b=self.bag.add(b), scale=1.0)

    def _in_dtype(self, name: str, before: Array, new: Array) -> Array:
        """The tune's numbers in the base's dtype, rounded to the nearest; those that are only the base's own, rounded
        by who saved the tune, stay the base's."""
        if new.dtype == before.dtype:
            return new
        key = dtype_name(new.dtype), dtype_name(before.dtype)
        self.cast[key] = self.cast.get(key, 0) + 1
        fitted = np.empty_like(before)
        flat, numbers, old = fitted.reshape(-1), new.reshape(-1), before.reshape(-1)
        for at in range(0, flat.size, BLOCK):
            here = slice(at, at + BLOCK)
            with np.errstate(over="ignore"):
                same = old[here].astype(new.dtype) == numbers[here]
                flat[here] = np.where(same, old[here], numbers[here].astype(before.dtype))
            wide, made = _wide(numbers[here]), _wide(flat[here])
            if not np.isfinite(made[np.isfinite(wide)]).all():
                raise UsageError(f"{name}: numbers too large for the base's {key[1]}", hint="check how it was trained")
            self.rounding.add(np.where(same, _wide(old[here]), wide), made, old[here])
        return fitted

    def _say_cast(self) -> None:
        lost = _ratio(self.rounding.lost, self.rounding.moved + self.extracted2)
        for (theirs, ours), count in self.cast.items():
            self.notes.append(
                f"{count} tensors are {theirs} in it and {ours} in the base: rounded to the nearest, and what is only "
                "the base's own number, rounded, stays it"
            )
        if self.cast:
            self.notes.append(
                f"rounding loses {lost:.2%} of the change, by its norm" if lost else "rounding loses nothing"
            )
        if self.faded2:
            faded = _ratio(self.faded2, self.extracted2)
            self.notes.append(
                f"built in the base's dtype, rounding loses {faded:.2%} of the change that its factors make"
            )
        if lost > MOST_LOST and not self.choices.cast:
            raise UsageError(
                f"the base's dtype cannot hold this change: rounding would lose {lost:.0%} of it",
                hint="take it as it rounds with --cast, and try it with `souq delta apply`; a larger change, or a "
                "repository that begins from a float32 base, holds more",
            )

    # -- main ----------------------------------------------------------------------------------------------------------

    def _trained_on(self, taken: Taken) -> Checkpoint:
        """Main's own tensors where the tune is a change of main, to be laid over the base; empty where of the base.

        Raises:
            UsageError: it holds what landed on main, and nobody said what is meant.
        """
        if self.choices.of == "base":
            return {}
        merged, landed = fold(self.main), self._landed_in(taken)
        shares = self._shares_of_main(taken, merged, merged.changed)
        began = [share > ON_MAIN for share in shares] + [True] * bool(landed)
        if self.choices.of == "" and any(began):
            raise UsageError(
                "it was trained on main, not on main's base: it holds what others' contributions changed",
                hint="--of main offers what it changes of main; --of base all of it, others' work too; "
                "`souq export --base` writes the base to train on",
            )
        if self.choices.of == "":
            return {}
        if not all(began):
            held = "some of what main has moved is in it" if any(began) else "nothing that main has moved is in it"
            raise UsageError(
                f"it was not trained on main as it is: {held}",
                hint="--of base offers all of it as a change of the base; --of main is for what was trained on today's",
            )
        for title in landed:
            del taken.new[title]
        changed = list(merged.changed)
        if changed:
            method = self.main.merging().method
            self.notes.append(f"its difference from main is offered as a change of the base; main merges by `{method}`")
        return {name: merged[name] for name in changed}

    def _landed_in(self, taken: Taken) -> list[str]:
        """What it adds that main has already."""
        landed = [new for delta in self.main.deltas().values() for new in delta.new.values()]
        return [title for title, new in taken.new.items() if new in landed]

    def _shares_of_main(self, taken: Taken, merged: Checkpoint, changed: Iterable[str]) -> list[float]:
        """How much of what main moved is in the tune: 1 where it began as main, 0 where it began as the base.

        Of one tensor for each set of contributions that met, so that an earlier main shows; the smallest that can tell,
        by the error of a projection on training that has nothing to do with it.
        """
        movers: dict[frozenset[Digest], float] = {}
        deltas, asked = self.main.deltas(), 0
        for name in sorted(changed, key=lambda name: (self.main.base[name].size, name)):
            who = frozenset(digest for digest, delta in deltas.items() if name in delta.parts)
            if who in movers or asked >= MOST_ASKED:
                continue
            asked += 1
            before, new = _wide(self.base[name]), _wide(taken.base[name]())
            moved = _wide(merged[name]) - before
            if new.shape != before.shape or not (whole := _square(moved)):
                continue
            share = float(np.vdot(new - before, moved)) / whole
            if _ratio(_square(new - before - share * moved), whole * moved.size) < SURE:
                movers[who] = share
        return list(movers.values())


_UNLIKE = (
    "where it has more rows of tokens, save its tokenizer beside it: tokenizer.save_pretrained(…); "
    "else start a repository of its own with `souq init`"
)


def _depth(names: Collection[str]) -> int:
    return len({match[2] for name in names if (match := in_layer(name))})


def _unlike(new: Array, ref: TensorRef) -> str:
    """How a tensor cannot be the base's, trained; nothing where it can."""
    if new.shape != ref.shape:
        return f"{new.shape} in it, {ref.shape} in the base"
    kinds = dtype_name(new.dtype), ref.dtype
    if kinds[0] != kinds[1] and not {*kinds} <= FLOATS:
        return f"{kinds[0]} in it, {kinds[1]} in the base"
    return ""


def _laid_over(base: Array, under: Array, new: Array) -> Array:
    """The base with what a tune changed of main: float32."""
    moved: Array = _single(base) + (_single(new) - _single(under))
    return moved


def _apart(head: Array, table: Array) -> float:
    """How far a head is from the embedding, in units of its norm; 0 where they are the same."""
    if head.shape != table.shape:
        return 1.0
    return _ratio(_square(_single(head) - _single(table)), _square(table))


def _wide(array: Array) -> Float:
    return array.astype(np.float64)


def _single(array: Array) -> F32:
    return array.astype(np.float32)


def _square(array: Array) -> float:
    """The sum of squares, in float64 and a block at a time: a table of tokens is large."""
    flat = array.reshape(-1)
    blocks = (_wide(flat[at : at + BLOCK]) for at in range(0, flat.size, BLOCK))
    return math.fsum(float(np.vdot(block, block)) for block in blocks)


def _ratio(part: float, whole: float) -> float:
    return math.sqrt(part / whole) if whole else float(part > 0)


def _refusal(differences: Differences) -> str:
    if differences.network:
        return (
            "it is more than tensors: its settings change what the network computes, and a delta carries none of them"
        )
    return "it is more than tensors: it is used in another way than the base, and a delta carries no settings"


def _listed(names: Iterable[str]) -> str:
    return shortlist(sorted(names))
