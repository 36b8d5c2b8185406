"""What GOVERNANCE.toml promises: it says what it can, and what could never work is refused with the way out."""

from __future__ import annotations

import base64
import re
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq import signing
from souq.errors import Refused, UsageError
from souq.governance import read_policy
from souq.governance.policy import (
    MOST_ALIKE,
    Emergency,
    Key,
    Lazy,
    Org,
    Role,
    Scope,
    Veto,
    Who,
    edited,
    format_policy,
    is_date,
    refuse_stranger,
    share_of,
    with_members,
)
from tests.voters import NAMES, at, key, key_of, of, ruled, who

PEOPLE = [who(name) for name in NAMES]
COUNCIL = Role(name="council", members=("bruno", "chen"))


def named(*names):
    return [who(name) for name in names]


def refusal(*args, **more):
    """Why a policy is refused; and it says what to do."""
    with pytest.raises(UsageError) as caught:
        ruled(*args, **more)
    assert caught.value.hint == "correct GOVERNANCE.toml and try again"
    return str(caught.value).removeprefix("GOVERNANCE.toml: ")


def test_a_policy_is_read_as_it_was_written():
    policy = ruled(
        of(share="2/3"),
        of(1, "council"),
        roles=(COUNCIL,),
        org=(Org(name="Atlas"), Org(name="Borealis"), Org(name="University")),
        veto=Veto(role="council"),
    )

    assert read_policy(format_policy(policy)) == policy
    assert msgspec.json.decode(msgspec.json.encode(policy), type=type(policy)) == policy


@pytest.mark.parametrize(
    ("people", "why"),
    [
        (named("amira", "amira"), "two people are called 'amira'"),
        ([*named("amira"), who("adil", keys=(key_of("amira", 1),))], "one key stands twice: a key speaks for one person"),
        ([*named("amira"), who("adil", keys=(key(5), f"{key(5)} adil@home"))], "one key stands twice: a key speaks for one person"),
        ([*named("amira"), who("adil", keys=())], "adil has no name or no key"),
        ([*named("amira"), Who(name="", keys=(key(5),))], "somebody has no name or no key"),
        ([*named("amira"), who("adil", valid_from="soon")], "'soon' of adil is no date: write 2026-11-25 or 2026-11-25T07:00:00Z, in UTC"),
        ([*named("amira"), who("adil", valid_until="2026-11-25 07:00")], "'2026-11-25 07:00' of adil is no date: write 2026-11-25 or 2026-11-25T07:00:00Z, in UTC"),
        ([*named("amira"), who("adil", valid_until="٢٠٢٦-11-25")], "'٢٠٢٦-11-25' of adil is no date: write 2026-11-25 or 2026-11-25T07:00:00Z, in UTC"),
        ([*named("amira"), who("adil", keys=(Key(key=key(5), valid_from="x"),))], "'x' of adil is no date: write 2026-11-25 or 2026-11-25T07:00:00Z, in UTC"),
        ([*named("amira"), who("adil", keys=(key(4), Key(key=key(5), valid_until="y")))], "'y' of adil is no date: write 2026-11-25 or 2026-11-25T07:00:00Z, in UTC"),
    ],
)  # fmt: skip
def test_people_who_cannot_be_are_refused(people, why):
    assert refusal(of(1), people=people, core=("amira",)) == why


def test_what_is_no_key_is_refused_with_what_to_paste():
    with pytest.raises(UsageError, match="not an ssh public key: 'ssh-ed25519'"):
        ruled(of(1), people=[*named("amira"), who("adil", keys=("ssh-ed25519",))], core=("amira",))


def test_dates_may_be_days_or_seconds():
    ruled(people=[who("amira", valid_from="2026-11-25", valid_until="2027-11-25T07:00:00Z"), *PEOPLE[1:]])


def test_where_organisations_are_listed_people_belong_to_them_or_to_none():
    orgs = [Org(name="Atlas"), Org(name="Borealis"), Org(name="Universty", url="https://uni.example")]

    assert refusal(org=orgs) == "chen is of 'University', which is no [[org]] (did you mean 'Universty'?)"
    assert refusal(org=[*orgs, Org(name="Atlas")]) == "two organisations are called 'Atlas'"
    ruled(org=[*orgs, Org(name="University")])


