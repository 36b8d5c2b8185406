"""Whether a pull request may land, and the commit that lands it.

decision, commit = merge(repo, 7, person)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from souq import signing
from souq.build.model import Built, build
from souq.errors import Refused, SouqError
from souq.governance import POLICY, Change, PolicyState, SignedChecked, SignedVote, decide, read_policy
from souq.governance.decide import elected
from souq.governance.policy import edited, refuse_stranger
from souq.governance.replay import Landed
from souq.progress import Progress, quiet
from souq.pulls.pull import BESIDE, PullRequest, get, open_now, open_to_sign, signed_record
from souq.pulls.reviews import bring
from souq.records import Decision, Digest
from souq.repo.contribution import MAX_HELD, MAX_RECORDS, Offer
from souq.repo.git import MAIN
from souq.repo.history import MERGED, change_of
from souq.repo.landing import conflicts_with, deltas_moved, malformed
from souq.repo.limits import exceeded, files_of
from souq.repo.policy_state import policy_state, refuse_unsound, replayed
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person
from souq.text import inert
from souq.weights.lockfile import format_lock

# -- deciding and merging ----------------------------------------------------------------------------------------------


def decision(repo: Repo, number: int) -> Decision:
    """What main's own policy says about a pull request as it stands."""
    pull, main = open_now(repo, number, looking=True)
    return decision_on(pull, main)


def decision_on(
    pull: PullRequest, main: Snapshot, *, votes: Sequence[SignedVote] = (), checked: Sequence[SignedChecked] = ()
) -> Decision:
    """What the policy of a main at hand says about a pull request; nobody else need have seen that main.

    `votes` and `checked` are what else might be signed.
    """
    policy, at = read_policy(main.policy_text), signing.now()
    try:
        offer, records = pull.offer, pull.signed_records(policy, main)
        if wrong := malformed(offer) or conflicts_with(main, offer) or _brings_history(pull, main):
            return Decision(missing=(wrong,))
        change = replace(change_of(offer, main), ballots=tuple(records.ballots))
        memory = policy_state(pull.repo, main.commit) if policy.remembers else PolicyState()
        fresh = [signed for signed in records.checked if signed.checked.base == main.commit] + [*checked]
        decision = decide(policy, change, fresh, [*records.votes, *votes], now=at, state=memory)
    except SouqError as error:  # one hostile pull request must not stop who asks about all of them
        return Decision(missing=(f"it cannot be read: {error}",))
    if not decision and not fresh and records.checked:
        stale = f"checks on main as it is now: main has moved since; run `souq pr checks {pull.number}`"
        return msgspec.structs.replace(decision, missing=(stale, *decision.missing))
    if not decision and records.withheld:
        lost = f"records that others name: {records.withheld[0][:19]} is not here; `souq fetch` may bring it"
        return msgspec.structs.replace(decision, missing=(*decision.missing, lost))
    return decision


def _brings_history(pull: PullRequest, main: Snapshot) -> str:
    """Its head becomes an ancestor of main, which every clone takes whole: it may bring itself and no commit more."""
    brought = pull.repo.commits(main.commit, pull.head, 2)
    return "" if brought == [pull.head] else "a head that stands on main alone: its author offers it again"


def merge(repo: Repo, number: int, person: Person, progress: Progress = quiet) -> tuple[Decision, str | None]:
    """Land a pull request on main when the policy says yes: the decision, and the commit where it landed.

    Raises:
        Refused: it is not open, or a person who is not enrolled asks; their merge record would be worth nothing.
    """
    pull, main = open_to_sign(repo, number)
    refuse_stranger(read_policy(main.policy_text), person, signing.now(), hint="ask somebody who is to merge it")
    if not (decision := decision_on(pull, main)):
        return decision, None
    refuse_misdated(main, person, pull)
    bring(repo, main, pull.offer, progress)
    commit = landing(pull, main, person, progress)
    repo.publish({MAIN: (main.commit, commit)}, tensors_of(pull, main), progress)
    return decision, commit


def left_behind(repo: Repo, number: int, commit: str) -> int:
    """How much lies under a pull request's refs that did not land with it at `commit` and is nobody's word about it."""
    pull, before = get(repo, number), Snapshot(repo, f"{commit}^")
    beside = sum(1 for kind in BESIDE for _ in pull.envelopes(kind))
    return len(pull.records) - beside - len(pull.signed_records(read_policy(before.policy_text), before).kept)


