"""What an author's own machine found, and how far it is believed: as far as random spot checks confirm it.

An author runs `souq pr checks` like anybody; what they sign counts for no merge. Under `[limits]` it may spare others
an evaluation until the queue tests it: where the author's key has a record of c pre-checks that others' machines have
confirmed since the last that they contradicted, the next is run again with chance 1/(c + 1), and never less than
`spot_checks` of a hundred. So a first one always is, and so is the next after a contradiction.

Nobody but who checks can tell which is drawn: the draw is their signature on main's tip and the pull request's digest,
which for ed25519 is one number, the same whenever they sign it again. An author can try a thousand titles and not know.

    word = PreChecks(pulls, main, policy).word(pull, person)     # "" where its evals are to be run
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from souq import signing
from souq.errors import SouqError
from souq.governance import Policy
from souq.governance.limits import NO_LIMITS
from souq.pulls.pull import PullRequest
from souq.records import Checked, Digest, Verdict, canonical, digest
from souq.repo.snapshot import Snapshot
from souq.signing import Person

NAMESPACE = "souq.draw.v1"
FRESH = 10  # landings on main since: one made on an older main says little of today's


@dataclass(frozen=True)
class Tried:
    """A pre-check that another's machine ran again: when, and whether it found the same."""

    at: str
    confirmed: bool


def chance(record: Iterable[Tried], least: float) -> float:
    """How likely the next pre-check of a key with this record is run again."""
    streak = 0
    for each in sorted(record, key=lambda each: each.at):
        streak = streak + 1 if each.confirmed else 0
    return max(least, 1 / (streak + 1))


def draw(main: str, subject: Digest, person: Person) -> float:
    """A number from 0 to 1 that only this person can make of main's tip and a pull request's digest."""
    statement = signing.statement("urn:souq:draw:1", "main", subject, {"main": main})
    sealed = canonical(signing.sign(statement, person.key, namespace=NAMESPACE))
    return int(digest(sealed).removeprefix("b3:"), 16) / (1 << 256)


class PreChecks:
    """The pre-checks among some pull requests of a main."""

    def __init__(self, pulls: Sequence[PullRequest], main: Snapshot, policy: Policy) -> None:
        self._pulls, self._main, self._policy = pulls, main, policy

    def word(self, pull: PullRequest, person: Person) -> str:
        """Why a machine of this person need not evaluate it now; "" where it is to, a spot check included."""
        key = signing.normal_key(pull.summary.author.key)
        own = [each for each in _own(pull, key) if self._is_fresh(each) and each.subject == pull.subject]
        if (last := max(own, key=lambda each: each.at, default=None)) is None:
            return ""
        if (refused := next((verdict for verdict in last.verdicts if not verdict), None)) is not None:
            return f"its author's own machine refuses it by `{refused.check}`"
        if not _passes(last):
            return ""
        least = (self._policy.limits or NO_LIMITS).spot_checks / 100
        likely = chance(self._record(key), least)
        if draw(self._main.commit, pull.subject, person) < likely:
            return ""
        return f"its author's own machine ran them, and it was not drawn for a spot check ({likely:.0%} are)"

    def _is_fresh(self, checked: Checked) -> bool:
        return checked.base in self._main.repo.history(self._main.commit)[-1 - FRESH :]

    def _record(self, key: str) -> Iterator[Tried]:
        """Of one key: each of its pre-checks that others' machines ran again."""
        for pull in self._pulls:
            with suppress(SouqError):  # what cannot be read was never run
                if signing.normal_key(pull.summary.author.key) == key:
                    yield from self._tried(pull, key)

    def _tried(self, pull: PullRequest, key: str) -> Iterator[Tried]:
        own = {each.subject for each in _own(pull, key) if _passes(each)}
        enrolled = [each for each in self._policy.keys if each != key]
        for checked in _signed_by(pull, enrolled):
            verdict = _evals(checked)
            if checked.subject in own and verdict is not None and verdict.evidence:
                yield Tried(checked.at, bool(verdict))


def _own(pull: PullRequest, key: str) -> list[Checked]:
    return list(_signed_by(pull, [key]))


def _signed_by(pull: PullRequest, keys: Sequence[str]) -> Iterator[Checked]:
    """What some keys signed that their machines found of this pull request, under whatever digest it had then."""
    for data in pull.envelopes("checked"):
        with suppress(SouqError, msgspec.ValidationError):
            signed = signing.verify(data, keys=keys, namespace="souq.checked.v1")
            checked = msgspec.convert(signed.predicate, Checked)
            if signed.subject == checked.subject:
                yield checked


def _evals(checked: Checked) -> Verdict | None:
    return next((verdict for verdict in checked.verdicts if verdict.check == "evals"), None)


def _passes(checked: Checked) -> bool:
    """Whether a model was asked, and nothing refused or asked for eyes."""
    verdict = _evals(checked)
    return verdict is not None and bool(verdict.evidence) and all(each.outcome == "pass" for each in checked.verdicts)