ELECTED = Role(name="council", members=("bruno",), elected_by="core", seats=1)


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        ([Role(name="core", members=("amira",))], "two roles are called 'core'"),
        ([Role(name="council", members=("brnuo",))], "role 'council' names 'brnuo', who is no [[person]] (did you mean 'bruno'?)"),
        ([Role(name="council", members=("bruno", "bruno"))], "role 'council' names somebody twice"),
        ([Role(name="council", members=("bruno", "amira", "adil"), max_per_org=1)], "role 'council' has 2 of Atlas; it says at most 1"),
        ([msgspec.structs.replace(ELECTED, elected_by="cor")], "role 'council' is elected by 'cor', which is no role, or has no seats"),
        ([msgspec.structs.replace(ELECTED, seats=0)], "role 'council' is elected by 'core', which is no role, or has no seats"),
    ],
)  # fmt: skip
def test_roles_that_cannot_be_are_refused(roles, why):
    assert refusal(roles=roles) == why


def test_roles_that_can_be_are_not():
    ruled(
        roles=[ELECTED, Role(name="press", members=("amira", "adil"), max_per_org=2), Role(name="nobody", members=())]
    )


@pytest.mark.parametrize(
    ("requires", "scope", "why"),
    [
        ((of(1),), {"match": ()}, "scope 'work' asks for nobody or covers nothing"),
        ((of(1, "cor"),), {}, "scope 'work' asks for role 'cor', which is not there (did you mean 'core'?)"),
        ((of(1),), {"veto": Veto(role="cor")}, "scope 'work' asks for role 'cor', which is not there (did you mean 'core'?)"),
        ((of(0),), {}, "scope 'work' asks `core` for n = 2, or share = \"2/3\""),
        ((msgspec.structs.replace(of(2), share="2/3"),), {}, "scope 'work' asks `core` for n = 2, or share = \"2/3\""),
        ((of(share="3/2"),), {}, "scope 'work' asks `core` for n = 2, or share = \"2/3\""),
        ((of(7),), {}, "scope 'work' asks for 7 of 'core'; at most 6 can ever vote"),
        ((of(5),), {"max_per_org": 1}, "scope 'work' asks for 5 of 'core'; at most 4 can ever vote"),
        ((of(1),), {"min_orgs": 5}, "scope 'work' asks for 5 organisations; those it asks are of 4"),
        ((of(1),), {"evaluators": of(1, "cor")}, "scope 'work' asks for role 'cor', which is not there (did you mean 'core'?)"),
        ((of(1),), {"evaluators": of(0)}, "scope 'work' asks 0 of 'core' to run its checks, each of another organisation: it cannot be"),
        ((of(1),), {"evaluators": of(5)}, "scope 'work' asks 5 of 'core' to run its checks, each of another organisation: it cannot be"),
        ((of(1),), {"evaluators": of(share="1/2")}, "scope 'work' asks 1/2 of 'core' to run its checks, each of another organisation: it cannot be"),
    ],
)  # fmt: skip
def test_scopes_that_cannot_be_are_refused(requires, scope, why):
    assert refusal(*requires, **scope) == why


def test_all_others_are_somebody():
    why = "scope 'work' asks amira alone, so there are no others: author_may_vote = true is what lets one person decide"

    assert refusal(of(1), core=("amira",), or_all_others=True) == why
    ruled(of(1), core=("amira", "adil"), or_all_others=True)
    ruled(of(1), core=("amira",))


def test_the_least_that_scopes_can_say():
    ruled(
        of(4),
        max_per_org=1,
        min_orgs=4,
        lazy=Lazy(after_h=0, n=1),
        veto=Veto(role="core", seconds=0, alone_h=0, days=1),
    )
    ruled(of(share="1/1"), max_per_org=1)
    ruled(of(6))
    ruled(of(6), evaluators=of(1))
    ruled(of(6), evaluators=of(4))


def test_a_role_nobody_is_in_cannot_be_asked():
    assert refusal(of(1), core=()) == "scope 'work' asks for 1 of 'core'; at most 0 can ever vote"
    assert refusal(of(share="1/2"), core=()) == "scope 'work' asks for 1 of 'core'; at most 0 can ever vote"


