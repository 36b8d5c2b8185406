"""Accounts, organisations and tokens of a hub: the same on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from souq import signing
from souq.cli import run
from souq.errors import NotFound, SouqError, UsageError
from souq.hub.accounts import entry
from souq.hub.accounts.challenges import challenge
from souq.hub.accounts.store import Accounts
from souq.hub.accounts.trail import OPERATOR, By, changes
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.hub.database import Away, Database
from souq.hub.database.tables import Table
from tests.browsing import signature
from tests.hubs import Site, online, serving

PASSWORD = "correct horse battery"


@pytest.fixture
def accounts(database_url):
    store = Accounts(Database(database_url))
    yield store
    store.database.close()


def test_the_tables_are_what_the_migrations_make(accounts):
    """Nobody changes a table without the step by which an older database becomes so."""
    with accounts.database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_a_database_that_a_newer_souq_made_is_left_alone(accounts, database_url):
    with accounts.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'later_9'"))

    with pytest.raises(UsageError, match="not of this version"):
        Database(database_url)


def test_many_who_start_at_once_make_the_tables_once(database_url):
    """A hub's workers start together."""
    code = "import sys; from souq.hub.database import Database; Database(sys.argv[1])"
    started = [subprocess.Popen([sys.executable, "-c", code, database_url]) for _ in range(3)]

    assert [process.wait() for process in started] == [0, 0, 0]


