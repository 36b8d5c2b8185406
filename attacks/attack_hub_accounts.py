"""Accounts that a stranger would open, keep open, or act by: another's cookie, token, signature, form or name."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time

import pytest
from starlette.requests import Request
from tests.browsing import PASSWORD, Browser, opened, signature
from tests.hubs import Site, raw, serving

from souq import signing
from souq.errors import UsageError
from souq.hub import limits
from souq.hub.accounts.callers import needs
from souq.hub.accounts.challenges import challenge
from souq.hub.accounts.trail import OPERATOR, changes
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.hub.problems import Problem


@pytest.fixture
def hub(tmp_path):
    (tmp_path / "shelf").mkdir()
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data", ways=Ways(is_open=True))
    opened(app.state.accounts, "ada", "mallory")
    with serving(app) as url:
        yield Site(url, app, None)


@pytest.fixture
def ada(hub):
    browser = Browser(hub.url)
    browser.sign_in("ada", PASSWORD)
    return browser


@pytest.fixture
def key(hub, ada, tmp_path):
    """ada's, proved."""
    signing.make_key(tmp_path / "key", "ada")
    fields = ada.hidden("/account", "/account/keys")
    ada.post("/account/keys", fields | {"title": "", "signature": signature(fields["text"], tmp_path / "key")})
    return tmp_path / "key"


def asking(app, token, repo="", method="POST", path="/api/x"):
    """A request as a route gets it."""
    headers = [(b"authorization", f"Bearer {token}".encode()), (b"host", b"hub")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "app": app, "path_params": {"repo": repo} if repo else {}, "client": ("192.0.2.1", 1)}  # fmt: skip
    return Request(scope)


# -- sessions and forms ------------------------------------------------------------------------------------------------


def test_a_cookie_that_somebody_was_given_before_they_sign_in_opens_nothing_after(hub):
    """Session fixation: the cookie is always a new one, and a made-up one is none."""
    fixed = "A" * 43
    browser = Browser(hub.url)
    fields = browser.hidden("/login", "/login") | {"name": "ada", "password": PASSWORD}
    browser.post("/login", fields, Cookie=f"souq-session={fixed}; souq-visitor={browser.cookie('souq-visitor')}")

    assert browser.cookie() not in ("", fixed)
    assert hub.app.state.accounts.signed_in(fixed) is None


FOREIGN = [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""}, {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
]  # fmt: skip


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_another_site_has_a_browser_send_nothing(hub, ada, headers):
    """Even with the seal of the form: neither a token is made nor anybody signed out."""
    fields = ada.hidden("/account", "/account/tokens") | {"title": "x", "scope": "admin", "days": "9", "repository": ""}

    assert ada.post("/account/tokens", fields, **headers).status == 403
    assert ada.post("/logout", fields, **headers).status == 403
    assert hub.app.state.accounts.token_list("ada") == []


@pytest.mark.parametrize("seal", ["", "0" * 64, "é", "x" * 5_000])
def test_a_form_without_its_seal_is_none(hub, ada, seal):
    fields = {"title": "x", "scope": "admin", "days": "9", "repository": ""}

    assert ada.post("/account/tokens", fields | ({"seal": seal} if seal else {})).status == 403
    assert (
        ada.post("/account/tokens", fields | {"seal": Browser(hub.url).hidden("/login", "/login")["seal"]}).status
        == 403
    )
    assert hub.app.state.accounts.token_list() == []


def test_a_cookie_alone_changes_nothing_by_the_api(hub, ada):
    """A program's route takes a browser's cookie for a change only from the hub's own page."""
    cookie = f"souq-session={ada.cookie()}".encode()
    for origin, is_refused in ((b"https://evil.example", True), (b"", True), (b"http://hub", False)):
        request = asking(hub.app, "")
        request.scope["headers"] = [(b"host", b"hub"), (b"cookie", cookie), *([(b"origin", origin)] if origin else [])]
        request.scope["scheme"] = "http"
        if is_refused:
            with pytest.raises(Problem, match="another site"):
                asyncio.run(needs(request, "write"))
        else:
            assert asyncio.run(needs(request, "write")).name == "ada"