def test_two_scopes_are_not_called_the_same_and_each_asks_somebody():
    text = format_policy(ruled())
    scope = Scope(name="work", match=("x",), requires=(of(1),))

    with pytest.raises(UsageError, match="two scopes are called 'work'"):
        read_policy(format_policy(msgspec.structs.replace(ruled(), scope=(*ruled().scope, scope))))
    with pytest.raises(UsageError, match="scope 'work' asks for nobody"):
        read_policy(
            format_policy(msgspec.structs.replace(ruled(), scope=(msgspec.structs.replace(scope, requires=()),)))
        )
    with pytest.raises(UsageError, match=r"unknown key 'windw_h' .did you mean 'window_h'"):
        read_policy(text.replace("[[scope]]", "[[scope]]\nwindw_h = 2"))


@pytest.mark.parametrize("days", [-1, 0, 1, 90, 91])
def test_an_emergency_lapses_in_good_time(days):
    told = Emergency(requires=(of(2),), days=days)

    if 1 <= days <= 90:
        assert ruled(emergency=told).remembers
    else:
        assert refusal(emergency=told) == f"Expected `int` {'<= 90' if days > 90 else '>= 1'} - at `$.emergency.days`"
    assert (
        refusal(emergency=Emergency(requires=(of(9),)))
        == "scope 'emergency' asks for 9 of 'core'; at most 4 can ever vote"
    )


def test_an_emergency_is_a_scope_over_everything():
    told = Emergency(requires=(of(2),), min_orgs=2).scope

    assert (told.name, told.majority, told.min_orgs, told.max_per_org, told.requires) == (
        "emergency",
        True,
        2,
        1,
        (of(2),),
    )
    assert told.covers("contributions/0001-x/a")


def test_memory_is_asked_for_where_a_decision_needs_it():
    assert not ruled().remembers
    assert ruled(inactive_days=1).remembers


@pytest.mark.parametrize(
    ("text", "share"),
    [("2/3", 2 / 3), ("1/1", 1), ("1/999", 1 / 999), ("0/3", None), ("-1/2", None), ("1/0", None), ("half", None),
     ("4/3", None), ("0.25", None), ("1/9999", None), ("9999/9999", None)],
)  # fmt: skip
def test_a_share_is_above_nothing_and_at_most_all(text, share):
    assert share_of(of(share=text)) == (share if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("pattern", "hit", "missed"),
    [
        ("contributions/**", ["contributions/a", "contributions/a/b"], ["contributions", "x/contributions/a"]),
        ("contributions/*", ["contributions/a"], ["contributions/a/b"]),
        (
            "model.layers.[0-7].*",
            ["model.layers.3.q.weight"],
            ["model.layers.8.q", "model.layers.13.q", "model_layers.3.q"],
        ),
        ("*.toml", ["souq.toml"], ["souqxtoml", "a/souq.toml"]),
        ("GOVERNANCE.toml", ["GOVERNANCE.toml"], ["GOVERNANCE.toml.x", "GOVERNANCE-toml"]),
        ("a[b", ["a[b"], ["ab"]),
    ],
)
def test_patterns_are_those_of_shells(pattern, hit, missed):
    scope = Scope(name="x", match=("nothing", pattern), requires=(of(1),))

    assert [path for path in [*hit, *missed] if scope.covers(path)] == hit


def test_what_no_scope_names_nobody_may_change():
    policy = ruled(match=("contributions/**", "evals/**"))

    assert policy.scopes(["evals/a", "x", "y", "contributions/b"]) == ([policy.scope[0]], ["x", "y"])
    assert policy.scopes([]) == ([], [])


def test_a_key_is_known_by_any_of_its_spellings_and_only_while_it_holds():
    dated = who(
        "amira",
        keys=(key_of("amira"), Key(key=f"{key_of('amira', 1)} amira@home", valid_from=at(0), valid_until=at(2))),
    )
    policy = ruled(people=[dated, *PEOPLE[1:]])

    assert policy.person_of(f" {key_of('amira', 1)}  elsewhere") == dated
    assert [policy.person_of(key_of("amira", 1), at(hours)) for hours in (-1, 0, 1, 2)] == [None, dated, dated, None]
    assert policy.person_of(key_of("amira"), at(5)) == dated
    assert policy.person_of(key_of("stranger")) is None
    assert policy.person_of(key_of("stranger"), at(0)) is None
    assert policy.keys[:2] == (key_of("amira"), key_of("amira", 1))


def test_side_is_the_organisation_or_oneself():
    assert [who("amira").side, who("dora").side] == ["Atlas", "dora"]


