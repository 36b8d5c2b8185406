"""What people say about a pull request beside their votes: signed comments, in its thread, that decide nothing.

A comment stays under refs/souq/pr/<n>/comment/<id> and never comes into main, so no history depends on one. Anybody may
comment with any key; whose key it is, is said with it.

    comment(repo, 7, "what happens with dates before 1900?", person)
    for each in thread(pull, main):
        print(each.at, each.by, each.whose, each.text)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Literal

import msgspec

from souq import signing
from souq.errors import SouqError, UsageError
from souq.governance import read_policy
from souq.pulls.pull import PullRequest, get, publish_record, signed_record
from souq.records import Digest, Record, digest, refuse_control
from souq.repo.clock import refuse_wrong_clock
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person, Signed

KIND = "comment"
MAX_TEXT = 4_000  # characters of one
MAX_NAME = 80
STRANGERS = 100  # newest comments read by keys nobody knows, since such a key costs nothing
Whose = Literal["author", "enrolled", "stranger"]


class Comment(Record, frozen=True):
    """One signed comment. `by` is what its signer is called: by main's policy where it knows the key."""

    subject: Digest  # what was offered when it was said
    text: str
    by: str
    at: str
    whose: Whose
    key: str


def comment(repo: Repo, number: int, text: str, person: Person) -> Digest:
    """Sign a comment on a pull request, whatever its state, and put it where everybody sees it: its record's name.

    Raises:
        UsageError: it says nothing, or too much.
    """
    text = "\n".join(text.strip().splitlines())
    refuse_control(text, where="a comment")
    if not text:
        raise UsageError("an empty comment", hint=f'souq pr comment {number} "…"')
    if len(text) > MAX_TEXT:
        raise UsageError(f"a comment of {len(text):,} characters; the most is {MAX_TEXT:,}", hint="say it in parts")
    repo.fetch()
    main, pull = Snapshot(repo, repo.tip()), get(repo, number)
    refuse_wrong_clock(repo, main, pull.head)
    predicate = {"text": text, "by": person.name, "at": signing.now(), "main": main.commit, "key": person.public_key}
    data = signed_record(KIND, f"pr-{number}", pull.read_subject(), predicate, person)
    publish_record(pull, KIND, data)
    return digest(data)


def thread(pull: PullRequest, main: Snapshot) -> list[Comment]:
    """The comments on a pull request whose signatures hold, the oldest first; of strangers the newest hundred."""
    policy, known, strangers = read_policy(main.policy_text), list[bytes](), list[tuple[str, bytes]]()
    author = _author_key(pull)
    for data in pull.envelopes(KIND):
        claimed = signing.peek(data)
        if claimed.get("key") in (author, *policy.keys):
            known.append(data)
        else:
            strangers.append((str(claimed.get("at")), data))
    newest = [data for _, data in sorted(strangers, reverse=True)[:STRANGERS]]
    comments = set[Comment]()
    for signed, words in _signed([*known, *newest], pull, main):
        person = policy.person_of(signed.key)
        whose: Whose = "enrolled" if person else "author" if signed.key == author else "stranger"
        name = person.name if person else " ".join(words.by.split())[:MAX_NAME]
        key = signing.fingerprint(signed.key)
        comments.add(Comment(subject=signed.subject, text=words.text, by=name, at=words.at, whose=whose, key=key))
    return sorted(comments, key=lambda each: (each.at, each.by, each.text))


class _Said(Record, frozen=True):
    """What a signer says; their name is their own word."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    by: str
    at: Annotated[str, msgspec.Meta(max_length=20)]
    main: str
    key: str


def _signed(envelopes: list[bytes], pull: PullRequest, main: Snapshot) -> Iterator[tuple[Signed, _Said]]:
    """Those that the key they name has signed, about this pull request and this history."""
    about, history = _about(pull), pull.repo.history(main.commit)
    for data in envelopes:
        with suppress(SouqError, msgspec.ValidationError):
            words = msgspec.convert(signing.peek(data), _Said)
            signed = signing.verify(data, keys=[words.key], namespace=f"souq.{KIND}.v1")
            if signed.name == about and words.main in history:
                yield signed, words


def _about(pull: PullRequest) -> str:
    """The pull request, whatever it offers by then: its author may offer it anew, and the thread stays."""
    return f"contributions/pr-{pull.number}"


def _author_key(pull: PullRequest) -> str:
    with suppress(SouqError):  # an offer nobody can read has a thread all the same
        return signing.normal_key(pull.offer.contribution.author.key)
    return ""
