"""Witnesses: signed notes of which main somebody has seen, so that two histories shown to two readers show.

Anybody may witness, enrolled or not. A note names main's commit and how many steps long it was; each names the
signer's note before it. A main that no longer holds what was witnessed has been rewritten, or is another one.

    refs/souq/witness/<fingerprint>/<id>
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from souq import signing
from souq.errors import SouqError
from souq.governance import read_policy
from souq.records import Digest, canonical, digest
from souq.repo.git import GitRepo
from souq.signing import Person

if TYPE_CHECKING:
    from souq.repo.remote import Repo

REFS = "refs/souq/witness/"
NAMESPACE = "souq.witness.v1"
MAX_NOTE = 64 << 10


def witness(repo: Repo, person: Person) -> str:
    """Sign main as it is seen here and now; the commit that was seen."""
    repo.fetch()
    tip = repo.tip()
    home = f"{REFS}{hashlib.sha256(person.public_key.encode()).hexdigest()[:16]}/"
    seen = {
        "commit": tip,
        "length": len(repo.history(tip)),
        "by": person.name,
        "at": signing.now(),
        "after": _last(repo, home, person.public_key),
    }
    statement = signing.statement("urn:souq:witness:1", "main", digest(tip.encode()), seen)
    sealed = canonical(signing.sign(statement, person.key, namespace=NAMESPACE))
    oid = repo.write_blob(sealed)
    repo.publish({f"{home}{oid[:16]}": (None, oid)}, [])
    return tip


def _last(repo: GitRepo, home: str, key: str) -> list[Digest]:
    """The signer's notes that none of their others names; what somebody else put there is none."""
    notes: dict[Digest, list[Digest]] = {}
    for oid in repo.refs(home).values():
        with suppress(SouqError):
            data = repo.object(oid, MAX_NOTE)
            notes[digest(data)] = signing.verify(data, keys=[key], namespace=NAMESPACE).predicate["after"]
    return sorted(notes.keys() - {name for named in notes.values() for name in named})


def forks(repo: GitRepo, history: Sequence[str], policy_text: str) -> tuple[int, list[str]]:
    """How many notes hold, and a line for each enrolled person's that names a main this history is not.

    A stranger's note is not believed: anybody could sign a commit that never was.
    """
    policy, held, wrong = read_policy(policy_text), 0, []
    at = {commit: number for number, commit in enumerate(history, 1)}
    for ref, oid in sorted(repo.refs(REFS).items()):
        try:
            signed = signing.verify(repo.object(oid, MAX_NOTE), keys=policy.keys, namespace=NAMESPACE)
        except SouqError:
            continue
        commit, witness = str(signed.predicate.get("commit")), policy.person_of(signed.key)
        name = witness.name if witness else ref
        length, when = signed.predicate.get("length"), signed.predicate.get("at")
        if at.get(commit) == length:
            held += 1
        elif isinstance(length, int) and length > len(history):
            wrong.append(
                f"{name} saw main {length} steps long on {when}, here it has {len(history)}: "
                "run `souq fetch`; what is still missing then is withheld"
            )
        else:
            wrong.append(
                f"{name} saw main at {commit[:12]} on {when}; that is not in this history: it was rewritten, or forked"
            )
    return held, wrong
