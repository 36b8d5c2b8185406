"""Where the plain repositories of a hub lie, by kind and name: `models/amira/notes` is models/amira/notes.git.

shelf = Shelf(data, catalog)
shelf.create("models", "amira/notes", "amira").listing(commit)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Literal

from filelock import FileLock

from souq.errors import NotFound, Refused, UsageError
from souq.files import beside
from souq.hub.catalog import MAX_NAME, Catalog, is_name
from souq.hub.plain.repository import Plain

Kind = Literal["models", "datasets"]
KINDS: tuple[Kind, ...] = ("models", "datasets")
MOST = 10_000  # repositories of a namespace


def plain_in(data: Path) -> list[Path]:
    """Where every plain repository of a hub lies."""
    return sorted((data / "repositories").glob("*/*/*.git"))


class Taken(Refused):
    """Something else is called so."""


class Shelf:
    """The plain repositories below a folder; no name of theirs is one of the catalog's."""

    def __init__(self, data: Path, catalog: Catalog) -> None:
        self._root, self._catalog = data / "repositories", catalog
        self._opened, self._lock = dict[Path, Plain](), Lock()

    def open(self, kind: Kind, name: str) -> Plain:
        """The repository of this name.

        Raises:
            NotFound: there is none.
        """
        place = self._place(kind, name)
        if not is_name(name) or name.count("/") != 1 or not (place / "HEAD").is_file():
            raise NotFound(f"no repository {name[: 2 * MAX_NAME]!r}", hint="`hf repos create` makes one")
        with self._lock:
            return self._opened.setdefault(place, Plain(place))

    def names(self, kind: Kind) -> Iterator[str]:
        """Every repository there is, in order."""
        for place in sorted((self._root / kind).glob("*/*.git")):
            if is_name(name := f"{place.parent.name}/{place.name.removesuffix('.git')}"):
                yield name

    def create(self, kind: Kind, name: str, author: str) -> Plain:
        """An empty repository.

        Raises:
            UsageError: no name for one.
            Taken: something is called so.
        """
        if not is_name(name) or name.count("/") != 1:
            hint = f"letters, digits, `-`, `_` and `.`, at most {MAX_NAME} of them"
            raise UsageError(f"{name[: 2 * MAX_NAME]!r} is no name of a repository: NAMESPACE/NAME, {hint}")
        place = self._place(kind, name)
        with self._held(kind), beside(place) as scratch:
            self._refuse_taken(kind, name)
            Plain.create(scratch / "new", author)
            (scratch / "new").rename(place)
        return self.open(kind, name)

    def delete(self, kind: Kind, name: str) -> None:
        """Remove a repository."""
        place = self._place(kind, name)
        self.open(kind, name)
        with self._held(kind), beside(place) as scratch:
            place.rename(scratch / "gone")
        self._forget(place)

    def move(self, kind: Kind, name: str, to: str) -> None:
        """Call a repository otherwise.

        Raises:
            UsageError: no name for one.
            Taken: something is called so.
        """
        self.open(kind, name)
        if not is_name(to) or to.count("/") != 1:
            raise UsageError(f"{to[: 2 * MAX_NAME]!r} is no name of a repository: NAMESPACE/NAME")
        with self._held(kind):
            self._refuse_taken(kind, to)
            self._place(kind, to).parent.mkdir(parents=True, exist_ok=True)
            self._place(kind, name).rename(self._place(kind, to))
        self._forget(self._place(kind, name))

    def _refuse_taken(self, kind: Kind, name: str) -> None:
        names = [*self.names(kind), *(entry.name for entry in self._catalog.entries())]
        names += [other for other, _ in self._catalog.others()]
        if (other := next((each for each in names if each.casefold() == name.casefold()), None)) is not None:
            raise Taken(f"{other} is there already")
        if sum(each.startswith(f"{name.partition('/')[0]}/") for each in names) >= MOST:
            raise Taken(f"{name.partition('/')[0]} has {MOST:,} repositories already")

    def _forget(self, place: Path) -> None:
        with self._lock:
            self._opened.pop(place, None)

    def _held(self, kind: Kind) -> FileLock:
        (self._root / kind).mkdir(parents=True, exist_ok=True)
        return FileLock(self._root / kind / ".lock")

    def _place(self, kind: Kind, name: str) -> Path:
        return self._root / kind / f"{name}.git"
