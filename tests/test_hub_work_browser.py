"""Jobs and the bug form in a real browser: signed in, a pull request read, its picture seen, a look asked for, a bug filed."""

from __future__ import annotations

import shlex

import pytest

from souq.hub.accounts.trail import OPERATOR
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.hub.jobs.worker import Bounds, commands
from tests import test_hub_browser as pages
from tests.browsing import opened
from tests.hubs import NAME, Site, serving
from tests.test_hub_account_browser import sign_in
from tests.test_hub_jobs import worked

pytestmark = pages.pytestmark
browser = pages.browser


@pytest.fixture(scope="module")
def hub(hub_town, tmp_path_factory):
    """A hub of the town, where ada has an account."""
    app = application(Catalog(hub_town.shelf), tmp_path_factory.mktemp("data"), ways=Ways(takes_bugs=True))
    opened(app.state.accounts, "ada")
    with serving(app) as url:
        yield Site(url, app, hub_town)


def report(page, hub, prompt):
    page.goto(f"{hub.url}/{NAME}/bugs/new")
    page.get_by_label("What you asked").fill(prompt)
    page.get_by_label("What should have come").fill("hello")
    page.get_by_label("How an answer is judged").select_option("contains")
    page.get_by_label("I may give this").check()
    page.get_by_role("button", name="Report it").click()
    page.wait_for_url("**/bugs/drafts/*")


def test_somebody_signs_in_reads_has_it_looked_at_and_reports_a_bug_that_is_filed(
    browser, hub, hub_town, capfd, tmp_path
):
    """Without a script; the command on the page, typed as it stands by who is enrolled, files it."""
    with pages.tab(browser, hub.url, java_script_enabled=False) as (page, wrong):
        sign_in(page, hub.url)
        page.wait_for_url("**/account")
        page.goto(f"{hub.url}/{NAME}/pulls/{hub_town.open}")
        assert (
            page.get_by_role("img", name="Layers down").evaluate(
                "image => image.decode().then(() => image.naturalWidth)"
            )
            > 0
        )
        page.get_by_role("link", name="What this hub's own machines found").click()
        page.get_by_role("button", name="Have it done").click()
        assert page.get_by_role("status").inner_text() == "waiting"
        worked(hub.app.state.jobs, commands(Catalog(hub_town.shelf), tmp_path), Bounds(lease=60))
        page.get_by_role("status").filter(has_text="done").wait_for()  # the page comes anew by itself
        assert page.get_by_text("signed by nobody").count()
        report(page, hub, "say hello to the browser")
        command = next(text for text in page.locator("pre").all_inner_texts() if "bug file" in text)
        hub_town.bazaar.capfd = capfd
        assert hub_town.bazaar.says("amira", shlex.split(command)[1:])[0] == 0
        page.goto(f"{hub.url}/{NAME}/bugs")
        assert wrong == []


def test_every_page_of_work_is_accessible_and_fits_its_window(browser, hub, hub_town, tmp_path):
    """axe finds nothing serious; no console error, no other host, nothing to scroll sideways."""
    jobs = hub.app.state.jobs
    job = jobs.ask("look", NAME, hub_town.open, by=OPERATOR)
    worked(jobs, commands(Catalog(hub_town.shelf), tmp_path), Bounds(lease=60))
    with pages.tab(browser, hub.url) as (page, wrong):
        sign_in(page, hub.url)
        page.wait_for_url("**/account")
        report(page, hub, f"a long word {'x' * 300}")
        drafted = page.url.removeprefix(hub.url)
        for path in (drafted, f"/{NAME}/bugs/new", f"/{NAME}/bugs", "/jobs", f"/{NAME}/jobs", f"/jobs/{job.id}", f"/{NAME}/pulls/{hub_town.open}/jobs"):  # fmt: skip
            page.goto(f"{hub.url}{path}")
            assert (path, pages.in_every_window(page), wrong) == (path, [], [])
