"""How much of a flood is looked at: whose pull requests are checked and queued, whose wait, who vouches for whom. Pure.

Nothing here decides what may land, and whoever verifies never reads it: a limit spares machines and people, it judges
nobody. The same pull requests and vouches give the same answer in every clone.

    vouchers = vouched_for(policy, vouches, junk, now)
    waiting(policy, [Offered(3, key), Offered(4, key)], vouchers)   # {4: "waits for #3: …"}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from souq.governance.decide import HOUR, seconds, signer, spelled
from souq.governance.policy import Limits, Policy, Who
from souq.records import Digest, Record

STRANGERS = "everybody who is not enrolled"
WEEK, FORGIVEN = 7 * 24 * HOUR, 90 * 24 * HOUR  # seconds of a budget; until junk of somebody's newcomer is forgiven
SHOWN = 3  # pull requests that are named in a sentence
NO_LIMITS = Limits()


@dataclass(frozen=True)
class Account:
    """Whose pull requests are counted together, how many are open to machines at once, and full evaluations a week."""

    name: str
    open: int = 0
    evals: int = 0


@dataclass(frozen=True)
class Offered:
    """An open pull request: its number, whose key has signed it off, and whether a machine has refused it as it is.

    Where the author it names has not signed it off it is nobody's, and `key` is "": anybody can write anybody's name.
    """

    number: int
    key: str
    refused: bool = False
    digest: Digest = ""  # of what is offered; the same again is looked at once


def stranger(name: str, key: str) -> str:
    """What somebody who is not enrolled is called where they are counted: a name can be chosen anew, a key is one."""
    return f"{name} with key …{key.split()[1][-12:]}"


def accounts(policy: Policy, key: str, vouchers: Mapping[str, Who]) -> list[Account]:
    """Everything that a pull request of this key counts against.

    Whom somebody vouches for counts against their voucher and their voucher's organisation, as the voucher's own do: so
    who vouches for a thousand keys has no more looked at than alone.
    """
    limits = policy.limits or NO_LIMITS
    if not key:
        return [Account(STRANGERS, limits.open_strangers, limits.evals_strangers)]
    person = policy.person_of(key)
    own = [] if person else [Account(f"the key …{key.split()[1][-12:]}", limits.open_per_key, limits.evals_per_key)]
    if (answers := person or vouchers.get(key)) is None:
        return [*own, Account(STRANGERS, limits.open_strangers, limits.evals_strangers)]
    named = answers.name + (" and whom they vouch for" if limits.vouches else "")
    of_org = [Account(f"organisation {answers.org}", limits.open_per_org)] if answers.org else []
    return [*own, Account(named, limits.open_per_key, limits.evals_per_key), *of_org]


# -- whose turn it is --------------------------------------------------------------------------------------------------


def waiting(
    policy: Policy, offered: Iterable[Offered], vouchers: Mapping[str, Who], junk: Iterable[Junk] = ()
) -> dict[int, str]:  # fmt: skip
    """Which open pull requests wait, each with a sentence that says for which others; the oldest go first.

    What a machine has refused holds up nobody but its own author, until they mend or withdraw it; and what people
    turned down as `junk` takes a place of its author's for as long as it is not forgiven.
    """
    if policy.limits is None:
        return {}
    held: dict[str, list[int]] = defaultdict(list)
    in_order = sorted(offered, key=lambda each: each.number)
    first = {each.digest: each.number for each in reversed(in_order) if each.digest}
    once = [each for each in in_order if first.get(each.digest, each.number) == each.number]
    stuck = {each.number: each.key for each in once if each.refused and each.key}
    stuck |= {each.number: each.key for each in junk}
    for number, key in sorted(stuck.items()):
        held[accounts(policy, key, vouchers)[0].name].append(number)
    sentences = {}
    for each in in_order:
        if (same := first.get(each.digest, each.number)) != each.number:
            sentences[each.number] = f"waits for #{same}, whose very bytes it offers again"
            continue
        counted = [] if each.refused else accounts(policy, each.key, vouchers)
        if (full := next((a for a in counted if a.open and len(held[a.name]) >= a.open), None)) is not None:
            sentences[each.number] = _sentence(full, held[full.name], stuck)
            continue
        for account in counted:
            held[account.name].append(each.number)
    return sentences


def _sentence(full: Account, before: Sequence[int], stuck: Collection[int]) -> str:
    """For whom one waits; what is its author's own to put right is named first."""
    most = f"at most {full.open} of {full.name} {'is' if full.open == 1 else 'are'} looked at at once"
    if own := [number for number in before if number in stuck]:
        return f"waits while {_numbers(own)} stand refused or were closed as junk: {most}"
    return f"waits for one of {_numbers(before)}: {most}"


