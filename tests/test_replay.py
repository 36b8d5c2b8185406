"""What history leaves to the next decision: emergencies until somebody ratifies them, and who was heard when."""

from __future__ import annotations

import time

import msgspec
import pytest

from souq.governance import Ballot, Landed, PolicyState, SignedBallot, replay
from souq.governance.policy import Emergency, Key, Role
from souq.governance.replay import Replay
from tests.voters import DIGEST, NAMES, at, key_of, no, of, ran, ruled, vote, who, work, yes

SECURITY = Role(name="security", members=("amira", "adil", "bruno"))
URGENT = ruled(of(3), roles=(SECURITY,), emergency=Emergency(requires=(of(2, "security"),)))
QUICK, LATE = yes("amira", "bruno"), "2026-11-30T09:00:00Z"  # a week after it landed, to the second


def landed(votes=(), *, name="0001-x", policy=URGENT, hours=1.0, by="amira", checked=(), when=None, **change):
    told = work(**{"kind": "weights"} | change)
    when = at(hours) if when is None else when
    return Landed(name, policy, told, tuple(checked), tuple(votes), when, key_of(by) if by else "")


def taken(votes=QUICK, name="0002-undo", **more):
    return landed(votes, name=name, **{"kind": "revert", "of": "0001-x"} | more)


def after(*landings):
    history = Replay()
    wrong = [line for one in landings for line in history.judge(one)]
    return wrong, history


def test_what_landed_by_the_rules_is_not_spoken_of():
    assert replay([landed(yes("amira", "bruno", "chen")), landed(yes("amira", "bruno", "chen"), hours=2)]) == []
    assert replay([landed(QUICK)]) == [
        "0001-x landed without 1 more approval from `core` for work (have amira of Atlas, bruno of Borealis)"
    ]


@pytest.mark.parametrize("kind", ["revert", "yank"])
def test_what_harms_is_taken_back_at_once(kind):
    """By fewer than the ordinary way needs; and that counts only until it lapses."""
    wrong, history = after(taken(kind=kind))

    assert not wrong
    assert history.state.pending == {"0002-undo": LATE}
    assert history.state.lapsed("2026-11-30T08:59:59Z") == []
    assert history.state.lapsed(LATE) == ["0002-undo"]


