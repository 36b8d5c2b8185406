"""What holds under every policy, whatever is said in whatever order."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from souq.errors import UsageError
from souq.governance import PolicyState, SignedVote
from souq.governance.policy import Lazy, Role, Veto
from tests.voters import NAMES, at, key_of, of, ran, ruled, said, vote, who, work, yes

HOURS = st.sampled_from([-6.0, -3.0, 0.0, 0.9, 2.0])  # it is judged at one; two has not come
PEOPLE = [*map(who, NAMES[:5]), who("dora", valid_until=at(-100))]  # Dora's dates are over

cast = st.builds(
    vote, st.sampled_from([*NAMES, "stranger"]), st.sampled_from(["approve", "reject"]), hours=HOURS,
    which=st.integers(0, 1), reason=st.sampled_from(["r", ""]),
)  # fmt: skip
seen = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([at(-500), at(-5)])).map(
    lambda told: PolicyState(seen=told)
)
machines = st.lists(
    st.builds(
        ran, st.sampled_from([*NAMES, "stranger"]), st.sampled_from(["pass", "needs-eyes", "refuse"]), hours=HOURS
    ),
    max_size=3,
)
needs = st.one_of(
    st.builds(of, st.integers(1, 3)), st.builds(lambda share: of(share=share), st.sampled_from(["1/2", "2/3", "1/1"]))
)
COUNCIL = Role(name="council", members=("bruno", "chen"))


@st.composite
def policies(draw, **fixed):
    told = {
        "max_per_org": draw(st.integers(0, 2)), "min_orgs": draw(st.integers(0, 3)), "window_h": draw(st.sampled_from([0, 4])),
        "cooloff_h": draw(st.sampled_from([0, 3])), "majority": draw(st.booleans()),
        "author_may_vote": draw(st.booleans()), "or_all_others": draw(st.booleans()), "inactive_days": draw(st.sampled_from([0, 10])),
        "checks": draw(st.sampled_from([(), ("files",)])),
        "lazy": draw(st.none() | st.builds(Lazy, after_h=st.just(2), n=st.integers(1, 2))),
        "veto": draw(st.none() | st.builds(Veto, role=st.just("council"), seconds=st.integers(0, 1), alone_h=st.just(2))),
        "core": draw(st.sampled_from([NAMES, NAMES[:5], ("amira", "adil", "bruno", "chen")])),
    } | fixed  # fmt: skip
    try:
        return ruled(*draw(st.lists(needs, min_size=1, max_size=2)), roles=(COUNCIL,), people=PEOPLE, **told)
    except UsageError:
        assume(False)


cases = st.tuples(
    policies(), st.lists(cast, max_size=9), machines, seen, st.sampled_from([*NAMES, "stranger"]).map(work)
)


def answer(case, votes=None, checked=None):
    policy, told, ran_, state, change = case
    return said(policy, told if votes is None else votes, change, ran_ if checked is None else checked, state=state)


@given(cases, st.randoms(use_true_random=False))
def test_order_and_repetition_mean_nothing(case, chance):
    _, votes, checked, *_ = case
    mixed = chance.sample(votes, len(votes)) + chance.sample(votes, len(votes) // 2)

    assert answer(case, mixed, chance.sample(checked, len(checked)) + checked) == answer(case)


@given(cases)
def test_it_is_the_person_who_speaks_and_not_the_key(case):
    """Whichever of their keys somebody uses, and however many."""
    _, votes, *_ = case
    names = {key_of(name, which): name for name in NAMES for which in (0, 1)}
    plain = [SignedVote(each.vote, key_of(names[each.key])) if each.key in names else each for each in votes]

    assert answer(case, plain) == answer(case)


@given(policies(lazy=None), st.lists(cast, max_size=9), st.sampled_from(NAMES), machines, seen)
def test_one_person_is_one_person(policy, votes, name, checked, state):
    """With all their keys they are never two."""
    mine = [vote(name, each.vote.choice, which=i % 2, when=each.vote.at) for i, each in enumerate(votes)]
    scope = policy.scope[0]
    if max(needs.n for needs in scope.requires) > 1 or scope.min_orgs > 1:
        assert not said(policy, mine, work(), checked, state=state)


# Most of these may merge: half of everybody said yes in good time, and some say more.
likely = st.tuples(
    policies(checks=()),
    st.tuples(st.sets(st.sampled_from(NAMES), min_size=3), st.lists(cast, max_size=3)).map(
        lambda told: yes(*sorted(told[0]), hours=-6.0) + told[1]
    ),
    st.just([]), seen, st.sampled_from([*NAMES, "stranger"]).map(work),
)  # fmt: skip


@settings(max_examples=300)
@given(likely, st.sampled_from([*NAMES, "stranger"]), HOURS, st.integers(0, 1))
def test_a_yes_never_turns_yes_into_no(case, name, hours, which):
    more = [*case[1], vote(name, hours=hours, which=which)]

    assert answer(case, more) or not answer(case)


@settings(max_examples=300)
@given(likely, st.sampled_from([*NAMES, "stranger"]), HOURS, st.sampled_from(["r", ""]))
def test_a_no_stands_only_where_its_giver_may_object(case, name, hours, reason):
    """Whoever was neither asked nor holds a veto turns no yes into a no."""
    policy, votes, *_ = case
    more = [*votes, vote(name, "reject", hours=hours, reason=reason)]

    assert answer(case, more) or not answer(case) or name in {*policy.members("core"), *policy.members("council")}


@given(cases, st.lists(cast, max_size=4), machines)
def test_strangers_and_keys_that_no_longer_hold_change_nothing(case, votes, checked):
    gone = {key_of(name, which) for name in ("dora", "stranger") for which in (0, 1)}
    late = [each for each in votes if each.key in gone or each.vote.at > at(1.2)]
    also = [each for each in checked if each.key in gone or each.checked.at > at(1.2)]

    assert answer(case, [*case[1], *late], [*case[2], *also]) == answer(case)


@given(cases)
def test_a_yes_says_who_and_a_no_says_what_to_do(case):
    told = answer(case)

    assert told.met if told else all(len(line) > 10 for line in told.missing)
