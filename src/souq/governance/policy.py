"""What GOVERNANCE.toml says: people and their keys, organisations, roles, and what each kind of change needs.

Records and nothing else: read strictly, and refused at once where they could never work. Deny by default: what no scope
names cannot change. The organisation is declared and can be challenged; the machine checks caps, not truth.

    policy = read_policy(text)
    policy.person_of(public_key, "2026-11-25T07:00:00Z")
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Annotated, TypeVar
from unicodedata import normalize

from msgspec import Meta
from msgspec.structs import replace

from souq.errors import Refused, UsageError, nearest
from souq.records import Record, format_toml, parse_toml
from souq.signing import Person, normal_key
from souq.text import visible

T = TypeVar("T")

FOREVER = "9999"
POLICY = "GOVERNANCE.toml"
MOST_ALIKE = 16  # roles of the same people: beyond them, a policy whose roles change is written anew
_SHARE = re.compile(r"(\d{1,3})/([1-9]\d{0,2})")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ)?", re.ASCII)  # dates are compared as text

# What is more than these could not be meant, and would only make who reads it wait.
Count = Annotated[int, Meta(ge=0, le=2_000)]
Hours = Annotated[int, Meta(ge=0, le=24 * 3_660)]
Days = Annotated[int, Meta(ge=0, le=36_600)]
Few = Annotated[tuple[T, ...], Meta(max_length=16)]
Some = Annotated[tuple[T, ...], Meta(max_length=200)]
Many = Annotated[tuple[T, ...], Meta(max_length=2_000)]


class Key(Record, frozen=True, forbid_unknown_fields=True):
    """A key that speaks between dates of its own (UTC, ISO), where its owner's are not enough."""

    key: str
    valid_from: str = ""
    valid_until: str = ""


class Who(Record, frozen=True, forbid_unknown_fields=True):
    """`[[person]]`: a name, who they work for, and the keys that speak for them, between two dates (UTC, ISO)."""

    name: str
    keys: Few[str | Key]
    org: str = ""
    email: str = ""
    valid_from: str = ""
    valid_until: str = ""

    @property
    def side(self) -> str:
        """Whose they are when organisations are counted: somebody without an employer is a side of their own."""
        return self.org or self.name

    def valid(self, at: str) -> bool:
        return _within(self, at)


class Org(Record, frozen=True, forbid_unknown_fields=True):
    """`[[org]]`: an organisation people may belong to; where any is listed, all must be."""

    name: str
    url: str = ""


class Role(Record, frozen=True, forbid_unknown_fields=True):
    """`[[role]]`: people who may do something together."""

    name: str
    members: Many[str]
    max_per_org: Count = 0  # seats one organisation may hold; 0: no cap
    inactive_days: Days = 0  # unheard for so long, a member no longer counts in a share; 0: never
    elected_by: str = ""  # the role whose ballots fill this one
    seats: Count = 0  # to be filled by an election


class Needs(Record, frozen=True, forbid_unknown_fields=True):
    """`{ role = "maintainer", n = 2 }`, or a share of its active members, `{ role = "core", share = "2/3" }`."""

    role: str
    n: Count = 0
    share: str = ""


class Lazy(Record, frozen=True, forbid_unknown_fields=True):
    """Silence is consent: after so many hours without a no, `n` approvals from outside the author's side are enough."""

    after_h: Hours
    n: Annotated[int, Meta(ge=1, le=2_000)] = 1


class Veto(Record, frozen=True, forbid_unknown_fields=True):
    """Whose no stands, and for how long: alone for `alone_h` hours, seconded by others for `days` days."""

    role: str
    seconds: Count = 0
    alone_h: Hours = 72
    days: Annotated[int, Meta(ge=1, le=36_600)] = 30


class Scope(Record, frozen=True, forbid_unknown_fields=True):
    """`[[scope]]`: what changes to these paths or tensors need. All its lines must hold at once."""

    name: str
    match: Some[str]
    requires: Few[Needs]
    max_per_org: Count = 0  # approvals of one organisation that count; 0: no cap
    min_orgs: Count = 0
    checks: Some[str] = ()
    # who must have run them, each of another organisation; where none are named, one enrolled person
    evaluators: Needs | None = None
    author_may_vote: bool = False
    # where the author is one of those who are asked and may not vote, no more is asked for than all others can give
    or_all_others: bool = False
    window_h: Hours = 0  # hours it must have been open, as people of two organisations saw it
    cooloff_h: Hours = 0  # hours every approval that counts must have stood
    lazy: Lazy | None = None
    veto: Veto | None = None  # without one, everybody asked has it, without end
    majority: bool = False  # nobody's no stands alone, but there must be more yes than no

    def covers(self, path: str) -> bool:
        return any(_matches(pattern, path) for pattern in self.match)


