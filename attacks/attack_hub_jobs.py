"""Jobs and reports that a stranger would run, see, end, forge, or fill a hub with."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from tests.browsing import PASSWORD, Browser, opened
from tests.hostile import TEXTS
from tests.hubs import NAME, Site, serving

from souq.errors import SouqError
from souq.hub.accounts.trail import By
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.pulls.bugs import Reported

NEW = f"/{NAME}/bugs/new"


@pytest.fixture(scope="module")
def hub(hub_town, tmp_path_factory):
    app = application(Catalog(hub_town.shelf), tmp_path_factory.mktemp("data"), ways=Ways(takes_bugs=True))
    opened(app.state.accounts, "ada", "mallory")
    app.state.limits.drafts._most = 10_000.0  # how many is another's promise: here what they say matters
    with serving(app) as url:
        yield Site(url, app, hub_town)


@pytest.fixture
def mallory(hub):
    browser = Browser(hub.url)
    browser.sign_in("mallory", PASSWORD)
    return browser


def test_no_hostile_text_is_markup_wherever_a_report_is_shown(hub):
    """What cannot be refused is escaped, on the form that gives it back, on its page, in the list and as JSON."""
    reports, kept = hub.app.state.reports, []
    for text in TEXTS:
        case = Reported(prompt=text[:4_000], expected=text[:1_000], title=" ".join(text.split())[:120], source="")
        try:
            case.refuse_odd()
        except SouqError:
            continue
        kept.append(reports.add(NAME, case, by=By(f"nobody{len(kept)}")))
    assert len(kept) > 20
    pages = [f"/{NAME}/bugs/drafts/{id_}" for id_ in kept]
    for path in [*pages, *(f"{page}.json" for page in pages), f"/{NAME}/bugs"]:
        answer = hub.ask(path)
        assert answer.status == 200, path
        if path.endswith(".json"):
            assert answer.headers["content-type"] == "application/json"
            json.loads(answer.body)
        else:
            assert not [
                tag for tag in (b"<script", b"<img", b"<svg/", b"<iframe", b'javascript:"') if tag in answer.body
            ]
            assert "form-action" in answer.headers["content-security-policy"]


def test_what_the_form_gives_back_is_no_markup(hub):
    """A textarea that is closed by what was typed, a value that ends its attribute."""
    browser = Browser(hub.url)
    fields = browser.hidden(NEW, NEW)
    evil = '</textarea><script>alert(1)</script>"><img src=x onerror=alert(1)>'
    answer = browser.post(NEW, fields | {"prompt": evil, "expected": evil, "title": evil, "source": evil, "checker": evil[:70], "given": "yes"})  # fmt: skip

    assert answer.status == 400
    assert b"<script" not in answer.body
    assert b"<img" not in answer.body


def test_no_address_of_a_job_or_a_report_is_a_fault(hub):
    for path in (
        "/jobs/0", "/jobs/2147483648", "/jobs/999999999", "/jobs/-1", "/jobs/1'--", "/jobs/%00", "/jobs/../etc", "/jobs/1/cancel",
        f"/{NAME}/bugs/drafts/0", f"/{NAME}/bugs/drafts/999999999", f"/{NAME}/bugs/drafts/1'--.json", "/../x/bugs/new",
        f"/{NAME}/pulls/0/jobs", f"/{NAME}/pulls/999999999/jobs", "/nobody/none/bugs/new", "/nobody/none/pulls/1/jobs",
        f"/{NAME}/bugs/drafts/1.json.json", "/a/b/c/bugs/new", f"/{NAME}/bugs/drafts/%2e%2e",
    ):  # fmt: skip
        assert hub.ask(path).status < 500, path


def test_a_report_of_one_repository_is_not_shown_or_dropped_by_another_s_address(hub, mallory):
    """Nor is anybody's dropped by who neither made it nor may write there."""
    id_ = hub.app.state.reports.add(NAME, Reported(prompt="of smol", expected="x"), by=By("ada"))
    fields = mallory.hidden("/account", "/logout")

    assert hub.ask(f"/mallory/own/bugs/drafts/{id_}").status == 404
    assert hub.ask(f"/mallory/own/bugs/drafts/{id_}.json").status == 404
    assert mallory.post(f"/mallory/own/bugs/drafts/{id_}/drop", fields).status == 404
    assert mallory.post(f"/{NAME}/bugs/drafts/{id_}/drop", fields).status == 403
    assert mallory.post(f"/{NAME}/bugs/drafts/{id_}/drop", fields, Origin="http://evil.example").status == 403
    assert hub.app.state.reports.get(NAME, id_).case.prompt == "of smol"


def test_a_huge_report_is_refused_and_kept_by_nobody(hub):
    browser = Browser(hub.url)
    fields = browser.hidden(NEW, NEW)
    before = len(hub.app.state.reports.listed(NAME, 1_000))
    for prompt, status in (("x" * 4_001, 400), ("x" * 20_000, 400), ("x" * 100_000, 413)):
        assert browser.post(NEW, fields | {"prompt": prompt, "expected": "y", "given": "yes"}).status == status
    assert len(hub.app.state.reports.listed(NAME, 1_000)) == before


# -- a hub that cheats whoever files -----------------------------------------------------------------------------------


@pytest.fixture
def lying():
    """A hub that answers what it is given, however odd; it counts how often it was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers, heard = [b""], []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65_536))
                    connection.sendall(answers[0])

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", answers, heard


def replied(body, status="200 OK", more=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n".encode() + body


def test_a_lying_hub_has_nothing_filed(lying, bazaar, monkeypatch):
    """Another case under the digest, escapes for a terminal, endless JSON, redirects: no signature, and no token sent."""
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecretsecret")
    url, answers, heard = lying
    root = bazaar.repo("amira").history(bazaar.repo("amira").tip())[0]
    case = Reported(prompt="2+2", expected="4")

    def spelled(**more):
        from souq.records import canonical

        return canonical({"root": root, "by": "ada", "made": "2026-12-01", "case": case.values} | more)

    for answer in (
        replied(spelled(case=case.values | {"prompt": "another"})), replied(spelled(root="0" * 40)),
        replied(spelled(by="\x1b[2J")), replied(spelled(case=case.values | {"prompt": "\x1b]0;x\x07"})),
        replied(spelled(extra=1)), replied(spelled(case={"prompt": 7})), replied(b"[" * 60_000), replied(b"x" * 100_000),
        replied(b" " + spelled()), replied(b"", "302 Found", f"Location: {url}/elsewhere\r\n"), replied(b"\xff"), b"",
        replied(spelled(case=case.values | {"checker": "eval"})), replied(spelled(case=case.values | {"prompt": "x" * 5_000})),
    ):  # fmt: skip
        answers[0] = answer
        words = ["bug", "file", "--from", f"{url}/{NAME}/bugs/drafts/1", "--digest", case.digest, "--signoff"]
        code, _, err = bazaar.says("amira", words)
        assert code != 0, answer[:200]
        assert "\x1b" not in err
        assert "Traceback" not in err
    assert json.loads(bazaar.says("amira", "bug list --json")[1]) == []
    assert not [request for request in heard if b"secret" in request or b"elsewhere" in request]
    answers[0] = replied(spelled())
    assert bazaar.says("amira", words)[0] == 0  # the same hub, when it does not lie
