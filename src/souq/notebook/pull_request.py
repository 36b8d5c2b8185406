"""One pull request as a notebook sees it: what machines found, how people voted, which tensors it moves."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Any

from souq.checks.cases import Case
from souq.checks.delta_stats import kind_of, layer_of
from souq.checks.tensors import relative_norms
from souq.errors import SouqError
from souq.governance import read_policy
from souq.notebook.pictures import change_map, listing
from souq.progress import Progress, quiet
from souq.pulls import land, reviews
from souq.pulls import pull as pulls
from souq.records import Contribution, spelled_out
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Lora

Row = dict[str, Any]


class PullRequest:
    """What somebody offers to main."""

    def __init__(self, repo: Repo, main: Snapshot, pull: pulls.PullRequest) -> None:
        self._repo, self._main, self.pull = repo, main, pull

    @property
    def number(self) -> int:
        """Its number."""
        return self.pull.number

    @property
    def contribution(self) -> Contribution:
        """What its author says of it: title, kind, licence, recipe and more.

        Raises:
            Hostile: nobody can read it.
        """
        return self.pull.offer.contribution

    @property
    def digest(self) -> str:
        """What votes bind to: of every byte that is offered."""
        return self.pull.offer.digest

    @cached_property
    def state(self) -> pulls.State:
        """`open`, `merged`, `closed` or `taken back`."""
        return self.pull.state(self._main)

    @property
    def checks(self) -> list[Row]:
        """What the machine that looked last has found: check, verdict, because, by whom and when."""
        checked = [signed.checked for signed in pulls.read_checked(self.pull, self._policy)]
        return [
            {
                "check": verdict.check,
                "verdict": verdict.outcome,
                "because": verdict.because,
                "by": last.by,
                "at": last.at,
            }
            for last in checked[-1:]
            for verdict in last.verdicts
        ]

    @property
    def votes(self) -> list[Row]:
        """The votes whose signatures hold: by whom, approve or reject, why, and when."""
        votes = [signed.vote for signed in pulls.read_votes(self.pull, self._policy)]
        ordered = sorted(votes, key=lambda vote: (vote.at, vote.by))
        return [{"by": vote.by, "choice": vote.choice, "reason": vote.reason, "at": vote.at} for vote in ordered]

    @property
    def missing(self) -> list[str]:
        """What stands in the way of its merge, a line each; none where nothing does or it is no longer open."""
        return [*land.decision_on(self.pull, self._main).missing] if self.state == "open" else []

    @cached_property
    def _policy(self) -> Any:
        return read_policy(self._main.policy_text)

    def diff(self, progress: Progress = quiet) -> list[Row]:
        """Which tensors it moves: layer, how the change is kept, its rank, and its norm over that of the weight.

        Raises:
            NotFound: a tensor of it is not here.
        """
        delta = self.pull.offer.delta
        if delta is None:
            return []
        reviews.bring(self._repo, self._main, self.pull.offer, progress)
        norms = relative_norms(Case(self._main, self.pull.head, self.pull.offer), delta)
        return [
            {
                "tensor": name, "layer": layer_of(name), "module": kind_of(name),
                "kind": delta.parts[name].kind,
                "rank": part.a.shape[0] if isinstance(part := delta.parts[name], Lora) else None, "share": share,
            }
            for name, share in norms.items()
        ]  # fmt: skip

    def row(self) -> Row:
        """Number, state, kind, title, author and digest; of one that nobody can read, why not."""
        facts = dict.fromkeys(("kind", "author", "digest"), "?")
        try:
            offered = self.pull.summary
            facts = {"kind": offered.kind, "author": offered.author.name, "digest": offered.digest}
            title = offered.title
        except SouqError as error:
            title = f"cannot be read: {error}"
        return {"number": self.number, "state": self.state, "title": title, **facts}

    def __repr__(self) -> str:
        row = self.row()
        return f"<#{self.number} {spelled_out(row['title'])}: {self.state}>"

    def _repr_html_(self) -> str:
        moved: list[Row] = []
        with suppress(SouqError):  # what cannot be read is listed all the same
            moved = self.diff()
        return listing(repr(self), self.checks, change_map(moved))
