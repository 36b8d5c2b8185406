"""A corpus that a release wrote, as a data set on a hub: a folder beside the repositories that `souq corpus make` made.

It has one branch. Its digits are a digest of its manifest, which names every shard by digest, and of its datasheet; a
revision of before is served as long as its files are kept. A shard that is not what the manifest says is not served.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from souq.corpus.dump import changed, manifest
from souq.errors import Hostile, NotFound, SouqError
from souq.hub.catalog import Catalog
from souq.hub.huggingface.contents import Contents
from souq.hub.huggingface.revisions import Previews, Revision
from souq.hub.huggingface.sources import Row, commit_row, named_row, owned, utc
from souq.hub.listing import Listing
from souq.hub.problems import Problem
from souq.signing import Person
from souq.yaml_text import compose

MANIFEST, CARD = "manifest.json", "README.md"
MAX_PICTURES = 200
MAX_HEAD = 64 << 10  # bytes of what stands before a datasheet


@dataclass(frozen=True)
class Corpus:
    """A corpus in a folder."""

    name: str
    folder: Path
    contents: Contents

    @property
    def id(self) -> str:
        """The digits of what it is now.

        Raises:
            NotFound: it is no corpus.
        """
        try:
            hashes = [hashlib.sha256((self.folder / path).read_bytes()).hexdigest() for path in (MANIFEST, CARD)]
        except OSError as error:
            raise NotFound(f"{self.name} cannot be read: {error.strerror}") from error
        return _id(self.name, *hashes)

    def find(self, name: str, previews: Previews) -> Revision:
        """The one branch, or the digits of what it is or was.

        Raises:
            Problem: nothing is called so.
        """
        now = self.id
        if name.removeprefix("refs/heads/") == "main" or name == now:
            return Revision(now, now)
        if len(name) == 40 and name.isalnum() and (listing := self.contents.get(name)) is not None:
            hashes = [listing[path].sha256 for path in (MANIFEST, CARD) if path in listing]
            if len(hashes) == 2 and _id(self.name, *hashes) == name:
                return Revision(name, name)
        raise Problem(404, "RevisionNotFound", f"no revision {name[:80]!r}: a corpus has main, and digits")

    def write(self, revision: Revision, folder: Path, person: Person | None) -> None:
        """Copy what the manifest names, the datasheet and its pictures.

        Raises:
            Hostile: a file is not what the manifest says, or the corpus changed meanwhile.
        """
        listed = manifest(self.folder)
        for dump in listed["dumps"].values():
            for path, facts in dump["files"].items():
                _copy(self.folder, path, folder)
                if changed(folder, path, facts):
                    raise Hostile(f"{path} is not what {MANIFEST} says")
        for path in (MANIFEST, CARD, *self._pictures()):
            _copy(self.folder, path, folder)
        copied = Corpus(self.name, folder, self.contents)
        if copied.id != revision.id:
            raise Hostile("the corpus was made anew meanwhile: ask again")

    def _pictures(self) -> Iterator[str]:
        for path in sorted((self.folder / "datasheet").glob("*.svg"))[:MAX_PICTURES]:
            yield f"datasheet/{path.name}"

    def commits(self, revision: Revision, most: int) -> list[Row]:
        """The one there is."""
        return [commit_row(revision.id, self._made(), "souq", "What souq corpus make wrote")][:most]

    def _made(self) -> str:
        with suppress(OSError):
            return datetime.fromtimestamp((self.folder / MANIFEST).stat().st_mtime, UTC).isoformat()
        return ""

    def refs(self, previews: Previews, *, with_pulls: bool) -> Row:
        """Its one branch."""
        known: Row = {"branches": [named_row("main", "refs/heads/main", self.id)], "converts": [], "tags": []}
        return known | ({"pullRequests": []} if with_pulls else {})

    def warning(self, revision: Revision) -> str:
        """Nothing: what a datasheet must say, it says itself."""
        return ""

    def facts(self, name: str, revision: Revision, listing: Listing, read: Callable[[str], bytes]) -> Row:
        """What its datasheet says to clients, and which model wrote it."""
        return self.described() | {"cardData": card(read(CARD))}

    def described(self) -> Row:
        """A corpus as a list has it."""
        listed = manifest(self.folder)
        latest = listed["dumps"][listed["latest"]]
        date = utc(self._made())
        tags = ["souq", "synthetic", f"license:{str(latest['licence']).lower()}", f"edition:{listed['latest']}"]
        return owned(self.name) | {"sha": self.id, "tags": tags, "createdAt": date, "lastModified": date}


def card(readme: bytes) -> dict[str, Any]:
    """What stands in YAML before a datasheet; nothing where nobody could say it in JSON."""
    head, _, _ = readme.removeprefix(b"---\n").partition(b"\n---\n")
    if readme.startswith(b"---\n") and len(head) <= MAX_HEAD:
        with suppress(SouqError, UnicodeDecodeError, TypeError, ValueError):
            value = compose(head.decode(), CARD, depth=8, nodes=10_000).value
            json.dumps(value, allow_nan=False)
            return value if isinstance(value, dict) else {}
    return {}


def _id(name: str, *hashes: str) -> str:
    text = "\n".join(["souq corpus", name, *hashes])
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _copy(source: Path, path: str, to: Path) -> None:
    if ".." in Path(path).parts or Path(path).is_absolute() or not (source / path).resolve().is_relative_to(source):
        raise Hostile(f"{MANIFEST} names {path[:200]!r}, which is not in the corpus")
    (to / path).parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source / path, to / path)
    except OSError as error:
        raise Hostile(f"{path[:200]} cannot be read: {error.strerror}") from error


def corpora(catalog: Catalog, contents: Contents) -> Iterator[Corpus]:
    """The corpora beside the repositories that can be read."""
    for name, folder in catalog.others():
        if (folder / MANIFEST).is_file():
            with suppress(SouqError):
                manifest(folder)
                yield Corpus(name, folder.resolve(), contents)


def corpus(catalog: Catalog, contents: Contents, name: str) -> Corpus:
    """The corpus of this name.

    Raises:
        NotFound: there is none.
        Hostile: it cannot be read.
    """
    folder = catalog.other(name)
    if folder is None or not (folder / MANIFEST).is_file():
        raise NotFound(f"no data set {name[:200]!r}")
    manifest(folder)
    return Corpus(name, folder.resolve(), contents)
