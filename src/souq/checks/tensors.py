"""The weights themselves: made on this base, every number finite, no change larger than the policy's cap."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from souq.checks.cases import Answer, Case, check
from souq.checks.delta_stats import accepted_stats, delta_stats, kind_of, measure
from souq.errors import Corrupt, NotFound
from souq.text import inert, shortlist
from souq.weights.delta import Array, Delta, Dense, Lock, Lora, Part, Sparse, TensorRef, tensor_digest

LARGER = 4.0  # times the largest row of the base's tensors alike: the most a row of a new tensor may be
ROUTER = 1e3  # the most a router's row may be: logits stay far from overflow
FLOATS = {"BF16", "F16", "F32", "F64"}
LEAST_RANK = 256  # allowed whatever the matrix: a rank without bound is r * r numbers to whoever measures it
CLOSE = 0.1  # the least MAD of log sizes: where all on main are alike, a tenth more is not yet unusual
DISCLOSED = 5  # how many of the largest changes stand in the evidence


@check("fits-base")
def fits_base(case: Case) -> Answer:
    """The delta names this base by digest, and every part has the shape of the tensor it changes."""
    delta, base = case.offer.delta, case.main.base
    if case.offer.sketches:
        return _renewed(case)
    if delta is None:
        return "pass", "brings no weights", {}
    if delta.base != case.main.base_digest:
        because = f"made on {delta.base[:15]}…, the base here is {case.main.base_digest[:15]}…"
        return "refuse", because, {"made_on": delta.base, "base": case.main.base_digest}
    for name, part in delta.parts.items():
        if name not in base:
            return "refuse", f"changes {name}, which the base does not have", {"tensor": name}
        if not _same_shape(part, base[name]):
            because = f"the change to {name} is not of its kind, {base[name].dtype} of shape {base[name].shape}"
            return "refuse", because, {"tensor": name}
        if isinstance(part, Lora) and part.a.shape[0] > (most := max(min(part.shape), LEAST_RANK)):
            because = f"the change to {name} is of rank {part.a.shape[0]:,}; its matrix has at most {most:,}"
            return "refuse", because, {"tensor": name}
    if wrong := _misfit(delta, base):
        return "refuse", wrong[1], {"tensor": wrong[0]}
    if idle := next((name for name in delta.inputs if name not in delta.parts), None):
        return "refuse", f"a sketch is of what flows into {idle}, which it does not change", {"tensor": idle}
    grown = case.main.grown(case.offer)  # raises where an addition does not fit this base
    added = len(delta.new)
    also = f", adds {added} ({len(grown.layout)} then)" if added else ""
    evidence = {"tensors": len(delta.parts), "new": added}
    return "pass", f"changes {len(delta.parts)} of {len(base)} tensors{also}", evidence


def _misfit(delta: Delta, base: Lock) -> tuple[str, str] | None:
    """A tensor whose sketch cannot be of what flows into it, and why; None where all fit."""
    for name in delta.inputs:
        gram, ref = delta.gram_of(name), base.get(name)
        if gram is None or ref is None or len(ref.shape) != 2 or gram.diag.shape != ref.shape[1:]:
            return name, f"the sketch for {name} does not have its width"
        if gram.factor.shape[0] > (most := max(ref.shape[1], LEAST_RANK)):
            return name, f"the sketch for {name} is of rank {gram.factor.shape[0]:,}; its inputs have at most {most:,}"
    return None


def _renewed(case: Case) -> Answer:
    """Sketches of what landed: whose it is may look at who takes them anew."""
    author, others = case.offer.contribution.author.key, dict[str, str]()
    for slug, sketches in case.offer.sketches.items():  # that they are of what it changes, `files` has asked
        if wrong := _misfit(sketches, case.main.base):
            return "refuse", f"{slug}: {wrong[1]}", {"tensor": wrong[0]}
        if slug not in case.main.offers:
            return "refuse", f"there is no contribution {inert(slug)[:80]} here", {}
        whose = case.main.offers[slug].contribution.author
        others |= {slug: whose.name} if whose.key.split()[:2] != author.split()[:2] else {}
    because = f"new sketches of {shortlist(case.offer.sketches, 3)}"
    if others:
        whose_they_are = shortlist([f"{slug} is {inert(name)}'s" for slug, name in others.items()], 3)
        return "needs-eyes", f"{because}; {whose_they_are}", {"others": others}
    return "pass", because, {}


@check("tensors")
def tensors(case: Case) -> Answer:
    """Every tensor is there, is what its name says, and holds only finite numbers."""
    refs = list(case.offer.refs())
    for done, ref in enumerate(refs):
        case.progress("read tensors", done, len(refs))
        if because := _unsound(case, ref):
            return "refuse", because, {"tensor": str(ref)}
    case.progress("read tensors", len(refs), len(refs))
    deltas = [*([case.offer.delta] if case.offer.delta else []), *case.offer.sketches.values()]
    for gram in (gram for delta in deltas for gram in delta.grams.values()):
        if (case.store.get(gram.diag.digest) < 0).any():  # no merge could divide by it
            return "refuse", "a sketch has a diagonal with numbers below zero", {"tensor": str(gram.diag)}
    return "pass", f"{len(refs)} tensors read, all finite", {"bytes": sum(ref.nbytes for ref in refs)}


@check("norms")
def norms(case: Case) -> Answer:
    """No change is larger, against the matrix it changes, than `[checks] max_norm` allows, or than is usual on main."""
    delta, cap = case.offer.delta, case.main.config.checks.max_norm
    if delta is None:
        return "pass", "brings no weights", {}
    if because := _too_large(case, delta):
        return "refuse", because, {}
    stats = delta_stats(case)
    sizes = {name: part.share for name, part in stats.parts.items()} if stats else {}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:DISCLOSED]
    evidence: dict[str, Any] = {"largest": {name: round(sizes[name], 4) for name in largest}, "cap": cap}
    if not largest and not delta.new:
        return "refuse", "changes nothing", evidence
    if not largest:
        return "pass", f"changes no matrix; no new row is larger than {LARGER:g} times the base's largest", evidence
    top = largest[0]
    # Of every tensor, not of the first in order: NaN, which factors beyond float64 make, has no place in any order.
    if wrong := next((name for name in sizes if not sizes[name] <= cap), None):
        worst = top if sizes[top] > cap else wrong
        return "refuse", f"changes {worst} by {sizes[worst]:.3g} of its norm; the most is {cap:g}", evidence
    return _against_main(case, sizes, f"largest change {sizes[top]:.3f} of its matrix's norm (cap {cap:g})", evidence)


def _against_main(case: Case, sizes: Mapping[str, float], because: str, evidence: dict[str, Any]) -> Answer:
    """What main has accepted says what is usual; that is for people to look at, and refuses nothing."""
    limits = case.main.config.checks
    main = [{name: part.share for name, part in stats.parts.items()} for _, stats in accepted_stats(case)]
    evidence["accepted"] = len(main)
    if len(main) < limits.enough:
        return "pass", f"{because}; {len(main)} on main to compare with, {limits.enough} are needed", evidence
    odd = unusual(sizes, main, mads=limits.norm_mads, enough=limits.enough)
    if not odd:
        return "pass", f"{because}; as large as is usual on main", evidence
    worst = max(odd, key=lambda name: odd[name][0] / odd[name][1])
    evidence["unusual"] = {name: [round(x, 5) for x in odd[name]] for name in sorted(odd)[:DISCLOSED]}
    larger = f"{len(odd)} of {len(sizes)} changes are larger than is usual on main, most {worst}"
    return "needs-eyes", f"{larger}: {odd[worst][0]:.3g} of its norm, and {odd[worst][1]:.3g} is usual", evidence


def unusual(
    sizes: Mapping[str, float], main: Sequence[Mapping[str, float]], *, mads: float, enough: int
) -> dict[str, tuple[float, float]]:
    """Tensors changed by more than median + `mads` MADs of what main accepted: tensor -> its share, and the cap.

    Logarithms, because honest sizes differ by factors. A tensor is compared with itself where `enough` contributions
    changed it, else with its kind; kinds too few have changed are not compared.
    """
    own: dict[str, list[float]] = {}
    kinds: dict[str, list[float]] = {}
    counts = Counter(kind for accepted in main for kind in {kind_of(name) for name in accepted})
    for accepted in main:
        for name, share in accepted.items():
            if share > 0:
                own.setdefault(name, []).append(math.log(share))
                kinds.setdefault(kind_of(name), []).append(math.log(share))
    caps = {kind: _cap(values, mads) for kind, values in kinds.items() if counts[kind] >= enough}
    caps = {
        name: _cap(own[name], mads) if len(own.get(name, ())) >= enough else caps.get(kind_of(name), math.inf)
        for name in sizes
    }
    return {name: (share, caps[name]) for name, share in sizes.items() if share > caps[name]}


def _cap(logs: Sequence[float], mads: float) -> float:
    middle = float(np.median(logs))
    return math.exp(middle + mads * max(float(np.median(np.abs(np.array(logs) - middle))), CLOSE))


def relative_norms(case: Case, delta: Delta) -> dict[str, float]:
    """Frobenius norm of each change over that of the tensor it changes; a LoRA's without expanding it."""
    return {name: part.share for name, part in measure(case, delta).parts.items()}


