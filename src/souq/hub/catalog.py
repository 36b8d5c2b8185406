"""The model repositories below a folder, by the names under which a hub shows them: `name`, or `org/name`.

A repository is a clone or a bare one (`smol`, `smol.git`, `atlas/smol.git`) and is opened when it is first asked for.
One that cannot be read is listed with the reason, and the others are served all the same. A name is judged before any
folder is looked for, so none leads out of the folder.

    catalog = Catalog(Path("/srv/models"))
    catalog.open("atlas/smol").tip()
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from souq.errors import NotFound, SouqError
from souq.repo.git import git_dir_of
from souq.repo.remote import Repo

MOST = 10_000  # repositories
MAX_NAME = 96  # characters of a part of a name, as Hugging Face's clients have it
_PART = re.compile(r"(?!.*(?:--|\.\.|\.git\Z))[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
# What stands in an address where a name could: no repository and no organisation is called so.
_RESERVED = """
api models datasets spaces static health metrics resolve raw blob tree info settings revision refs commits commit
discussions paths-info auth-check pulls releases bugs queue governance corpora contributions contributors openness
stats feed login logout register account session jobs organizations new docs lfs
"""
RESERVED = frozenset(_RESERVED.split())


@dataclass(frozen=True)
class Entry:
    """A repository as it is listed; `problem` says why it cannot be read, "" where it can."""

    name: str
    folder: Path
    problem: str = ""


class Catalog:
    """The repositories below a folder."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise NotFound(f"no folder {root}", hint="name the folder that holds model repositories")
        self.root = root.resolve()
        self._opened, self._lock = dict[Path, Repo](), Lock()

    def entries(self) -> list[Entry]:
        """Every repository by name, with what is wrong with it."""
        entries = dict[str, Entry]()
        for name, folder in self._folders():
            if (other := entries.get(name)) is not None:
                problem = f"two folders are called so: {other.folder.name} and {folder.name}"
                entries[name] = Entry(name, other.folder, problem)
            elif len(entries) < MOST:
                entries[name] = Entry(name, folder, self._problem(name, folder))
        return [entries[name] for name in sorted(entries)]

    def open(self, name: str) -> Repo:
        """The repository of this name.

        Raises:
            NotFound: there is none, or two folders could be meant.
            SouqError: it cannot be read.
        """
        folders = self._called(name) if is_name(name) else []
        if len(folders) != 1:
            raise NotFound(f"no repository {name[: 2 * MAX_NAME]!r}", hint="the hub's first page lists those there are")
        return self._open(folders[0])

    def others(self) -> Iterator[tuple[str, Path]]:
        """Folders by a name that a repository could have, which are none: corpora, for who knows them."""
        for folder in _inside(self.root):
            if git_dir_of(folder) is None:
                places = [(folder.name, folder), *((f"{folder.name}/{each.name}", each) for each in _inside(folder))]
                for name, place in places[:MOST]:
                    if is_name(name) and git_dir_of(place) is None:
                        yield name, place

    def other(self, name: str) -> Path | None:
        """A folder of this name that is no repository; None where there is none."""
        place = self.root / name
        org = place.parent
        inside = is_name(name) and place.is_dir() and git_dir_of(place) is None
        return place if inside and (org == self.root or git_dir_of(org) is None) else None

    def namespaces(self) -> set[str]:
        """What stands first in the names of what lies below the folder, whatever it is."""
        return {folder.name.removesuffix(".git") for folder in _inside(self.root)}

    def _problem(self, name: str, folder: Path) -> str:
        if not is_name(name):
            return f"no name for a repository: letters, digits, `-`, `_` and `.`, at most {MAX_NAME} of them"
        try:
            self._open(folder)
        except (SouqError, OSError) as error:
            return str(error)
        return ""

    def _folders(self) -> Iterator[tuple[str, Path]]:
        for folder in _inside(self.root):
            if git_dir_of(folder) is not None:
                yield folder.name.removesuffix(".git"), folder
            else:
                for inner in _inside(folder):
                    if git_dir_of(inner) is not None:
                        yield f"{folder.name}/{inner.name.removesuffix('.git')}", inner

    def _called(self, name: str) -> list[Path]:
        """The folders that a name can mean; an organisation is no repository itself."""
        org = self.root / name.rpartition("/")[0]
        if org != self.root and git_dir_of(org) is not None:
            return []
        return [place for end in ("", ".git") if git_dir_of(place := self.root / f"{name}{end}") is not None]

    def _open(self, folder: Path) -> Repo:
        with self._lock:
            repo = self._opened.get(folder)
        if repo is None:
            repo = Repo.find(folder)
            with self._lock:
                repo = self._opened.setdefault(folder, repo)
        return repo


def is_name(name: str) -> bool:
    """Whether a repository may be called so."""
    parts = name.split("/")
    return len(parts) <= 2 and all(
        len(part) <= MAX_NAME and _PART.fullmatch(part) and part.lower() not in RESERVED for part in parts
    )


def _inside(folder: Path) -> list[Path]:
    """The folders in a folder, in order of their names; hidden ones are the hub's own, or nobody's."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError:
        return []