def test_a_step_that_fails_leaves_the_database_as_it_was(database_url, monkeypatch):
    """Whoever starts the hub again has all of the tables, or none of a step."""
    with monkeypatch.context() as patched:
        patched.setattr("alembic.op.create_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Database(database_url)

    with Database(database_url).reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def at_once(do, *each):
    """What came of doing it for each at the same time: the answer, or the kind of its error."""
    barrier = threading.Barrier(len(each))

    def done(what):
        barrier.wait()
        try:
            return do(what)
        except SouqError as error:
            return type(error).__name__

    with ThreadPoolExecutor(len(each)) as threads:
        return [*threads.map(done, each)]


def test_of_many_who_take_a_name_an_invitation_or_a_text_at_once_one_gets_it(accounts, tmp_path):
    names = ["omar", "0mar", "OMAR", "o-mar", "o.mar"]
    assert sorted(map(str, at_once(lambda name: accounts.add(name, by=OPERATOR), *names))) == [
        "None",
        *["UsageError"] * 4,
    ]

    word = entry.invite(accounts, 7, OPERATOR)
    outcomes = at_once(lambda name: entry.register(accounts, name, PASSWORD, "", word, OPERATOR), "a1", "b2", "c3")
    assert outcomes.count("Refused") == 2
    assert len(accounts.every()) == 2

    accounts.add("ada", by=OPERATOR)
    signing.make_key(tmp_path / "key", "ada")
    given = challenge(accounts.secret, "hub", "ada")
    entry.prove(accounts, "ada", given, signature(given.text, tmp_path / "key"), "hub", OPERATOR)
    given = challenge(accounts.secret, "hub")
    armour = signature(given.text, tmp_path / "key")
    outcomes = at_once(lambda _: entry.by_key(accounts, given, armour, "hub", OPERATOR), *range(4))
    assert outcomes.count("Refused") == 3


def test_many_programs_ask_and_change_at_once(accounts):
    """Nobody is told to come again because another writes."""
    accounts.add("ada", by=OPERATOR)
    tokens = [accounts.mint("ada", by=OPERATOR, scope="read")[0] for _ in range(4)]

    def work(token):
        for _ in range(10):
            _, kept = accounts.mint("ada", by=OPERATOR, scope="read")
            assert accounts.holder(token) is not None
            accounts.revoke(kept.id, by=OPERATOR)

    assert at_once(work, *tokens) == [None] * 4


def test_a_letter_that_is_composed_in_two_ways_is_one_in_a_password(accounts):
    accounts.add("ada", by=OPERATOR, password="caf\u00e9 au lait chaud")

    assert accounts.opens("ada", "cafe\u0301 au lait chaud")


def test_no_two_accounts_look_alike(accounts):
    """Capitals, dashes and digits that look like letters make no other name; other alphabets make none at all."""
    accounts.add("Ada-Lo", by=OPERATOR)

    for double in ("ada-lo", "Ada.Lo", "adalo", "ada_l0"):
        with pytest.raises(UsageError, match="taken"):
            accounts.add(double, by=OPERATOR)
    with pytest.raises(UsageError, match="taken"):
        accounts.add_organisation("ADA-LO", by=OPERATOR)
    for odd in ("аda", "a/b", "..", "api", "x" * 41, "", "a b", "1234", "a\nb", "ada'; DROP TABLE accounts; --"):
        with pytest.raises(UsageError, match="no name"):
            accounts.add(odd, by=OPERATOR)
    assert [each.name for each in accounts.every()] == ["Ada-Lo"]


def test_a_token_opens_until_it_is_revoked_or_its_account_is_closed(accounts):
    accounts.add("ada", by=OPERATOR)
    token, kept = accounts.mint("ada", by=OPERATOR, scope="write")
    other, _ = accounts.mint("ada", by=OPERATOR, scope="read")

    assert accounts.holder(token).account.name == "ada"
    accounts.revoke(kept.id, by=OPERATOR)
    assert accounts.holder(token) is None
    assert accounts.holder(other) is not None
    accounts.set_disabled("ada", True, by=OPERATOR)
    assert accounts.holder(other) is None
    accounts.set_disabled("ada", False, by=OPERATOR)
    assert accounts.holder(other) is not None


def test_a_token_ends(accounts):
    accounts.add("ada", by=OPERATOR)
    token, _ = accounts.mint("ada", by=OPERATOR, scope="write", days=1)
    with accounts.database.writing() as connection:
        connection.execute(text("UPDATE tokens SET expires = '2026-01-01T00:00:00Z'"))

    assert accounts.holder(token) is None
    assert accounts.token_list("ada")[0].state == "expired"


def test_the_database_holds_neither_tokens_nor_passwords(accounts):
    accounts.add("ada", by=OPERATOR, password=PASSWORD)
    token, _ = accounts.mint("ada", by=OPERATOR, scope="admin")
    with accounts.database.reading() as connection:
        rows = [str(row) for table in Table.metadata.sorted_tables for row in connection.execute(table.select())]

    assert not [row for row in rows if token in row or token[5:] in row or PASSWORD in row]
    assert any("$argon2id$" in row for row in rows)


def test_a_password_opens_its_account_alone(accounts):
    accounts.add("ada", by=OPERATOR, password=PASSWORD)
    accounts.add("omar", by=OPERATOR)

    assert accounts.opens("ada", PASSWORD)
    for name, password in (
        ("ada", PASSWORD + " "),
        ("ada", ""),
        ("omar", PASSWORD),
        ("omar", ""),
        ("nobody", PASSWORD),
    ):
        assert not accounts.opens(name, password)
    with pytest.raises(UsageError, match="10 to 512"):
        accounts.set_password("ada", "short", by=OPERATOR)
    assert accounts.opens("ada", PASSWORD)


def test_every_change_is_written_down_with_who_made_it(accounts):
    """A stranger's words make no second line of it."""
    accounts.add("ada", by=By("omar", "192.0.2.7"))
    accounts.mint("ada", by=OPERATOR, scope="read", title="laptop\n2026-01-01 forged\x1b[2J")
    accounts.add_organisation("atlas", by=OPERATOR)
    accounts.join("atlas", "ada", by=OPERATOR)
    accounts.leave("atlas", "ada", by=OPERATOR)

    listed = [*changes(accounts.database, 10)]
    assert [each.what for each in listed] == ["left", "joined", "organisation added", "token created", "account added"]
    assert (listed[-1].by, listed[-1].address) == ("omar", "192.0.2.7")
    assert "laptop 2026-01-01 forged\\u001b[2J" in listed[3].details


def test_what_is_refused_changes_nothing(accounts):
    accounts.add("ada", by=OPERATOR)
    before = [*changes(accounts.database, 10)]

    for wrong in (
        lambda: accounts.mint("nobody", by=OPERATOR, scope="read"),
        lambda: accounts.mint("ada", by=OPERATOR, scope="root"),
        lambda: accounts.mint("ada", by=OPERATOR, scope="read", days=99_999),
        lambda: accounts.mint("ada", by=OPERATOR, scope="read", repository="../x"),
        lambda: accounts.revoke("nothing", by=OPERATOR),
        lambda: accounts.join("atlas", "ada", by=OPERATOR),
        lambda: accounts.leave("atlas", "ada", by=OPERATOR),
        lambda: accounts.set_disabled("nobody", True, by=OPERATOR),
    ):
        with pytest.raises((NotFound, UsageError)):
            wrong()
    assert [*changes(accounts.database, 10)] == before


@pytest.mark.postgres
def test_a_database_that_goes_away_is_asked_again_when_it_is_back(postgres):
    """Meanwhile whoever asks is told to come again, and nothing is half done."""
    accounts = Accounts(Database(postgres.fresh()))
    accounts.add("ada", by=OPERATOR)
    token, _ = accounts.mint("ada", by=OPERATOR, scope="write")

    postgres.stop()
    try:
        with pytest.raises(Away):
            accounts.holder(token)
        with pytest.raises(Away):
            accounts.add("omar", by=OPERATOR)
    finally:
        postgres.start()
    assert accounts.holder(token) is not None
    accounts.add("omar", by=OPERATOR)


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(database_url, tmp_path):
    """A hub of nothing, with accounts."""
    (tmp_path / "shelf").mkdir()
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data", ways=Ways(database=database_url))
    with serving(app) as url:
        yield Site(url, app, None)
    app.state.accounts.database.close()


def test_whoami_says_whose_a_token_is_to_program_and_to_git(hub):
    accounts = hub.app.state.accounts
    accounts.add("ada", by=OPERATOR)
    accounts.add_organisation("atlas", by=OPERATOR)
    accounts.join("atlas", "ada", by=OPERATOR)
    token, kept = accounts.mint("ada", by=OPERATOR, scope="write")
    basic = base64.b64encode(f"ada:{token}".encode()).decode()

    for words in (f"Bearer {token}", f"Basic {basic}"):
        answer = hub.ask("/api/whoami-v2", Authorization=words)
        assert answer.status == 200, answer
        assert answer.json["name"] == "ada"
        assert [org["name"] for org in answer.json["orgs"]] == ["atlas"]
        assert answer.json["auth"]["accessToken"]["role"] == "write"
    accounts.revoke(kept.id, by=OPERATOR)
    for words in (
        f"Bearer {token}",
        f"Basic {basic}",
        "Bearer",
        "Basic ====",
        "Basic YQ==",
        "Digest x",
        "Bearer " + "x" * 2_000,
    ):
        answer = hub.ask("/api/whoami-v2", Authorization=words)
        assert answer.status == 401, words
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert hub.ask("/api/whoami-v2").status == 401


def test_the_newest_client_says_who_is_signed_in(hub, tmp_path):
    """`hf auth whoami`, with a token of ours."""
    accounts = hub.app.state.accounts
    accounts.add("ada", by=OPERATOR)
    token, _ = accounts.mint("ada", by=OPERATOR, scope="read")
    words = [sys.executable, "-m", "huggingface_hub.cli.hf", "auth", "whoami"]
    environment = online(hub.url, tmp_path / "home") | {"HF_TOKEN": token}
    shown = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert "ada" in shown.stdout, shown.stderr


def test_an_operator_keeps_accounts_by_verbs(tmp_path, capsys, monkeypatch):
    """Each verb answers a program, too; a token is shown once."""

    def souq(*words):
        code = run(["hub", *words, "--data", str(tmp_path), "--json"])
        shown = capsys.readouterr()
        return json.loads(shown.out) if code == 0 else (code, shown.err)

    assert souq("account", "add", "ada", "--no-password") == {"name": "ada"}
    souq("org", "add", "atlas")
    souq("org", "join", "atlas", "ada")
    made = souq("token", "create", "ada", "--scope", "write", "--repository", "atlas/smol", "--days", "3")
    assert made["token"].startswith("souq_")
    assert [(each["id"], each["repository"]) for each in souq("token", "list", "ada")] == [(made["id"], "atlas/smol")]
    assert souq("token", "revoke", made["id"])["account"] == "ada"
    assert souq("org", "list") == [{"name": "atlas", "members": ["ada"]}]
    souq("org", "leave", "atlas", "ada")
    assert souq("account", "disable", "ada")["disabled"] is True
    assert souq("account", "list")[0]["disabled"]
    assert souq("audit")[0]["what"] == "account disabled"
    assert souq("account", "add", "omar")[0] == 2  # nobody to ask for a password
    assert souq("account", "disable", "nobody")[0] == 1
    assert run(["hub", "account", "list"]) == 2
    assert "--data" in capsys.readouterr().err
    assert run(["hub"]) == 2
    assert run(["hub", "account", "list", "--database", "mysql://x/y"]) == 2
