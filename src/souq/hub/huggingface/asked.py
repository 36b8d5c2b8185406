"""Which revision of which model or corpus a request is about."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from souq.errors import NotFound, SouqError
from souq.hub.accounts.callers import caller_of, may_write
from souq.hub.catalog import Catalog
from souq.hub.discussions.store import About
from souq.hub.huggingface.corpora import Corpus, corpus
from souq.hub.huggingface.exports import FOR_FACTS, Exports
from souq.hub.huggingface.models import Model
from souq.hub.huggingface.plain import PlainSource
from souq.hub.huggingface.revisions import COMMIT, Line, Previews, Revision
from souq.hub.huggingface.sources import Source
from souq.hub.listing import File, Listing
from souq.hub.plain.arrivals import Arrivals
from souq.hub.plain.drafts import Drafts
from souq.hub.plain.shelf import Kind, Shelf
from souq.hub.problems import Problem
from souq.repo.remote import Repo


@dataclass(frozen=True)
class Hub:
    """What the answers are made from: `app.state.huggingface`."""

    catalog: Catalog
    exports: Exports
    previews: Previews
    shelf: Shelf
    incoming: Path  # a folder for what is on its way in
    arrivals: Arrivals
    drafts: Drafts
    judges: ThreadPoolExecutor


@dataclass(frozen=True)
class Asked:
    """A revision, and its files."""

    name: str
    source: Source
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

    def place(self, file: File, exports: Exports) -> Path:
        """Where the bytes of a file are."""
        if isinstance(self.source, PlainSource):
            return self.source.place(file)
        return exports.path(self.revision, file)


@lru_cache(maxsize=64)
def _model(repo: Repo, tip: str) -> Model:
    return Model(repo, tip)


def hub_of(request: Request) -> Hub:
    """What the answers are made from."""
    hub = request.app.state.huggingface
    assert isinstance(hub, Hub)
    return hub


def kind_of(request: Request) -> Kind:
    """Whether it is about a model or a data set."""
    kind: Kind = request.path_params["kind"]
    return kind


def _opened(hub: Hub, kind: Kind, name: str) -> Model | Corpus | PlainSource:
    with suppress(NotFound):
        return PlainSource(name, hub.shelf.open(kind, name))
    try:
        if kind == "datasets":
            return corpus(hub.catalog, hub.exports.contents, name)
        repo = hub.catalog.open(name)
        return _model(repo, repo.tip())
    except NotFound as error:
        raise Problem(404, "RepoNotFound", str(error)) from error
    except SouqError as error:
        raise Problem(404, "RepoNotFound", f"{name} cannot be read: {error}") from error


async def source_of(request: Request) -> Model | Corpus | PlainSource:
    """The model, corpus or plain repository that a request names.

    Raises:
        Problem: there is none, or it cannot be read.
    """
    words = request.path_params
    return await run_in_threadpool(_opened, hub_of(request), words["kind"], words["repo"])


async def line_of(request: Request) -> Line:
    """Main of the model that a request names.

    Raises:
        Problem: there is none, or it is no model.
    """
    source = await source_of(request)
    if not isinstance(source, Model):
        raise Problem(404, "RepoNotFound", "this is no model")
    return source.line


async def revision_of(request: Request) -> tuple[Source, Revision]:
    """The revision that a request names, without its files; main where it names none.

    Raises:
        Problem: there is none.
    """
    source, hub = await source_of(request), hub_of(request)
    name = request.path_params.get("rev", "main")
    try:
        return source, await run_in_threadpool(source.find, name, hub.previews)
    except Problem as problem:
        if (draft := await draft_of(request)) is None:
            raise problem from None
        return draft, await run_in_threadpool(draft.find, name, hub.previews)


async def asked(request: Request, patience: float = FOR_FACTS) -> Asked:
    """The revision that a request names, with its files.

    Raises:
        Problem: there is none, it is being built, or it is not built, and why.
    """
    hub, words = hub_of(request), request.path_params

    def look() -> tuple[Source, Revision, Listing | None]:  # in one thread, as most of what is asked for is there
        source = _opened(hub, words["kind"], words["repo"])
        revision = source.find(words.get("rev", "main"), hub.previews)
        files = source.listing(revision) if isinstance(source, PlainSource) else hub.exports.contents.get(revision.id)
        return source, revision, files

    try:
        source, revision, listing = await run_in_threadpool(look)
    except Problem as problem:
        if (draft := await draft_of(request)) is None:
            raise problem from None
        source, revision = draft, await run_in_threadpool(draft.find, words["rev"], hub.previews)
        listing = await run_in_threadpool(draft.listing, revision)
    if listing is None:
        listing = await hub.exports.listing(source, revision, patience)
    return Asked(words["repo"], source, revision, listing)


async def draft_of(request: Request) -> PlainSource | None:
    """What holds the drafts of a model, where the request names one that its caller may see.

    A draft is seen by its author and by the people of the model's namespace: it is no way to hand out files.
    """
    hub, words = hub_of(request), request.path_params
    name, rev = words["repo"], words.get("rev", "")
    if words["kind"] != "models" or (repository := await run_in_threadpool(hub.drafts.get, name)) is None:
        return None
    if (caller := await caller_of(request)) is None:
        return None
    every, namespace = request.app.state.discussions, name.partition("/")[0]

    def theirs() -> bool:
        refs = repository.refs("refs/pr/")
        named = [rev] if rev in refs else []
        if COMMIT.fullmatch(rev):
            named = [ref for ref, oid in refs.items() if repository.contains(oid, rev)]
        numbers = [int(ref.rpartition("/")[2]) for ref in named]
        return any(
            may_write(caller, namespace) or every.get(About("models", name), number).author == caller.name
            for number in numbers
        )

    return PlainSource(name, repository) if await run_in_threadpool(theirs) else None
