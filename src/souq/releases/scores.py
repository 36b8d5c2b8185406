"""The scores of a model over its releases: as rows, and as pictures.

signed = scored(main)
charts(main, signed)    # [("Share of answers that are right", "<svg …"), …]
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from souq.chart import Curve, line_chart
from souq.errors import SouqError
from souq.evals.eval import IN_NATS
from souq.releases import release as releases
from souq.repo.snapshot import Snapshot


def scored(main: Snapshot) -> list[dict[str, Any]]:
    """The releases whose signatures hold, the oldest first."""
    rows = []
    for version in main.releases:
        with suppress(SouqError):
            signed = releases.read(main, version)
            rows.append({
                "version": version, "at": signed.release.at, "model": signed.release.model, "yanked": signed.yanked,
                "scores": dict(signed.release.scores),
            })  # fmt: skip
    return sorted(rows, key=lambda row: (row["at"], row["version"]))


def charts(main: Snapshot, signed: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(title, SVG) of the scores over releases: shares of right answers, and nats; none before the second release."""
    units = {name: "nats" if suite.spec.kind in IN_NATS else "right" for name, suite in main.evals.items()}
    titles = {"right": "Share of answers that are right", "nats": "Nats a token: less is better"}
    drawn = []
    for unit, title in titles.items():
        curves = []
        for name in sorted({name for row in signed for name in row["scores"] if units.get(name, "right") == unit}):
            points = [(float(i), row["scores"][name]) for i, row in enumerate(signed, 1) if name in row["scores"]]
            if len(points) > 1:
                curves.append(Curve(name=name, x=tuple(x for x, _ in points), y=tuple(y for _, y in points)))
        if curves:
            marks = [(float(i), row["version"]) for i, row in enumerate(signed, 1) if i in (1, len(signed))]
            drawn.append((title, line_chart(curves, across="release", up=unit, marks=marks)))
    return drawn
