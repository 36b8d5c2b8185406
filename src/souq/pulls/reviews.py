"""What is said of a pull request: checks run and signed, votes, ballots, and the no that closes it.

check(repo, 7, person)
review(repo, 7, "approve", "dates now right", person)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from souq import signing
from souq.checks import Case, During, run
from souq.checks.cases import STAGES
from souq.errors import Hostile, Refused, SouqError, UsageError, nearest
from souq.evals.eval import Eval
from souq.governance import Ballot, Change, Policy, read_policy
from souq.governance.decide import last_words
from souq.governance.explain import uncounted, uncounted_of
from souq.governance.policy import POLICY, refuse_stranger
from souq.progress import Progress, quiet
from souq.pulls.pull import (
    PullRequest,
    get,
    listed,
    open_now,
    open_to_sign,
    publish_about,
    publish_record,
    signed_record,
)
from souq.pulls.waiting import Line
from souq.records import Checked, Verdict, Vote
from souq.repo.contribution import Offer
from souq.repo.history import change_of
from souq.repo.landing import deltas_moved
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, needed
from souq.signing import Person

# -- checking and voting -----------------------------------------------------------------------------------------------


def check(
    repo: Repo, number: int, person: Person, progress: Progress = quiet, *,
    hidden: Mapping[str, Eval] | None = None, out_of_turn: bool = False,
) -> Checked:  # fmt: skip
    """Run and sign every check of main on a pull request; hidden evals too where their cases are here.

    Where main's policy has limits, only of those whose turn it is, by what checks cost, until one refuses.

    Raises:
        Refused: it waits for others.
    """
    pull, main = open_to_sign(repo, number)
    line = Line(repo, main)
    if not out_of_turn:
        line.refuse(pull, "souq pr checks", person)
    case, given = case_of(pull, main, progress, hidden), signed_off(pull, main)
    if line.is_limited:
        own = person.public_key == signing.normal_key(pull.offer.contribution.author.key)
        verdicts = _staged(case, given, "" if out_of_turn or own else line.unasked(pull, person), repo)
    else:
        bring(repo, main, pull.offer, progress)
        verdicts = run(case, given=[given])
    record, data = checked(pull, main, verdicts, person)
    publish_record(pull, "checked", data)
    return record


def _staged(case: Case, given: Verdict, unasked: str, repo: Repo) -> tuple[Verdict, ...]:
    """Cheap checks first, and tensors brought only for what passes them; the first that refuses ends it."""
    verdicts: tuple[Verdict, ...] = (given,)
    for number, names in enumerate(STAGES):
        if not all(verdicts):
            break
        if number == len(STAGES) - 1 and unasked:
            repo.notice(f"its evals were not run: {unasked}")
            break
        if number == 1:
            bring(repo, case.main, case.offer, case.progress)
        verdicts = run(case, given=verdicts, names=names, first=True)
    return verdicts


def checks_count_for_nothing(repo: Repo, number: int, person: Person) -> str:
    """Why what this person's machine finds would let nobody merge, to be told before it works; "" where it would."""
    pull, main = open_now(repo, number)
    policy = read_policy(main.policy_text)
    checker = policy.person_of(person.public_key, signing.now())
    if checker is None:
        return f"your key is nobody's in {POLICY}, so somebody enrolled must run them too"
    try:
        scopes, _ = policy.scopes(change_of(pull.offer, main).touched)
        own = policy.person_of(pull.offer.contribution.author.key) == checker
    except SouqError:  # the checks say what cannot be read
        return ""
    if own and not all(scope.author_may_vote for scope in scopes if scope.checks):
        return "you are its author, so somebody else must run them too"
    roles = {scope.evaluators.role for scope in scopes if scope.evaluators}
    if lacks := [role for role in sorted(roles) if checker.name not in policy.members(role)]:
        return f"you are not of `{lacks[0]}`, whose word is asked here"
    return ""


def look(
    repo: Repo, number: int, during: During = nullcontext, progress: Progress = quiet, *, costly: bool = False
) -> Checked:
    """What every check but the costly ones finds, or all of them; nothing is signed, so nothing can be voted on it."""
    pull, main = open_now(repo, number, looking=True)
    bring(repo, main, pull.offer, progress)
    verdicts = run(case_of(pull, main, progress), given=[signed_off(pull, main)], costly=costly, during=during)
    return Checked(subject=pull.offer.digest, base=main.commit, verdicts=verdicts, by="", at=signing.now())