def _numbers(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ", ".join(f"#{number}" for number in numbers[:SHOWN]) + more


# -- what evaluating costs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluated:
    """A pull request that somebody enrolled ran every case on: whose it is, and when."""

    key: str
    at: str


def spent(
    policy: Policy, key: str, evaluated: Iterable[Evaluated], vouchers: Mapping[str, Who], *, now: str
) -> str:  # fmt: skip
    """Why no full evaluation is left this week for a pull request of this key; "" where one is."""
    at, times = seconds(now) or 0.0, defaultdict[str, list[float]](list)
    for each in evaluated:
        when = seconds(each.at)
        if when is not None and at - WEEK < when:
            for account in accounts(policy, each.key, vouchers):
                times[account.name].append(when)
    for account in accounts(policy, key, vouchers):
        used = sorted(times[account.name])
        if account.evals and len(used) >= account.evals:
            free = spelled(used[len(used) - account.evals] + WEEK)
            return f"{len(used)} of {account.evals} full evaluations a week of {account.name} are spent: from {free} on"
    return ""


# -- vouching ----------------------------------------------------------------------------------------------------------


class Vouch(Record, frozen=True):
    """An enrolled person's word for a newcomer's key, or that they take it back.

    `last` is the highest number of a pull request they saw then: after taking it back they answer for none later.
    """

    key: str
    by: str
    at: str
    reason: Annotated[str, Meta(max_length=4_000)]
    main: str
    last: int = 0
    withdrawn: bool = False


@dataclass(frozen=True)
class SignedVouch:
    """A vouch, and the public key that signed it."""

    vouch: Vouch
    key: str


@dataclass(frozen=True)
class Junk:
    """A pull request that people turned down: its number, whose it was, and when."""

    number: int
    key: str
    at: str


@dataclass(frozen=True)
class Word:
    """What one person last said of one key, and since when they answer for it: from their first word on."""

    voucher: Who
    key: str
    since: float
    vouch: Vouch

    def answers_for(self, junk: Junk) -> bool:
        """Whether junk of this key is theirs to answer for, the vouch taken back by now or not."""
        when = seconds(junk.at) or 0.0
        return when >= self.since and (not self.vouch.withdrawn or junk.number <= self.vouch.last)


def last_words(policy: Policy, vouches: Iterable[SignedVouch], now: str) -> list[Word]:
    """Everybody's last word about every key that somebody vouched for; of two at one time, that it is taken back."""
    words: dict[tuple[str, str], Word] = {}
    for each in sorted(vouches, key=lambda s: (s.vouch.at, s.vouch.withdrawn, s.vouch.key, s.key)):
        voucher, at = signer(policy, each.key, each.vouch.at, now), seconds(each.vouch.at)
        if voucher is None or at is None or policy.person_of(each.vouch.key) is not None:
            continue
        pair = (voucher.name, each.vouch.key)
        before = words.get(pair)
        if before is not None or not each.vouch.withdrawn:
            words[pair] = Word(voucher, each.vouch.key, before.since if before else at, each.vouch)
    return sorted(words.values(), key=lambda word: (word.since, word.voucher.name, word.key))


def vouched_for(
    policy: Policy, vouches: Iterable[SignedVouch], junk: Iterable[Junk], now: str
) -> dict[str, Who]:  # fmt: skip
    """Whose newcomer each key is: the oldest vouches hold, as many as their voucher has left."""
    words = last_words(policy, vouches, now)
    left = {name: allowed(policy, words, junk, name, now) for name in {word.voucher.name for word in words}}
    holding, used = dict[str, Who](), Counter[str]()
    for word in words:
        if not word.vouch.withdrawn and word.key not in holding and used[word.voucher.name] < left[word.voucher.name]:
            used[word.voucher.name] += 1
            holding[word.key] = word.voucher
    return holding


def unforgiven(junk: Iterable[Junk], now: str) -> list[Junk]:
    """What was turned down in the last 90 days."""
    at = seconds(now) or 0.0
    return [each for each in junk if (seconds(each.at) or 0.0) > at - FORGIVEN]


def allowed(policy: Policy, words: Sequence[Word], junk: Iterable[Junk], name: str, now: str) -> int:
    """How many newcomers somebody may vouch for now: one less for each junk of theirs, until that is forgiven."""
    most = (policy.limits or NO_LIMITS).vouches
    return max(0, most - sum(1 for _ in fallen(words, junk, name, now)))


def fallen(words: Sequence[Word], junk: Iterable[Junk], name: str, now: str) -> Iterator[Junk]:
    """What was turned down lately that somebody has to answer for."""
    theirs = {word.key: word for word in words if word.voucher.name == name}
    for each in unforgiven(junk, now):
        if each.key in theirs and theirs[each.key].answers_for(each):
            yield each