def test_nobody_is_sent_elsewhere_and_no_page_shows_another_s(hub, ada):
    """Another's token is neither listed nor revoked, and another's key not removed."""
    _, kept = hub.app.state.accounts.mint("mallory", by=OPERATOR, scope="read")

    assert kept.id.encode() not in ada.ask("/account").body
    seal = ada.hidden("/account", "/logout")
    assert ada.post("/account/tokens/revoke", seal | {"token": kept.id}).status == 404
    assert hub.app.state.accounts.token_list("mallory")[0].state == "good"


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_of_one_repository_opens_no_other(hub):
    token, _ = hub.app.state.accounts.mint("ada", by=OPERATOR, scope="write", repository="atlas/smol")

    assert asyncio.run(needs(asking(hub.app, token, "atlas/smol"), "write")).repository == "atlas/smol"
    assert asyncio.run(needs(asking(hub.app, token, "atlas/smol.git"), "read")).name == "ada"
    for repo in ("atlas/smo1", "atlas", "smol", "atlas/smol/", "ATLAS/smol", "../atlas/smol", ""):
        with pytest.raises(Problem) as no:
            asyncio.run(needs(asking(hub.app, token, repo), "read"))
        assert no.value.status == 403


def test_a_token_reaches_no_further_than_its_scope(hub):
    token, _ = hub.app.state.accounts.mint("ada", by=OPERATOR, scope="read")
    for scope in ("write", "admin"):
        with pytest.raises(Problem) as no:
            asyncio.run(needs(asking(hub.app, token), scope))
        assert no.value.status == 403


BAD = [
    "",
    "souq_",
    "hf_" + "x" * 34,
    "souq_' OR 1=1 --" + "x" * 20,
    "souq_" + "a" * 5_000,
    "souq_%00" + "a" * 30,
    "\xff" * 40,
]


@pytest.mark.parametrize("token", BAD, ids=range(len(BAD)))
def test_a_token_that_is_none_is_refused_and_never_a_fault(hub, token):
    for words in (b"Bearer " + token.encode("latin-1"), b"Basic " + base64.b64encode(b"x:" + token.encode("latin-1"))):
        answer = raw(
            hub.url,
            b"GET /api/whoami-v2 HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: " + words + b"\r\n\r\n",
        )
        assert int(answer[9:12]) in (400, 401), answer[:200]


# -- signatures --------------------------------------------------------------------------------------------------------


def test_a_text_signs_in_once(hub, key):
    browser = Browser(hub.url)
    fields = browser.hidden("/login", "/login/key")
    fields |= {"signature": signature(fields["text"], key)}

    assert b"<h1>ada</h1>" in browser.post("/login/key", fields).body
    other = Browser(hub.url)
    again = fields | {"seal": other.hidden("/login", "/login")["seal"]}
    assert other.post("/login/key", again).status == 403
    assert not other.cookie()


@pytest.mark.parametrize("namespace", ["souq.vote.v1", "file", "git", "souq-hub2"])
def test_a_signature_for_something_else_opens_nothing(hub, key, namespace):
    """A signed vote or commit is no sign-in, whatever it says."""
    browser = Browser(hub.url)
    fields = browser.hidden("/login", "/login/key")

    assert browser.post("/login/key", fields | {"signature": signature(fields["text"], key, namespace)}).status == 403


def test_a_text_of_another_hub_another_use_or_another_time_opens_nothing(hub, key, monkeypatch):
    """Who runs a hub passes on no text of this one; a text to prove a key is none to sign in; none can be made up."""
    secret, host = hub.app.state.accounts.secret, hub.url.removeprefix("http://")
    good = challenge(secret, host)
    texts = {
        "another host": challenge(secret, "evil.example"), "a key's": challenge(secret, host, "ada"),
        "another secret": challenge(b"x" * 32, host), "changed": type(good)(good.text.replace("until 2", "until 3"), good.seal),
        "none": type(good)("hello", ""), "long": type(good)("souq hub " + "x" * 5_00, good.seal),
    }  # fmt: skip
    monkeypatch.setattr("souq.hub.accounts.challenges.MINUTES", -1)
    texts["old"] = challenge(secret, host)
    browser = Browser(hub.url)
    seal = browser.hidden("/login", "/login")
    for name, given in texts.items():
        fields = seal | {"text": given.text, "text_seal": given.seal, "signature": signature(given.text, key)}
        assert browser.post("/login/key", fields).status in (400, 403), name
    assert not browser.cookie()


def test_a_hub_that_was_not_told_its_name_gives_out_no_text_under_another(hub):
    """Who asks may name any host: a text for it could be passed on."""
    assert b"ssh-keygen" not in hub.ask("/login", Host="evil.example").body
    assert b"ssh-keygen" in hub.ask("/login").body


def test_a_key_that_is_proved_is_nobody_else_s(hub, key):
    mallory = Browser(hub.url)
    mallory.sign_in("mallory", PASSWORD)
    fields = mallory.hidden("/account", "/account/keys")

    assert (
        mallory.post("/account/keys", fields | {"title": "", "signature": signature(fields["text"], key)}).status == 403
    )
    garbage = "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----"
    for wrong in ("", "x", garbage, "A" * 9_000, "\x00"):
        assert mallory.post("/account/keys", fields | {"title": "", "signature": wrong}).status in (400, 403)