def case_of(
    pull: PullRequest, main: Snapshot, progress: Progress = quiet, hidden: Mapping[str, Eval] | None = None
) -> Case:
    """A pull request as checks are asked about it."""
    return Case(main, pull.head, pull.offer, progress, hidden or {}, _earlier(pull, main))


def _earlier(pull: PullRequest, main: Snapshot) -> Callable[[], list[Offer]]:
    """What was offered under lower numbers and has not landed, read when it is asked for.

    What others withdrew is theirs all the same; what this author withdrew may be offered again.
    """

    def read() -> list[Offer]:
        offers, remote = [], pull.repo.remote_store()
        author = pull.offer.contribution.author.key
        for other in (other for other in listed(pull.repo) if other.number < pull.number):
            with suppress(SouqError):  # one hostile pull request must not stop the others
                if other.summary.kind != "weights" or (delta := other.offer.delta) is None:
                    continue
                state, own = other.state(main), other.offer.contribution.author.key == author
                if state == "open" or (state == "closed" and not own):
                    offers.append(other.offer)
                    if remote is not None and state == "open":
                        remote.copy(pull.repo.store, [ref.digest for ref in delta.refs()], strict=False)
        return offers

    return read


def checked(pull: PullRequest, main: Snapshot, verdicts: tuple[Verdict, ...], person: Person) -> tuple[Checked, bytes]:
    """What was found on `main`, and that signed."""
    subject = pull.offer.digest
    record = Checked(
        subject=subject, base=main.commit, verdicts=verdicts, by=person.name, at=signing.now(), after=pull.seen(main)
    )
    return record, signed_record("checked", pull.offer.slug, subject, msgspec.to_builtins(record), person)


def signed_off(pull: PullRequest, main: Snapshot) -> Verdict:
    """The author's own signature stands on exactly these bytes, made on this main, and has not landed before."""
    try:
        author = pull.offer.contribution.author
        records = pull.signed_records(read_policy(main.policy_text), main)
    except SouqError as error:
        return Verdict(check="signoff", outcome="refuse", because=str(error))
    if records.by_kind["signoff"]:
        return Verdict(check="signoff", outcome="pass", because=f"signed by {author.name} <{author.email}>")
    because = ": ".join(["its author has not signed it off", *records.unsigned])
    return Verdict(check="signoff", outcome="refuse", because=because)


def bring(repo: Repo, main: Snapshot, offer: Offer, progress: Progress = quiet) -> None:
    """Fetch the tensors of main and of one contribution, each verified as it comes; what the remote lacks stays away.

    A delta.lock that cannot be read has no tensors: the check `fits-base` says why.
    """
    if (remote := repo.remote_store()) is None:
        return
    wanted = needed(repo, {"main": main.commit})
    with suppress(Hostile):
        wanted += [ref.digest for delta in deltas_moved(offer, main) for ref in delta.refs()]
    remote.copy(repo.store, wanted, progress, strict=False)


def review(
    repo: Repo,
    number: int,
    choice: Literal["approve", "reject"],
    reason: str,
    person: Person,
    *,
    read: str | None = None,
) -> Vote:
    """A signed yes or no to exactly what is offered; with `read`, only if that is the digest the person has read.

    Raises:
        Refused: something else is offered by now, or the key is another's, or one that nobody has been or would be
            enrolled with.
    """
    pull, main = open_to_sign(repo, number)
    _refuse_another_s(pull, main, person)
    if read is not None and read != pull.offer.digest:
        raise Refused(
            f"#{number} offers {pull.offer.digest} now, which is not what you read",
            hint=f"look again with `souq pr view {number}`, then vote on that digest",
        )
    if choice == "reject" and not reason.strip():
        raise UsageError("a no needs a reason", hint='add --reason "…"')
    vote = Vote(
        subject=pull.offer.digest, choice=choice, reason=reason, by=person.name, at=signing.now(), after=pull.seen(main)
    )
    publish_about(pull, "vote", msgspec.to_builtins(vote), person, main)
    return vote


