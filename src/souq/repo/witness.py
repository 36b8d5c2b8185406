"""Witnesses: signed notes of which main somebody has seen, so that two histories shown to two readers show.

Anybody may witness, enrolled or not. A note names main's commit and how many steps long it was; each names the
signer's note before it. A main that no longer holds what was witnessed has been rewritten, or is another one.

    refs/souq/witness/<fingerprint>/<id>
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from souq import signing
from souq.errors import SouqError
from souq.governance import read_policy
from souq.repo.git import GitRepo

REFS = "refs/souq/witness/"
NAMESPACE = "souq.witness.v1"
MAX_NOTE = 64 << 10
_OID = re.compile(r"[0-9a-f]{40}")


def forks(repo: GitRepo, history: Sequence[str], policy_text: str) -> tuple[int, list[str]]:
    """How many notes hold, and a line for each enrolled person's that names a main this history is not.

    A stranger's note is not believed: anybody could sign a commit that never was. Nor is one about another repository a
    word about this: it names the root it has seen; an older one that names none is known by the note before it, or by a
    commit that is in this clone.
    """
    policy, wrong, notes = read_policy(policy_text), list[str](), dict[str, signing.Signed]()
    for ref, oid in sorted(repo.refs(REFS).items()):
        with suppress(SouqError):
            notes[ref] = signing.verify(repo.object(oid, MAX_NOTE), keys=policy.keys, namespace=NAMESPACE)
    at = {commit: number for number, commit in enumerate(history, 1)}
    places = {(commit, str(number)) for commit, number in at.items()}
    holds = {note.id for note in notes.values() if (_commit(note), str(note.predicate.get("length"))) in places}
    for signed in notes.values():
        commit, root, after = _commit(signed), signed.predicate.get("root"), signed.predicate.get("after")
        is_linked = isinstance(after, list) and not holds.isdisjoint(map(str, after))
        is_here = commit in at or (_OID.fullmatch(commit) is not None and repo.contains(commit, history[0]))
        is_of_here = root == history[0] or (root is None and (is_linked or is_here))
        if signed.id in holds or not is_of_here:
            continue
        witness = policy.person_of(signed.key)
        assert witness is not None  # theirs are the keys that were asked for
        name = witness.name
        length, when = signed.predicate.get("length"), signed.predicate.get("at")
        if isinstance(length, int) and length > len(history):
            wrong.append(
                f"{name} saw main {length} steps long on {when}, here it has {len(history)}: "
                "run `souq fetch`; what is still missing then is withheld"
            )
        else:
            wrong.append(
                f"{name} saw main at {commit[:12]} on {when}; that is not in this history: it was rewritten, or forked"
            )
    return len(holds), wrong


def _commit(note: signing.Signed) -> str:
    return str(note.predicate.get("commit"))