def tensors_of(pull: PullRequest, main: Snapshot) -> list[Digest]:
    """What its landing on `main` needs in the store."""
    return [ref.digest for delta in deltas_moved(pull.offer, main) for ref in delta.refs()]


def refuse_misdated(main: Snapshot, person: Person, pull: PullRequest | None = None) -> None:
    """A landing dated before main is a fault that stays in history for ever: it is not begun.

    Where only their mergers say that the last landings are so late, one that others vouch for sets main's clock right.

    Raises:
        Refused: this machine's clock is behind main's.
    """
    before, policy = replayed(main.repo, main.commit, signing.now()), read_policy(main.policy_text)
    landed = Landed("a landing now", policy, Change(digest="", author_key="", touched=()), (), (), "")
    if pull is not None:
        records = pull.signed_records(policy)
        landed = records.as_landed(pull.offer, policy, change_of(pull.offer, main), main.commit)
    if wrong := before.misdated(replace(landed, at=signing.now(), by=person.public_key)):
        hint = "set your clock; if yours is right, theirs was not: let somebody of another organisation check it anew"
        raise Refused(wrong[0], hint=f"{hint} and `souq pr merge` it, or wait until then")


def landing(pull: PullRequest, main: Snapshot, person: Person, progress: Progress) -> str:
    """The commit that lands it: what was offered, who agreed, and what main now builds to.

    Raises:
        Refused: more records than a landing may have, or what no reader of main would accept.
    """
    offer, repo = pull.offer, pull.repo
    records = pull.signed_records(read_policy(main.policy_text), main).kept
    size = sum(map(len, records.values()))
    if len(records) > MAX_RECORDS or size > MAX_HELD:
        most = f"#{pull.number} carries {len(records):,} records that hold, of {size:,} bytes"
        raise Refused(f"{most}; at most {MAX_RECORDS:,} of {MAX_HELD:,} bytes land", hint="offer it anew")
    files = files_of(offer, main)
    files |= {f"{offer.home}{path}": data for path, data in records.items()}
    if offer.election is not None:
        files[POLICY] = _elected(pull, main).encode()
    if (built := built_with(main, offer, progress)) is not None:
        files["model.lock"] = format_lock(built.lock).encode()
    seen = list(pull.seen(main))
    predicate = {"pr": pull.number, "base": main.commit, "by": person.name, "at": signing.now(), "after": seen}
    signed = signed_record("merge", offer.slug, offer.digest, predicate, person)
    files[f"{offer.home}{MERGED}"] = signed
    message = f"Merge {pull.number}: {inert(offer.contribution.title)}\n"  # a forge's #7 is not this one
    commit = repo.write_commit([main.commit, pull.head], files, message, tree_of=main.commit)
    if lines := exceeded(Snapshot(repo, commit), main):
        hint = "what it brings can come in parts"
        raise Refused(f"nobody could read main with #{pull.number}: {'; '.join(lines)}", hint=hint)
    refuse_unsound(repo, main.commit, commit)
    return commit


def built_with(main: Snapshot, offer: Offer, progress: Progress = quiet) -> Built | None:
    """The model that main builds to once an offer has landed on it, cached as builds are; None where it stays as it is.

    The tensors must be here (`reviews.bring`); whether it may land is not asked.
    """
    if offer.moves_weights or offer.merge is not None:
        return build(main, offer, progress)
    if not deltas_moved(offer, main):
        return None
    # something is taken from the set, or comes back to it: what is left says what it builds to
    files = files_of(offer, main)
    repo = Repo.of(main.repo)
    tree = Snapshot(repo, repo.write_commit([main.commit], files, "\n", tree_of=main.commit))
    return build(tree, progress=progress, settled=False)


def _elected(pull: PullRequest, main: Snapshot) -> str:
    """GOVERNANCE.toml as the ballots make it."""
    policy, election = read_policy(main.policy_text), pull.offer.election
    assert election is not None
    change = replace(change_of(pull.offer, main), ballots=tuple(pull.signed_records(policy, main).ballots))
    outcome = elected(policy, change, now=signing.now(), state=policy_state(pull.repo, main.commit))
    return edited(main.policy_text, election.role, outcome.winners)
