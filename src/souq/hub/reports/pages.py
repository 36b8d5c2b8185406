"""The bug form: somebody without git types what went wrong; whoever is enrolled files it with one command shown here.

The command names the digest of what the page shows, so nobody signs what they have not read.

GET  /atlas/smol/bugs/new, /atlas/smol/bugs/drafts/3 and 3.json      POST /bugs/new, /bugs/drafts/3/drop
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from souq.errors import SouqError, UsageError
from souq.evals.checkers import CHECKERS
from souq.hub.accounts.pages import Asked, form_route, host_of, then
from souq.hub.addresses import register
from souq.hub.limits import limits_of
from souq.hub.pages.render import HubLinks
from souq.hub.problems import Problem, of_error
from souq.hub.reports.store import Report, Reports
from souq.pulls.bugs import MAX_REPORTED, Reported
from souq.records import canonical

EXACTLY = "exactly"
HOW = (EXACTLY, *sorted(CHECKERS))


def routes() -> list[BaseRoute]:
    """Where each is."""
    register()
    one = "/{name:path}/bugs/drafts/{id:number}"
    return [
        form_route("/{name:path}/bugs/new", new),
        form_route("/{name:path}/bugs/new", add, "POST"),
        form_route(one, shown),
        Route(f"{one}.json", as_json),
        form_route(f"{one}/drop", drop, "POST", needs_account=True),
    ]


async def new(asked: Asked) -> Response:
    """The form."""
    await run_in_threadpool(_root, asked.request)
    return _form(asked, {}, "")


async def add(asked: Asked) -> Response:
    """A report; what cannot be one is said above the form, with all that was typed."""
    if not _may_report(asked):
        raise Problem(403, "", "to report a bug here, sign in; in a clone: `souq bug file`")
    limits, account = limits_of(asked.request), asked.visit.account
    whose = [f"address {asked.by.address}", *([f"account {account.name}"] if account else [])]
    limits.refuse_fast(limits.drafts, *whose)
    await run_in_threadpool(_root, asked.request)
    typed = {name: _plain(asked.field(name, 2 * most)) for name, most in MAX_REPORTED.items()}
    typed["checker"] = "" if typed["checker"] == EXACTLY else typed["checker"]
    try:
        if asked.field("given") != "yes":
            raise UsageError("say that you may give it to everybody, by the box at the end")
        case = Reported(**typed)
        await run_in_threadpool(case.refuse_odd)
    except SouqError as error:
        return _form(asked, typed, f"{error}; {error.hint}" if error.hint else str(error))
    name = asked.request.path_params["name"]
    id_ = await run_in_threadpool(lambda: _reports(asked.request).add(name, case, by=asked.by))
    return then(HubLinks(name)("draft", id_))


async def shown(asked: Asked) -> Response:
    """One report, and how to file it."""
    report = await _report(asked.request)
    address = f"{_home(asked.request)}{HubLinks(report.repository)('draft', report.id)}"
    command = f"souq bug file --from {address} --digest {report.case.digest} --signoff"
    return asked.page(
        "draft", report=report, command=command, name=report.repository, may_drop=_may_drop(asked, report)
    )


async def as_json(request: Request) -> Response:
    """One report, for `souq bug file --from`: in the one spelling whose digest the page shows."""
    try:
        report = await _report(request)
        root = await run_in_threadpool(_root, request)
    except SouqError as error:
        return of_error(error).response
    data = canonical({"root": root, "by": report.by, "made": report.made, "case": report.case.values})
    return Response(data, media_type="application/json", headers={"cache-control": "no-store"})


async def drop(asked: Asked) -> Response:
    """Have one be listed no more."""
    report = await _report(asked.request)
    if not _may_drop(asked, report):
        raise Problem(403, "", "a report is dropped by who made it, or who may write there")
    await run_in_threadpool(lambda: _reports(asked.request).drop(report.repository, report.id, by=asked.by))
    return then(HubLinks(report.repository)("bugs"))


# -- what they share ---------------------------------------------------------------------------------------------------


def _form(asked: Asked, typed: dict[str, str], wrong: str) -> Response:
    name = asked.request.path_params["name"]
    may = _may_report(asked)
    status = 400 if wrong else 200
    return asked.page("bug_new", status, name=name, may=may, how=HOW, typed=typed, wrong=wrong, most=MAX_REPORTED)


def _may_report(asked: Asked) -> bool:
    return asked.visit.account is not None or bool(asked.request.app.state.takes_bugs)


def _may_drop(asked: Asked, report: Report) -> bool:
    account = asked.visit.account
    if account is None:
        return False
    return report.by == account.name or report.repository.rpartition("/")[0] in (account.name, *account.organisations)


async def _report(request: Request) -> Report:
    name, id_ = request.path_params["name"], request.path_params["id"]
    return await run_in_threadpool(_reports(request).get, name, id_)


def _root(request: Request) -> str:
    """Which model it is, by the first commit of its history, so that nobody files a bug of another."""
    repo = request.app.state.catalog.open(request.path_params["name"])
    return str(repo.history(repo.tip())[0])


def _plain(text: str) -> str:
    """A browser ends lines with two characters."""
    return text.replace("\r\n", "\n").strip()


def _home(request: Request) -> str:
    """Where this hub is, for a command; "ADDRESS" where its owner did not say."""
    return str(request.app.state.url) or f"{request.url.scheme}://{host_of(request) or 'ADDRESS'}"


def _reports(request: Request) -> Reports:
    reports = request.app.state.reports
    assert isinstance(reports, Reports)
    return reports
