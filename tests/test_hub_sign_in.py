"""Signing in to a hub: by a password, by an ssh key, by an invitation; one's own tokens, keys and password."""

from __future__ import annotations

import re
import subprocess

import pytest
from sqlalchemy import text

from souq import signing
from souq.errors import Forged
from souq.hub import limits
from souq.hub.accounts import entry
from souq.hub.accounts.challenges import signer_of
from souq.hub.accounts.trail import OPERATOR, changes
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.hub.limits import Bucket
from tests.browsing import PASSWORD, Browser, opened, signature
from tests.hubs import Site, serving


@pytest.fixture
def hub(database_url, tmp_path):
    """A hub of nothing, with ada."""
    (tmp_path / "shelf").mkdir()
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data", ways=Ways(database=database_url))
    opened(app.state.accounts, "ada")
    with serving(app) as url:
        yield Site(url, app, None)
    app.state.accounts.database.close()


@pytest.fixture
def ada(hub):
    browser = Browser(hub.url)
    assert browser.sign_in("ada", PASSWORD).status == 200
    return browser


@pytest.fixture
def key(tmp_path):
    signing.make_key(tmp_path / "key", "ada@laptop")
    return tmp_path / "key"


def test_who_knows_the_password_is_in_until_they_go_out(hub, ada):
    """And what was their cookie then opens nothing."""
    assert b"<h1>ada</h1>" in ada.ask("/account").body
    cookie = ada.cookie()

    ada.send("/account", "/logout")

    assert b"<h1>Sign in</h1>" in ada.ask("/account").body
    assert hub.app.state.accounts.signed_in(cookie) is None
    assert Browser(hub.url).sign_in("ada", PASSWORD + "x").status == 403
    whats = [each.what for each in changes(hub.app.state.accounts.database, 3)]
    assert whats == ["sign-in refused", "signed out", "signed in"]


def test_a_page_with_a_form_is_strict_and_kept_by_nobody(ada):
    headers = {name.lower(): value for name, value in ada.ask("/account").headers.items()}

    assert headers["cache-control"] == "no-store"
    assert "form-action 'self'" in headers["content-security-policy"]
    assert "script" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"


def test_a_cookie_is_read_by_no_script_and_sent_by_no_other_site(hub):
    browser = Browser(hub.url)
    browser.sign_in("ada", PASSWORD)
    (cookie,) = [each for each in browser.jar if each.name == "souq-session"]

    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite").lower() == "lax"
    secure = hub.ask("/login", Host="hub.example", X_Forwarded_Proto="https").headers["set-cookie"]
    assert secure.startswith("__Host-souq-visitor=")
    assert "Secure" in secure


def test_a_key_is_proved_and_then_signs_in(hub, ada, key):
    """By the command that the page shows; the key is then among those of whoever asks."""
    fields = ada.hidden("/account", "/account/keys")
    assert f"souq hub {hub.url.removeprefix('http://')}: a key of ada until " in fields["text"]
    assert (
        ada.post("/account/keys", fields | {"title": "laptop", "signature": signature(fields["text"], key)}).status
        == 200
    )
    public = signing.public_key(key)
    assert signing.fingerprint(public).encode() in ada.ask("/account").body
    token, _ = hub.app.state.accounts.mint("ada", by=OPERATOR, scope="read")
    assert hub.app.state.accounts.holder(token).account.keys == (public,)

    other = Browser(hub.url)
    fields = other.hidden("/login", "/login/key")
    crlf = signature(fields["text"], key).replace("\n", "\r\n")
    assert b"<h1>ada</h1>" in other.post("/login/key", fields | {"signature": crlf}).body

    other.send("/account", "/account/keys/remove")
    assert hub.app.state.accounts.holder(token).account.keys == ()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_each_kind_of_key_signs_a_text_and_no_other(tmp_path, kind):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", tmp_path / "key"], check=True)
    armour = signature("hello", tmp_path / "key").encode()

    assert signer_of(b"hello", armour, "souq-hub") == signing.public_key(tmp_path / "key")
    for message, namespace in ((b"hello ", "souq-hub"), (b"hello", "souq.vote.v1")):
        with pytest.raises(Forged):
            signer_of(message, armour, namespace)


def test_tokens_are_made_shown_once_and_revoked_by_whose_they_are(hub, ada):
    shown = ada.send(
        "/account", "/account/tokens", title="lap<b>top", scope="write", days="30", repository="atlas/smol"
    ).body.decode()
    token = re.search(r"souq_[\w-]{43}", shown)[0]
    held = hub.app.state.accounts.holder(token)

    assert (held.token.scope, held.token.repository) == ("write", "atlas/smol")
    assert "lap&lt;b&gt;top" in shown
    assert token.encode() not in ada.ask("/account").body
    ada.send("/account", "/account/tokens/revoke")
    assert hub.app.state.accounts.holder(token) is None
    assert ada.send("/account", "/account/tokens", title="x", scope="root", days="30", repository="").status == 403


