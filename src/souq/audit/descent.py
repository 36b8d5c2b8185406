"""Which known model a checkpoint descends from, and how; by its weights alone: a hint, never a proof or accusation.

It knows tensors and what models say of themselves; it never runs one. Who descends from whom cannot be read from two
sets of weights that differ by training: of two relatives the one called known is taken for the elder.

    base, mine = (Model.open(path) for path in ("./base", "./mine"))
    descent(mine, [base]).kind        # "lora"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from souq.audit.fingerprint import Print, fingerprint, finite, layer_scores
from souq.errors import UsageError
from souq.merge.exact import Float
from souq.model.source import open_source
from souq.records import Record, spelled_out
from souq.weights.delta import Array, dtype_name

MEASURED = 6  # matrices whose change is taken apart
MOST_RANK = 128
CARD = 4000  # characters of a README looked through
PARENTS = 6  # of which any two or three may have been merged
LANES = 2048  # tokens whose embeddings tell channels apart
UNIT = {"BF16": 2.0**-8, "F16": 2.0**-11, "F32": 2.0**-24, "F64": 2.0**-53}  # half a step of rounding, at most
EMBEDDING, GATE, UP = "model.embed_tokens.weight", "gate_proj", "up_proj"


class Rules(Record, frozen=True):
    """What is called what, and how often wrongly: chosen on half of bench/descent.py's zoo, judged on the rest."""

    related: float  # mean cosine of aligned rows
    explained: float  # share of the distance to the nearest parent that others explain: a merge
    on_grid: float  # share of numbers on a grid of 8 or 4 bits
    false_alarms: tuple[int, int]  # unrelated pairs called related, of how many
    right: dict[str, tuple[int, int]]  # kind -> called so with the right parent, of how many


@lru_cache(maxsize=1)
def shipped() -> Rules:
    """descent.toml beside this file; bench/descent.py writes it."""
    text = files("souq.audit").joinpath("descent.toml").read_text()
    return msgspec.convert(tomllib.loads(text), Rules)


@dataclass(frozen=True)
class Model:
    """A checkpoint, its print, and the parent its card names."""

    name: str
    weights: Mapping[str, Array]
    print: Print
    claims: str | None = None

    @classmethod
    def open(cls, path: str) -> Model:
        """A folder, a .gguf or a hub id.

        Raises:
            NotFound, Hostile: not there; damaged; numbers that are not finite.
        """
        source = open_source(path)
        return cls.of(source.name, source.weights, claims=_claims(Path(path)))

    @classmethod
    def of(cls, name: str, weights: Mapping[str, Array], claims: str | None = None) -> Model:
        return cls(name, weights, fingerprint(name, weights), claims)


class Descent(Record, frozen=True):
    """What is most likely of one checkpoint; `kind` is "unrelated" where no known model stands near."""

    child: str
    kind: str
    parents: tuple[str, ...]  # nearest first; several only of a merge
    score: float  # mean cosine of aligned rows with the nearest, 0 for strangers
    evidence: dict[str, float]
    because: str
    layers: tuple[int, ...] = ()  # the parent's, where they are not simply all
    runners: tuple[tuple[str, float], ...] = ()  # every known model and its score, best first
    claim: str | None = None  # where the card names another parent than the weights

    def __bool__(self) -> bool:
        return self.kind != "unrelated"


@dataclass(frozen=True)
class Pair:
    """How near two models stand: their layers aligned, and whether rows had to be looked for."""

    parent: Model
    score: float
    layers: tuple[tuple[int, int], ...]  # child's, parent's
    sought: bool = False
    moved: float | None = None  # ||c - p|| / ||p|| of the rows, where every shape is the same

    @property
    def distance(self) -> float:
        """How far child and parent are apart, 0 for equal; where shapes differ, of rows of one length at that angle."""
        return self.moved if self.moved is not None else max(2 - 2 * self.score, 0.0) ** 0.5


