"""Which revision of which model a request is about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from souq.errors import NotFound, SouqError
from souq.hub.catalog import Catalog
from souq.hub.huggingface.contents import File, Listing
from souq.hub.huggingface.exports import FOR_FACTS, Exports
from souq.hub.huggingface.problems import Problem
from souq.hub.huggingface.revisions import Candidates, Line, Revision, find
from souq.repo.remote import Repo


@dataclass(frozen=True)
class Hub:
    """What the answers are made from: `app.state.huggingface`."""

    catalog: Catalog
    exports: Exports
    candidates: Candidates


@dataclass(frozen=True)
class Asked:
    """A revision of a model, and its files."""

    name: str
    line: Line
    revision: Revision
    listing: Listing

    def file(self, path: str) -> File:
        """A file of it.

        Raises:
            Problem: there is none of that name.
        """
        if (file := self.listing.get(path)) is None:
            raise Problem(404, "EntryNotFound", f"no file {path[:200]!r} in this revision", commit=self.revision.id)
        return file


@lru_cache(maxsize=64)
def _line(repo: Repo, tip: str) -> Line:
    return Line(repo, tip)


def hub_of(request: Request) -> Hub:
    """What the answers are made from."""
    hub = request.app.state.huggingface
    assert isinstance(hub, Hub)
    return hub


def _opened(hub: Hub, name: str) -> Line:
    try:
        repo = hub.catalog.open(name)
        return _line(repo, repo.tip())
    except NotFound as error:
        raise Problem(404, "RepoNotFound", str(error)) from error
    except SouqError as error:
        raise Problem(404, "RepoNotFound", f"{name} cannot be read: {error}") from error


async def line_of(request: Request) -> Line:
    """Main of the repository that a request names.

    Raises:
        Problem: there is none, or it cannot be read.
    """
    return await run_in_threadpool(_opened, hub_of(request), request.path_params["repo"])


async def revision_of(request: Request) -> tuple[Line, Revision]:
    """The revision that a request names, without its files; main where it names none.

    Raises:
        Problem: there is none.
    """
    line, hub = await line_of(request), hub_of(request)
    return line, await run_in_threadpool(find, line, request.path_params.get("rev", "main"), hub.candidates)


async def asked(request: Request, patience: float = FOR_FACTS) -> Asked:
    """The revision that a request names, with its files.

    Raises:
        Problem: there is none, it is being built, or it is not built, and why.
    """
    line, revision = await revision_of(request)
    listing = await hub_of(request).exports.listing(line, revision, patience)
    return Asked(request.path_params["repo"], line, revision, listing)
