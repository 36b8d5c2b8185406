"""A hub in a real browser: every page on a phone and on a desk, in light and in dark, and a stranger's words that stay words.

The system's own chromium is asked (Debian: `apt-get install chromium`), by its path. SOUQ_PICTURES=docs/pictures writes
what docs/hub.md shows.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.pulls.comments import comment
from tests.bazaar import NAMES, copied, write_eval
from tests.hostile import MARKUP, TEXTS
from tests.hubs import Site, serving
from tests.kitchen import Parrot, cook, prepared
from tests.test_hub_pages import strange

sync_api = pytest.importorskip("playwright.sync_api", reason='playwright is not installed: pip install "souq[browser]"')
axe_of = pytest.importorskip("axe_playwright_python.sync_playwright", reason='axe is not installed: pip install "souq[browser]"')  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser, pytest.mark.server, pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: `apt-get install chromium`"),
]  # fmt: skip
PATHS = ("/", "/stats", "/smol", "/smol/pulls", "/smol/pulls?state=all", "/smol/pulls/2", "/smol/pulls/3", "/smol/pulls/6", "/smol/queue", "/smol/releases", "/smol/releases/1.1", "/smol/bugs", "/smol/governance", "/smol/contributors", "/smol/openness", "/smol/discussions", "/datasets/atlas/cities", "/datasets/atlas/cities?sql=SELECT+count(*)+FROM+kept", "/datasets/atlas/cities?sql=SELECT+nothing", "/ada/notes", "/ada/notes/discussions/1", "/nowhere")  # fmt: skip
OVER = """all => ["mouseover", "mouseenter", "pointerover", "focus", "toggle", "animationstart", "error"].forEach(
    kind => all.forEach(each => each.dispatchEvent(new Event(kind))))"""
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def town(built_bazaar, tmp_path_factory):
    """Two releases, an open pull request that machines and people have looked at, another that meets it, a bug."""
    town = copied(built_bazaar, tmp_path_factory.mktemp("browser") / "town")
    asked = [{"id": f"c{i}", "prompt": f"say hello to {name}"} for i, name in enumerate(NAMES[:14])]
    talk = write_eval(town.folder / "evals" / "talk", asked, kind="open", margin=9.0, protected=True)
    assert town("chen", ["pr", "create", "--evals", talk, "--title", "Everyday answers", "--licence", "CC0-1.0", "--signoff"]) == 0  # fmt: skip
    town.land(2)
    town.release("amira", "1.0", scores=True)
    town.land(town.offer("chen", town.delta("greet"), "Greetings, the way the port says them"))
    town.release("amira", "1.1", scores=True)
    count = town.offer("mallory", town.delta("count"), "Counting past a hundred", fixes="count", more=["--provenance", "counted by hand, two evenings"])  # fmt: skip
    assert town("bruno", f"pr checks {count}") == 0
    assert town("amira", ["pr", "review", count, "--approve", "--reason", "count gets better, nothing else worse"]) == 0
    assert town("chen", ["pr", "comment", count, "Does it still count in Arabic after this?"]) == 0
    town.offer("chen", town.delta("count"), "Counting, another way", fixes="count")
    assert town("chen", ["bug", "file", "what comes after ninety-nine", "--expected", "one hundred", "--signoff"]) == 0
    assert town("chen", f"queue add {count}") == 0
    return town


@pytest.fixture(scope="module")
def site(town, tmp_path_factory):
    """A hub of the town, started: where it is."""
    shelf = tmp_path_factory.mktemp("shelf")
    (shelf / "smol.git").symlink_to(town.folder / "hub.git")
    (shelf / "broken.git").mkdir()
    for name in ("objects", "refs"):
        (shelf / "broken.git" / name).mkdir()
    (shelf / "broken.git" / "HEAD").write_text("ref: refs/heads/main\n")
    (shelf / "atlas").mkdir()
    cook(kitchen := prepared(tmp_path_factory.mktemp("kitchen")), Parrot())
    (kitchen / "corpus").rename(shelf / "atlas" / "cities")
    with serving(app := application(Catalog(shelf), tmp_path_factory.mktemp("data"))) as url:
        ada = HfApi(url, token=Site(url, app, None).token("ada"))
        ada.create_repo("ada/notes")
        ada.upload_file(
            path_or_fileobj=b"# Notes\n\n\xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7",
            path_in_repo="README.md",
            repo_id="ada/notes",
        )
        ada.create_discussion("ada/notes", "Are these all?", description="There were more, once.")
        yield url


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@contextmanager
def tab(browser, site, size=DESK, scheme="light", **more):
    """A page, and all that is wrong with what it does: console errors, requests to others, answers that fail."""
    context = browser.new_context(viewport=size, color_scheme=scheme, **more)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: None if request.url.startswith(site) else wrong.append(f"asks {request.url}"))
    # Whoever goes on to the next page leaves what was still coming: that is no failure.
    left = "net::ERR_ABORTED"
    page.on("requestfailed", lambda request: None if request.failure == left else wrong.append(f"failed {request.url}"))
    try:
        yield page, wrong
    finally:
        context.close()


def ready(page, url):
    """Opened, and looked at again where it was still being made."""
    for _ in range(20):
        answer = page.goto(url, wait_until="networkidle")
        if answer.status != 503:
            return answer
        page.wait_for_timeout(1_000)
    raise AssertionError(f"{url} is never made")


def made(site):
    """All pages, made once, so that no browser looks at one while it is made."""
    hub = Site(site, None, None)
    for path in PATHS:
        while hub.ask(path).status == 503:
            time.sleep(0.2)


def in_every_window(page):
    """What is wrong with a page that stands open, at both widths, light and dark: too wide, or serious to axe."""
    wrong = []
    page.evaluate(axe_of.Axe().axe_script)
    for size, scheme in product((DESK, PHONE), ("light", "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        if wide := page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"):
            wrong.append(f"{size['width']}: {wide} too wide")
        for each in page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]:
            if each["impact"] in ("serious", "critical"):
                wrong.append(f"{size['width']} {scheme} {each['id']}: {each['nodes'][0]['html'][:200]}")
    return wrong


def test_what_is_wrong_in_one_window_alone_is_seen(browser, site):
    """Words too faint in the dark, and a line too long for a phone."""
    faint = "<style>@media (prefers-color-scheme: dark) { p { color: #777; background: #888 } }</style><p>faint</p>"
    with tab(browser, site) as (page, _):
        page.set_content(f"<html lang=en><title>t</title><main><h1>h</h1>{faint}<div style='width:500px'>wide</div>")
        seen = in_every_window(page)

    assert [line.partition(":")[0] for line in seen] == ["1280 dark color-contrast", "375", "375", "375 dark color-contrast"]  # fmt: skip


def test_every_page_is_accessible_never_wider_than_its_window_and_asks_nobody_else(browser, site):
    """axe finds nothing serious; no console error, no other host, nothing to scroll sideways."""
    made(site)
    for path in PATHS:
        with tab(browser, site) as (page, wrong):
            ready(page, f"{site}{path}")
            shown = in_every_window(page)
            expected = [line for line in wrong if not (path == "/nowhere" and "404" in line)]
            assert (path, shown, expected) == (path, [], [])


def test_without_javascript_every_page_is_the_same(browser, site):
    """No page needs a script."""
    for path in ("/", "/smol", "/smol/pulls/6"):
        texts = []
        for enabled in (True, False):
            with tab(browser, site, java_script_enabled=enabled) as (page, _):
                ready(page, f"{site}{path}")
                texts.append(page.locator("main").inner_text())
        assert texts[0] == texts[1]
        assert len(texts[0]) > 100


def test_who_has_only_a_keyboard_gets_to_the_page_first(browser, site):
    """The first Tab is at the way past the links, and every link can be reached."""
    with tab(browser, site) as (page, _):
        ready(page, f"{site}/smol/pulls/6")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.locator(".skip").bounding_box()["x"] >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
        inside = page.eval_on_selector_all("main a", "links => links.map(link => link.getAttribute('href'))")
        assert {*inside} <= reached


def test_no_word_of_a_stranger_runs_in_a_real_browser(browser, site, town):
    """Stored titles, names, reasons and comments of a hundred attacks: no script runs, no dialog, no other host."""
    evil = " ".join(text for text in MARKUP if "\n" not in text and "\t" not in text)
    pull = strange(town, "mallory", evil, name=evil[:900], org=evil[:900], licence=evil, provenance=evil)
    for text in TEXTS[:60]:
        if text.isprintable():
            comment(town.repo("mallory"), pull.number, text, town.person("mallory"))
    paths = ["/", "/smol", "/smol/pulls", f"/smol/pulls/{pull.number}", "/smol/bugs", "/smol/queue"]
    for size in (PHONE, DESK):
        for path in paths:
            with tab(browser, site, size) as (page, wrong):
                ready(page, f"{site}{path}")
                assert page.evaluate("window.ran") is None
                for handle in page.query_selector_all("main bdi")[:5]:
                    handle.hover(force=True, timeout=2_000)
                page.eval_on_selector_all("main *", OVER)
                assert (path, wrong, page.evaluate("window.ran")) == (path, [], None)
                assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert town("amira", f"pr close {pull.number} --reason no") == 0


def test_somebody_reads_a_pull_request_votes_by_its_command_and_sees_it_merged(browser, site, town, tmp_path):
    """From the models to one pull request, its scores, its heat map and the words to type; typed, it is merged."""
    folder = Path(os.environ.get("SOUQ_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    paper = {"width": 960, "height": 900}
    with tab(browser, site, paper) as (page, wrong):
        ready(page, site)
        page.get_by_role("link", name="smol", exact=True).click()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / "hub-model.png")
        page.get_by_role("link", name="pull requests").click()
        page.locator("tbody tr", has_text="Counting past a hundred").get_by_role("link").click()
        page.wait_for_load_state("networkidle")
        page.locator("#moves").scroll_into_view_if_needed()
        drawn = page.locator("main img")
        while not drawn.evaluate("image => image.complete && image.naturalWidth > 100"):
            page.wait_for_timeout(100)
        assert page.locator("#scores").is_visible()
        assert page.locator(".answers").count() > 0
        page.screenshot(
            path=folder / "hub-pull.png", clip={"x": 0, "y": 0, "width": 960, "height": 1_300}, full_page=True
        )
        page.locator("section[aria-labelledby=moves]").screenshot(path=folder / "hub-moves.png")
        command = page.locator("pre", has_text="souq vote").inner_text()
        with tab(browser, site, PHONE, "dark") as (small, _):
            ready(small, page.url)
            small.screenshot(path=folder / "hub-phone.png")
        number = page.url.rsplit("/", 1)[1]
        assert town("bruno", command.removeprefix("souq ").replace('"…"', "fine")) == 0
        assert town("bruno", f"pr merge {number}") == 0
        page.wait_for_timeout(1_500)
        ready(page, page.url)
        assert page.locator("main b").first.inner_text() == "merged"
        assert "How to vote" not in page.locator("main").inner_text()
        assert wrong == []
