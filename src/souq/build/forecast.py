"""What a merge is expected to do to one contribution and to those it meets, from their changes and sketches alone.

It knows a fold and what people call its contributions; nothing is built, nothing is run. `rehearse` is the other way:
the merged model reads the contributions' own rows.

    ahead = forecast(fold(main, offer), offer.digest, offers)
    ahead.kept, ahead.met[0].slug, ahead.met[0].blame
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from souq.chart import heat_map
from souq.errors import Hostile
from souq.merge import Fold
from souq.merge.conflicts import Learned, Losses, Meeting, causes, forecast_losses, kept, meeting, total
from souq.merge.methods import Change
from souq.progress import Progress, quiet
from souq.records import Contribution, Digest, Record
from souq.repo.contribution import Offer

LOW = 0.9  # less kept than this is worth a rebase
CLOSE = 0.85  # overlap of inputs above which two contributions answer the same questions, and a forecast is too kind


class Met(Record, frozen=True):
    """Another contribution: how it meets this one, and what this one does to it."""

    slug: str
    tensors: int  # that both change
    signs: float
    inputs: float
    outputs: float
    cosine: float
    blame: float  # how much less this one would lose without it, on the tensors that cost it most
    kept: float  # forecast for it, with this one in
    before: float  # and without


class Forecast(Record, frozen=True):
    """What is expected for one contribution; `lost` is the share of its change that is lost, weighed by its inputs."""

    slug: str
    kept: float
    lost: float
    worst: dict[str, float]  # tensor -> share of this contribution's loss that falls there
    met: tuple[Met, ...]
    layers: dict[str, dict[str, float]]  # contribution -> layer -> lost share there

    @property
    def warning(self) -> str:
        """Why it may be worth a rebase, or nothing."""
        if self.kept < LOW:
            return f"the merge is expected to keep {self.kept:.0%} of it"
        close = [other.slug for other in self.met if other.inputs > CLOSE]
        return f"it reads the same inputs as {', '.join(close)}: the forecast may be too kind" if close else ""


def forecast(fold: Fold, digest: Digest, offers: Mapping[Digest, Offer], progress: Progress = quiet) -> Forecast:
    """The forecast for one contribution in a fold; `offers` says what each digest is.

    Raises:
        Hostile: it is no number: a change whose factors cancel, or whose product no number holds.
    """
    losses, without = forecast_losses(fold, progress=progress), forecast_losses(fold, [digest], progress=progress)
    blame = causes(fold, digest, losses, progress)
    pairs = _pairs(fold, digest, progress)
    met = [
        _met(
            offers[other],
            meeting(pairs[other]),
            blame.get(other, 0.0),
            _kept(losses, other, offers[other]),
            _kept(without, other, offers[other]),
        )
        for other in fold.deltas
        if other != digest
    ]
    whole = total(losses.lost[digest].values()).part
    worst = {name: losses.lost[digest][name].part / whole for name in losses.worst(digest)} if whole > 0 else {}
    made = Forecast(
        slug=offers[digest].slug,
        kept=_kept(losses, digest, offers[digest]),
        lost=losses.loss(digest),
        worst=worst,
        met=tuple(sorted(met, key=lambda other: (-other.blame, other.slug))),
        layers={offers[other].slug: _layers(losses, other) for other in fold.deltas},
    )
    if not all(map(math.isfinite, _numbers(msgspec.to_builtins(made)))):
        raise Hostile("it is no number: factors that cancel, or whose product no number holds")
    return made


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


def _kept(losses: Losses, digest: Digest, offer: Offer) -> float:
    return kept(losses.loss(digest), losses.costs[digest], learned(offer.contribution))


def _met(offer: Offer, how: Meeting, blame: float, now: float, before: float) -> Met:
    return Met(
        slug=offer.slug, tensors=how.tensors, signs=how.signs, inputs=how.inputs, outputs=how.outputs,
        cosine=how.cosine, blame=blame, kept=now, before=before,
    )  # fmt: skip


def _pairs(fold: Fold, digest: Digest, progress: Progress) -> dict[Digest, list[tuple[Change, Change]]]:
    """The matrices that this one and each other both change."""
    pairs: dict[Digest, list[tuple[Change, Change]]] = {other: [] for other in fold.deltas}
    names = list(fold.deltas[digest].parts)
    for done, name in enumerate(names):
        progress("compare tensors", done, len(names))
        changes = fold.changes(name)
        mine = changes.pop(digest)
        for other, theirs in changes.items():
            if mine.right.ndim == 2:
                pairs[other].append((mine, theirs))
    progress("compare tensors", len(names), len(names))
    return pairs


def learned(contribution: Contribution) -> Learned | None:
    """What its author measured at `souq delta make --data`; None where nobody did or nothing was learned."""
    measured = contribution.recipe.get("learned")
    numbers = [measured.get(key) for key in ("before", "after", "felt")] if isinstance(measured, dict) else []
    values = [float(value) for value in numbers if isinstance(value, int | float)]
    if len(values) < 2 or not 0 <= values[1] < values[0] < float("inf"):
        return None
    felt = values[2] if len(values) > 2 and 0 < values[2] < float("inf") else 0.0
    return Learned(values[0], values[1], felt)


def layer_of(name: str) -> str:
    """`model.layers.20.mlp.up_proj.weight` -> `20`, `h.3.attn.c_attn.weight` -> `3`; what is in no layer is itself."""
    match = re.search(r"(?:^|\.)(\d+)\.", name)
    return match[1] if match else name


def _layers(losses: Losses, digest: Digest) -> dict[str, float]:
    shares = losses.lost[digest]
    names = sorted({layer_of(name) for name in shares}, key=_in_order)
    return {layer: total(share for name, share in shares.items() if layer_of(name) == layer).ratio for layer in names}


def picture(forecast: Forecast) -> str:
    """Layers down, contributions across, as an SVG: darker where the merge loses more of what each wanted."""
    columns = {
        slug: forecast.layers[slug] for slug in sorted(forecast.layers, key=lambda slug: (slug != forecast.slug, slug))
    }
    rows = sorted({layer for shares in forecast.layers.values() for layer in shares}, key=_in_order)
    legend = f"what the merge is expected to lose of each change: white 0%, darkest 50% and more; #{forecast.slug[:40]}"
    return heat_map(columns, rows, label="{column}, layer {row}: {share:.0%} lost", legend=legend, full=0.5)


def _in_order(layer: str) -> tuple[bool, str]:
    return (not layer.isdigit(), layer.zfill(9))
