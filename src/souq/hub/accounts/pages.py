"""The pages of accounts: sign in and out, register, one's own tokens and keys. Without a script, like all the others.

GET  /login      a password, or a text to sign with an ssh key
GET  /account    what one has; its forms post to /account/tokens, /account/keys, /account/password
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from souq.errors import SouqError, UsageError
from souq.hub.accounts import entry
from souq.hub.accounts.callers import accounts_of, by_of
from souq.hub.accounts.challenges import Challenge, challenge
from souq.hub.accounts.cookies import let_in, let_out, remember
from souq.hub.accounts.forms import Visit, form, visit_of
from souq.hub.accounts.names import key_of
from souq.hub.accounts.store import Accounts, Known
from souq.hub.accounts.tokens import SCOPES
from souq.hub.accounts.trail import By
from souq.hub.headers import POLICY_OF_FORMS
from souq.hub.limits import LOOKING, limits_of, line_of
from souq.hub.pages.render import hub_page
from souq.hub.problems import Problem, of_error

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Asked:
    """A request of a browser: who it is, and the fields of the form that it sent."""

    request: Request
    visit: Visit
    fields: dict[str, str]

    @property
    def accounts(self) -> Accounts:
        return accounts_of(self.request)

    @property
    def account(self) -> Known:
        """Who is signed in; a page that needs it is reached by nobody else."""
        assert self.visit.account is not None
        return self.visit.account

    @property
    def by(self) -> By:
        return by_of(self.request, self.visit.account.name if self.visit.account else "")

    def field(self, name: str, most: int = 600) -> str:
        """What was typed.

        Raises:
            Problem: it is far too long.
        """
        if len(text := self.fields.get(name, "")) > most:
            raise Problem(400, "BadRequest", f"the field {name} has at most {most} characters")
        return text

    def page(self, template: str, status: int = 200, **facts: Any) -> Response:
        """A page for this browser alone."""
        facts |= {"seal": self.visit.seal, "account": self.visit.account}
        headers = {
            "cache-control": "no-store", "content-security-policy": POLICY_OF_FORMS,
            "referrer-policy": "same-origin",  # without one, browsers send a form from nowhere
        }  # fmt: skip
        response = Response(hub_page(template, facts), status, headers, "text/html")
        if self.visit.is_new:
            remember(response, self.request, self.visit.cookie)
        return response


Page = Callable[[Asked], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """Where each is."""
    return [
        form_route("/login", login),
        form_route("/login", by_password, "POST"),
        form_route("/login/key", by_key, "POST"),
        form_route("/logout", logout, "POST"),
        form_route("/register", register_page),
        form_route("/register", register, "POST"),
        form_route("/account", account, needs_account=True),
        form_route("/account/tokens", add_token, "POST", needs_account=True),
        form_route("/account/tokens/revoke", revoke, "POST", needs_account=True),
        form_route("/account/keys", add_key, "POST", needs_account=True),
        form_route("/account/keys/remove", remove_key, "POST", needs_account=True),
        form_route("/account/password", change_password, "POST", needs_account=True),
    ]


def form_route(path: str, page: Page, method: str = "GET", *, needs_account: bool = False) -> Route:
    """A page that a browser may send a form to: what is wrong is a page, too."""

    async def answer(request: Request) -> Response:
        try:
            visit = await visit_of(request)
            asked = Asked(request, visit, {} if request.method in LOOKING else await form(request, visit))
            if needs_account and visit.account is None:
                return RedirectResponse("/login", 303, {"cache-control": "no-store"})
            return await page(asked)
        except Problem as problem:
            return _no(problem)
        except SouqError as error:
            return _no(of_error(error))

    return Route(path, answer, methods=[method])


def _no(problem: Problem) -> Response:
    """Why not, and where to go on."""
    titles = {429: "Too much at once", 503: "In a moment", 404: "There is no such page"}
    facts = {
        "title": titles.get(problem.status, "That was refused"), "because": problem.message, "next": "/account",
        "words": "your account",
    }  # fmt: skip
    headers = {"cache-control": "no-store", "content-security-policy": POLICY_OF_FORMS, **problem.more}
    return Response(hub_page("no", facts), problem.status, headers, "text/html")


# -- coming in ---------------------------------------------------------------------------------------------------------


async def login(asked: Asked) -> Response:
    """A password, or a text to sign."""
    if asked.visit.account is not None:
        return then("/account")
    host = host_of(asked.request)
    given = challenge(asked.accounts.secret, host) if host else None
    return asked.page("login", challenge=given, is_open=asked.request.app.state.is_open)


async def by_password(asked: Asked) -> Response:
    """Come in by a password."""
    name = asked.field("name")
    limits = limits_of(asked.request)
    limits.refuse_fast(limits.sign_in, line_of(asked.by.address))
    limits.refuse_fast(limits.guesses, name[:100].lower())
    cookie = await run_in_threadpool(entry.by_password, asked.accounts, name, asked.field("password"), asked.by)
    return _in(asked, cookie)


async def by_key(asked: Asked) -> Response:
    """Come in by a signature."""
    limits = limits_of(asked.request)
    limits.refuse_fast(limits.sign_in, line_of(asked.by.address))
    given, armour, host = _signed(asked)
    return _in(asked, await run_in_threadpool(entry.by_key, asked.accounts, given, armour, host, asked.by))


async def logout(asked: Asked) -> Response:
    """Go out."""
    if asked.visit.account is not None:
        await run_in_threadpool(entry.leave, asked.accounts, asked.visit.cookie, asked.by)
    response = then("/login")
    let_out(response, asked.request)
    return response


async def register_page(asked: Asked) -> Response:
    """A new account, for who was invited or where anybody may."""
    invitation = asked.request.query_params.get("invitation", "")[:100]
    may = bool(invitation) or asked.request.app.state.is_open
    return asked.page("register", 200 if may else 403, invitation=invitation, may=may)


async def register(asked: Asked) -> Response:
    """Have an account."""
    limits = limits_of(asked.request)
    limits.refuse_fast(limits.sign_in, line_of(asked.by.address))
    if not (invitation := asked.field("invitation")) and not asked.request.app.state.is_open:
        raise Problem(403, "", "this hub is not open to anybody: ask its owner for an invitation")
    name, words = asked.field("name"), (asked.field("password"), asked.field("email"), invitation)
    by = by_of(asked.request, name)
    await run_in_threadpool(_refuse_namespace, asked.request, name)
    return _in(asked, await run_in_threadpool(entry.register, asked.accounts, name, *words, by))


def _refuse_namespace(request: Request, name: str) -> None:
    """Whoever is called as a namespace may write in it: only the hub's owner calls somebody so."""
    if key_of(name) in map(key_of, request.app.state.catalog.namespaces()):
        raise UsageError(f"{name[:40]!r} is taken", hint="models of this hub stand under that name: ask its owner")


