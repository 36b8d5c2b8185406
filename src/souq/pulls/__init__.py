"""The life of a pull request: offered, checked, voted on, merged or closed; every step a signed record under refs/souq.

What a program needs of it is found here under `souq.pulls.` and loaded when it is first used; the files inside import
each other and never this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from souq.lazy import lazily

if TYPE_CHECKING:
    from souq.pulls.land import decision, decision_on, landing, merge, tensors_of
    from souq.pulls.offer import Draft, amend, create, signoff
    from souq.pulls.pull import PULLS, PullRequest, everything_checked, get, listed, read_checked, read_votes
    from souq.pulls.reviews import ballot, bring, check, close, look, review
    from souq.repo.contribution import slug
    from souq.signing import Envelope, Person, now

__all__ = [
    "PULLS", "Draft", "Envelope", "Person", "PullRequest", "amend", "ballot", "bring", "check", "close", "create",
    "decision", "decision_on", "everything_checked", "get", "landing", "listed", "look", "merge", "now", "read_checked",
    "read_votes", "review", "signoff", "slug", "tensors_of",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "souq.pulls.land": ("decision", "decision_on", "landing", "merge", "tensors_of"),
        "souq.pulls.offer": ("Draft", "amend", "create", "signoff"),
        "souq.pulls.pull": (
            "PULLS", "PullRequest", "everything_checked", "get", "listed", "read_checked", "read_votes",
        ),
        "souq.pulls.reviews": ("ballot", "bring", "check", "close", "look", "review"),
        "souq.repo.contribution": ("slug",),
        "souq.signing": ("Envelope", "Person", "now"),
    },
)  # fmt: skip
