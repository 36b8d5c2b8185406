"""Which open pull requests wait for others before a machine looks at them, and whose week of evaluations is spent.

Read from this clone's refs and main's `[limits]` (governance/limits.py); without that table nobody waits. No merge asks
it, and no history is judged by it.

    line = Line(repo, main)
    line.waits.get(7, "")      # "waits for one of #3, #5: at most 2 of … are looked at at once"
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from souq import signing
from souq.errors import Refused, SouqError
from souq.governance import Policy, read_policy
from souq.governance.limits import Evaluated, Junk, Offered, spent, unforgiven, waiting
from souq.governance.policy import Who
from souq.pulls.prechecks import PreChecks
from souq.pulls.pull import PullRequest, everything_checked, listed, read_all
from souq.pulls.vouches import junk, newcomers
from souq.records import Checked, Verdict
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person


class Line:
    """The open pull requests of a main, in the order in which machines look at them; each thing is read once."""

    def __init__(self, repo: Repo, main: Snapshot) -> None:
        self._repo, self._main, self._policy = repo, main, read_policy(main.policy_text)

    @property
    def is_limited(self) -> bool:
        return self._policy.limits is not None

    @cached_property
    def _pulls(self) -> list[PullRequest]:
        if self._policy.limits is None:
            return []
        return listed(self._repo)

    @cached_property
    def vouchers(self) -> dict[str, Who]:
        """Who vouches for each newcomer's key."""
        return newcomers(self._repo, self._main, self._pulls)

    @cached_property
    def waits(self) -> dict[int, str]:
        """The number of each that waits, with a sentence that says for whom."""
        if self._policy.limits is None:
            return {}
        return waiting(self._policy, self._offered(), self.vouchers, unforgiven(self._junk, signing.now()))

    def _signer(self, pull: PullRequest) -> str:
        """The key of its author, where that has signed it off; "" where it is anybody's."""
        key = signing.normal_key(pull.summary.author.key)
        return key if read_all(pull, "signoff", [key], self._main) else ""

    def ordered(self, pulls: Sequence[PullRequest]) -> list[PullRequest]:
        """As people look at them: the oldest first; under limits strangers' after others', and what waits last."""
        if self._policy.limits is None:
            return list(pulls)
        return sorted(pulls, key=lambda pull: (pull.number in self.waits, self._is_stranger_s(pull), pull.number))

    def _is_stranger_s(self, pull: PullRequest) -> bool:
        with suppress(SouqError):
            key = signing.normal_key(pull.summary.author.key)
            return self._policy.person_of(key) is None and key not in self.vouchers
        return True

    @cached_property
    def _junk(self) -> list[Junk]:
        return junk(self._pulls, self._main)

    def _offered(self) -> Iterator[Offered]:
        for pull in self._pulls:
            with suppress(SouqError):  # what cannot be read is looked at by nobody, and holds up nobody
                if pull.state(self._main) == "open":
                    refused = refusal(pull, self._policy) is not None
                    yield Offered(pull.number, self._signer(pull), refused, pull.summary.digest)

    def spent(self, pull: PullRequest) -> str:
        """Why no full evaluation of it is left this week; "" where one is, or it changes no weights."""
        if pull.summary.kind != "weights":
            return ""
        key = signing.normal_key(pull.summary.author.key)
        return spent(self._policy, key, self._evaluated, self.vouchers, now=signing.now())

    @cached_property
    def _evaluated(self) -> list[Evaluated]:
        return [each for pull in self._pulls for each in self._runs(pull)]

    def _runs(self, pull: PullRequest) -> Iterator[Evaluated]:
        with suppress(SouqError):  # what cannot be read was never run
            key = signing.normal_key(pull.summary.author.key)
            if pull.summary.kind != "weights":
                return
            runs = {(each.subject, each.base): each.at for each in everything_checked(pull, self._policy)
                    if was_evaluated(each)}  # fmt: skip
            yield from (Evaluated(key, at) for at in runs.values())

    def unasked(self, pull: PullRequest, person: Person) -> str:
        """Why a machine of this person runs no evals of it now; "" where it does."""
        if pull.summary.kind != "weights":
            return ""
        return self.spent(pull) or PreChecks(self._pulls, self._main, self._policy).word(pull, person)

    def refuse(self, pull: PullRequest, verb: str, person: Person | None = None) -> None:
        """Say no to who would have a machine look at what waits, by a verb; its author's own machine may at any time.

        Raises:
            Refused: it waits for others.
        """
        if (sentence := self.waits.get(pull.number)) is None:
            return
        if person is not None and person.public_key == signing.normal_key(pull.summary.author.key):
            return
        raise Refused(f"#{pull.number} {sentence}", hint=f"`{verb} {pull.number} --out-of-turn` does it all the same")


def refusal(pull: PullRequest, policy: Policy) -> Verdict | None:
    """By what the last machine of somebody enrolled refused exactly what is offered now; None where it did not."""
    checked = [each for each in everything_checked(pull, policy) if each.subject == pull.subject]
    last = max(checked, key=lambda each: each.at, default=None)
    return next((verdict for verdict in last.verdicts if not verdict), None) if last else None


def was_evaluated(checked: Checked) -> bool:
    """Whether a model was asked: an answer that needed none has no figures."""
    return any(verdict.check == "evals" and verdict.evidence for verdict in checked.verdicts)
