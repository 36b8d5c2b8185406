"""`souq report`: the repository as pages that ask nobody for anything, and in which no stranger's word is markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from souq.releases.scores import charts
from souq.repo.snapshot import Snapshot


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.seen = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, attrs))


EVIL = "<script>alert(1)</script><img src=x onerror=y>"


@pytest.fixture
def written(bazaar):
    """A merged pull request, an open one by a stranger with hostile words, votes, comments, and the pages of it all."""
    bazaar.land(bazaar.offer("chen", bazaar.delta("greet")), "amira", "bruno")
    bazaar.offer("mallory", bazaar.delta("count"), title=f"{EVIL} & more", fixes="count", more=["--provenance", EVIL])
    assert bazaar("mallory", ["pr", "comment", "3", EVIL]) == 0
    code, out, _ = bazaar.says("amira", ["report", bazaar.folder / "site", "--json"])
    assert code == 0
    return bazaar.folder / "site", json.loads(out)["pages"]


def test_the_site_has_the_list_votes_and_heat_maps(written):
    site, pages = written

    listed, two, three = ((site / name).read_text() for name in ("pulls.html", "pr-2.html", "pr-3.html"))

    assert [page for page in pages if page.startswith("pr-")] == ["pr-1.html", "pr-2.html", "pr-3.html"]
    assert {"index.html", "pulls.html", "releases.html", "bugs.html", "governance.html"} <= {*pages}
    assert [link in listed for link in ('href="pr-1.html"', 'href="pr-2.html"', 'href="pr-3.html"')] == [True] * 3
    assert 'amira</bdi><td class="approve">approve' in two
    assert two.count("<figure>") == 2  # right answers, and nats
    assert two.count("<svg") == 3  # and what it moves
    assert "fixes `greet`" in two
    assert "What is missing" in three


def test_no_word_of_a_stranger_is_markup_and_nothing_is_fetched(written):
    """Hostile titles, provenance and comments are text; no page has a script, a remote host or a way to run one."""
    site, pages = written

    for page in pages:
        text = (site / page).read_text()
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        elements = Elements(text.partition("</head>")[2]).seen
        links = {
            value for _, attributes in elements for name, value in attributes if name in ("src", "href", "xlink:href")
        }
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert not {tag for tag, _ in elements} & {"script", "img", "link", "iframe", "object", "form", "base", "style"}
        assert not [name for _, attributes in elements for name, _ in attributes if name.startswith("on")]
        assert {link for link in links if not link.startswith("#")} <= {*pages}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (site / "pr-3.html").read_text()
    assert "&lt;script&gt;" in (site / "pulls.html").read_text()
    assert "color-scheme: light dark" in (site / "index.html").read_text()


def test_a_folder_that_holds_something_is_left_alone(bazaar):
    (bazaar.folder / "mine").mkdir()
    (bazaar.folder / "mine" / "index.html").write_text("mine")

    assert bazaar("amira", ["report", bazaar.folder / "mine"]) == 2
    assert (bazaar.folder / "mine" / "index.html").read_text() == "mine"


def test_scores_over_releases_are_a_picture(bazaar):
    """A line an eval from the second release on; right answers and nats apart."""
    main = Snapshot(bazaar.repo("amira"), "main")
    rows = [{"version": f"{i}.0", "scores": {"greet": i / 4, "guard": 3.0 - i, "new": 1.0}} for i in (1, 2, 3)]
    del rows[0]["scores"]["new"], rows[1]["scores"]["new"]

    drawn = dict(charts(main, rows))

    assert [title.split()[0] for title in drawn] == ["Share", "Nats"]
    share, nats = drawn.values()
    assert (share.count("<polyline"), nats.count("<polyline")) == (1, 1)
    assert ">greet<" in share
    assert ">guard<" in nats
    assert charts(main, rows[:1]) == []


def test_release_list_draws_them(bazaar):
    for version in ("1.0", "1.1"):
        bazaar.release("amira", version, scores=True)
    assert bazaar("amira", "pull") == 0

    assert bazaar("amira", ["release", "list", "--picture", bazaar.folder / "scores.svg"]) == 0

    assert ">greet<" in (bazaar.folder / "scores.svg").read_text()
    assert ">guard<" in (bazaar.folder / "scores-nats.svg").read_text()


def test_nothing_is_drawn_before_the_second_release(bazaar):
    assert bazaar("amira", ["release", "list", "--picture", bazaar.folder / "scores.svg"]) == 2