def test_who_is_not_enrolled_is_told_whom_to_ask(tmp_path):
    """Whose key holds is who they are to the policy; a stranger, or a key whose time has passed, is refused by name."""
    signing.make_key(tmp_path / "key", "amira")
    amira = signing.Person("Amira", "a@b", tmp_path / "key")
    people = [who("amira", keys=(amira.public_key,), valid_until=at(1)), who("bruno")]
    policy = ruled(of(1), people=people, core=("bruno",))

    refuse_stranger(policy, amira, at(0.5), hint="ask Bruno")
    with pytest.raises(Refused, match=r"^Amira's key is not enrolled in GOVERNANCE\.toml$") as refused:
        refuse_stranger(policy, amira, at(1), hint="ask Bruno")
    assert refused.value.hint == "ask Bruno"


# -- what could not be meant -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "least", "most", "make"),
    [
        ("scope[0].requires[0].n", 0, 2_000, lambda n: {"requires": (of(n),)}),
        ("scope[0].max_per_org", 0, 2_000, lambda n: {"max_per_org": n}),
        ("scope[0].min_orgs", 0, 2_000, lambda n: {"min_orgs": n}),
        ("scope[0].window_h", 0, 87_840, lambda n: {"window_h": n}),
        ("scope[0].cooloff_h", 0, 87_840, lambda n: {"cooloff_h": n}),
        ("scope[0].lazy.after_h", 0, 87_840, lambda n: {"lazy": Lazy(after_h=n)}),
        ("scope[0].lazy.n", 1, 2_000, lambda n: {"lazy": Lazy(after_h=1, n=n)}),
        ("scope[0].veto.seconds", 0, 2_000, lambda n: {"veto": Veto(role="core", seconds=n)}),
        ("scope[0].veto.alone_h", 0, 87_840, lambda n: {"veto": Veto(role="core", alone_h=n)}),
        ("scope[0].veto.days", 1, 36_600, lambda n: {"veto": Veto(role="core", days=n)}),
        ("role[0].inactive_days", 0, 36_600, lambda n: {"inactive_days": n}),
        ("role[1].seats", 0, 2_000, lambda n: {"roles": [Role(name="press", members=(), seats=n)]}),
        ("role[1].max_per_org", 0, 2_000, lambda n: {"roles": [Role(name="press", members=(), max_per_org=n)]}),
        ("emergency.days", 1, 90, lambda n: {"emergency": Emergency(requires=(of(1),), days=n)}),
    ],
)
def test_no_number_is_below_or_beyond_what_it_can_mean(where, least, most, make):
    """A window of a million years is a slip of the hand, and one of minus an hour is nothing at all."""

    def asked(n):
        more = make(n)
        return refusal(*more.pop("requires", (of(1),)), **more)

    assert asked(least - 1) == f"Expected `int` >= {least} - at `$.{where}`"
    assert asked(most + 1) == f"Expected `int` <= {most} - at `$.{where}`"
    for n in {least, most} - {0 if "requires" in where else -1}:
        with suppress(UsageError):
            more = make(n)
            ruled(*more.pop("requires", (of(1),)), **more)
            continue
        assert "Expected" not in asked(n), "what it says is another matter"


@pytest.mark.parametrize(
    "value", ["2.5", "nan", "inf", "-inf", "true", '"2"', "2026-01-01", "[2]", "9223372036854775807"]
)
def test_a_number_is_a_whole_number(value):
    text = format_policy(ruled(of(1), window_h=7))

    with pytest.raises(UsageError, match=r"Expected `int`|not TOML|Invalid|range"):
        read_policy(text.replace("window_h = 7", f"window_h = {value}"))


@pytest.mark.parametrize(
    ("field", "most", "text"),
    [
        ("person", 2_000, lambda n: "".join(f'[[person]]\nname = "p{i}"\nkeys = ["{key_at(i)}"]\n' for i in range(n))),
        ("role", 200, lambda n: "".join(f'[[role]]\nname = "r{i}"\nmembers = []\n' for i in range(n))),
        ("scope", 200, lambda n: "".join(f'[[scope]]\nname = "s{i}"\nmatch = ["x"]\nrequires = [{{role="core",n=1}}]\n' for i in range(n))),
        ("org", 2_000, lambda n: "".join(f'[[org]]\nname = "o{i}"\n' for i in range(n))),
    ],
)  # fmt: skip
def test_a_policy_is_of_a_size_that_can_be_judged(field, most, text):
    base = format_policy(ruled(of(1), people=[Who(name="amira", keys=(key(50),))], core=("amira",)))
    there = {"person": 1, "role": 1, "scope": 1, "org": 0}[field]

    read_policy(base + text(most - there))
    with pytest.raises(UsageError, match=rf"Expected `array` of length <= {most} - at `\$.{field}`"):
        read_policy(base + text(most - there + 1))


