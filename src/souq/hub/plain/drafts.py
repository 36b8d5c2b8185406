"""Drafts: files that somebody offers to a governed model, held apart until their author has made them souq's own.

Of each model one repository of ours, in which every draft is a ref and nothing else is: nobody builds, runs or serves
what is in it but to its author and the model's people.

    drafts = Drafts(data)
    drafts.open("atlas/smol").ref("refs/pr/1000001")
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from filelock import FileLock

from souq.files import beside
from souq.hub.catalog import is_name
from souq.hub.plain.repository import Plain

MOST = 20  # drafts of one account
MOST_BYTES = 4 << 30  # of all of them
MOST_FILES = 1_000  # of one
DAYS = 30  # that one is held


class Drafts:
    """The drafts of every model, below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._opened, self._lock = folder, dict[str, Plain](), Lock()

    def get(self, name: str) -> Plain | None:
        """What holds the drafts of a model; None where there never were any."""
        place = self._folder / f"{name}.git"
        if not is_name(name) or not (place / "HEAD").is_file():
            return None
        with self._lock:
            return self._opened.setdefault(name, Plain(place))

    def open(self, name: str) -> Plain:
        """What holds the drafts of a model, made where it is not there."""
        if (known := self.get(name)) is None:
            place = self._folder / f"{name}.git"
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_suffix(".lock")), beside(place) as scratch:
                if not place.exists():
                    Plain.create(scratch / "new", "hub")
                    (scratch / "new").rename(place)
            known = self.get(name)
        assert known is not None
        return known

    def size(self, name: str, number: int) -> int:
        """How many bytes a draft has."""
        repository = self.get(name)
        if repository is None or (head := repository.ref(f"refs/pr/{number}")) is None:
            return 0
        return sum(file.size for file in repository.listing(head).values())