def descent(child: Model, known: Sequence[Model], rules: Rules | None = None) -> Descent:
    """The most likely parent of `known`, and the kind of descent.

    Raises:
        UsageError: nothing known.
        Hostile: numbers that are not finite.
    """
    rules = rules or shipped()
    if not known:
        raise UsageError("no known models to compare with", hint="name at least one with --known DIR")
    pairs = sorted(
        (pair(child, match, rules) for match in known), key=lambda match: (match.score < rules.related, match.distance)
    )
    scores = {match.parent.name: round(match.score, 4) for match in pairs}
    runners = tuple(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
    if pairs[0].score < rules.related:
        because = f"no known model stands near: {runners[0][0]} is nearest, at cosine {runners[0][1]:.3f}"
        return Descent(child.name, "unrelated", (), runners[0][1], {}, because, runners=runners, claim=child.claims)
    rivals = [match for match in pairs if match.moved is not None and match.score >= rules.related]
    finding = _kind(child, pairs[0], rivals, rules)
    claim = child.claims if child.claims and not _named(child.claims, finding.parents) else None
    return msgspec.structs.replace(finding, runners=runners, claim=claim)


def _named(claim: str, parents: Sequence[str]) -> bool:
    return claim.rpartition("/")[2].lower() in {parent.lower() for parent in parents}


# -- how near ----------------------------------------------------------------------------------------------------------


def pair(child: Model, parent: Model, rules: Rules) -> Pair:
    """Compare two models' rows in place; where they are strangers so, look for the rows elsewhere."""
    scores = layer_scores(child.print, parent.print)
    layers = align(scores)
    least = min(scores.shape)
    match = Pair(
        parent, sum(float(scores[at]) for at in layers) / least, layers, moved=_moved(child.print, parent.print)
    )
    if match.score >= rules.related:
        return match
    other = _sought(child, parent)
    return other if other is not None and other.score > match.score else match


def align(scores: Float) -> tuple[tuple[int, int], ...]:
    """The pairs of layers, in order on both sides, with the largest sum of `scores` (layers, layers), float64.

    Needleman and Wunsch 1970 (doi 10.1016/0022-2836(70)90057-4), gaps free.
    """
    best = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1))
    for i, j in np.ndindex(*scores.shape):
        best[i + 1, j + 1] = max(best[i, j] + scores[i, j], best[i, j + 1], best[i + 1, j])
    i, j = scores.shape
    steps = []
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            steps.append((i, j))
    return tuple(reversed(steps))


def _moved(child: Print, parent: Print) -> float | None:
    if child.shapes != parent.shapes:
        return None
    apart = sum(float(np.sum((child.rows[n].astype(float) - parent.rows[n]) ** 2)) for n in parent.rows)
    size = sum(float(np.sum(rows.astype(float) ** 2)) for rows in parent.rows.values())
    return float((apart / max(size, 1e-30)) ** 0.5)


def _sought(child: Model, parent: Model) -> Pair | None:
    """Channels by their embeddings, neurons by their gates; the score is of what neither has chosen: the up rows."""
    channels = _channels(child, parent)
    if channels is None:
        return None
    ours = [layer for layer in child.print.layers if GATE in layer and UP in layer]
    if len(ours) < len(child.print.layers) or not all(GATE in layer and UP in layer for layer in parent.print.layers):
        return None
    gates, ups = (np.concatenate([child.print.rows[layer[kind]] for layer in ours]) for kind in (GATE, UP))
    each = [len(child.print.rows[layer[GATE]]) for layer in ours]
    columns = []
    for layer in parent.print.layers:
        gate, up = (finite(parent.name, layer[kind], parent.weights[layer[kind]])[:, channels] for kind in (GATE, UP))
        chosen = np.argmax(_rows(gates) @ _rows(gate).T, axis=1)
        cosines = np.einsum("ij,ij->i", _rows(ups), _rows(up)[chosen])
        columns.append([float(part.mean()) for part in np.split(cosines, np.cumsum(each)[:-1])])
    scores = np.array(columns).T
    layers = align(scores)
    return Pair(parent, sum(float(scores[at]) for at in layers) / min(scores.shape), layers, sought=True)


