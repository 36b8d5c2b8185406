"""A newcomer who is turned away is told why, kindly: on the terminal, under a forge's pull request, on a hub's page."""

from __future__ import annotations

import json

import pytest

from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.pulls import forge
from souq.pulls import pull as pulls
from souq.pulls.forge_comment import render
from tests.browsing import PASSWORD, Browser, opened
from tests.hubs import Site, serving

OWN = "Dear {name}, `{title}` waits: {because}\n\n{next} See @amira, https://evil.example or *us* <b>.\n"


@pytest.fixture
def third(crowd):
    """Two of omar's are looked at, and layla's waits."""
    for name in ("a", "b"):
        crowd.document("omar", name)
    return crowd.document("layla", "verbs")


def land_words(crowd, text):
    path = crowd.folder / "words.md"
    path.write_text(text)
    words = ["pr", "create", "--file", f"TURNED_AWAY.md={path}", "--title", "Words", "--licence", "CC0-1.0"]
    assert crowd("amira", [*words, "--signoff"]) == 0
    crowd.land(max(pull.number for pull in pulls.listed(crowd.repo("amira"))), "adil", "bruno")


def test_who_waits_is_told_for_whom_and_that_nothing_is_to_be_done(crowd, third):
    """The default words, in `pr view` for a person and for a program; who is enrolled is told nothing of the kind."""
    _, out, _ = crowd.says("layla", f"pr view {third}")
    assert 'Thank you, layla, for offering "verbs" to smol.' in out
    assert "It waits for one of #1, #2" in out
    assert "Thank you, layla" in json.loads(crowd.says("layla", f"pr view {third} --json")[1])["turned_away"]
    mine = crowd.document("bruno", "mine")
    assert "turned_away" not in json.loads(crowd.says("bruno", f"pr view {mine} --json")[1])


def test_who_was_refused_and_who_was_closed_are_told_what_to_do(crowd):
    """The check's own sentence, then the maintainer's; and what can be typed."""
    number = crowd.document("layla", "verbs", licence="CC-BY-NC-4.0")
    crowd("bruno", f"pr checks {number}")
    _, out, _ = crowd.says("layla", f"pr view {number}")
    assert "The check `licence` refuses it: CC-BY-NC-4.0 into Apache-2.0" in out
    assert f"`souq pr edit {number}`" in out
    assert crowd("bruno", ["pr", "close", number, "--reason", "another licence, please"]) == 0
    assert "bruno closed it: another licence, please" in crowd.says("layla", f"pr view {number}")[1]


def test_a_project_has_words_of_its_own(crowd, third):
    """A document of main's, voted on as others are; a stranger's title takes no place of its words."""
    land_words(crowd, OWN)
    odd = crowd.document("nadia", "odd", title="{because}")

    assert "Dear layla, `verbs` waits: It waits for one of #1, #2" in crowd.says("layla", f"pr view {third}")[1]
    assert "`{because}` waits: It waits" in crowd.says("nadia", f"pr view {odd}")[1]


def test_a_forge_s_comment_says_it_and_links_nowhere(crowd, third):
    """The same words as plain text: a mention, a link and HTML of whoever wrote them are none."""
    land_words(crowd, OWN)
    repo = crowd.repo("bruno")
    judged = forge.judged(repo, 7, lambda: pulls.get(repo, third), crowd.person("bruno"))
    body = render(judged)

    assert not judged
    assert judged.checked is None
    assert "Dear `layla`, " in body
    assert "waits for one of #1, #2" in body
    line = next(line for line in body.splitlines() if "evil.example" in line)
    assert line.startswith("`")
    assert line.endswith("`")
    assert line.count("`") == 2


def test_a_hub_says_it_and_starts_no_machine(crowd, third, tmp_path):
    """On the pull request's page; and a job for it is refused with the sentence of `souq pr list`."""
    shelf = tmp_path / "shelf"
    (shelf / "atlas").mkdir(parents=True)
    (shelf / "atlas" / "smol.git").symlink_to(crowd.folder / "hub.git")
    app = application(Catalog(shelf), tmp_path / "data")
    opened(app.state.accounts, "ada")
    with serving(app) as url:
        site, ada = Site(url, app, None), Browser(url)
        page = site.ask(f"/atlas/smol/pulls/{third}").body.decode()
        assert "Thank you, layla" in page
        assert "It waits for one of #1, #2" in page
        ada.sign_in("ada", PASSWORD)
        jobs = f"/atlas/smol/pulls/{third}/jobs"
        answer = ada.post(jobs, ada.hidden(jobs, jobs) | {"kind": "look"})
        assert b"waits for one of #1, #2" in answer.body
        assert app.state.jobs.listed(10) == []
        first = "/atlas/smol/pulls/1/jobs"
        ada.post(first, ada.hidden(first, first) | {"kind": "look"})
        assert [job.number for job in app.state.jobs.listed(10)] == [1]
