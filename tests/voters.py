"""People, keys, votes and times for tests of what a policy says: Atlas has three, Borealis and the University one each,
and Dora works for nobody."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime, timedelta

from souq.governance import Change, Needs, Policy, Role, Scope, SignedChecked, SignedVote, Who, decide, read_policy
from souq.governance.decide import NOTHING
from souq.governance.policy import format_policy
from souq.records import Checked, Verdict, Vote

DIGEST, OTHER = "b3:" + "1" * 64, "b3:" + "2" * 64
ORGS = {"amira": "Atlas", "adil": "Atlas", "anna": "Atlas", "bruno": "Borealis", "chen": "University", "dora": ""}
NAMES = tuple(ORGS)


def key(number: int) -> str:
    """A well-formed ed25519 public key nobody holds."""
    parts = (b"ssh-ed25519", bytes([number + 1]) * 32)
    return "ssh-ed25519 " + base64.b64encode(b"".join(struct.pack(">I", len(p)) + p for p in parts)).decode()


def key_of(name: str, which: int = 0) -> str:
    """Everybody has two; who is not listed has a key too, which nobody enrolled."""
    return key(NAMES.index(name) + 100 * which if name in NAMES else 99)


def who(name: str, **more) -> Who:
    return Who(**{"name": name, "org": ORGS[name], "keys": (key_of(name), key_of(name, 1))} | more)


def at(hours: float = 0) -> str:
    """So many hours after work begins."""
    return (datetime(2026, 11, 23, 8, tzinfo=UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def of(n: int = 1, role: str = "core", share: str = "") -> Needs:
    return Needs(role=role, n=0 if share else n, share=share)


def checked_policy(policy: Policy) -> Policy:
    """As read_policy takes it, so that no test goes by what it would refuse."""
    return read_policy(format_policy(policy))


def ruled(
    *requires: Needs, people=None, roles=(), org=(), emergency=None, core=NAMES, inactive_days=0, **scope
) -> Policy:
    """A policy of one scope, `work`, over everything: so many of `core`, which is everybody."""
    core_role = Role(name="core", members=tuple(core), inactive_days=inactive_days)
    return checked_policy(Policy(
        person=tuple(people or map(who, NAMES)), role=(core_role, *roles), org=tuple(org), emergency=emergency,
        scope=(Scope(**{"name": "work", "match": ("**",), "requires": requires or (of(2),)} | scope),),
    ))  # fmt: skip


def work(author: str = "stranger", **more) -> Change:
    told = {"digest": DIGEST, "author_key": key_of(author), "touched": ("contributions/0001-x/a",)}
    return Change(**told | more)


def vote(name, choice="approve", *, hours=0.0, reason="r", subject=DIGEST, which=0, when=None, by="") -> SignedVote:
    told = Vote(subject=subject, choice=choice, reason=reason, by=by or name, at=at(hours) if when is None else when)
    return SignedVote(told, key_of(name, which))


def yes(*names: str, hours: float = 0.0, **more) -> list[SignedVote]:
    return [vote(name, hours=hours, **more) for name in names]


def no(*names: str, hours: float = 0.0, **more) -> list[SignedVote]:
    return [vote(name, "reject", hours=hours, **more) for name in names]


def ran(name, outcome="pass", *, hours=0.0, checks=("files",), because="b", subject=DIGEST, which=0) -> SignedChecked:
    verdicts = tuple(Verdict(check=check, outcome=outcome, because=because) for check in checks)
    return SignedChecked(
        Checked(subject=subject, base="c", verdicts=verdicts, by=name, at=at(hours)), key_of(name, which)
    )


def said(policy, votes, change=None, checked=(), *, hours=1.0, state=NOTHING):
    return decide(policy, change or work(), checked, votes, now=at(hours), state=state)
