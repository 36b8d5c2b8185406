"""Policies to begin with: one person, Apache's votes, a foundation of organisations, a company with its community.

Each is GOVERNANCE.toml as text. What a template needs more people for than are named is refused at once, since nobody
could ever satisfy it. Nobody is locked out at any size: where the author is one of few, all others are enough; and an
amendment counts its author's vote, so that it passes without who is gone for good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from souq.errors import UsageError
from souq.governance.policy import POLICY, Emergency, Needs, Policy, Role, Scope, Veto, Who, format_policy, read_policy

CHECKS = (
    "signoff", "files", "licence", "fits-base", "tensors", "norms", "spectra", "lineage", "duplicates", "caps",
    "secrets", "contamination", "evals", "hidden",
)  # fmt: skip
WORK = ("contributions/**", "model.*", "lm_head.*", "souq.toml")
EVALS, RELEASES = ("evals/**",), ("releases/**",)
DOCUMENTS = ("LICENSE*", "NOTICE", "CITATION.cff", "*.md", "*.txt", "docs/**")
"""What `pr create --file` can offer: texts for people, that nothing reads as a rule."""

_SOLO = """\
# One person decides; add people, roles and thresholds as others come. `souq governance check` explains this file.

[[person]]
name = "{name}"
org = "{org}"
keys = ["{key}"]

[[role]]
name = "maintainer"
members = ["{name}"]

[[scope]]
name = "contributions"
match = [
    "contributions/**", "model.*", "lm_head.*", "evals/**", "releases/**", "souq.toml",
    {documents},
]
requires = [{{ role = "maintainer", n = 1 }}]
checks = [{checks}]
author_may_vote = true  # nobody else is here yet: drop this line when somebody is

[[scope]]
name = "policy"
match = ["GOVERNANCE.toml"]
requires = [{{ role = "maintainer", n = 1 }}]
author_may_vote = true
"""


def solo(name: str, org: str, key: str) -> str:
    """A repository of one."""
    listed = [", ".join(f'"{word}"' for word in words) for words in (CHECKS, DOCUMENTS)]
    return _SOLO.format(name=name, org=org, key=key, checks=listed[0], documents=listed[1])


def foundation(people: Sequence[Who]) -> str:
    """Several organisations, none of which can decide alone.

    Amending takes two thirds of the organisations, two at least, and two weeks.
    """
    names, sides = tuple(person.name for person in people), len({person.side for person in people})
    work = Scope(
        name="contributions", match=WORK, requires=(Needs(role="maintainer", n=2),), max_per_org=1, or_all_others=True,
        checks=CHECKS,
    )  # fmt: skip
    scopes = (
        work,
        # Who may edit the exam more easily than sit it edits the exam.
        replace(
            work, name="evals", match=EVALS, requires=(Needs(role="maintainer", n=max(2, min(3, sides - 1))),)
        ),
        replace(work, name="documents", match=DOCUMENTS, checks=("signoff", "files", "licence")),
        replace(work, name="releases", match=RELEASES, majority=True, checks=("files",)),
        Scope(
            name="policy", match=(POLICY,), requires=(Needs(role="maintainer", share="2/3"),), max_per_org=1,
            min_orgs=min(3, sides - 1), author_may_vote=True, window_h=336,
        ),
    )  # fmt: skip
    roles = (Role(name="maintainer", members=names, inactive_days=730), Role(name="security", members=names))
    urgent = Emergency(requires=(Needs(role="security", n=2),)) if sides > 1 else None
    return _headed(
        "No organisation can decide alone", Policy(person=tuple(people), role=roles, scope=scopes, emergency=urgent)
    )


def apache(people: Sequence[Who]) -> str:
    """Apache's votes: three yes and no veto in 72 hours for work; three and more yes than no for releases."""
    names = tuple(person.name for person in people)
    three = (Needs(role="pmc", n=3),)
    scopes = (
        Scope(
            name="contributions", match=(*WORK, *EVALS, *DOCUMENTS), requires=three, window_h=72, or_all_others=True,
            checks=CHECKS, veto=Veto(role="pmc", days=90),
        ),
        Scope(
            name="releases", match=RELEASES, requires=three, window_h=72, majority=True, or_all_others=True,
            checks=("files",),
        ),
        Scope(
            name="policy", match=(POLICY,), requires=(Needs(role="pmc", share="2/3"),), window_h=168, majority=True,
            author_may_vote=True,
        ),
    )  # fmt: skip
    roles = (Role(name="pmc", members=names, inactive_days=730),)
    return _headed(
        "Apache's votes (apache.org/foundation/voting)", Policy(person=tuple(people), role=roles, scope=scopes)
    )


