"""Accounts in a real browser: somebody signs in, makes a token and proves a key; every page of it is accessible."""

from __future__ import annotations

import os
import subprocess

import pytest

from souq import signing
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from tests import test_hub_browser as pages
from tests.browsing import PASSWORD, opened
from tests.hubs import serving

pytestmark = pages.pytestmark
browser = pages.browser


@pytest.fixture
def site(tmp_path):
    (tmp_path / "shelf").mkdir()
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data", ways=Ways(is_open=True))
    opened(app.state.accounts, "ada")
    with serving(app) as url:
        yield url


def sign_in(page, site):
    page.goto(f"{site}/login")
    page.get_by_label("Account", exact=True).fill("ada")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_every_form_is_accessible_and_fits_its_window(browser, site):
    """axe finds nothing serious; no console error, no other host, nothing to scroll sideways."""
    with pages.tab(browser, site) as (page, wrong):
        for path in ("/login", "/register", "/account"):
            if path == "/account":
                sign_in(page, site)
                page.get_by_label("Where it is used").fill("laptop")
                page.get_by_role("button", name="Make a token").click()
            else:
                page.goto(f"{site}{path}")
            assert (path, pages.in_every_window(page), wrong) == (path, [], [])


def test_somebody_makes_a_token_proves_a_key_and_comes_back_by_it(browser, site, tmp_path):
    """Without a script, by the commands that the pages show, typed into a shell as they stand."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    signing.make_key(home / ".ssh" / "id_ed25519", "ada")

    def typed(page):
        words = {**os.environ, "HOME": str(home)}
        command = next(text for text in page.locator("pre").all_inner_texts() if "ssh-keygen" in text).replace(
            "~", str(home)
        )
        return subprocess.run(["sh", "-c", command], env=words, capture_output=True, check=True, text=True).stdout

    with pages.tab(browser, site, java_script_enabled=False) as (page, wrong):
        sign_in(page, site)
        page.get_by_label("Where it is used").fill("laptop")
        page.get_by_role("button", name="Make a token").click()
        assert page.get_by_role("status").locator("code").inner_text().startswith("souq_")
        page.get_by_label("What it prints").fill(typed(page))
        page.get_by_role("button", name="Add the key").click()
        page.get_by_text("SHA256:").wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login")
        page.get_by_label("What it prints").fill(typed(page))
        page.get_by_role("button", name="Sign in with the key").click()
        page.get_by_role("heading", name="ada").wait_for()
        assert wrong == []
