"""Pull requests as Hugging Face's clients read discussions: what is offered, said, found and voted, none of it changed.

A vote or a check is an event of a kind that clients do not know and keep as it is.
"""

from __future__ import annotations

import html

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import NotFound, SouqError
from souq.hub.discussions.store import OWN, Talk
from souq.hub.huggingface import talk
from souq.hub.huggingface.asked import kind_of
from souq.hub.huggingface.models import Model
from souq.hub.huggingface.offers import Place
from souq.hub.huggingface.paging import is_true, number
from souq.hub.huggingface.plain import PlainSource
from souq.hub.huggingface.repositories import address
from souq.hub.huggingface.revisions import Line, summary
from souq.hub.huggingface.sources import Row, utc
from souq.hub.huggingface.talk import place_in
from souq.hub.problems import Problem
from souq.notebook.pull_request import PullRequest
from souq.pulls import pull as pulls
from souq.pulls.comments import Comment, thread
from souq.records import spelled_out

PAGE = 50
MAX_DIFF = 1 << 20  # characters
STATUS = {"open": "open", "merged": "merged", "closed": "closed", "taken back": "closed"}


async def discussions(request: Request) -> Response:
    """What people talk about here, and the pull requests of a model, the newest first, in pages."""
    (source, place), query, page = await place_in(request), request.query_params, number(request, "p", 0, 10**6)
    kind, status, author = query.get("type", "all"), query.get("status", "all"), query.get("author", "")

    def rows() -> tuple[list[Row], int]:
        talks = [each for each in place.discussions.every(place.about) if place.is_there(each)]
        own = [
            each for each in talks
            if kind in ("all", "pull_request" if each.is_pull else "discussion")
            and status in ("all", each.status, *(["closed"] if each.status == "merged" else []))
            and author in ("", each.author)
        ]  # fmt: skip
        offered = _wanted(source.line, request, kind, status, author) if isinstance(source, Model) else []
        every: list[Talk | PullRequest] = [*own, *offered]
        shown = every[page * PAGE :][:PAGE]  # no others are read
        return [_shown(source, place, each, request) for each in shown], len(own) + len(offered)

    shown, count = await run_in_threadpool(rows)
    return JSONResponse({"discussions": shown, "count": count, "start": page * PAGE})


def _wanted(line: Line, request: Request, kind: str, status: str, author: str) -> list[PullRequest]:
    """The pull requests of git's that are asked for."""
    every = [PullRequest(line.repo, line.main, pull) for pull in pulls.listed(line.repo)][::-1]
    wanted = [pull for pull in every if kind != "discussion" and (status == "all" or status in _states(pull))]
    if author:
        wanted = [pull for pull in wanted if _row(line, pull, request)["author"]["name"] == author]
    return wanted


def _shown(source: Model | PlainSource, place: Place, each: Talk | PullRequest, request: Request) -> Row:
    if isinstance(each, Talk):
        return talk.row(place, each)
    assert isinstance(source, Model)
    return _row(source.line, each, request)


def _states(pull: PullRequest) -> set[str]:
    """What a client may call its state: what was merged is closed, too."""
    state = STATUS[pull.state]
    return {state} if state == "open" else {state, "closed"}


async def discussion(request: Request) -> Response:
    """One discussion or pull request: what it is, and what happened to it."""
    (source, place), asked = await place_in(request), request.path_params["number"]
    url = f"{address(request, kind_of(request), place.about.name)}/discussions/{asked}"

    def facts() -> Row:
        try:
            if not isinstance(source, Model) or asked >= OWN:
                begun = place.discussions.get(place.about, asked)
                if not place.is_there(begun):
                    raise NotFound(f"no discussion {asked}")
                return talk.whole(place, begun, diff=is_true(request, "diff"), url=url)
            pull = PullRequest(source.line.repo, source.line.main, pulls.get(source.line.repo, asked))
        except NotFound as error:
            raise Problem(404, "EntryNotFound", str(error)) from error
        whole = _whole(source.line, pull, request, diff=is_true(request, "diff"))
        happened = [*whole["events"], *talk.events(place, asked)]
        return whole | {"events": sorted(happened, key=lambda event: event["createdAt"])}

    return JSONResponse(await run_in_threadpool(facts))


def _row(line: Line, pull: PullRequest, request: Request) -> Row:
    row = pull.row()
    _, at, by, _ = summary(line.repo, pull.pull.head)
    return {
        "num": pull.number, "title": spelled_out(str(row["title"])), "status": STATUS[pull.state],
        "isPullRequest": True, "createdAt": utc(at), "repo": {"name": request.path_params["repo"], "type": "model"},
        "author": _author(by if row["author"] == "?" else str(row["author"])),
    }  # fmt: skip


def _author(name: str) -> Row:
    return {"name": spelled_out(name), "type": "user"}


def _whole(line: Line, pull: PullRequest, request: Request, *, diff: bool) -> Row:
    row = _row(line, pull, request)
    events = [_commit(pull, row), *(_comment(each) for each in thread(pull.pull, line.main))]
    for at, vote in enumerate(pull.votes):
        words = {key: spelled_out(str(vote[key])) for key in ("choice", "reason")}
        events.append(_event(f"vote-{at}", "vote", vote["at"], vote["by"], words))
    for at, check in enumerate(pull.checks):
        words = {key: spelled_out(str(check[key])) for key in ("check", "verdict", "because")}
        events.append(_event(f"check-{at}", "check", check["at"], check["by"], words))
    changes: Row = {"base": "refs/heads/main"}
    if row["status"] == "merged":
        commit, landed, by, _ = summary(line.repo, line.landing(pull.pull))
        changes["mergeCommitId"] = commit
        events.append(_event("merged", "status-change", landed, by, {"status": "merged"}))
    whole = row | {"events": sorted(events, key=lambda event: event["createdAt"]), "changes": changes}
    whole |= {"filesWithConflicts": [], "diff": _diff(line, pull) if diff else ""}
    return whole


def _commit(pull: PullRequest, row: Row) -> Row:
    data = {"subject": row["title"], "oid": pull.pull.head}
    return _event("offered", "commit", row["createdAt"], row["author"]["name"], data)


def _comment(comment: Comment) -> Row:
    text = spelled_out(comment.text)
    latest = {"raw": text, "html": html.escape(text), "updatedAt": utc(comment.at), "author": _author(comment.by)}
    data = {"edited": False, "hidden": False, "latest": latest, "history": [latest]}
    return _event(f"comment-{comment.at}-{comment.key[-8:]}", "comment", comment.at, comment.by, data)


def _event(name: str, kind: str, at: str, by: str, data: Row) -> Row:
    return {"id": name, "type": kind, "createdAt": utc(at), "author": _author(by), "data": data}


def _diff(line: Line, pull: PullRequest) -> str:
    """What it adds to the repository, as git shows it; "" where it cannot be read."""
    try:
        head = pull.pull.head
        base = line.repo.commit(f"{head}^")
        return spelled_out(line.repo.patch(base, head, [f"contributions/{pull.pull.offer.slug}"]))[:MAX_DIFF]
    except SouqError:
        return ""
