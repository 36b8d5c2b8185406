"""A witness's note, signed and published: which main somebody sees here and now (witness.py reads them).

witness(repo, person)
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

from souq import signing
from souq.errors import SouqError
from souq.records import Digest, canonical, digest
from souq.repo.remote import Repo
from souq.repo.witness import MAX_NOTE, NAMESPACE, REFS
from souq.signing import Person


def witness(repo: Repo, person: Person) -> str:
    """Sign main as it is seen here and now; the commit that was seen."""
    repo.fetch()
    tip = repo.tip()
    whole = repo.history(tip)
    home = f"{REFS}{hashlib.sha256(person.public_key.encode()).hexdigest()[:16]}/"
    seen = {
        "commit": tip,
        "length": len(whole),
        "root": whole[0],
        "by": person.name,
        "at": signing.now(),
        "after": _last(repo, home, person.public_key),
    }
    statement = signing.statement("urn:souq:witness:1", "main", digest(tip.encode()), seen)
    sealed = canonical(signing.sign(statement, person.key, namespace=NAMESPACE))
    oid = repo.write_blob(sealed)
    repo.publish({f"{home}{oid[:16]}": (None, oid)}, [])
    return tip


def _last(repo: Repo, home: str, key: str) -> list[Digest]:
    """The signer's notes that none of their others names; what somebody else put there is none."""
    notes: dict[Digest, list[Digest]] = {}
    for oid in repo.refs(home).values():
        with suppress(SouqError):
            data = repo.object(oid, MAX_NOTE)
            notes[digest(data)] = signing.verify(data, keys=[key], namespace=NAMESPACE).predicate["after"]
    return sorted(notes.keys() - {name for named in notes.values() for name in named})
