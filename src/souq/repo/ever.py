"""Every tensor that main ever pointed at: what was taken back may come again, and a release stands on an old commit.

ever_named(repo, repo.tip())
"""

from __future__ import annotations

import re

from souq.records import Digest
from souq.repo.git import MAX_BLOB, GitRepo

_DIGEST = re.compile(rb"b3:[0-9a-f]{64}")


def ever_named(repo: GitRepo, commit: str) -> set[Digest]:
    """The digests in all locks and sketches of a main's history; two gits however long it is."""
    oids = {
        moved.new for step in repo.steps(commit) for moved in step.moved if moved.path.endswith((".lock", ".sketch"))
    }
    names = set[Digest]()
    with repo.blobs() as blobs:
        for oid in sorted(oids - {""}):
            names |= {name.decode() for name in _DIGEST.findall(blobs.read(oid, MAX_BLOB))}
    return names