def test_the_reader_s_own_time_zone_means_nothing(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert after(taken())[1].state.pending == {"0002-undo": LATE}
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_ordinary_way_comes_first():
    wrong, history = after(taken(yes("amira", "bruno", "chen")))

    assert (wrong, history.state.pending) == ([], {})


def test_urgent_is_only_what_takes_back_and_only_where_the_policy_says_so():
    """And what is missing is told as of the ordinary way."""
    lacks = "1 more approval from `core` for work (have amira of Atlas, bruno of Borealis)"

    assert replay([landed(QUICK, kind="weights")])
    assert replay([landed(QUICK, kind="release")])
    assert replay([taken(policy=ruled(of(3), roles=(SECURITY,)))]) == [f"0002-undo landed without {lacks}"]
    assert replay([taken(yes("amira", "adil"))])[0].startswith("0002-undo landed without 1 more approval from `core`")
    assert replay([taken([*QUICK, *no("adil")])]) == [], "a majority of security, of which Atlas counts once"
    assert replay([taken([*QUICK, *no("adil", "chen")])]) == []
    assert replay([taken(yes("bruno", "chen"))]), "chen is not of security"


def test_until_it_is_ratified_or_undone_nothing_else_lands():
    ratify = {"kind": "ratify", "of": "0002-undo", "name": "0003-keep", "hours": 24 * 7 + 1}
    three = yes("amira", "bruno", "chen")
    frozen = "0004-y landed without 0002-undo has lapsed and nobody ratified it: ratify it or undo it first"

    assert replay([taken(), landed(three, hours=24 * 7 + 0.99)]) == []
    assert replay([taken(), landed(three, name="0004-y", hours=24 * 7 + 1)]) == [frozen]
    assert replay([taken(), landed(three, **ratify)]) == []
    assert replay([taken(), landed(QUICK, **ratify)]) != [], "ratifying needs the ordinary way"
    assert replay([taken(), landed(three, **ratify), landed(three, hours=24 * 7 + 2)]) == []
    assert replay([taken(), landed(three, **ratify | {"of": "0001-x"})]) != []
    assert replay([taken(), landed(three, **ratify | {"hours": 9}), landed(three, hours=24 * 9)]) == []


def test_what_lapsed_may_be_undone_by_anybody():
    """Nobody's leave is needed to bring back what was never agreed to be gone; before that, the ordinary way is."""
    undo = {"kind": "restore", "of": "0002-undo", "name": "0003-back"}

    wrong, history = after(taken(), landed((), hours=24 * 7 + 1, **undo))
    assert (wrong, history.state.pending) == ([], {})
    assert replay([taken(), landed((), hours=24 * 7, **undo)]) != []
    assert (
        replay(
            [
                taken(),
                landed(yes("amira", "bruno", "chen"), hours=5, **undo),
                landed(yes("amira", "bruno", "chen"), hours=24 * 9),
            ]
        )
        == []
    )
    assert replay([taken(yes("amira", "bruno", "chen")), landed((), hours=24 * 30, **undo)]) != []


def test_each_emergency_lapses_for_itself():
    wrong, history = after(
        taken(),
        taken(name="0003-too", of="0001-y", hours=3),
        landed((), kind="restore", of="0002-undo", hours=24 * 7 + 1),
    )

    assert wrong == []
    assert history.state.pending == {"0003-too": "2026-11-30T11:00:00Z"}
    assert history.state.lapsed("2026-12-30T11:00:00Z") == ["0003-too"]
    assert PolicyState(pending={"b": at(0), "a": at(1)}).lapsed(at(1)) == ["a", "b"]


def test_whoever_drops_the_clause_settles_what_it_did():
    """Else main would stay frozen with nobody left who could thaw it."""
    calm = ruled(of(3), roles=(SECURITY,))
    watched = ruled(of(3), roles=(SECURITY,), inactive_days=90)
    three = yes("amira", "bruno", "chen")

    for policy in (calm, watched):
        assert replay([taken(), landed(three, policy=policy, hours=24 * 8)]) == []


# -- time --------------------------------------------------------------------------------------------------------------


def test_history_does_not_run_backwards():
    """Beyond what two honest clocks differ by."""
    three = yes("amira", "bruno", "chen", hours=-5)

    assert replay([landed(three), landed(three, name="0002-y", hours=5 / 6)]) == []
    assert replay([landed(three), landed(three, name="0002-y", hours=0.8)]) == [
        "0002-y is dated 2026-11-23T08:48:00Z, before what landed before it (2026-11-23T09:00:00Z), and nobody apart "
        "from who merged 0001-x vouches for it within the hour"
    ]
    back = [landed(three), landed(three, hours=0.9), landed(three, name="0003-z", hours=0.8)]
    assert len(replay(back)) == 1, "the latest counts, not the last"


def test_no_time_is_no_landing():
    history = Replay()

    assert history.judge(landed(when="")) == ["0001-x has no signed merge record"]
    assert history.judge(landed(when="2026-11-23")) == ["0001-x has no signed merge record"]
    assert history.at == ""


def test_what_cannot_be_judged_is_said_and_the_rest_is_judged_all_the_same():
    odd = work(author_key="no key")
    bad = Landed("0001-x", URGENT, odd, (), (), at(1))
    early = Landed("0001-x", URGENT, odd, (), (), at(-1))
    three = yes("amira", "bruno", "chen")

    assert replay([bad]) == ["0001-x: not an ssh public key: 'no key'"]
    assert len(replay([landed(three, name="0000-w"), early])) == 2
    assert replay([bad, landed(QUICK, name="0002-y")])[1].startswith("0002-y landed without")


# -- who was heard -----------------------------------------------------------------------------------------------------

CORE = ruled(of(share="1/2"), inactive_days=10)  # half of six


def heard(*landings):
    return after(*landings)[1].state.seen


def test_everybody_is_heard_by_what_they_sign():
    """Merging, offering, checking, voting, electing; nobody later than it landed."""
    ballot = SignedBallot(Ballot(subject=DIGEST, choices=(), by="dora", at=at(240)), key_of("dora", 1))
    begins = landed(policy=CORE, hours=0)
    told = landed(
        [vote("chen", hours=300), vote("stranger")], policy=CORE, hours=241, by="amira", checked=[ran("bruno", hours=239)],
        author_key=key_of("adil"), ballots=(ballot,),
    )  # fmt: skip

    assert heard(begins) == dict.fromkeys(NAMES, at(0))
    assert heard(begins, told) == {
        "amira": at(241), "adil": at(241), "anna": at(0), "bruno": at(239), "chen": at(241), "dora": at(240),
    }  # fmt: skip
    assert heard(begins, landed(policy=CORE, hours=5, by="")) == dict.fromkeys(NAMES, at(0))
    assert heard(begins, told, landed([vote("dora")], policy=CORE, hours=250, by=""))["dora"] == at(240)


def test_who_is_long_unheard_is_in_no_share_until_they_speak():
    state = PolicyState(seen={name: at(-240) for name in ("chen", "dora", "anna", "adil")})

    assert replay([landed(yes("amira"), policy=CORE, hours=0)], state) == [], "half of the two who were heard"
    assert replay([landed(yes("amira"), policy=CORE, hours=-1 / 3600)], state) != [], "to the second"
    assert replay([landed([*yes("amira"), *no("stranger")], policy=CORE, hours=0)], state) == []
    assert replay([landed(yes("chen"), policy=CORE, hours=0)], state) != [], "chen speaks, so she is the third"
    assert replay([landed(yes("amira", "chen"), policy=CORE, hours=0)], state) == []
    majority = msgspec.structs.replace(CORE, scope=(msgspec.structs.replace(CORE.scope[0], majority=True),))
    told = [*yes("amira", "bruno"), *no("chen")]
    assert replay([landed(told, policy=majority, hours=0)], state) == []
    assert replay([landed([*yes("amira"), *no("chen")], policy=majority, hours=0)], state) != []


def test_a_policy_that_asks_no_memory_leaves_none():
    assert heard(landed(policy=ruled(of(1)))) == {}
    assert heard(landed(policy=URGENT)) == dict.fromkeys(NAMES, at(1))


def test_who_is_enrolled_later_counts_from_then():
    fewer = ruled(of(1), core=NAMES[:5], inactive_days=10, people=[p for p in CORE.person if p.name != "dora"])

    assert heard(landed(policy=fewer, by=""), landed(policy=CORE, hours=300, by=""))["dora"] == at(300)
    assert "dora" not in heard(landed(policy=CORE, by=""), landed(policy=fewer, by=""))


def test_a_yes_of_who_was_long_unheard_asks_for_no_more_than_it_gives():
    """Not when their organisation has its vote already, nor while it is too young to count."""
    seen = PolicyState(seen={name: at(-500) for name in ("adil", "anna")})
    capped = ruled(of(share="1/2"), max_per_org=1, inactive_days=10)
    young = ruled(of(share="1/2"), cooloff_h=5, inactive_days=10)

    for policy in (capped, young):
        told = [*yes("amira", "bruno", hours=-6)]
        assert replay([landed(told, policy=policy)], seen) == []
        assert replay([landed([*told, *yes("adil", "anna")], policy=policy)], seen) == []


# -- clocks that are wrong ---------------------------------------------------------------------------------------------

THREE = ("amira", "bruno", "chen")
YEARS = 70 * 8766.0


def dated(hours, *people, name="0002-y", by="amira", policy=URGENT, said=None):
    """Agreed to by these, an hour before `said`, and landed at `hours`."""
    when = hours if said is None else said
    return landed(yes(*(people or THREE), hours=when - 1), name=name, by=by, policy=policy, hours=hours)


def test_main_s_clock_is_moved_by_nobody_alone():
    """No further than somebody of another organisation than who merged has signed, as clocks go."""
    for hours, clock in ((0.1, 0.1), (1 / 6, 1 / 6), (0.17, 1 / 6), (25.0, 1 / 6), (YEARS, 1 / 6)):
        history = Replay()
        assert history.judge(dated(hours, "adil", "bruno", "chen", said=1)) == []
        assert (history.at, history.latest) == (at(clock), at(hours))
        assert len(history.alone) == (hours > 1 / 6)


@pytest.mark.parametrize("by", ["amira", "stranger", ""])
def test_who_else_signed_is_asked_by_organisation(by):
    """Adil is of amira's; where the merger is nobody known here, everybody is somebody else."""
    history = Replay()
    history.judge(landed(yes("adil", hours=YEARS) + yes("bruno", "chen", hours=0), hours=YEARS, by=by))

    assert history.at == at(1 / 6 if by == "amira" else YEARS)


def test_everything_signed_vouches_and_nothing_that_does_not_count():
    """Checks and ballots too; a key that is nobody's or that did not hold, or a time that has not come, do not."""
    base = {"votes": (), "name": "0001-x", "policy": ruled(of(1))}
    early = who("bruno", valid_from=at(50))
    ballot = SignedBallot(Ballot(subject=DIGEST, choices=(), by="bruno", at=at(39.9)), key_of("bruno"))
    cases = {
        "checked": (landed(hours=40, checked=[ran("bruno", hours=39.9)], **base), 40),
        "ballot": (landed(hours=40, ballots=(ballot,), **base), 40),
        "stranger": (landed(hours=40, **base | {"votes": yes("stranger", hours=39)}), None),
        "future": (landed(hours=40, **base | {"votes": yes("bruno", hours=41)}), None),
        "early": (landed(hours=40, **base | {"policy": ruled(of(1), people=[who("amira"), early], core=("amira", "bruno")), "votes": yes("bruno", hours=30)}), None),
    }  # fmt: skip
    for name, (one, clock) in cases.items():
        history = Replay()
        history.judge(one)
        assert history.latest == at(40)
        assert (history.at == at(40)) == (clock == 40), name


def test_where_all_are_of_one_organisation_another_person_is_enough():
    team = ruled(of(1), people=[who("amira"), who("adil")], core=("amira", "adil"))
    single = ruled(of(1), people=[who("amira")], core=("amira",), author_may_vote=True)

    for policy, people, clock in ((team, ["amira"], 0), (team, ["adil"], 30), (single, ["amira"], 30)):
        history = Replay()
        history.judge(dated(30, *people, policy=policy, said=30.9))
        assert (history.at == at(30)) == (clock == 30), (people, history.at)


def test_a_fast_clock_is_set_back_by_whoever_lands_next():
    """As somebody of another organisation than the fast one's vouches; alone they may not."""
    fast = dated(YEARS, name="0001-fast", by="bruno", said=1)
    line = f"0002-y is dated {at(30)}, before what landed before it ({at(YEARS)}), and nobody apart from who merged 0001-fast vouches for it within the hour"  # fmt: skip

    for by, said, wrong in (
        ("amira", 1, []), ("chen", 1, []), ("bruno", 30, []), ("bruno", 29.9, [line]), ("bruno", 1, [line])
    ):  # fmt: skip
        history = Replay()
        assert history.judge(fast) == []
        assert history.judge(dated(30, by=by, said=said)) == wrong, (by, said)
        assert history.latest == (at(YEARS) if wrong else at(30))
    early = [fast, dated(-0.1, by="amira")]
    assert replay(early) == [f"0002-y is dated {at(-0.1)}, before what landed before it ({at(1 / 6)})"]


def test_what_a_fast_clock_landed_holds_by_the_right_one_or_not():
    """A window that was skipped is found out by the next landing; when it has passed all the same, all is well."""
    slow = ruled(of(2), window_h=240)
    fast = dated(400, name="0001-fast", by="bruno", policy=slow, said=1)

    assert replay([fast]) == []
    assert replay([fast, dated(239, by="amira", policy=URGENT)]) == [
        f"0001-fast landed, on {at(239)}, without 1 h more for everybody to see it (work)"
    ]
    assert replay([fast, dated(240, by="amira")]) == []
    twice = [fast, dated(300, name="0002-fast", by="dora", said=41), dated(100, by="amira", name="0003-z")]
    assert replay(twice) == [f"0001-fast landed, on {at(100)}, without 140 h more for everybody to see it (work)"]


def test_an_emergency_from_the_future_lapses_all_the_same():
    """And who was heard then was heard now."""
    urgent = landed(yes("amira", "bruno"), name="0002-undo", kind="revert", of="0001-x", hours=YEARS, by="bruno")
    history = Replay()
    assert history.judge(urgent) == []
    assert history.state.pending == {"0002-undo": at(YEARS + 7 * 24)}

    assert history.judge(dated(30, by="chen", name="0003-y")) == []

    assert history.state.pending == {"0002-undo": at(30 + 7 * 24)}
    assert history.state.seen["bruno"] == at(30)


def test_who_is_alone_sets_back_their_own_clock_with_a_key_that_holds_at_both_dates():
    single = {"core": ("amira",), "author_may_vote": True}
    ever, until = ruled(of(1), people=[who("amira")], **single), ruled(
        of(1), people=[who("amira", valid_until=at(50))], **single
    )  # fmt: skip

    for policy, wrong in ((ever, 0), (until, 1)):
        history = Replay()
        assert history.judge(dated(YEARS, "amira", policy=ever)) == []
        assert len(history.judge(dated(5, "amira", policy=policy))) == wrong
        assert history.latest == (at(YEARS) if wrong else at(5))


def test_no_time_is_too_late_to_be_spelled():
    end = "9999-12-31T23:59:59Z"
    people = [who(name, keys=(Key(key=key_of(name), valid_until=end),), valid_until=end) for name in NAMES]
    emergency = Emergency(requires=(of(2, "security"),))
    policy = ruled(of(3), people=people, roles=(SECURITY,), emergency=emergency)
    noon = "9999-12-31T12:00:00Z"
    history = Replay()

    assert history.judge(taken(policy=policy, when=noon)) == []
    assert history.state.pending == {"0002-undo": end}
    assert history.latest == noon


# -- once, and not for ever ---------------------------------------------------------------------------------------------


def test_an_emergency_takes_a_thing_once():
    """What lapsed is not taken again by the same few: the ordinary way is asked from then on, and for nothing else."""
    undo = landed((), kind="restore", of="0002-undo", name="0003-back", hours=24 * 7 + 1)
    again = {"name": "0004-again", "hours": 24 * 7 + 2}
    lacks = "0004-again landed without 1 more approval from `core` for work (have amira of Atlas, bruno of Borealis)"

    assert replay([taken(), undo, taken(**again)]) == [lacks]
    assert replay([taken(kind="yank"), undo, taken(kind="yank", **again)]) == [lacks]
    assert replay([taken(), undo, taken(**again, of="0000-w")]) == []
    assert replay([taken(), undo, taken(yes("amira", "bruno", "chen"), **again)]) == []
    assert after(taken(), undo)[1].state.urgent == {"0001-x"}
    assert after(taken(yes("amira", "bruno", "chen")))[1].state.urgent == frozenset(), (
        "the ordinary way is no emergency"
    )
    assert replay([taken(**again)], PolicyState(urgent=frozenset({"0001-x"}))) == [lacks]
