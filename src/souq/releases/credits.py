"""Who brought what to a model, and by how much: read from what landed, the same for everybody who reads it.

The figures are not measured here. They stand in the signed records beside each contribution; where several checkers
signed, the least of their gains is taken. No clock, no network, and no BLAS, whose sums differ between machines.

    for credit in credits(main):
        credit.title, credit.author.name, credit.fixes, credit.share
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from souq import signing
from souq.build.delta_distance import squared_length
from souq.errors import SouqError
from souq.governance import read_policy
from souq.records import Author, Checked, Contribution, Digest
from souq.repo.contribution import RECORDS, Offer
from souq.repo.snapshot import Snapshot
from souq.text import escape_markdown

CHECKED = "souq.checked.v1"
# What somebody brought, and how it stands in a list; whatever else lands on main is a decision, and nobody's gift.
GIFTS = {"weights": "", "data": "data, ", "evals": "evals, "}


@dataclass(frozen=True)
class Fix:
    """An eval a contribution claims to mend, and what the signed check measured on main without and with it."""

    eval: str
    before: float
    after: float
    gain: float  # positive is better, also where less is better
    low: float
    high: float
    cases: int
    by: str  # who signed the check

    def __str__(self) -> str:
        bounds = f"[{self.low:+.3f}, {self.high:+.3f}]"
        return f"`{self.eval}` {self.before:.3f} -> {self.after:.3f} ({self.gain:+.3f} {bounds})"


@dataclass(frozen=True)
class Credit:
    """One landed contribution: whose it is, under what terms, what it mended, and its share of what moved."""

    slug: str
    digest: Digest
    contribution: Contribution
    org: str  # by the policy where they are enrolled, else as they say
    fixes: tuple[Fix, ...]
    unproved: tuple[str, ...]  # evals it claims without a signed figure
    share: float  # of the squared length of every change of weights, as each was offered; 0 for data and evals
    data: Mapping[str, bytes]
    evals: tuple[str, ...]

    @property
    def title(self) -> str:
        return self.contribution.title

    @property
    def author(self) -> Author:
        return self.contribution.author

    @property
    def whose(self) -> str:
        """The author's name, and whom they work for, safe in markdown."""
        return escape_markdown(f"{self.author.name} ({self.org})" if self.org else self.author.name)

    @property
    def mended(self) -> str:
        """Which evals it mended and by how much, in words, safe in markdown."""
        return "; ".join(
            [*map(str, self.fixes), *(f"{escape_markdown(name)}, no signed figure" for name in self.unproved)]
        )


def credits(main: Snapshot) -> tuple[Credit, ...]:
    """Every contribution on main, in the order of their numbers.

    Raises:
        NotFound: the tensors of a contribution are not in the store.
    """
    gifts = [offer for offer in main.offers.values() if offer.contribution.kind in GIFTS]
    load = main.repo.store.get
    lengths = [squared_length(offer.delta, main.base, load) if offer.delta else 0.0 for offer in gifts]
    whole = math.fsum(lengths)
    return tuple(
        _credit(main, offer, length / whole if whole else 0.0) for offer, length in zip(gifts, lengths, strict=True)
    )


def _credit(main: Snapshot, offer: Offer, share: float) -> Credit:
    fixes = _fixes(main, offer)
    known = {fix.eval for fix in fixes}
    return Credit(
        slug=offer.slug,
        digest=offer.digest,
        contribution=offer.contribution,
        org=_org(main, offer.contribution.author),
        fixes=fixes,
        unproved=tuple(name for name in offer.contribution.fixes if name not in known),
        share=share,
        data=offer.data,
        evals=tuple(suite.name for suite in offer.evals),
    )


def _org(main: Snapshot, author: Author) -> str:
    with suppress(SouqError):  # what they gave as a key may be none
        if (person := read_policy(main.policy_text).person_of(author.key)) is not None:
            return person.org
    return author.org


# -- by how much -------------------------------------------------------------------------------------------------------


def _fixes(main: Snapshot, offer: Offer) -> tuple[Fix, ...]:
    measured: dict[str, list[Fix]] = {}
    for checked in _newest(main, list(_checks(main, offer))):
        for verdict in checked.verdicts:
            if verdict.check == "evals":
                for name in offer.contribution.fixes:
                    if (fix := _fix(name, verdict.evidence.get(name), checked.by)) is not None:
                        measured.setdefault(name, []).append(fix)
    least = {name: min(measures, key=lambda fix: (fix.gain, fix.by)) for name, measures in measured.items()}
    return tuple(least[name] for name in offer.contribution.fixes if name in least)


def _fix(name: str, evidence: Any, by: str) -> Fix | None:
    try:
        low, high = evidence["interval"]
        before, after, gain = (float(evidence[key]) for key in ("before", "after", "gain"))
        return Fix(name, before, after, gain, float(low), float(high), int(evidence["n"]), by)
    except (KeyError, TypeError, ValueError):
        return None  # signed, but not in the shape of an eval's evidence