def _channels(child: Model, parent: Model) -> Float | None:
    """For every channel of the child the parent's whose embeddings are most alike; None where it cannot be."""
    if EMBEDDING not in child.weights or EMBEDDING not in parent.weights:
        return None
    ours, theirs = (finite(model.name, EMBEDDING, model.weights[EMBEDDING]) for model in (child, parent))
    lanes = np.unique(np.linspace(0, min(len(ours), len(theirs)) - 1, LANES).astype(int))
    if ours.shape[1] > theirs.shape[1]:
        return None
    nearest: Float = np.argmax(_rows(ours[lanes].T) @ _rows(theirs[lanes].T).T, axis=1)
    return nearest


def _rows(array: Float) -> Float:
    made: Float = array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)
    return made


# -- of which kind -----------------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """What one look at a relative gave: numbers, and a kind of descent with its reason where they decide."""

    evidence: dict[str, float]
    kind: str = ""
    because: str = ""
    parents: tuple[str, ...] = ()


def _kind(child: Model, best: Pair, rivals: Sequence[Pair], rules: Rules) -> Descent:
    """Of a relative: by structure first, then by what changed."""
    evidence: dict[str, float] = {"cosine": round(best.score, 4)}
    looks: list[Callable[[], Finding]] = [
        lambda: _structure(child.print, best),
        lambda: _kept(child, best, rules),
        lambda: _merged(child, rivals, rules),
        lambda: _trained_from_any(child, best, rivals),
    ]
    for look in looks:
        finding = look()
        evidence |= finding.evidence
        if finding.kind:
            break
    layers = tuple(j for _, j in best.layers) if len(child.print.layers) != len(best.parent.print.layers) else ()
    parents = finding.parents or (best.parent.name,)
    return Descent(
        child=child.name, kind=finding.kind, parents=parents, score=round(best.score, 4), evidence=evidence,
        because=finding.because, layers=layers,
    )  # fmt: skip


def _structure(ours: Print, best: Pair) -> Finding:
    """Experts, layers or shapes that are not the parent's."""
    theirs = best.parent.print
    if ours.experts > theirs.experts:
        place = theirs.experts or "one feed-forward"
        because = f"{ours.experts} experts a layer stand at the place of {place}"
        return Finding({"experts": ours.experts}, "upcycled", because)
    if len(ours.layers) != len(theirs.layers):
        counts: dict[str, float] = {"layers": len(ours.layers), "of": len(theirs.layers)}
        if len(ours.layers) < len(theirs.layers):
            return Finding(counts, "pruned-layers", "its layers are some of the parent's, in order")
        return Finding(counts, "grown", "the parent's layers stand among its own")
    if best.moved is not None and not best.sought:
        return Finding({})
    share = {"numbers": round(_numbers(ours) / _numbers(theirs), 4)}
    if _numbers(ours) != _numbers(theirs):
        return Finding(share, "pruned-width", "its rows and channels are found among the parent's")
    return Finding(share, "permuted", "its rows and channels are the parent's in another order")


def _numbers(model: Print) -> int:
    return sum(int(np.prod(shape)) for shape in model.shapes.values())


def _kept(child: Model, best: Pair, rules: Rules) -> Finding:
    """A copy, or the parent rounded to a grid of few values."""
    evidence: dict[str, float] = {"moved": float(f"{best.distance:.4g}")}
    if best.moved == 0 and not any(True for _ in _changed(child, best.parent)):
        return Finding(evidence, "copy", "every tensor is the parent's")
    for bits in (4, 8):
        share, before = on_grid(child, bits), on_grid(best.parent, bits)
        if share >= rules.on_grid > before:
            because = f"{share:.0%} of its numbers lie on a grid of {bits} bits, {before:.0%} of the parent's"
            return Finding(evidence | {"bits": bits, "on_grid": round(share, 4)}, "quantised", because)
    return Finding(evidence)


