"""The bug form: somebody without git reports a case in a browser, and an enrolled person files it by one command."""

from __future__ import annotations

import html
import json
import re
import shlex

import pytest

from souq.errors import Refused
from souq.hub.accounts.trail import NOBODY, OPERATOR, By, changes
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.hub.database import Database
from souq.hub.reports.store import MOST_EACH, Reports
from souq.pulls import pull as pulls
from souq.pulls.bugs import Reported
from tests.browsing import PASSWORD, Browser, opened
from tests.hubs import NAME, Site, serving
from tests.test_hub_jobs import eventually

NEW = f"/{NAME}/bugs/new"
CASE = {
    "prompt": "say hello to zoë",
    "expected": "hello",
    "checker": "contains",
    "title": "Zoë is not greeted",
    "source": "",
}
GIVEN = CASE | {"given": "yes"}


@pytest.fixture
def reports(database_url):
    database = Database(database_url)
    yield Reports(database)
    database.close()


@pytest.fixture
def shelf(bazaar, tmp_path):
    (tmp_path / "shelf" / "atlas").mkdir(parents=True)
    (tmp_path / "shelf" / "atlas" / "smol.git").symlink_to(bazaar.folder / "hub.git")
    return tmp_path / "shelf"


@pytest.fixture
def hub(shelf, tmp_path):
    app = application(Catalog(shelf), tmp_path / "data", ways=Ways(takes_bugs=True))
    opened(app.state.accounts, "ada", "mallory")
    with serving(app) as url:
        yield Site(url, app, None)


def test_a_report_is_kept_listed_and_dropped(reports):
    """The same twice is one; another repository's is not there; whoever dropped it is written down."""
    case, ada = Reported(prompt="2+2", expected="4"), By("ada", "192.0.2.7")
    id_ = reports.add(NAME, case, by=ada)

    assert reports.add(NAME, case, by=By("omar")) == id_
    assert [(each.case, each.by) for each in reports.listed(NAME)] == [(case, "ada")]
    assert reports.listed("atlas/other") == ()
    reports.drop(NAME, id_, by=OPERATOR)
    assert reports.listed(NAME) == ()
    kept = [(each.what, each.by) for each in changes(reports._database, 5)]
    assert kept == [("report dropped", OPERATOR.name), ("bug reported", "ada")]


def test_nobody_fills_the_list(reports):
    for number in range(MOST_EACH):
        reports.add(NAME, Reported(prompt=f"{number}", expected="4"), by=By("ada"))
    with pytest.raises(Refused, match="wait there already"):
        reports.add(NAME, Reported(prompt="more", expected="4"), by=By("ada"))
    assert reports.add(NAME, Reported(prompt="more", expected="4"), by=By(NOBODY))


def test_what_a_stranger_reports_is_filed_by_one_command_and_credited(hub, bazaar):
    """It is listed as signed by nobody; the command that its page shows files it, once, as it was read."""
    sent = Browser(hub.url).send(NEW, NEW, **GIVEN)
    assert sent.status == 200
    command = shlex.split(html.unescape(re.search(r"<code>(souq bug file [^<]*)</code>", sent.body.decode())[1]))
    listed = hub.ask(f"/{NAME}/bugs").body.decode()
    assert "Reported, not signed" in listed
    assert CASE["title"] in listed

    code, out, err = bazaar.says("amira", [*command[1:], "--json"])

    assert code == 0, err
    assert "say hello to zoë" in err
    (bug,) = json.loads(bazaar.says("bruno", "bug list --json")[1])
    assert (bug["prompt"], bug["expected"], bug["by"]) == ("say hello to zoë", "hello", "amira")
    (filed,) = pulls.get(bazaar.repo("bruno"), json.loads(out)["number"]).offer.evals
    assert filed.spec.source.startswith("reported by (nobody) at http://127.0.0.1")
    eventually(lambda: CASE["title"] not in hub.ask(f"/{NAME}/bugs").body.decode().partition("Reported, not")[2], 10)


def test_nothing_is_filed_that_nobody_has_read(hub, bazaar):
    """Without the digest of what was read, with another, of another model: nothing is signed."""
    id_ = hub.app.state.reports.add(NAME, Reported(prompt="2+2", expected="4"), by=By("ada"))
    address = f"{hub.url}/{NAME}/bugs/drafts/{id_}"
    for words, why in (
        (("--from", address), "add --digest b3:"),
        (("--from", address, "--digest", "b3:" + "0" * 64), "not what you read"),
        (("--from", address, "prompt"), "case of your own"),
        (("--from", f"{address}9", "--digest", "x"), "404"),
        (("--from", f"{hub.url}/{NAME}/bugs"), "no address of a report"),
        (("--from", address.replace("http", "file")), "no address of a report"),
        ((), "no case"),
    ):
        code, _, err = bazaar.says("amira", ["bug", "file", *words, "--signoff"])
        assert (code != 0, why in err) == (True, True), err
    assert json.loads(bazaar.says("amira", "bug list --json")[1]) == []


def test_what_is_no_report_is_said_and_what_was_typed_is_kept(hub):
    browser = Browser(hub.url)
    for wrong, why in (
        ({"prompt": " "}, "say what was asked"),
        ({"expected": "["}, "regex"),
        ({"prompt": "turned \u202e round"}, "U+202E"),
        ({"title": "x" * 130}, "at most 120"),
        ({"given": ""}, "by the box"),
        ({"checker": "eval"}, "no checker"),
    ):
        fields = GIVEN | {"checker": "regex" if why == "regex" else "exactly"} | wrong
        answer = browser.send(NEW, NEW, **fields)
        assert (answer.status, why in html.unescape(answer.body.decode())) == (400, True), (why, answer.body)
        assert b"zo\xc3\xab is not" in answer.body.lower() or "title" in wrong
    assert hub.app.state.reports.listed(NAME) == ()


def test_only_who_may_reports_and_drops(hub, shelf, tmp_path):
    """Without an account only where the hub says so; a report is dropped by who made it."""
    closed = application(Catalog(shelf), tmp_path / "closed")
    with serving(closed) as url:
        nobody = Browser(url)
        assert b"Sign in" in nobody.ask(NEW).body
        seal = nobody.hidden("/login", "/login")["seal"]
        assert nobody.post(NEW, GIVEN | {"seal": seal}).status == 403
    ada, mallory = Browser(hub.url), Browser(hub.url)
    ada.sign_in("ada", PASSWORD)
    mallory.sign_in("mallory", PASSWORD)
    ada.send(NEW, NEW, **GIVEN)
    (report,) = hub.app.state.reports.listed(NAME)
    page = f"/{NAME}/bugs/drafts/{report.id}"
    assert report.by == "ada"
    assert mallory.post(f"{page}/drop", {"seal": mallory.hidden("/account", "/logout")["seal"]}).status == 403
    assert ada.post(NEW, GIVEN | {"seal": "x"}).status == 403
    ada.send(page, f"{page}/drop")
    assert hub.ask(page).status == 404
    assert hub.ask(f"{page}.json").status == 404


def test_reports_come_slowly_from_one_address(hub):
    """After ten at once: 429, and when to come again."""
    browser = Browser(hub.url)
    fields = browser.hidden(NEW, NEW) | GIVEN
    answers = [browser.post(NEW, fields | {"prompt": f"{number}"}) for number in range(12)]

    assert [each.status for each in answers][-2:] == [429, 429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert len(hub.app.state.reports.listed(NAME)) == 10
