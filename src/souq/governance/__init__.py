"""Who must agree: the policy people write, the decision it gives, and history judged by it. Pure: no clock, no git.

    decision = decide(read_policy(text), change, checked, votes, now="2026-11-23T10:00:00Z")
    decision.missing   # what a person can go and do

policy, elect, decide and replay are the judging half of the verifying core (docs/verifying.md); explain and templates
are for people.
"""

from typing import TYPE_CHECKING

from souq.governance.decide import Change, PolicyState, SignedChecked, SignedVote, decide
from souq.governance.elect import Ballot, Election, SignedBallot
from souq.governance.policy import POLICY, Needs, Policy, Role, Scope, Who, read_policy
from souq.governance.replay import Landed, replay
from souq.lazy import lazily

if TYPE_CHECKING:
    from souq.governance.templates import CHECKS, apache, company_plus_community, foundation, from_template, solo

__all__ = [
    "CHECKS", "POLICY", "Ballot", "Change", "Election", "Landed", "Needs", "Policy", "PolicyState", "Role", "Scope",
    "SignedBallot", "SignedChecked", "SignedVote", "Who", "apache", "company_plus_community", "decide", "foundation",
    "from_template", "read_policy", "replay", "solo",
]  # fmt: skip

# Templates are for people, and loaded when they are asked for: a doubter's process need not read them.
_TEMPLATES = ("CHECKS", "apache", "company_plus_community", "foundation", "from_template", "solo")
__getattr__ = lazily(__name__, {"souq.governance.templates": _TEMPLATES})
