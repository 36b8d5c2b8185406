"""Revisions made into files, one at a time, behind everybody's back: who asks waits a little, or comes again.

A client that asks for a file gives up after ten seconds and asks again after a 503; one that asks what a revision is,
as all do first, has all the time it takes.

    exports = Exports(Contents(folder, most), person=None)
    listing = await exports.listing(source, revision, FOR_FACTS)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from souq.errors import SouqError
from souq.hub.huggingface.contents import Contents
from souq.hub.huggingface.revisions import Revision
from souq.hub.huggingface.sources import Source
from souq.hub.listing import File, Listing
from souq.hub.once import Busy, Once
from souq.hub.problems import Problem
from souq.signing import Person

FOR_FILES, FOR_FACTS = 7.0, 900.0  # seconds that who asks is kept
AGAIN = 5  # seconds after which a client asks again
MOST_WAITING = 200  # revisions in the line


class Exports:
    """The files of revisions, made when they are first asked for."""

    def __init__(self, contents: Contents, person: Person | None = None) -> None:
        self.contents, self._person = contents, person
        self._once = Once("exports", workers=1, each=1, most=MOST_WAITING)

    async def listing(self, source: Source, revision: Revision, patience: float) -> Listing:
        """The files of a revision, as soon as they are made.

        Raises:
            Problem: it takes a while, or it is not built, and why.
        """
        if (listing := self.contents.get(revision.id)) is not None:
            return listing
        try:
            make = partial(self.made, source, revision)
            made: Listing = await self._once.get("", revision.id, make, patience=patience)
            return made
        except Busy:
            raise _later("this revision is being built") from None
        except SouqError as error:
            raise Problem(403, "", f"this revision is not built: {error}") from error
        except OSError as error:
            raise _later(f"this revision is not built: {error.strerror or 'the disk does not answer'}") from error

    def path(self, revision: Revision, file: File) -> Path:
        """Where the bytes of a file are.

        Raises:
            Problem: somebody removed it: it is made again for who asks again.
        """
        if not (path := self.contents.path(file)).is_file():
            self.contents.forget(revision.id)
            raise _later("this revision is built again")
        return path

    def made(self, source: Source, revision: Revision) -> Listing:
        """The files of a revision, made now unless they are there."""
        with self.contents.making(revision.id) as folder:
            if (listing := self.contents.get(revision.id)) is not None:  # another process made it meanwhile
                return listing
            source.write(revision, folder, self._person)
            return self.contents.add(revision.id, folder)


def _later(why: str) -> Problem:
    return Problem(503, "", f"{why}: ask again in {AGAIN} seconds", headers={"Retry-After": str(AGAIN)})
