"""A company with three people, two keys each, sock puppets and the hosting plays against a foundation of four.

It says what it likes under its own keys with whatever dates, offers whatever it likes, replays what others really said
about something else, leaves out and reorders what was said about this, and chooses when it lands. Meanwhile the others
work as they should. Nothing lands that they did not agree to, but that Atlas's people lay down their own roles.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace as but

from souq.errors import UsageError
from souq.governance import POLICY, Ballot, Change, Election, Landed, SignedBallot, SignedVote, foundation, read_policy
from souq.governance.decide import resigning
from souq.governance.explain import explain
from souq.governance.policy import Policy, Role, Who, format_policy
from souq.governance.replay import Replay
from souq.governance.templates import CHECKS
from souq.records import Vote, digest
from tests.voters import NAMES, at, key, key_of, ran, vote, who

ATLAS, OTHERS = NAMES[:3], NAMES[3:]
SOCKS = tuple(range(200, 204))
OWN = tuple(key_of(name, which) for name in ATLAS for which in (0, 1)) + tuple(key(number) for number in SOCKS)
RULES = read_policy(foundation([who(name) for name in NAMES]))
WORK = {
    "weights": ("contributions/x/delta.lock", "model.layers.0.q"), "data": ("contributions/x/data/rows.jsonl",),
    "evals": ("contributions/x/a", "evals/e/cases.jsonl"), "release": ("contributions/x/a", "releases/v1/release.json"),
    "revert": ("contributions/x/a",), "yank": ("contributions/x/a", "releases/v1/yanked.toml"),
    "ratify": ("contributions/x/a",), "restore": ("contributions/x/a",),
}  # fmt: skip
whole = st.integers(0, 1 << 16)  # an index into what there is, whatever there is
hours = st.sampled_from([-100_000.0, -400.0, -1.0, 0.0, 0.1, 1.0, 400.0, 30_000.0])


def enrolling(policy: Policy, name: str, org: str, keys, roles=True) -> Policy:
    told = tuple(but(role, members=(*role.members, name)) for role in policy.role) if roles else policy.role
    return but(policy, person=(*policy.person, Who(name=name, org=org, keys=keys)), role=told)


def schemes(policy: Policy) -> list[Policy]:
    """What Atlas would like GOVERNANCE.toml to say."""
    (contributions, *rest), people = policy.scope, policy.person
    easy = but(contributions, max_per_org=0)
    without = tuple(but(role, members=tuple(name for name in role.members if name in ATLAS)) for role in policy.role)
    return [
        enrolling(policy, "friend", "Friends", (key(SOCKS[0]),)), enrolling(policy, "second", "Atlas", (key(SOCKS[1]),)),
        but(policy, scope=(easy, *rest)),
        but(policy, scope=(contributions, *rest[:-1], but(rest[-1], window_h=0, min_orgs=0))),
        but(policy, role=without),
        but(policy, person=tuple(
            but(each, keys=(key(SOCKS[2]),)) if each.name == "bruno" else each for each in people
        )),
        but(policy, role=(*policy.role, Role(name="king", members=("amira",), elected_by="maintainer", seats=1))),
        but(policy, emergency=but(policy.emergency, max_per_org=9)),
        *(leaving(policy, name) for name in NAMES),
    ]  # fmt: skip


def leaving(policy: Policy, name: str) -> Policy:
    told = tuple(but(role, members=tuple(each for each in role.members if each != name)) for role in policy.role)
    return but(policy, role=told)


def works(policy: Policy) -> bool:
    try:
        return read_policy(format_policy(policy)) is not None
    except UsageError:
        return False


def held(policy: Policy) -> int:
    """Atlas's seats: of everybody one of whose keys is Atlas's."""
    owned = {each.name for each in policy.person if any(str(one) in OWN for one in each.keys)}
    return sum(name in owned for role in policy.role for name in role.members)


class Company(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.policy, self.replay, self.clock = RULES, Replay(), 0.0
        self.offers: list[Change] = []
        self.said, self.ran, self.ballots = [], [], []  # everything anybody ever signed
        self.agreed: dict[str, set[str]] = {}  # digest -> the others who really said yes to it
        self.landed: list[str] = []
        self.spent: set[str] = set()  # what landed: its number is taken, and records name it
        self.seats = held(RULES)

    def offer(self, author: str, kind: str, **more) -> None:
        touched = WORK.get(kind, ("contributions/x/a", POLICY))
        name = digest(f"{len(self.offers)}".encode())
        self.offers.append(Change(digest=name, author_key=author, touched=touched, kind=kind, **more))

    def pick(self, which: int) -> Change:
        return self.offers[-1 - which % min(4, len(self.offers))]  # one of the last

    def of(self, kind: str, which: int) -> str:
        return (
            self.landed[which % len(self.landed)]
            if kind in ("revert", "yank", "ratify", "restore") and self.landed
            else ""
        )

    # -- the others ------------------------------------------------------------------------------------------------

    @rule(who=st.sampled_from([*OTHERS, "stranger"]), kind=st.sampled_from(sorted(WORK)), which=whole)
    def somebody_offers(self, who, kind, which):
        self.offer(key_of(who), kind, of=self.of(kind, which))

    @rule(number=st.integers(110, 119))
    def somebody_proposes_to_enrol(self, number):
        told = enrolling(self.policy, f"new{number}", f"Org{number}", (key(number),))
        if works(told):
            self.offer(key_of("chen"), "governance", amends=told)

    @precondition(lambda self: self.offers)
    @rule(
        which=whole,
        names=st.sets(st.sampled_from(OTHERS), min_size=1),
        choice=st.sampled_from(["approve", "approve", "reject"]),
    )
    def they_vote(self, which, names, choice):
        """On work as they like; on policy, only for what one of them proposed."""
        change = self.pick(which)
        if change.kind in ("governance", "election") and change.author_key in OWN:
            choice = "reject"
        for name in sorted(names):
            self.said.append(vote(name, choice, hours=self.clock, subject=change.digest))
            if choice == "approve":
                self.agreed.setdefault(change.digest, set()).add(name)
        self.ran.append(
            ran(
                "chen" if change.author_key != key_of("chen") else "bruno",
                checks=CHECKS,
                hours=self.clock,
                subject=change.digest,
            )
        )

    @rule(
        author=st.sampled_from([*NAMES, "stranger"]),
        kind=st.sampled_from(sorted(WORK)),
        which=whole,
        name=st.sampled_from(OTHERS),
    )
    def they_and_atlas_land_something(self, author, kind, which, name):
        self.offer(key_of(author), kind, of=self.of(kind, which))
        for each in {name, "bruno", "chen"}:
            self.they_vote(0, {each}, "approve")
        self.it_lands_as_it_should(0, True)

    @rule(number=st.integers(110, 119), names=st.sets(st.sampled_from(OTHERS), min_size=2))
    def they_enrol_somebody(self, number, names):
        before = len(self.offers)
        self.somebody_proposes_to_enrol(number)
        if len(self.offers) > before:
            self.they_vote(0, names, "approve")
            self.clock += 15 * 24
            self.it_lands_as_it_should(0, True)

    @rule(name=st.sampled_from(OTHERS), author=st.sampled_from([*OWN, key_of("dora")]))
    def somebody_and_atlas_take_back_at_once(self, name, author):
        """By the emergency clause alone: one other, and Atlas."""
        self.offer(author, "revert", of=self.of("revert", 0))
        self.they_vote(0, {name}, "approve")
        self.it_lands_as_it_should(0, True)

    @rule(days=st.sampled_from([0, 1, 8, 15, 400]))
    def time_passes(self, days):
        self.clock += days * 24 + 1

    @precondition(lambda self: self.offers)
    @rule(which=whole, atlas=st.booleans())
    def it_lands_as_it_should(self, which, atlas):
        """With everything that was said about it, and Atlas's honest yes where it gives one."""
        change = self.pick(which)
        if atlas:
            self.said += [vote(name, hours=self.clock, subject=change.digest) for name in ATLAS]
        about = [each for each in self.said if each.vote.subject == change.digest]
        self.land(
            change,
            about,
            [each for each in self.ran if each.checked.subject == change.digest],
            (),
            self.clock + 0.5,
            "chen",
        )

    # -- Atlas -----------------------------------------------------------------------------------------------------

    @rule(author=st.sampled_from(OWN), kind=st.sampled_from(sorted(WORK)), which=whole)
    def atlas_offers(self, author, kind, which):
        self.offer(author, kind, of=self.of(kind, which))

    @rule(author=st.sampled_from(OWN), which=whole, kind=st.sampled_from(["governance", "election", "weights"]))
    def atlas_schemes(self, author, which, kind):
        told = schemes(self.policy)
        if works(amends := told[which % len(told)]):
            closes = at(self.clock - 1)
            self.offer(
                author, kind, amends=amends, election=Election(role="maintainer", candidates=ATLAS, closes=closes)
            )

    @precondition(lambda self: self.offers)
    @rule(which=whole, by=st.sampled_from(OWN), when=hours, outcome=st.sampled_from(["approve", "approve", "reject"]))
    def atlas_says(self, which, by, when, outcome):
        subject, when = self.pick(which).digest, at(max(self.clock + when, -10_000_000))
        self.said.append(SignedVote(Vote(subject=subject, choice=outcome, reason="r", by="bruno", at=when), by))
        self.ran.append(ran("amira", checks=CHECKS, hours=self.clock, subject=subject))
        self.ballots.append(SignedBallot(Ballot(subject=subject, choices=ATLAS, by="", at=when), by))

    @precondition(lambda self: self.offers)
    @rule(
        which=whole,
        when=hours,
        chance=st.randoms(use_true_random=False),
        cut=st.sampled_from(["no", "some"]),
        by=st.sampled_from(ATLAS),
    )
    def atlas_lands(self, which, when, chance, cut, by):
        """With every yes of its own and everything anybody ever said, but for what it leaves out."""
        change, now = self.pick(which), self.clock + when
        mine = [
            SignedVote(Vote(subject=change.digest, choice="approve", reason="", by="", at=at(now - 1000)), each)
            for each in OWN
        ]
        votes = mine + [
            each for each in self.said if each.vote.choice == "approve" or (cut == "some" and chance.random() < 0.5)
        ]
        checked = [*self.ran, *(ran(name, checks=CHECKS, hours=now, subject=change.digest) for name in ATLAS)]
        cast = [
            SignedBallot(Ballot(subject=change.digest, choices=ATLAS, by="", at=at(now - 1000)), each) for each in OWN
        ]
        told = tuple(chance.sample([*self.ballots, *cast], len(self.ballots) + len(cast)))
        self.land(change, chance.sample(votes, len(votes)), chance.sample(checked, len(checked)), told, now, by)

    @rule(name=st.sampled_from(ATLAS), which=st.integers(0, 1), when=hours)
    def atlas_steps_down(self, name, which, when):
        if works(told := leaving(self.policy, name)):
            self.offer(key_of(name, which), "governance", amends=told)
            self.land(self.offers[-1], [], [], (), self.clock + when, name)

    def land(self, change, votes, checked, ballots, now, by) -> None:
        """On main if whoever reads it finds nothing wrong; else their main is not Atlas's."""
        if change.digest in self.spent:
            return
        change = replace(change, ballots=ballots)
        name, before = f"{len(self.landed):04d}-x", Replay(self.replay.state)
        before.at = self.replay.at
        lapsed = before.state.lapsed(at(now))
        if before.judge(Landed(name, self.policy, change, tuple(checked), tuple(votes), at(now), key_of(by))):
            return
        yes = self.agreed.get(change.digest, set())
        gone = resigning(self.policy, change, at(now))
        assert yes or (gone in ATLAS) or (change.kind == "restore" and change.of in lapsed), (change, votes)
        if change.kind == "governance" and gone is None:
            behind = yes | {name for name in OTHERS if key_of(name) == change.author_key}
            assert len(behind) >= 2, "three organisations, of which Atlas may be one"
        self.replay, self.clock = before, max(self.clock, now)
        self.landed.append(name)
        self.spent.add(change.digest)
        if change.amends is not None and change.kind == "governance":
            self.policy = change.amends
            if gone is None:  # two others agreed to this very text, which may be older than somebody's resignation
                self.seats = max(self.seats, held(change.amends))

    @invariant()
    def atlas_holds_no_more_than_it_did(self):
        if hasattr(self, "policy"):
            now = held(self.policy)
            assert now <= self.seats
            self.seats = now
            assert not [line for line in explain(self.policy) if line.startswith("warning: Atlas alone")]


Company.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCompany = pytest.mark.long(Company.TestCase)


def test_the_others_can_get_something_done():
    """The game is not won by nobody ever moving."""
    game = Company()
    game.begin()
    game.somebody_offers("stranger", "weights", 0)
    game.they_vote(0, {"bruno", "chen"}, "approve")
    game.it_lands_as_it_should(0, False)
    game.somebody_proposes_to_enrol(110)
    game.they_vote(0, {"bruno", "chen", "dora"}, "approve")
    game.time_passes(15)
    game.it_lands_as_it_should(0, True)
    assert len(game.landed) == 2
    assert "new110" in game.policy.members("maintainer")
    game.offer(key_of("amira"), "governance", amends=leaving(game.policy, "amira"))
    game.land(game.offers[-1], [], [], (), game.clock + 1, "amira")
    assert "amira" not in game.policy.members("maintainer")
