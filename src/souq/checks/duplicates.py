"""Has somebody offered these weights already? Copies by digest; resemblances by the angle between two changes.

The angle does not see scale, nor which factors a low-rank change is written in. Sketches kept by contribution find who
is worth comparing; only those are compared in full, in factored form.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np

from souq.build.delta_distance import compare
from souq.checks.cases import Answer, Case, check
from souq.checks.delta_stats import cached_stats, change_digest, delta_stats
from souq.errors import SouqError
from souq.merge.exact import Float
from souq.records import Digest
from souq.repo.contribution import Offer
from souq.weights.delta import Delta

ALIKE = 0.98
WORTH = 0.8  # by sketches, which are off by an eighth on one tensor and by less on many
OVERLAP = 0.5  # of a contribution's own change, on the tensors that both touch


@dataclass(frozen=True)
class Other:
    """A contribution that was there first; read only where something of it is to be shown."""

    slug: str
    digest: Digest
    read: Callable[[], Offer]

    @property
    def called(self) -> str:
        """How people call a contribution: `#3 by chen`."""
        author = self.read().contribution.author.name
        return f"#{int(self.slug[:4])} by {author}" if self.slug[:4].isdigit() else f"{self.slug} by {author}"


@check("duplicates")
def duplicates(case: Case) -> Answer:
    """Nobody offered the same weights before; what is at an angle of less than 11 degrees to another's is shown."""
    if case.offer.delta is None or not (case.offer.delta.parts or case.offer.delta.new):
        return "pass", "brings no weights", {}
    stats, others = delta_stats(case), _others(case)
    assert stats is not None
    sketches, cosines = stats.sketches(), {}
    for other in others:
        if _change(case, other) == stats.change:
            if _again(case, other):
                continue
            return "refuse", f"the same weights as {other.called}, bit for bit", {"of": other.slug}
        if (cosine := _resembles(case, sketches, other)) >= ALIKE:
            cosines[other.called] = round(cosine, 5)
    if cosines:
        nearest = max(cosines, key=cosines.__getitem__)
        return "needs-eyes", f"resembles {nearest}: cosine {cosines[nearest]:.4f}", {"resembles": cosines}
    return "pass", f"unlike the {len(others)} others", {"compared": len(others)}


def _others(case: Case) -> list[Other]:
    """Those on main, and those that were offered before this one and are still open."""
    main = case.main
    landed = [
        Other(slug, landing.digest, partial(main.offers.__getitem__, slug))
        for slug, landing in main.landed.items()
        if landing.moves and slug != case.offer.slug
    ]
    earlier = [offer for offer in case.earlier() if offer.delta is not None]
    return landed + [Other(offer.slug, offer.digest, partial(lambda it: it, offer)) for offer in earlier]


def _again(case: Case, other: Other) -> bool:
    """Whether its own author offers it once more, while the first is open: whoever was stopped half way does."""
    same = other.read().contribution.author.key == case.offer.contribution.author.key
    return same and other.slug not in case.main.landed


def _change(case: Case, other: Other) -> Digest | None:
    """The name of what it does to tensors, from its lock where they are not here."""
    with suppress(SouqError):  # not here, damaged, or too large to be measured: no fault of this one
        stats = cached_stats(case, other.digest, other.read)
        return stats.change if stats is not None else None
    delta = other.read().delta
    return change_digest(delta) if delta is not None else None


def _resembles(case: Case, mine: dict[str, Float], other: Other) -> float:
    """The cosine; 0 where sketches tell that they are unlike, or the other's tensors are not here or no numbers."""
    with suppress(SouqError):  # what this one brings was measured before
        theirs = cached_stats(case, other.digest, other.read)
        if theirs is not None and sketched(mine, theirs.sketches()) > WORTH:
            return _cosine(case, case.offer.delta, other.read().delta)
    return 0.0


def sketched(mine: dict[str, Float], theirs: dict[str, Float]) -> float:
    """The cosine of two changes by their sketches, (width,) float64 a tensor, on the tensors both touch.

    It is 0 where these are not most of what either does: a few more tensors do not hide a copy.
    """
    both = [name for name in mine if name in theirs and mine[name].shape == theirs[name].shape]
    a, b = (np.concatenate([side[name] for name in both]) if both else np.zeros(0) for side in (mine, theirs))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    shared = max(_of(a, mine), _of(b, theirs))
    return abs(float(a @ b)) / size if size > 0 and shared > OVERLAP else 0.0


def _of(part: Float, whole: dict[str, Float]) -> float:
    """The share of a change's energy that is in `part`."""
    return float(part @ part) / max(sum(float(x @ x) for x in whole.values()), 1e-300)


def _cosine(case: Case, mine: Delta | None, theirs: Delta | None) -> float:
    """On the tensors both touch; a change turned round is as near."""
    assert mine is not None
    assert theirs is not None
    both = _shared(mine, theirs), _shared(theirs, mine)
    return abs(compare(*both, case.main.base, case.store.get, case.progress).cosine)


def _shared(delta: Delta, other: Delta) -> Delta:
    """What a change does to the tensors that the other touches too."""
    parts = {name: part for name, part in delta.parts.items() if name in other.parts}
    return Delta(delta.base, parts, new={title: new for title, new in delta.new.items() if title in other.new})
