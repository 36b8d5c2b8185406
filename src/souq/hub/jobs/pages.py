"""The pages of jobs: those there are, one with what it has written so far, and those of a pull request or repository.

While one waits or runs its page is asked for anew by the browser itself, without a script. Whoever has an account may
have a pull request looked at; all its checks, and building what it offers or main, are for who may write where it is.

GET  /jobs, /jobs/12, /atlas/smol/jobs, /atlas/smol/pulls/7/jobs      POST /jobs/12/cancel, /atlas/smol/pulls/7/jobs
"""

from __future__ import annotations

from contextlib import suppress

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from souq.errors import NotFound
from souq.hub.accounts.pages import Asked, form_route, then
from souq.hub.addresses import register
from souq.hub.jobs.store import MAX_RESULT, Job, Jobs
from souq.hub.limits import limits_of
from souq.hub.pages.facts import short
from souq.hub.pages.render import HubLinks
from souq.hub.problems import Problem
from souq.pulls import pull as pulls
from souq.pulls.waiting import Line
from souq.records import Record, Verdict
from souq.repo.snapshot import Snapshot

MOST_VERDICTS, MOST_LISTED, AGAIN = 100, 50, "2"  # the last: seconds
MOST_BUILT = 4_096  # characters of what is said of a build


class Looked(Record, frozen=True):
    """What a job found: of exactly what, on which main."""

    subject: str
    base: str
    verdicts: tuple[Verdict, ...]
    by: str = ""  # who signed it


class Built(Record, frozen=True):
    """What a job built, as the process that builds it says."""

    revision: str
    model: str
    files: int
    bytes: int


def routes() -> list[BaseRoute]:
    """Where each is."""
    register()
    of_pull = "/{name:path}/pulls/{number:number}/jobs"
    return [
        form_route("/jobs", every),
        form_route("/jobs/{id:number}", one_job),
        form_route("/jobs/{id:number}/cancel", cancel, "POST", needs_account=True),
        form_route(of_pull, of_a_pull),
        form_route(of_pull, ask, "POST", needs_account=True),
        form_route("/{name:path}/jobs", of_a_pull),
        form_route("/{name:path}/jobs", ask, "POST", needs_account=True),
    ]


async def every(asked: Asked) -> Response:
    """The newest jobs."""
    listed = await run_in_threadpool(_jobs(asked.request).listed, MOST_LISTED)
    return asked.page("jobs", jobs=listed, name="", number=0, kinds=())


async def of_a_pull(asked: Asked) -> Response:
    """Those of one pull request, or of all that a repository has, and how to ask for another."""
    name, number = await _pull(asked)
    listed = await run_in_threadpool(lambda: _jobs(asked.request).listed(MOST_LISTED, repository=name, number=number))
    return asked.page("jobs", jobs=listed, name=name, number=number, kinds=_kinds(asked, name, number))


async def ask(asked: Asked) -> Response:
    """Have a pull request looked at, all its checks run, or built what it offers or what main is."""
    name, number = await _pull(asked)
    if (kind := asked.field("kind")) in ("checks", "build") and not _may_write(asked, name):
        raise Problem(403, "", "all checks are run, and models built, for who may write there; `look` is for everybody")
    limits = limits_of(asked.request)
    limits.refuse_fast(limits.drafts, f"address {asked.by.address}", f"account {asked.account.name}")
    await run_in_threadpool(_refuse_waiting, asked.request, name, number)
    job = await run_in_threadpool(lambda: _jobs(asked.request).ask(kind, name, number, by=asked.by))
    return then(f"/jobs/{job.id}")


async def one_job(asked: Asked) -> Response:
    """What one has written so far, and what it found."""
    jobs, id_ = _jobs(asked.request), asked.request.path_params["id"]
    job = await run_in_threadpool(jobs.get, id_)
    log, result = await run_in_threadpool(jobs.said_by, id_)
    response = asked.page(
        "job", job=job, log=log, looked=_looked(result), built=_built(result), to_pull=_to(job),
        may_cancel=job.is_going and _may_cancel(asked, job),
    )  # fmt: skip
    if job.is_going:
        response.headers["refresh"] = AGAIN
    return response


async def cancel(asked: Asked) -> Response:
    """Have one done no more."""
    jobs, id_ = _jobs(asked.request), asked.request.path_params["id"]
    if not _may_cancel(asked, await run_in_threadpool(jobs.get, id_)):
        raise Problem(403, "", "a job is cancelled by who asked for it, or who may write there")
    await run_in_threadpool(lambda: jobs.cancel(id_, by=asked.by))
    return then(f"/jobs/{id_}")


# -- what they share ---------------------------------------------------------------------------------------------------


async def _pull(asked: Asked) -> tuple[str, int]:
    """Which pull request is meant, where there is such a repository; 0 for main."""
    name, number = asked.request.path_params["name"], asked.request.path_params.get("number")
    await run_in_threadpool(asked.request.app.state.catalog.open, name)
    if number == 0:
        raise NotFound("no such pull request")
    return name, number or 0


def _kinds(asked: Asked, name: str, number: int) -> tuple[str, ...]:
    """What somebody may ask for."""
    costly = ("checks", "build") if number else ("build",)
    cheap = ("look",) if number and asked.visit.account else ()
    return (*cheap, *(costly if _may_write(asked, name) else ()))


def _to(job: Job) -> str:
    to = HubLinks(job.repository)
    return to("pull", job.number) if job.number else to("front")


def _refuse_waiting(request: Request, name: str, number: int) -> None:
    """Say no to a job for what main's own limits have wait for others: the same line as in every clone."""
    repo = request.app.state.catalog.open(name)
    line = Line(repo, Snapshot(repo, repo.tip()))
    if number in line.waits:
        line.refuse(pulls.get(repo, number), "souq pr checks")


def _may_write(asked: Asked, name: str) -> bool:
    account = asked.visit.account
    return account is not None and name.rpartition("/")[0] in (account.name, *account.organisations)


def _may_cancel(asked: Asked, job: Job) -> bool:
    account = asked.visit.account
    return account is not None and (job.by == account.name or _may_write(asked, job.repository))


def _built(result: str) -> Built | None:
    with suppress(msgspec.MsgspecError, ValueError):
        return msgspec.json.decode(result, type=Built) if len(result) < MOST_BUILT else None
    return None


def _looked(result: str) -> Looked | None:
    """What was found, cut to what is shown; None where nothing was, or nobody can read it."""
    if not result or len(result) > MAX_RESULT:
        return None
    try:
        looked = msgspec.json.decode(result, type=Looked)
    except (msgspec.MsgspecError, ValueError):
        return None
    cut = [
        Verdict(check=short(each.check, 80), outcome=each.outcome, because=short(each.because))
        for each in looked.verdicts[:MOST_VERDICTS]
    ]
    return msgspec.structs.replace(looked, verdicts=tuple(cut))


def _jobs(request: Request) -> Jobs:
    jobs = request.app.state.jobs
    assert isinstance(jobs, Jobs)
    return jobs