def _changed(child: Model, parent: Model) -> Iterator[str]:
    """The names of tensors that are not the parent's."""
    for name in child.weights:
        if name not in parent.weights or not np.array_equal(child.weights[name], parent.weights[name]):
            yield name


def on_grid(model: Model, bits: int) -> float:
    """The least share, over some matrices, of rows' numbers on a grid: a row's, the whole's, or one of a block's.

    Blocks are of 32, 64 or 128 numbers.

    Four bits: no block of 32 has more than 16 different numbers. Eight: multiples of the largest over 127 or 128; only
    multiples up to 31 are looked at, which bf16 does not blur.
    """
    return min(
        (_four(model.print.rows[name]) if bits == 4 else _eight(model, name))
        for name in _some(sorted(model.print.rows))
    )


def _four(rows: Float) -> float:
    blocks = _blocks(rows, 32)
    return float(np.mean([len(np.unique(block)) <= min(16, block.size // 2) for block in blocks]))


def _eight(model: Model, name: str) -> float:
    rows = model.print.rows[name]
    whole = float(np.abs(finite(model.name, name, model.weights[name])).max())
    tries = [(rows, np.full((len(rows), 1), whole)), *((b, np.abs(b).max(1, keepdims=True)) for b in _grids(rows))]
    return max(_hits(block, most / steps) for block, most in tries for steps in (127, 128))


def _grids(rows: Float) -> list[Float]:
    return [rows, *(_blocks(rows, size) for size in (32, 64, 128) if rows.shape[1] >= size)]


def _blocks(rows: Float, size: int) -> Float:
    wide = rows.shape[1] - rows.shape[1] % size or rows.shape[1]
    return rows[:, :wide].reshape(-1, min(size, wide))


def _hits(block: Float, step: Float) -> float:
    """Of the numbers between half and 31 steps, the share within a tenth of a step of the grid."""
    at = np.abs(block) / np.maximum(step, 1e-30)
    looked = at[(at > 0.5) & (at < 31.5)]
    return float(np.mean(np.abs(looked - np.round(looked)) < 0.1)) if looked.size else 0.0


def _some(names: Sequence[str]) -> list[str]:
    """A few, evenly."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, MEASURED).astype(int))]


def _merged(child: Model, rivals: Sequence[Pair], rules: Rules) -> Finding:
    """Who the child is a blend of, by least squares on the rows of each tensor, weights summing to one; else nobody.

    A tensor has weights of its own, so that blends by layer and spherical ones are found too.
    """
    near = rivals[:PARENTS]
    if len(near) < 2:
        return Finding({})
    names, first = list(child.print.rows), near[0].parent.print
    prints = [child.print, *(rival.parent.print for rival in near[1:])]
    grams = np.zeros((len(names), len(near), len(near)))  # of c - p0 and of the others' pi - p0
    for t, name in enumerate(names):
        away = np.stack([(side.rows[name].astype(float) - first.rows[name]).ravel() for side in prints])
        grams[t] = away @ away.T
    whole = max(float(grams[:, 0, 0].sum()), 1e-300)
    fits = []
    for count in (1, 2):
        for others in combinations(range(1, len(near)), count):
            weights, left = _fit(grams, others)
            fits.append((1 - left / whole, others, weights))
        explained, others, weights = max(fits, key=lambda fit: fit[0])
        if explained >= rules.explained:
            break
    evidence = {"explained": round(explained, 4)}
    if explained < rules.explained:
        return Finding(evidence)
    shares = {near[0].parent.name: 1 - float(weights.sum())}
    shares |= {near[i].parent.name: float(weight) for i, weight in zip(others, weights, strict=True)}
    evidence |= {f"weight of {name}": round(share, 3) for name, share in shares.items()}
    parents = sorted((name for name, share in shares.items() if abs(share) > 0.03), key=lambda name: -abs(shares[name]))
    if len(parents) < 2:
        return Finding(evidence)
    because = f"{evidence['explained']:.0%} of its distance to {parents[0]} is others' weights"
    return Finding(evidence, "merge", because, tuple(parents))


def _fit(grams: Float, chosen: tuple[int, ...]) -> tuple[Float, float]:
    """The mean weights of the chosen, by their part of the change, and the squared distance left."""
    at, weights, left = list(chosen), np.zeros(len(chosen)), 0.0
    for gram in grams:
        inner, to = gram[np.ix_(at, at)], gram[at, 0]
        solved = np.linalg.lstsq(inner, to, rcond=1e-9)[0]
        weights += solved * gram[0, 0]
        left += max(float(gram[0, 0] - 2 * solved @ to + solved @ inner @ solved), 0.0)
    return weights / max(float(grams[:, 0, 0].sum()), 1e-300), left


def _trained_from_any(child: Model, best: Pair, rivals: Sequence[Pair]) -> Finding:
    """Whom the child differs from by a low rank, which no accident does; else the nearest, which may be a sibling."""
    for rival in rivals[:PARENTS]:
        finding = _trained(child, rival.parent)
        if finding.kind == "lora":
            return finding
    return _trained(child, best.parent)


def _trained(child: Model, parent: Model) -> Finding:
    """A LoRA where the change of every matrix looked at is of low rank, but for rounding; else a fine-tune."""
    rows, parents = child.print.rows, (parent.name,)
    moved = [name for name in sorted(rows) if not np.array_equal(rows[name], parent.print.rows[name])]
    evidence: dict[str, float] = {"matrices": len(moved)}
    ranks = [low_rank(child, parent, name) for name in _some(moved)] if moved else []
    if not ranks:
        return Finding(evidence, "fine-tune", "what it changes is outside its matrices", parents)
    if None in ranks:
        return Finding(evidence, "fine-tune", "its change is of full rank", parents)
    rank = float(np.median([rank or 0 for rank in ranks]))
    return Finding(evidence | {"rank": rank}, "lora", f"its change has rank {rank:.0f}", parents)


def low_rank(child: Model, parent: Model, name: str) -> int | None:
    """The rank of a matrix's change, but for what rounding to the child's dtype leaves.

    None above half of the most it could be. By a random range finder (arXiv 0909.4061), so that no large matrix is
    decomposed.
    """
    array = child.weights[name]
    wide = finite(child.name, name, array)
    change = wide.astype(float) - finite(parent.name, name, parent.weights[name])
    most = min(*change.shape) // 2
    look = min(most, MOST_RANK)
    thrown = np.random.default_rng(0).standard_normal((change.shape[1], min(look + 8, change.shape[1])))
    values = np.linalg.svd(np.linalg.qr(change @ thrown)[0].T @ change, compute_uv=False)[:look]
    left = float(np.sum(change**2)) - np.concatenate([[0.0], np.cumsum(values**2)])
    unit = UNIT.get(dtype_name(array.dtype), 2.0**-24)
    floor = 2 * (unit**2 / 3) * float(np.sum(wide.astype(float) ** 2)) + 1e-9 * float(np.sum(change**2))
    below = np.flatnonzero(left <= floor)
    return int(below[0]) if len(below) else None


# -- what cards claim --------------------------------------------------------------------------------------------------


def _claims(folder: Path) -> str | None:
    """`base_model` of a folder's README.md, as its author says it."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    with card.open("rb") as file:
        text = file.read(CARD).decode("utf-8", "replace")
    base = re.search(r"^base_model:\s*([\w./\-]{1,200})\s*$", text, re.MULTILINE)
    return spelled_out(base[1]) if base else None


def circle(models: Sequence[Model]) -> tuple[str, ...]:
    """The names of models whose cards claim to descend from each other in a ring; empty where none do."""
    claims = {model.name: model.claims.rpartition("/")[2] for model in models if model.claims}
    for name in claims:
        seen = [name]
        while (after := claims.get(seen[-1])) is not None and after not in seen:
            seen.append(after)
        if after is not None:
            return tuple(seen[seen.index(after) :])
    return ()