def _too_large(case: Case, delta: Delta) -> str | None:
    """A new tensor has no matrix to be measured by; its rows are, by the rows of the base's tensors like it."""
    for title, new in delta.new.items():
        kind, _, name = title.partition(" ")
        top = _largest_row(case.store.get(new.value.digest))
        if kind == "router":
            most = ROUTER
        else:
            inside = name if kind == "rows" else name.split(".", 2)[2]
            alike = [ref for own, ref in case.main.base.items() if own == inside or own.endswith(f".{inside}")]
            most = LARGER * max(_largest_row(case.store.get(ref.digest)) for ref in alike)
        if not top <= most:
            return f"{title} has a row of norm {top:.3g}; the most is {most:.3g}"
    return None


def _largest_row(array: Array) -> float:
    wide = array.astype(np.float64)
    return float(np.sqrt(np.max(np.sum(wide.reshape(len(wide), -1) ** 2, axis=-1)))) if wide.size else 0.0


def _same_shape(part: Part, ref: TensorRef) -> bool:
    match part:
        case Lora(a=a, b=b):
            return part.shape == ref.shape and not {a.dtype, b.dtype} - FLOATS
        case Dense(value=value):
            return value.shape == ref.shape and value.dtype == ref.dtype
        case Sparse(value=value):
            return value.dtype == ref.dtype and value.size <= ref.size


def _unsound(case: Case, ref: TensorRef) -> str | None:
    try:
        array = case.store.get(ref.digest)
    except (NotFound, Corrupt) as error:
        return str(error)
    if array.shape != ref.shape or tensor_digest(array) != ref.digest or TensorRef.of(array).dtype != ref.dtype:
        return f"{ref.digest[:15]}… is not the {ref.dtype} {ref.shape} that delta.lock says"
    if array.dtype.kind not in "iu" and not np.isfinite(array.astype(np.float32)).all():
        wrong = int(np.sum(~np.isfinite(array.astype(np.float32))))
        return f"{wrong:,} of {array.size:,} numbers are not finite (NaN or infinity) in a tensor of shape {ref.shape}"
    return None
