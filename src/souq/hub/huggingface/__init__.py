"""What Hugging Face's own clients ask a hub: they work unmodified with HF_ENDPOINT set to it.

A model is a souq repository; its revisions are main, the releases, and what main would be with a pull request. A corpus
beside the repositories is a data set.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from souq.hub.accounts.callers import needs
from souq.hub.addresses import register
from souq.hub.catalog import Catalog
from souq.hub.huggingface import discussions, files, history, info, lfs, likes, repositories, revisions, talk, uploads
from souq.hub.huggingface.asked import Hub, source_of
from souq.hub.huggingface.contents import MOST, Contents
from souq.hub.huggingface.exports import Exports
from souq.hub.plain.arrivals import Arrivals
from souq.hub.plain.drafts import Drafts
from souq.hub.plain.shelf import Kind, Shelf
from souq.hub.problems import Problem
from souq.hub.routing import route
from souq.signing import Person


def hub(catalog: Catalog, data: Path, person: Person | None = None, most: int = MOST) -> Hub:
    """What the routes answer from; `person` signs the papers of releases."""
    exports = Exports(Contents(data / "contents", most), person)
    incoming, previews = data / "incoming", revisions.Previews(data / "previews")
    judges = ThreadPoolExecutor(1, thread_name_prefix="judge")
    shelf, drafts = Shelf(data, catalog), Drafts(data / "drafts")
    return Hub(catalog, exports, previews, shelf, incoming, Arrivals(incoming), drafts, judges)


def routes() -> list[BaseRoute]:
    """Where each answer is; an address that says more stands before one that says less."""
    register()
    return [
        route("/api/whoami-v2", _whoami),
        route("/api/users/{name}/likes", likes.liked),
        route("/api/models", info.models),
        route("/api/datasets", info.datasets),
        *_discussions("models"),
        *_discussions("datasets"),
        route("/api/repos/create", repositories.create, "POST"),
        route("/api/repos/delete", repositories.delete, "DELETE"),
        route("/api/repos/move", repositories.move, "POST"),
        route("/api/validate-yaml", uploads.validate_yaml, "POST"),
        *_of("models"),
        *_of("datasets"),
        route("/api/{path:path}", _absent, "GET", "POST", "PUT", "PATCH", "DELETE"),
        *_large("/datasets/{repo:repo}.git/info/lfs", "datasets"),
        *_large("/{repo:repo}.git/info/lfs", "models"),
        route("/lfs/{word}/{part:number}", lfs.upload, "PUT"),
        route("/lfs/{word}", lfs.upload, "PUT"),
        route("/lfs/{word}", lfs.complete, "POST"),
        route("/datasets/{repo:repo}/resolve/{rev:rev}/{path:path}", files.resolve, kind="datasets"),
        route("/{repo:repo}/resolve/{rev:rev}/{path:path}", files.resolve),
    ]


def _of(kind: Kind) -> list[BaseRoute]:
    """What is asked of models and of corpora alike."""
    of = f"/api/{kind}/{{repo:repo}}"
    return [
        route(f"{of}/revision/{{rev:rev}}", info.facts, kind=kind),
        route(f"{of}/tree/{{rev:rev}}", files.tree, kind=kind),
        route(f"{of}/tree/{{rev:rev}}/{{path:path}}", files.tree, kind=kind),
        route(f"{of}/paths-info/{{rev:rev}}", files.paths_info, "POST", kind=kind),
        route(f"{of}/like", likes.like, "POST", kind=kind),
        route(f"{of}/like", likes.unlike, "DELETE", kind=kind),
        route(f"{of}/likers", likes.likers, kind=kind),
        route(f"{of}/refs", history.refs, kind=kind),
        route(f"{of}/commits/{{rev:rev}}", history.commits, kind=kind),
        route(f"{of}/auth-check", _may_read, kind=kind),
        route(f"{of}/auth-check/write", repositories.may_write_to, kind=kind),
        route(f"{of}/settings", repositories.settings, "PUT", kind=kind),
        route(f"{of}/branch/{{name:path}}", repositories.create_branch, "POST", kind=kind),
        route(f"{of}/branch/{{name:path}}", repositories.delete_branch, "DELETE", kind=kind),
        route(f"{of}/tag/{{rev:rev}}", repositories.create_tag, "POST", kind=kind),
        route(f"{of}/tag/{{rev:rev}}", repositories.delete_tag, "DELETE", kind=kind),
        route(f"{of}/preupload/{{rev:rev}}", uploads.preupload, "POST", kind=kind),
        route(f"{of}/commit/{{rev:rev}}", uploads.commit, "POST", kind=kind),
        route(f"{of}/xet-write-token/{{rev:rev}}", uploads.no_xet, kind=kind),
        route(of, info.facts, kind=kind),
    ]


def _discussions(kind: Kind) -> list[BaseRoute]:
    """What people say."""
    of = f"/api/{kind}/{{repo:repo}}/discussions"
    return [
        route(of, discussions.discussions, kind=kind),
        route(of, talk.begin, "POST", kind=kind),
        route(f"{of}/{{number:number}}", discussions.discussion, kind=kind),
        route(f"{of}/{{number:number}}/comment", talk.comment, "POST", kind=kind),
        route(f"{of}/{{number:number}}/comment/{{comment}}/edit", talk.edit, "POST", kind=kind),
        route(f"{of}/{{number:number}}/comment/{{comment}}/hide", talk.hide, "POST", kind=kind),
        route(f"{of}/{{number:number}}/title", talk.title, "POST", kind=kind),
        route(f"{of}/{{number:number}}/status", talk.status, "POST", kind=kind),
        route(f"{of}/{{number:number}}/merge", talk.merge, "POST", kind=kind),
    ]


def _large(of: str, kind: Kind) -> list[BaseRoute]:
    """What git-lfs asks of a repository."""
    return [
        route(f"{of}/objects/batch", lfs.batch, "POST", kind=kind),
        route(f"{of}/objects/{{oid}}", lfs.download, kind=kind),
        route(f"{of}/locks/verify", lfs.no_locks, "POST", kind=kind),
    ]


async def _whoami(request: Request) -> Response:
    caller = await needs(request, "read")
    role = "write" if "write" in caller.scopes else "read"
    facts = {
        "type": "user", "name": caller.name, "fullname": caller.name, "email": caller.email or None,
        "emailVerified": False, "isPro": False, "canPay": False,
        "orgs": [{"type": "org", "name": name, "fullname": name} for name in caller.organisations],
        "auth": {"type": "access_token", "accessToken": {"displayName": caller.token, "role": role}},
    }  # fmt: skip
    return JSONResponse(facts, headers={"Cache-Control": "no-store"})


async def _may_read(request: Request) -> Response:
    await source_of(request)
    return JSONResponse({})


async def _absent(request: Request) -> Response:
    """What clients ask without need is not there; what would change something is refused with the reason."""
    if request.method in ("GET", "HEAD"):
        raise Problem(404, "", "this hub has no such answer")
    raise Problem(501, "NotImplemented", "this hub is read: offer changes with `souq pr create` and `souq push`")
