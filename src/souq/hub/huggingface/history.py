"""What can be named of a model, and how it came to be: refs, and the landings of main as commits."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import SouqError
from souq.hub.huggingface.asked import hub_of, line_of, revision_of
from souq.hub.huggingface.paging import is_true, next_page, number
from souq.hub.huggingface.revisions import Candidates, Line, Revision
from souq.pulls import pull as pulls
from souq.records import spelled_out

PAGE = 50

Row = dict[str, Any]


async def refs(request: Request) -> Response:
    """Main, the releases as tags, and on demand the pull requests that are open."""
    line, hub = await line_of(request), hub_of(request)
    with_pulls = is_true(request, "include_prs")
    return JSONResponse(await run_in_threadpool(_refs, line, hub.candidates, with_pulls=with_pulls))


def _refs(line: Line, candidates: Candidates, *, with_pulls: bool) -> Row:
    def row(name: str, ref: str, commit: str) -> Row:
        return {"name": name, "ref": ref, "targetCommit": commit}

    tags = [row(version, f"refs/tags/{version}", commit) for version, commit in line.releases.items()]
    known = {"branches": [row("main", "refs/heads/main", line.tip)], "converts": [], "tags": tags[::-1]}
    if with_pulls:
        rows = known["pullRequests"] = []
        for pull in line.open_pulls():
            candidates.remember(candidate := line.candidate(pull))
            rows.append(row(ref := f"refs/pr/{pull.number}", ref, candidate.id))
    return known


async def commits(request: Request) -> Response:
    """The landings of main up to a revision, the newest first, in pages."""
    line, revision = await revision_of(request)
    start, limit = number(request, "p", 0, 10**6), max(number(request, "limit", PAGE, PAGE), 1)
    rows = await run_in_threadpool(_commits, line, revision, (start + 1) * limit + 1)
    page = rows[start * limit :][:limit]
    more = next_page(request, {"p": str(start + 1)}) if len(rows) > (start + 1) * limit else {}
    return JSONResponse(page, headers=more)


def _commits(line: Line, revision: Revision, most: int) -> list[Row]:
    summaries = line.repo.summaries(revision.main, most)
    rows = [_row(oid, at, by, subject) for oid, at, by, subject in summaries]
    return [commit_facts(line, revision), *rows][:most] if revision.candidate is not None else rows


def commit_facts(line: Line, revision: Revision) -> Row:
    """A revision as a commit: one of main's, or that of a pull request which is none yet."""
    if revision.candidate is None:
        return _row(*line.repo.summary(revision.main))
    number, head = revision.candidate.number, revision.candidate.head
    _, at, by, subject = line.repo.summary(head)
    with suppress(SouqError):  # the commit's own words, where nobody can read what is offered
        subject = pulls.get(line.repo, number).offer.contribution.title
    return _row(revision.id, at, by, f"Pull request {number}: {subject}")


def _row(oid: str, at: str, by: str, subject: str) -> Row:
    return {
        "id": oid, "title": spelled_out(subject), "message": "", "date": utc(at),
        "authors": [{"user": spelled_out(by), "avatar": ""}],
    }  # fmt: skip


def utc(at: str) -> str:
    """A date as clients parse it, in UTC and with a Z; a stranger's that is none is the first there is."""
    try:
        date = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, OverflowError):
        date = datetime.fromtimestamp(0, UTC)
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
