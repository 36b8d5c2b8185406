"""A release: a version, the recipe it was built from, the digest it builds to, its scores, and who signed it.

It is a folder on main, releases/<version>/, with the signed record and a model card written from the contributions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from souq import signing
from souq.build import build
from souq.card import card
from souq.errors import Forged, NotFound, Refused, UsageError
from souq.governance import read_policy
from souq.progress import Progress, quiet
from souq.pulls import Person, now
from souq.records import Release, canonical
from souq.repo import MAIN, Repo
from souq.snapshot import Snapshot
from souq.weights import lock_digest

NAMESPACE = "souq.release.v1"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-]{0,31}")


@dataclass(frozen=True)
class Signed:
    """A release as it stands on main, and the key that signed it."""

    release: Release
    key: str


def create(
    repo: Repo, version: str, scores: Mapping[str, float], person: Person, progress: Progress = quiet
) -> Release:
    """Sign what main builds to and put it on main.

    Raises:
        Refused: this person may not release, or the version is taken.
    """
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    if not _VERSION.fullmatch(version):
        raise UsageError(f"not a version: {version!r}", hint="letters, digits, dots and dashes, like 2026.11 or 1.0")
    if version in repo.folders(main.commit, "releases"):
        raise Refused(f"{version} is released already", hint="a release is never changed: choose the next version")
    if problem := read_policy(main.policy_text).may_release(person.public_key, now()):
        raise Refused(problem)
    built = build(main, progress=progress)
    release = Release(
        version=version, commit=main.commit, recipe=built.recipe, model=built.digest, scores=dict(scores), at=now()
    )
    folder = f"releases/{version}"
    files: dict[str, bytes | None] = {
        f"{folder}/release.json": _sign(release, person),
        f"{folder}/README.md": card(main, built.digest, built.recipe, version=version, scores=scores).encode(),
    }
    commit = repo.write_commit([main.commit], files, f"Release {version}\n", tree_of=main.commit)
    repo.publish({MAIN: (main.commit, commit)}, [ref.digest for ref in main.tensors()], progress)
    return release


def _sign(release: Release, person: Person) -> bytes:
    predicate: dict[str, Any] = msgspec.to_builtins(release)
    statement = signing.statement("urn:souq:release:1", f"releases/{release.version}", release.model, predicate)
    return canonical(signing.sign(statement, person.key, namespace=NAMESPACE))


def listed(main: Snapshot) -> list[str]:
    """The versions on main."""
    return main.repo.folders(main.commit, "releases")


def read(main: Snapshot, version: str) -> Signed:
    """A release of main whose signature holds, by the policy in force before it.

    Raises:
        NotFound: no such release.
        Forged: nobody enrolled signed it, or it signs another digest than its own.
    """
    if version not in listed(main):
        raise NotFound(f"no release {version}", hint="see `souq release list`")
    data = main.repo.read(main.commit, f"releases/{version}/release.json")
    signed = signing.verify(data, keys=read_policy(main.policy_text).keys, namespace=NAMESPACE)
    release = msgspec.convert(signed.predicate, Release)
    if signed.subject != release.model or release.version != version:
        raise Forged(f"the record of release {version} is about something else")
    return Signed(release, signed.key)


def model_of(main: Snapshot) -> str:
    """The digest main's model.lock has now."""
    return lock_digest(main.model)
