"""Cathedral or bazaar: who may change a model, and who does, from what landed on main.

Founders are those whom the first commit's policy enrols; whoever else lands something came from outside. Organisations
are declared, so independence is of what people say. A share of fewer than ENOUGH is not given: `too few`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from statistics import median

from souq import signing
from souq.errors import SouqError
from souq.governance import read_policy
from souq.pulls.pull import listed
from souq.records import Record
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

ENOUGH = 5
MOST = 500  # pull requests, the newest: anybody can push refs


class Measure(Record, frozen=True, omit_defaults=False):
    """One figure, of how many, and how it was come by."""

    name: str
    n: int
    said: str
    how: str


def measure(main: Snapshot) -> tuple[Measure, ...]:
    """Section by section: the route, who lands, who decides, how often and how fast."""
    root = Snapshot(main.repo, main.repo.history(main.commit)[0])
    founders = set(read_policy(root.policy_text).keys)
    offers = [offer.contribution for offer in main.offers.values()]
    outside = [signing.normal_key(c.author.key) not in founders for c in offers]
    policy = read_policy(main.policy_text)
    landed = {c.kind for c, other in zip(offers, outside, strict=True) if other}
    route = [kind for kind in ("weights", "data", "evals") if kind in landed]
    scopes = [s for s in policy.scope if any(p.startswith("contributions") for p in s.match)]
    apart = list(_apart(main))
    mergers = Counter(by for by in _mergers(main))
    released = [main.repo.summary(_commit_of(main, v))[1] for v in main.releases]
    gaps = between(sorted(released, key=datetime.fromisoformat))
    asked, waits = list(_answered(main, founders)), list(_waits(main))
    top, total = max(mergers.values(), default=0), mergers.total()
    rows = [
        ("route from outside", len(scopes), "yes" if scopes else "no", "scopes of the policy over contributions"),
        ("kinds landed from outside", sum(outside), ", ".join(route) or "none",
         "authors whom the first policy does not enrol"),
        ("landed change not by founders", len(offers), share(sum(outside), len(offers)), "contributions on main"),
        ("reviews from another organisation", len(apart), share(sum(apart), len(apart)),
         "votes by another key and organisation than the author's, as declared"),
        ("top maintainer's share of merges", total, share(top, total), "signed merge records"),
        ("written governance", len(policy.person), "yes", "GOVERNANCE.toml, people enrolled"),
        ("outsiders' pull requests merged", len(asked), share(sum(asked), len(asked)),
         "of those this clone knows that are no longer open"),
        ("days to a merge", len(waits), middle(waits),
         "median, from the offer's commit to the signed merge; by their authors' clocks"),
        ("days between releases", len(gaps), middle(gaps), "median, by the dates of the commits released"),
    ]  # fmt: skip
    return tuple(Measure(name=name, n=n, said=value, how=how) for name, n, value, how in rows)


def share(some: int, of: int) -> str:
    """A percentage, or that there are too few to give one."""
    return f"{some / of:.0%}" if of >= ENOUGH else "too few"


def between(at: list[str]) -> list[float]:
    """Days from each moment to the next; moments are ISO 8601, in order."""
    return [_days(earlier, other) for earlier, other in pairwise(at)]


def _days(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() / 86400


def middle(days: list[float]) -> str:
    """Median, or that there are too few to give one."""
    return f"{median(days):.1f}" if len(days) >= ENOUGH else "too few"


def _answered(main: Snapshot, founders: set[str]) -> Iterable[bool]:
    """Of outsiders' pull requests that are no longer open, the newest MOST, whether each was merged."""
    for pull in listed(Repo.of(main.repo))[-MOST:]:
        with suppress(SouqError):
            state = pull.state(main)
            if state != "open" and signing.normal_key(pull.summary.author.key) not in founders:
                yield state == "merged"


def _waits(main: Snapshot) -> Iterable[float]:
    """Days from the commit that offered to the merge that was signed, of what is on main; both clocks are people's."""
    keys = read_policy(main.policy_text).keys
    for pull in listed(Repo.of(main.repo))[-MOST:]:
        with suppress(SouqError, ValueError, KeyError):
            data = main.repo.read(main.commit, f"contributions/{pull.summary.slug}/records/merge.json")
            at = signing.verify(data, keys=keys, namespace="souq.merge.v1").predicate["at"]
            yield _days(main.repo.summary(pull.head)[1], str(at))


def _commit_of(main: Snapshot, version: str) -> str:
    record = signing.peek(main.repo.read(main.commit, f"releases/{version}/release.json"))
    return str(record.get("commit", ""))


def _apart(main: Snapshot) -> Iterable[bool]:
    """Of every vote whose signature holds, whether its signer and the author are of two organisations."""
    policy = read_policy(main.policy_text)
    for offer in main.offers.values():
        author = offer.contribution.author
        enrolled = policy.person_of(author.key)
        org = enrolled.org if enrolled else author.org
        for path, data in main.below(offer.home).items():
            with suppress(SouqError):
                if path.startswith("records/") and signing.kind_of(data) == "urn:souq:vote:1":
                    signed = signing.verify(data, keys=policy.keys, namespace="souq.vote.v1")
                    voter = policy.person_of(signed.key)
                    yield voter is not None and signed.key != signing.normal_key(author.key) and voter.org != org


def _mergers(main: Snapshot) -> Iterable[str]:
    policy = read_policy(main.policy_text)
    for slug in main.offers:
        with suppress(SouqError):
            data = main.repo.read(main.commit, f"contributions/{slug}/records/merge.json")
            yield signing.verify(data, keys=policy.keys, namespace="souq.merge.v1").key