def key_at(n):
    parts = (b"ssh-ed25519", (n + 1000).to_bytes(32, "big"))
    return "ssh-ed25519 " + base64.b64encode(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).decode()


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('match = [', 'match = [' + '"x",' * 200, "scope[0].match"),
        ('requires = [', 'requires = [' + '{role="core",n=1},' * 16, "scope[0].requires"),
        ('requires = [', 'checks = [' + '"x",' * 201 + ']\nrequires = [', "scope[0].checks"),
        ('members = [', 'members = [' + '"x",' * 2000, "role[0].members"),
        ('keys = [', 'keys = [' + '"x",' * 16, "person[0].keys"),
    ],
)  # fmt: skip
def test_lists_in_a_policy_end(old, new, where):
    """20,000 lines that each ask for a role of 400 kept `souq status` busy for two minutes."""
    with pytest.raises(UsageError, match=rf"Expected `array` of length <= \d+ - at `\$\.{re.escape(where)}`"):
        read_policy(format_policy(ruled(of(1))).replace(old, new, 1))


@pytest.mark.timeout(120)  # each scope looking at each person anew, it would not end
def test_the_dearest_policy_is_read_in_good_time():
    """As many people, roles and scopes as there may be, each asking for all of them under its own cap."""
    members = ", ".join(f'"p{i}"' for i in range(2_000))
    text = "".join(f'[[person]]\nname = "p{i}"\nkeys = ["{key_at(i)}"]\n' for i in range(2_000))
    text += f'[[role]]\nname = "all"\nmembers = [{members}]\n'
    needs = ", ".join(['{role="all",n=1}'] * 16)
    text += "".join(
        f'[[scope]]\nname="s{i}"\nmatch=["**"]\nmax_per_org={i + 1}\nrequires=[{needs}]\n' for i in range(200)
    )

    assert len(read_policy(text).scope) == 200


@pytest.mark.parametrize("date", ["2026-02-30", "2026-13-01", "2026-01-01T24:00:00Z", "2026-01-01T23:60:00Z", "2026-01-01T23:00:60Z", "0000-01-01", "2026-1-1", "2026-01-01Z", "-2026-01-01", "2026-01-01T00:00:00+00:00"])  # fmt: skip
def test_a_date_is_one_of_the_calendar(date):
    assert not is_date(date)
    assert refusal(people=[*named("amira"), who("adil", valid_until=date)]).startswith(f"{date!r} of adil is no date")


def test_the_days_and_seconds_there_are():
    for date in ("2028-02-29", "2026-01-01T00:00:00Z", "2026-12-31T23:59:59Z", "9999-12-31", "0001-01-01"):
        assert is_date(date), date


@pytest.mark.parametrize(
    "other", ["Atlas\u200b", "ATLAS", "atlas ", " Atlas", "At las", "\uff21tlas", "Atla\u017f", "Atl\u00adas"]
)
def test_organisations_that_nobody_can_tell_apart_are_one_or_none(other):
    """Else two of them would be two sides of every vote."""
    people = [who("amira"), who("adil", org=other), who("bruno")]

    assert (
        refusal(of(1), people=people, core=("amira",))
        == f"'Atlas' and {other!r} are organisations that nobody can tell apart"
    )
    listed = [Org(name=name) for name in ("Atlas", "Borealis", other)]
    assert "nobody can tell apart" in refusal(of(1), people=[who("amira"), who("bruno")], core=("amira",), org=listed)


def test_an_organisation_is_something_to_see():
    for empty in ("\u200b", " ", "\u00ad\u200d"):
        assert "nobody can tell apart" in refusal(of(1), people=[who("amira", org=empty)], core=("amira",))
    people = [who("amira", org="Café"), who("bruno", org="Cafe"), who("chen", org="開発"), who("dora", org="开发")]
    ruled(of(1), people=people, core=("amira",))
    assert "nobody can" in refusal(
        of(1), people=[who("amira", org="Café"), who("bruno", org="Cafe\u0301")], core=("amira",)
    )


# -- one edit ----------------------------------------------------------------------------------------------------------

HEAD = "# Two of us, always. Ask amira first.\r\n\n"
COMMENTED = format_policy(ruled(roles=(Role(name="press", members=("dora", "anna")),)))