def company_plus_community(people: Sequence[Who]) -> str:
    """The first person's organisation maintains; nothing lands without somebody from outside it."""
    company = people[0].side if people else ""
    inside = tuple(person.name for person in people if person.side == company)
    outside = tuple(person.name for person in people if person.side != company)
    both = (Needs(role="company", n=1), Needs(role="community", n=1))
    scopes = (
        Scope(
            name="contributions", match=(*WORK, *EVALS, *DOCUMENTS), requires=both, min_orgs=2, or_all_others=True,
            checks=CHECKS,
        ),
        Scope(
            name="releases", match=RELEASES, requires=both, min_orgs=2, or_all_others=True, checks=("files",)
        ),
        Scope(
            name="policy", match=(POLICY,), window_h=336, min_orgs=2, author_may_vote=True,
            requires=(Needs(role="company", share="1/2"), Needs(role="community", share="2/3")),
        ),
    )  # fmt: skip
    roles = (Role(name="company", members=inside), Role(name="community", members=outside, inactive_days=730))
    return _headed(
        f"{company} maintains, and the community has a say in everything",
        Policy(person=tuple(people), role=roles, scope=scopes),
    )


def covering(text: str, tensors: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """A policy that covers a model's tensors wherever it says `model.*`, and the patterns that were put beside that.

    Nobody could ever change a tensor that no scope covers, and not every kind calls its tensors `model.…`.
    """
    _, closed = read_policy(text).scopes(sorted(tensors))
    patterns = sorted({f"{name.partition('.')[0]}.*" if "." in name else name for name in closed})
    listed = ", ".join(f'"{pattern}"' for pattern in ("model.*", *patterns))
    covered = text.replace('"model.*"', listed)
    return (covered, tuple(patterns)) if covered != text else (text, ())


def without_evals(text: str) -> str:
    """A template's policy for a model that the lab cannot ask: no check of it needs an answer."""
    return re.sub(r'"evals",\s*', "", text)


def _headed(summary: str, policy: Policy) -> str:
    return f"# {summary}. `souq governance check` explains this file.\n\n{format_policy(policy)}"


Template = Callable[[Sequence[Who]], str]
TEMPLATES: dict[str, Template] = {
    "solo": lambda people: solo(people[0].name, people[0].side, str(people[0].keys[0])),
    "apache": apache,
    "foundation": foundation,
    "company-plus-community": company_plus_community,
}
NEEDS = {"solo": (1, 1), "apache": (3, 1), "foundation": (3, 3), "company-plus-community": (2, 2)}
"""People and organisations without which a template could never decide anything."""


def from_template(name: str, people: Sequence[Who]) -> str:
    """GOVERNANCE.toml of a template.

    Raises:
        UsageError: too few people or organisations for it.
    """
    few, sides = NEEDS[name]
    if len(people) < few or len({person.side for person in people}) < sides:
        raise UsageError(
            f"`{name}` needs at least {few} people of {sides} organisation{'s' if sides > 1 else ''}: "
            f"with {len(people)} nobody could ever satisfy it",
            hint="add --people FILE.toml, with a [[person]] table for each: name, org, keys",
        )
    return TEMPLATES[name](people)