def _refuse_another_s(pull: PullRequest, main: Snapshot, person: Person) -> None:
    """A vote by a stranger's key counts for nothing, and by somebody else's it would be theirs."""
    policy = read_policy(main.policy_text)
    _refuse_another_s_key(policy, person)
    policies = [policy] if pull.offer.amends is None else [policy, pull.offer.amends]
    if not any(each.person_of(person.public_key) for each in policies):
        because = uncounted(policy, change_of(pull.offer, main), person.public_key, signing.now())
        hint = f"`souq pr comment {pull.number}` is heard all the same; `souq governance check` says who may vote"
        raise Refused(f"nothing was signed, since it would not count: {because}", hint=hint)


def _refuse_another_s_key(policy: Policy, person: Person) -> None:
    """Say no to who would speak as somebody else than git says they are, by a key mixed up or left in the environment.

    Raises:
        Refused: their name is enrolled, and this key is not theirs.
    """
    holder = policy.person_of(person.public_key)
    named = any(each.name == person.name for each in policy.person)
    if named and (holder is None or holder.name != person.name):
        whose = f"{holder.name}'s" if holder else "nobody's"
        raise Refused(
            f"git calls you {person.name}, and the key {person.key.name} is {whose} in {POLICY}",
            hint='name your own with --key or SOUQ_KEY, or say who you are with `git config --global user.name "…"`',
        )


@dataclass(frozen=True)
class Word:
    """Somebody's last word about what is offered."""

    by: str  # as the policy names whose key it is
    choice: str
    reason: str
    uncounted: str = ""  # why it counts for nothing


def words(pull: PullRequest, main: Snapshot) -> list[Word]:
    """Everybody's last word, by name; of what is open, with why one counts for nothing."""
    policy = read_policy(main.policy_text)
    votes = pull.signed_records(policy, main).votes
    change = Change(digest=pull.offer.digest, author_key="", touched=())
    spoken = sorted(last_words(policy, change, votes, signing.now()).items())
    if pull.state(main) == "open":
        with suppress(SouqError):  # what cannot be read is shown too
            change = change_of(pull.offer, main)
    return [
        Word(
            name, word.vote.choice, word.vote.reason,
            uncounted_of(policy, change, word.voter, word.vote.choice) if change.touched else "",
        )
        for name, word in spoken
    ]  # fmt: skip


def word_of(repo: Repo, number: int, person: Person) -> Word | None:
    """The last word of who is at this keyboard, on main as it is known here; None where they are not enrolled."""
    pull, main = get(repo, number), Snapshot(repo, repo.tip())
    voter = read_policy(main.policy_text).person_of(person.public_key)
    return next((word for word in words(pull, main) if voter and word.by == voter.name), None)


def ballot(repo: Repo, number: int, choices: Sequence[str], person: Person) -> Ballot:
    """An elector's choice among the candidates of an election; the last one before it closes counts.

    Raises:
        UsageError: it is no election, or a name is no candidate.
        Refused: a person who is not enrolled casts it.
    """
    pull, main = open_to_sign(repo, number)
    election = pull.offer.election
    if election is None:
        raise UsageError(f"#{number} is no election", hint=f"vote with `souq pr review {number} --approve`")
    for name in choices:
        if name not in election.candidates:
            raise UsageError(f"{name!r} is no candidate{nearest(name, election.candidates)}")
    policy = read_policy(main.policy_text)
    _refuse_another_s_key(policy, person)
    refuse_stranger(policy, person, signing.now(), hint="only electors cast ballots")
    cast = Ballot(
        subject=pull.offer.digest, choices=tuple(choices), by=person.name, at=signing.now(), after=pull.seen(main)
    )
    publish_about(pull, "ballot", msgspec.to_builtins(cast), person, main)
    return cast


def close(repo: Repo, number: int, reason: str, person: Person, *, junk: bool = False) -> None:
    """Withdraw a pull request, or turn it down; its records stay. As junk, whoever vouches for its author answers.

    Raises:
        Refused: it is not open, or this is neither its author nor an enrolled person.
    """
    pull, main = open_to_sign(repo, number)
    policy = read_policy(main.policy_text)
    if policy.person_of(person.public_key) is None and person.public_key != pull.offer.contribution.author.key:
        raise Refused(f"#{number} can be closed by its author or by an enrolled person")
    if junk:
        refuse_stranger(policy, person, signing.now(), hint="close it without --junk")
    predicate: dict[str, Any] = {"reason": reason, "by": person.name, "at": signing.now(), "main": main.commit}
    predicate |= {"junk": True} if junk else {}
    publish_record(pull, "closed", signed_record("closed", f"pr-{number}", pull.read_subject(), predicate, person))