def test_another_password_signs_every_browser_out(hub, ada):
    other = Browser(hub.url)
    other.sign_in("ada", PASSWORD)

    assert ada.send("/account", "/account/password", before="wrong", after="another battery").status == 403
    assert ada.send("/account", "/account/password", before=PASSWORD, after="another battery").status == 200
    assert b"<h1>Sign in</h1>" in other.ask("/account").body
    assert b"<h1>ada</h1>" in other.sign_in("ada", "another battery").body


def test_who_is_invited_registers_once(hub):
    """Nobody else does, unless the hub is open to anybody."""
    word = entry.invite(hub.app.state.accounts, 7, OPERATOR)
    page = f"/register?invitation={word}"
    stranger = Browser(hub.url)
    assert stranger.ask("/register").status == 403
    fields = {"name": "layla", "password": PASSWORD, "email": ""}
    assert stranger.post("/register", stranger.hidden("/login", "/login") | fields | {"invitation": ""}).status == 403
    assert (
        stranger.send(page, "/register", **fields | {"name": "ADA"}).status == 403
    )  # taken, and the invitation is not
    assert b"<h1>layla</h1>" in stranger.send(page, "/register", **fields).body
    assert Browser(hub.url).send(page, "/register", **fields | {"name": "second"}).status == 403

    hub.app.state.is_open = True
    (hub.app.state.catalog.root / "atlas").mkdir(exist_ok=True)
    for name in ("atlas", "ATLAS", "at-las"):  # who is called as a namespace writes in it
        refused = Browser(hub.url).send("/register", "/register", **fields | {"name": name})
        assert (refused.status, b"is taken" in refused.body) == (403, True), name
    assert b"<h1>omar</h1>" in Browser(hub.url).send("/register", "/register", **fields | {"name": "omar"}).body


def test_a_browser_is_let_do_nothing_for_an_account_that_is_closed(hub, ada):
    hub.app.state.accounts.set_disabled("ada", True, by=OPERATOR)

    assert b"<h1>Sign in</h1>" in ada.ask("/account").body
    assert Browser(hub.url).sign_in("ada", PASSWORD).status == 403


def test_a_session_ends(hub, ada):
    with hub.app.state.accounts.database.writing() as connection:
        connection.execute(text("UPDATE sessions SET expires = '2026-01-01T00:00:00Z'"))

    assert b"<h1>Sign in</h1>" in ada.ask("/account").body


def test_a_bucket_fills_again():
    now = [0.0]
    bucket = Bucket(2, 60, clock=lambda: now[0])

    assert [bucket.take("a"), bucket.take("a"), bucket.take("b")] == [0, 0, 0]
    assert bucket.take("a") == pytest.approx(1.0)
    now[0] += 1.0
    assert bucket.take("a") == 0


def test_who_has_a_whole_network_of_addresses_has_one_bucket():
    assert (
        limits.line_of("2001:db8:1:2::7") == limits.line_of("2001:db8:1:2:ffff::9") != limits.line_of("2001:db8:1:3::7")
    )
    assert limits.line_of("::ffff:192.0.2.7") == limits.line_of("192.0.2.7") == "192.0.2.7"
    assert limits.line_of("") == ""


@pytest.mark.postgres
def test_a_hub_whose_database_is_away_says_so_and_recovers(postgres, tmp_path):
    """Each request that needs it is answered with 503; what needs none is answered as always."""
    (tmp_path / "shelf").mkdir()
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data", ways=Ways(database=postgres.fresh()))
    opened(app.state.accounts, "ada")
    token, _ = app.state.accounts.mint("ada", by=OPERATOR, scope="read")
    with serving(app) as url:
        site, browser = Site(url, app, None), Browser(url)
        browser.sign_in("ada", PASSWORD)
        postgres.stop()
        try:
            assert browser.ask("/account").status == 503
            answer = site.ask("/api/whoami-v2", Authorization=f"Bearer {token}")
            assert (answer.status, answer.headers["retry-after"]) == (503, "3")
            assert site.ask("/").status == 200
        finally:
            postgres.start()
        assert site.ask("/api/whoami-v2", Authorization=f"Bearer {token}").status == 200
        assert b"<h1>ada</h1>" in browser.ask("/account").body