class Emergency(Record, frozen=True, forbid_unknown_fields=True):
    """`[emergency]`: who may take a contribution or a release back at once; it lapses unless ratified in time."""

    requires: Few[Needs]
    max_per_org: Count = 1
    min_orgs: Count = 0
    days: Annotated[int, Meta(ge=1, le=90)] = 7

    @property
    def scope(self) -> Scope:
        """As a scope like the others."""
        return Scope(
            name="emergency", match=("**",), requires=self.requires, max_per_org=self.max_per_org,
            min_orgs=self.min_orgs, majority=True,
        )  # fmt: skip


class Limits(Record, frozen=True, forbid_unknown_fields=True):
    """`[limits]`: what machines and people are spared (limits.py); 0: no limit. No landing is judged by it."""

    open_per_key: Count = 0  # pull requests that are checked and queued at once; a person has one such limit
    open_per_org: Count = 0
    open_strangers: Count = 0  # of all who are neither enrolled nor vouched for, together
    evals_per_key: Count = 0  # full evaluations a week
    evals_strangers: Count = 0
    vouches: Count = 0  # newcomers that one person may vouch for; 0: none
    spot_checks: Annotated[int, Meta(ge=1, le=100)] = 20  # at least, of a hundred pre-checks of authors


class Policy(Record, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """GOVERNANCE.toml: who is enrolled, in which roles, and what each kind of change needs of them."""

    person: Many[Who]
    role: Some[Role]
    scope: Some[Scope]
    org: Many[Org] = ()
    emergency: Emergency | None = None
    limits: Limits | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Every enrolled public key, in its one spelling."""
        return tuple(_holders(self))

    def person_of(self, key: str, at: str | None = None) -> Who | None:
        """Whose key this is, if they and it are valid then."""
        person, dates = _holders(self).get(normal_key(key), (None, None))
        if person is None or dates is None or at is None:
            return person
        return person if _within(person, at) and _within(dates, at) else None

    def named(self, name: str) -> Who:
        return _people(self)[name]

    def role_of(self, name: str) -> Role:
        return next(role for role in self.role if role.name == name)

    def members(self, role: str) -> tuple[str, ...]:
        return self.role_of(role).members

    def asked(self, scope: Scope) -> set[str]:
        """The names of everybody whose approval a scope may ask for."""
        return {name for needs in scope.requires for name in self.members(needs.role)}

    def scopes(self, paths: Iterable[str]) -> tuple[list[Scope], list[str]]:
        """The scopes that cover any of these paths and tensors, and the paths that none covers."""
        touched = list(paths)
        scopes = [scope for scope in self.scope if any(scope.covers(path) for path in touched)]
        return scopes, [path for path in touched if not any(scope.covers(path) for scope in self.scope)]

    @property
    def remembers(self) -> bool:
        """Whether a decision depends on more of history than the policy: who was heard lately, what was urgent."""
        return self.emergency is not None or any(role.inactive_days for role in self.role)


def _within(dates: Who | Key, at: str) -> bool:
    return dates.valid_from <= at < (dates.valid_until or FOREVER)


@lru_cache(maxsize=64)
def _people(policy: Policy) -> dict[str, Who]:
    return {person.name: person for person in policy.person}


def is_date(text: str) -> bool:
    """Whether this is a day there is, or a second of it: 2026-11-25, 2026-11-25T07:00:00Z."""
    with suppress(ValueError):
        return bool(_DATE.fullmatch(text)) and bool(datetime.fromisoformat(text))
    return False


def dated(key: str | Key) -> Key:
    """A key with its own dates, of which it may have none."""
    return key if isinstance(key, Key) else Key(key=key)


@lru_cache(maxsize=64)
def _holders(policy: Policy) -> dict[str, tuple[Who, Key]]:
    """Key, in its one spelling, -> whose it is and its own dates."""
    held = [(person, dated(key)) for person in policy.person for key in person.keys]
    return {normal_key(key.key): (person, key) for person, key in held}


def read_policy(text: str) -> Policy:
    """GOVERNANCE.toml, strictly.

    Raises:
        UsageError: an unknown key, name or role, a key of two people, or a threshold that nobody could ever meet.
    """
    return _read_policy(text)


@lru_cache(maxsize=64)
def _read_policy(text: str) -> Policy:
    policy = parse_toml(text, Policy, where=POLICY)
    for problem in problems(policy):
        raise UsageError(f"{POLICY}: {problem}", hint=f"correct {POLICY} and try again")
    return policy


def refuse_stranger(policy: Policy, person: Person, at: str, *, hint: str) -> None:
    """Say no to who is at this keyboard, where the policy does not know them.

    Raises:
        Refused: their key is not enrolled, or does not hold at that time.
    """
    if policy.person_of(person.public_key, at) is None:
        raise Refused(f"{person.name}'s key is not enrolled in {POLICY}", hint=hint)


def with_members(policy: Policy, role: str, members: Sequence[str]) -> Policy:
    """A policy with other people in one of its roles."""
    roles = (replace(each, members=tuple(members)) if each.name == role else each for each in policy.role)
    return replace(policy, role=tuple(roles))


def format_policy(policy: Policy) -> str:
    """GOVERNANCE.toml, as people read it."""
    return format_toml(policy)


_ARRAY = re.compile(r"""^[ \t]*members[ \t]*=[ \t]*(\[(?:[\s,]|#[^\n]*\n|"[^"\\\n]*"|'[^'\n]*')*\])""", re.M)
_NAME = re.compile(r"""\s*(["'])([^"'\\]*)\1\s*,?\s*(#.*)?\s*""")


def edited(text: str, role: str, members: Sequence[str]) -> str:
    """GOVERNANCE.toml with other people in one of its roles, and every byte outside of that array as it was.

    Who leaves takes the line they stand on; where that is not enough the array is written anew, and where it does not
    begin a line of its own (`role = [{ … }]`), the whole file is.

    Raises:
        UsageError: there is no such policy.
    """
    policy = read_policy(text)
    wanted = with_members(policy, role, members)
    if wanted == policy:
        return text
    gone = {*policy.members(role)} - {*members}
    anew = format_toml({"members": list(members)}).removeprefix("members = ").removesuffix("\n")
    arrays = [match for match in _ARRAY.finditer(text) if _strings(match[1]) == policy.members(role)]
    for match in arrays[:MOST_ALIKE]:
        lines = match[1].splitlines(keepends=True)
        without = "".join(line for line in lines if not ((name := _NAME.fullmatch(line)) and name[2] in gone))
        for array in (without, anew):
            changed = text[: match.start(1)] + array + text[match.end(1) :]
            if parse_toml(changed, Policy, where=POLICY) == wanted:
                return changed
    return format_policy(wanted)


def _strings(array: str) -> tuple[str, ...]:
    return parse_toml(f"x = {array}", dict[str, tuple[str, ...]], where=POLICY)["x"]


# -- what could never work ---------------------------------------------------------------------------------------------


def problems(policy: Policy) -> Iterator[str]:
    """Every reason why nobody should begin under this policy."""
    names, roles = [person.name for person in policy.person], [role.name for role in policy.role]
    scopes, orgs = [scope.name for scope in policy.scope], [org.name for org in policy.org]
    for kind, words in {"people": names, "roles": roles, "scopes": scopes, "organisations": orgs}.items():
        if len(set(words)) < len(words):
            yield f"two {kind} are called {next(word for word in words if words.count(word) > 1)!r}"
    alike = dict[str, str]()
    for org in dict.fromkeys([*orgs, *(person.org for person in policy.person if person.org)]):
        plain = "".join(visible(normalize("NFKC", org)).casefold().split())
        if (other := alike.setdefault(plain, org)) != org or not plain:
            yield f"{other!r} and {org!r} are organisations that nobody can tell apart"
    for person in policy.person:
        yield from _person_problems(person, orgs)
    if len(_holders(policy)) != sum(len(person.keys) for person in policy.person):  # raises for what is no key
        yield "one key stands twice: a key speaks for one person"
    for role in policy.role:
        yield from _role_problems(policy, role, _people(policy), roles)
    for scope in [*policy.scope, *([policy.emergency.scope] if policy.emergency else [])]:
        yield from _scope_problems(policy, scope, roles)


def _person_problems(person: Who, orgs: list[str]) -> Iterator[str]:
    if orgs and person.org and person.org not in orgs:
        yield f"{person.name} is of {person.org!r}, which is no [[org]]{nearest(person.org, orgs)}"
    if not person.name or not person.keys:
        yield f"{person.name or 'somebody'} has no name or no key"
    dates: list[Who | Key] = [person, *map(dated, person.keys)]
    for held in dates:
        for date in (held.valid_from, held.valid_until):
            if date and not is_date(date):
                yield f"{date!r} of {person.name} is no date: write 2026-11-25 or 2026-11-25T07:00:00Z, in UTC"


def _role_problems(policy: Policy, role: Role, names: Collection[str], roles: list[str]) -> Iterator[str]:
    for member in role.members:
        if member not in names:
            yield f"role {role.name!r} names {member!r}, who is no [[person]]{nearest(member, names)}"
            return
    if len(set(role.members)) < len(role.members):
        yield f"role {role.name!r} names somebody twice"
    seats = _seats(policy, role.name)
    if full := next((side for side in seats if role.max_per_org and seats[side] > role.max_per_org), None):
        yield f"role {role.name!r} has {seats[full]} of {full}; it says at most {role.max_per_org}"
    if role.elected_by and (role.elected_by not in roles or role.seats < 1):
        yield f"role {role.name!r} is elected by {role.elected_by!r}, which is no role, or has no seats"


def _scope_problems(policy: Policy, scope: Scope, roles: list[str]) -> Iterator[str]:
    if not scope.requires or not scope.match:
        yield f"scope {scope.name!r} asks for nobody or covers nothing"
    judges = [scope.evaluators] if scope.evaluators else []
    for role in [needs.role for needs in (*scope.requires, *judges)] + ([scope.veto.role] if scope.veto else []):
        if role not in roles:
            yield f"scope {scope.name!r} asks for role {role!r}, which is not there{nearest(role, roles)}"
            return
    for needs in scope.requires:
        if bool(needs.n) == bool(needs.share) or (needs.share and share_of(needs) is None):
            yield f'scope {scope.name!r} asks `{needs.role}` for n = 2, or share = "2/3"'
            return
        can = most(policy, scope, needs.role)
        if (wanted := wanted_of(needs, can)) > can:
            yield f"scope {scope.name!r} asks for {wanted} of {needs.role!r}; at most {can} can ever vote"
    asked = policy.asked(scope)
    if scope.or_all_others and len(asked) == 1:
        alone = f"scope {scope.name!r} asks {min(asked)} alone, so there are no others"
        yield f"{alone}: author_may_vote = true is what lets one person decide"
    sides = {policy.named(name).side for name in asked}
    if scope.min_orgs > len(sides):
        yield f"scope {scope.name!r} asks for {scope.min_orgs} organisations; those it asks are of {len(sides)}"
    for needs in judges:
        if not 0 < needs.n <= most(policy, replace(scope, max_per_org=1), needs.role):
            asks = f"scope {scope.name!r} asks {needs.share or needs.n} of {needs.role!r} to run its checks"
            yield f"{asks}, each of another organisation: it cannot be"


def share_of(needs: Needs) -> Fraction | None:
    """`2/3` as a number above 0 and at most 1."""
    match = _SHARE.fullmatch(needs.share)
    share = Fraction(int(match[1]), int(match[2])) if match else Fraction(0)
    return share if 0 < share <= 1 else None


def wanted_of(needs: Needs, active: int) -> int:
    """How many approvals of a role that has so many active members."""
    return needs.n or max(1, ceil(active * (share_of(needs) or Fraction(1))))


def most(policy: Policy, scope: Scope, role: str, *, without: Who | None = None) -> int:
    """How many of a role, or of all but one in it, can count at once, under the cap."""
    seats = _seats(policy, role)
    if without is not None and without.name in policy.members(role):
        seats = seats - Counter([without.side])
    return sum(min(held, scope.max_per_org or held) for held in seats.values())


@lru_cache(maxsize=1 << 10)
def _seats(policy: Policy, role: str) -> Counter[str]:
    return Counter(policy.named(name).side for name in policy.members(role))


def at_once(people: Sequence[Who], cap: int) -> int:
    """How many of these can count, where no organisation has more than `cap`; 0: no cap."""
    return len(capped(people, cap)[0])


def capped(people: Sequence[Who], cap: int) -> tuple[list[Who], list[Who]]:
    """Who counts, of people in order, where no organisation has more than `cap`, and who does not; 0: no cap."""
    counted, over, seats = list[Who](), list[Who](), Counter[str]()
    for person in people:
        seats[person.side] += 1
        (over if cap and seats[person.side] > cap else counted).append(person)
    return counted, over


@lru_cache(maxsize=1 << 16)
def _matches(pattern: str, path: str) -> bool:
    """`*` within a part of a path, `**` across parts, `[0-7]` as in shells; in one pass, however many stars."""
    ends = {0}  # where in the path the part of the pattern read so far may end
    for part in re.split(r"(\*\*|\*|\[[\w\-]+\])", pattern):
        if part == "**":
            ends = {*range(min(ends), len(path) + 1)}
        elif part == "*":
            stops = {at: (path + "/").index("/", at) for at in ends}
            first = {stop: min(at for at in stops if stops[at] == stop) for stop in stops.values()}
            ends = {end for stop, at in first.items() for end in range(at, stop + 1)}
        elif part.startswith("["):
            ends = {at + 1 for at in ends if fnmatchcase(path[at : at + 1], part)}
        else:
            ends = {at + len(part) for at in ends if path.startswith(part, at)}
        if not ends:
            return False
    return len(path) in ends