# -- names, guesses, bodies --------------------------------------------------------------------------------------------


def test_the_time_of_a_no_says_not_whether_an_account_is_there(hub):
    """Medians of five each: an unknown name costs what a wrong password costs."""
    accounts = hub.app.state.accounts
    accounts.add("keyed", by=OPERATOR)  # one without a password, too

    def spent(name):
        start = time.perf_counter()
        assert not accounts.opens(name, "wrong password")
        return time.perf_counter() - start

    [spent(name) for name in ("ada", "nobody", "keyed")]
    rounds = [(spent("ada"), spent("nobody"), spent("keyed")) for _ in range(5)]
    real, unknown, keyed = (statistics.median(times) for times in zip(*rounds, strict=True))
    assert 0.5 < unknown / real < 2
    assert 0.5 < keyed / real < 2


def test_words_of_a_no_are_the_same_for_every_name(hub):
    browser = Browser(hub.url)
    bodies = {browser.sign_in(name, "wrong password").body for name in ("ada", "nobody", "а", "x" * 500, "ada' --")}

    assert len(bodies) == 1


def test_who_guesses_is_made_to_wait(hub):
    """One account's password is tried ten times at once and then twice a minute, from wherever."""
    browser = Browser(hub.url)
    fields = browser.hidden("/login", "/login") | {"name": "ada", "password": "wrong password"}
    statuses = [browser.post("/login", fields).status for _ in range(12)]

    assert statuses == [403] * 10 + [429] * 2
    assert browser.post("/login", fields).headers["retry-after"].isdigit()


NAMES = [
    "аda",
    "ａda",
    "ada\u200b",
    "ada\n",
    "ada\x00",
    "ADA",
    "a-d-a",
    "AD_A",
    "ada.git",
    "ada'--",
    '"; DROP TABLE accounts',
    "..",
    "api",
    "x/y",
    "\u202eada",
    "İ",
    "<b>",
    "%61da",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_passes_for_another_s_or_for_sql(hub, name):
    browser = Browser(hub.url)
    before = hub.app.state.accounts.every()

    assert browser.send("/register", "/register", name=name, password=PASSWORD, email="").status == 403
    with pytest.raises(UsageError):
        hub.app.state.accounts.add(name, by=OPERATOR)
    assert hub.app.state.accounts.every() == before


def test_nobody_writes_a_line_of_their_own_among_the_changes(hub):
    Browser(hub.url).sign_in("x\n2026-01-01T00:00:00Z ada signed in\x1b[2J\u202e", "wrong password")
    newest = next(changes(hub.app.state.accounts.database, 1))

    assert (newest.by, newest.what, newest.address) == ("(nobody)", "sign-in refused", "127.0.0.1")
    assert newest.about.isprintable()


def test_a_body_that_is_huge_odd_or_slow_is_cut(hub, ada, monkeypatch):
    """It is neither kept in memory nor waited for."""
    seal = ada.hidden("/account", "/logout")

    assert ada.post("/login", seal | {"name": "x" * 100_000}).status == 413
    assert ada.post("/account/tokens", seal | {"title": "x" * 2_000, "scope": "read", "days": "1"}).status == 400
    assert ada.post("/login", seal | {f"f{i}": "" for i in range(40)}).status == 400
    assert (
        ada.ask("/login", b"seal=1&seal=2", Origin=hub.url, Content_Type="application/x-www-form-urlencoded").status
        == 400
    )
    assert (
        ada.ask("/login", b"%ff=%fe&\xff", Origin=hub.url, Content_Type="application/x-www-form-urlencoded").status
        == 400
    )
    assert ada.post("/login", {}, **{"Content-Type": "multipart/form-data; boundary=x"}).status == 415
    monkeypatch.setattr(limits, "IDLE", 0.3)
    start = time.monotonic()
    head = "POST /login HTTP/1.1\r\nHost: hub\r\nOrigin: http://hub\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 50\r\n\r\nname=ad"
    assert b" 408 " in raw(hub.url, head.encode())[:20]
    assert time.monotonic() - start < 5
    assert int(
        raw(
            hub.url,
            b"GET /account HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nCookie: "
            + b"souq-session=x; " * 5_000
            + b"\r\n\r\n",
        )[9:12]
    ) in (303, 400, 431)
    assert ada.ask("/account").status == 200


def test_a_flood_of_changes_from_one_address_is_told_to_wait(hub, monkeypatch):
    """Whoever looks is let look all the same."""
    monkeypatch.setattr(hub.app.state.limits, "changes", limits.Bucket(3, 1))
    statuses = [hub.ask("/api/repos/create", "POST", b"{}").status for _ in range(5)]

    assert statuses[3:] == [429, 429]
    assert hub.ask("/").status == 200