def pressed(array, *, head=HEAD, tail="# the end"):
    """The policy of COMMENTED with this as the array of `press`, between words that nobody may lose."""
    return head + COMMENTED.replace('[\n    "dora",\n    "anna",\n]', array) + tail


@pytest.mark.parametrize(
    ("array", "without", "others"),
    [
        ('["dora", "anna"]', '[\n    "anna",\n]', '[\n    "bruno",\n    "anna",\n]'),
        ("[ 'dora', # hers\n 'anna' ]", '[\n    "anna",\n]', '[\n    "bruno",\n    "anna",\n]'),
        ('[\n  "dora", # since 2024\n  "anna" # and anna\n]', '[\n  "anna" # and anna\n]', '[\n    "bruno",\n    "anna",\n]'),
        ('[\n\t"dora",\n\t# anna is new\n\t"anna",\n]', '[\n\t# anna is new\n\t"anna",\n]', '[\n    "bruno",\n    "anna",\n]'),
    ],
)  # fmt: skip
def test_who_leaves_takes_their_line_and_nothing_else(array, without, others):
    """And who is elected stands in an array written anew; every byte around it is as it was."""
    text = pressed(array)

    assert edited(text, "press", ["anna"]) == pressed(without)
    assert edited(text, "press", ["bruno", "anna"]) == pressed(others)
    assert edited(text, "press", []) == pressed("[]" if "#" not in array or "hers" in array else edited_away(array))
    assert edited(text, "press", ["dora", "anna"]) == text
    assert edited(text, "core", NAMES[1:]).endswith(text[text.index('name = "press"') :])


def edited_away(array):
    return "".join(line for line in array.splitlines(keepends=True) if '"' not in line)


def test_what_looks_like_an_array_of_the_role_is_not_taken_for_it():
    """Roles of the same people, a comment: only the change that makes just this policy is made."""
    twins = (Role(name="press", members=NAMES), Role(name="radio", members=NAMES))
    text = format_policy(ruled(roles=twins)) + '\n# members = ["amira"]\n'
    left = edited(text, "radio", NAMES[1:])

    assert read_policy(left) == with_members(read_policy(text), "radio", NAMES[1:])
    assert left.replace('    "amira",\n', "") == text.replace('    "amira",\n', "")


def test_a_policy_whose_roles_stand_in_no_lines_of_their_own_is_written_anew():
    policy = ruled(of(1), core=("amira", "bruno"))
    table = format_policy(policy)
    roles = 'role = [{ name = "core", members = ["amira", "bruno"] }]\n'
    body = table.replace('[[role]]\nname = "core"\nmembers = [\n    "amira",\n    "bruno",\n]\n', "")

    assert edited(roles + body, "core", ["bruno"]) == format_policy(with_members(policy, "core", ["bruno"]))
    many = tuple(Role(name=f"r{n}", members=("dora", "anna")) for n in range(MOST_ALIKE + 1))
    text = format_policy(ruled(roles=many)) + "# kept, or not\n"
    assert edited(text, f"r{MOST_ALIKE - 1}", ["anna"]).endswith("# kept, or not\n")
    assert edited(text, f"r{MOST_ALIKE}", ["anna"]) == format_policy(
        with_members(read_policy(text), f"r{MOST_ALIKE}", ["anna"])
    )


@given(
    st.permutations(NAMES).flatmap(lambda names: st.tuples(st.just(names), st.permutations(names[:4]))),
    st.integers(1, 5), st.integers(0, 4), st.sampled_from(["\n", "\n\n# why\n", " # so\n"]), st.booleans(),
)  # fmt: skip
def test_an_edit_makes_the_policy_that_was_asked_for_and_touches_nothing_else(names, size, chosen, gap, anew):
    """Whoever is in a role before and after: it reads as wanted, outside of one array no byte is another, twice is once."""
    before, after = names[0][:size], names[1][:chosen] if anew else [n for n in names[0][:size] if n != names[0][0]]
    text = format_policy(ruled(roles=(Role(name="press", members=tuple(before)),))).replace("\n[[", gap + "\n[[")
    left = edited(text, "press", after)

    assert read_policy(left) == with_members(read_policy(text), "press", after)
    start = text.index('name = "press"') + len('name = "press"\nmembers = ')
    assert left[:start] == text[:start]
    assert left.endswith(text[text.index("]", start) + 1 :])
    assert edited(left, "press", after) == left