def _checks(main: Snapshot, offer: Offer) -> Iterator[Checked]:
    """The checks on exactly this contribution that a person signed who was enrolled when they made it."""
    for data in sorted(main.repo.files(main.commit, f"contributions/{offer.slug}/{RECORDS}").values()):
        if (base := _base(data)) is None or not main.repo.contains(main.commit, base):
            continue
        try:
            policy = read_policy(Snapshot(main.repo, base).policy_text)
            signed = signing.verify(data, keys=policy.keys, namespace=CHECKED)
            record = msgspec.convert(signed.predicate, Checked)
        except (SouqError, msgspec.ValidationError):
            continue  # counts for nothing here, as it does for `souq verify`
        if signed.subject == offer.digest == record.subject and record.base == base:
            yield record


def _base(envelope: bytes) -> str | None:
    """The commit an unread record says it was made on: where to find the keys it is then read by."""
    base = signing.peek(envelope).get("base")
    return base if isinstance(base, str) and re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", base) else None


def _newest(main: Snapshot, checks: Sequence[Checked]) -> list[Checked]:
    """The checks of the youngest main among those a contribution was checked on: the one it landed on."""
    order = {commit: age for age, commit in enumerate(main.repo.history(main.commit))} if len(checks) > 1 else {}
    last = max((order.get(checked.base, -1) for checked in checks), default=-1)
    return [checked for checked in checks if order.get(checked.base, -1) == last]


# -- in words ----------------------------------------------------------------------------------------------------------


def share_text(share: float) -> str:
    """A share as `12.3%`; nothing where no weights were moved."""
    return f"{100 * share:.1f}%" if share else ""


def credits_table(rows: Sequence[Credit]) -> list[str]:
    """Credits as a markdown table, a line a contribution."""
    lines = ["| contribution | by | kind | licence | mends | share of what moved |", "|---|---|---|---|---|---:|"]
    for row in rows:
        title, licence = escape_markdown(row.title), escape_markdown(row.contribution.licence)
        mended, share = _cell(row.mended), share_text(row.share)
        lines.append(f"| {title} | {row.whose} | {row.contribution.kind} | {licence} | {mended} | {share} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def credits_text(name: str, version: str, rows: Sequence[Credit], main: Snapshot) -> str:
    """The text of CREDITS.md: who brought what to a version of a model."""
    people = sorted({credit.whose for credit in rows})
    lines = [
        f"# Credits of {escape_markdown(name)} {version}", "",
        f"Built on {escape_markdown(main.config.base)} ({escape_markdown(main.config.origin) or 'origin not given'}), "
        f"digest `{main.base_digest}`.", "",
        *(credits_table(rows) if rows else ["Nobody has changed it yet."]), "",
    ]  # fmt: skip
    if rows:
        lines += [
            "What a contribution mends was measured on main without it and with it, by the person who signed its "
            "check; a gain is positive where it got better, and in brackets are one-sided 95% bounds. Its share is of "
            "the squared length of all changes of weights, each as it was offered; a new layer or expert counts by how "
            "far it is from the one it began as.", "",
            "## People", "", *(f"- {person}" for person in people), "",
            "## Digests", "", *(f"- `{credit.slug}` `{credit.digest}`" for credit in rows), "",
        ]  # fmt: skip
    return "\n".join(lines)


@dataclass(frozen=True)
class Step:
    """What one release has that the one before it had not, and the other way round."""

    version: str
    before: str  # the version before it, or nothing for the first
    added: tuple[Credit, ...]
    gone: tuple[Contribution, ...]  # taken out again, as they were


def step(version: str, rows: Sequence[Credit], before: tuple[str, Snapshot] | None) -> Step:
    """The difference between a release's contributions and those of the release before it."""
    if before is None:
        return Step(version, "", tuple(rows), ())
    name, main = before
    had, has = {landed.digest: slug for slug, landed in main.landed.items()}, {credit.digest for credit in rows}
    left = [slug for name, slug in sorted(had.items(), key=lambda item: item[1]) if name not in has]
    gone = [offer.contribution for slug in left if (offer := main.offers[slug]).contribution.kind in GIFTS]
    return Step(version, name, tuple(credit for credit in rows if credit.digest not in had), tuple(gone))


def changelog(name: str, steps: Sequence[Step]) -> str:
    """The text of CHANGELOG.md: what came and went with each release, the newest first."""
    lines = [f"# Changelog of {escape_markdown(name)}", ""]
    for released in steps:
        since = f"Since {released.before}." if released.before else "The first release."
        lines += [f"## {released.version}", "", since, ""]
        if released.added:
            lines += ["### Added", "", *map(_entry, released.added), ""]
        if released.gone:
            gone = [f"- {escape_markdown(c.title)}, by {escape_markdown(c.author.name)}" for c in released.gone]
            lines += ["### Taken out", "", *gone, ""]
        if not released.added and not released.gone:
            lines += ["No contribution came or went.", ""]
    return "\n".join(lines)


def _entry(credit: Credit) -> str:
    mends = f": {credit.mended}" if credit.mended else ""
    moved = f"; {share_text(credit.share)} of what moved" if credit.share else ""
    kind, licence = GIFTS[credit.contribution.kind], escape_markdown(credit.contribution.licence)
    return f"- {escape_markdown(credit.title)} ({kind}{credit.whose}, {licence}){mends}{moved}"