# -- one's own ---------------------------------------------------------------------------------------------------------


async def account(asked: Asked) -> Response:
    """What one has."""
    return await _account(asked)


async def add_token(asked: Asked) -> Response:
    """A new token, shown on the page that answers and never again."""
    scope, days = asked.field("scope"), asked.field("days")
    if scope not in SCOPES or not (days.isascii() and days.isdigit() and len(days) < 5):
        raise UsageError("a token has a scope, and an end in days")
    words = {"scope": scope, "days": int(days), "title": asked.field("title"), "repository": asked.field("repository")}
    token, _ = await run_in_threadpool(lambda: asked.accounts.mint(asked.account.name, by=asked.by, **words))
    return await _account(asked, token)


async def revoke(asked: Asked) -> Response:
    """A token opens nothing from now on."""
    id_, name = asked.field("token"), asked.account.name
    await run_in_threadpool(lambda: asked.accounts.revoke(id_, by=asked.by, account=name))
    return then("/account")


async def add_key(asked: Asked) -> Response:
    """A key, proved by a signature."""
    given, armour, host = _signed(asked)
    name, title = asked.account.name, asked.field("title")
    await run_in_threadpool(entry.prove, asked.accounts, name, given, armour, host, asked.by, title)
    return then("/account")


async def remove_key(asked: Asked) -> Response:
    """A key is one's no more."""
    await run_in_threadpool(entry.drop_key, asked.accounts, asked.account.name, asked.field("key"), asked.by)
    return then("/account")


async def change_password(asked: Asked) -> Response:
    """Another password; every browser is signed out, and this one asked for it."""
    limits, name = limits_of(asked.request), asked.account.name
    limits.refuse_fast(limits.guesses, name.lower())
    before, after = asked.field("before"), asked.field("after")
    await run_in_threadpool(entry.change_password, asked.accounts, name, before, after, asked.by)
    return then("/login")


async def _account(asked: Asked, token: str = "") -> Response:
    accounts, name, host = asked.accounts, asked.account.name, host_of(asked.request)
    tokens = await run_in_threadpool(accounts.token_list, name)
    keys = await run_in_threadpool(entry.keys_of, accounts, name)
    given = challenge(accounts.secret, host, name) if host else None
    return asked.page("account", tokens=tokens, keys=keys, challenge=given, token=token, scopes=SCOPES)


# -- what they share ---------------------------------------------------------------------------------------------------


def _in(asked: Asked, cookie: str) -> Response:
    response = then("/account")
    let_in(response, asked.request, cookie)
    return response


def then(address: str) -> Response:
    """On to another page, after a form."""
    return RedirectResponse(address, 303, {"cache-control": "no-store", "referrer-policy": "same-origin"})


def _signed(asked: Asked) -> tuple[Challenge, str, str]:
    given = Challenge(asked.field("text"), asked.field("text_seal"))
    return given, asked.field("signature", 10_000), host_of(asked.request)


def host_of(request: Request) -> str:
    """What this hub is called, for who signs; "" where its owner did not say: who asks may name any host."""
    if own := urlsplit(str(request.app.state.url)).netloc:
        return own
    return request.headers.get("host", "") if request.url.hostname in LOOPBACK else ""
