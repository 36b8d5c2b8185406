"""What is new on a hub, as Atom: the same id for the same thing, and no stranger's markup."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.hubs import NAME

ATOM = "{http://www.w3.org/2005/Atom}"


def entries(site, kind, **headers):
    answer = site.ask(f"/{NAME}/feed/{kind}.atom", **headers)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/atom+xml")
    root = ElementTree.fromstring(answer.body)
    for element in (root, *root.iter(f"{ATOM}entry")):
        assert {f"{ATOM}id", f"{ATOM}title", f"{ATOM}updated"} <= {child.tag for child in element}
    return [{child.tag.removeprefix(ATOM): child for child in entry} for entry in root.iter(f"{ATOM}entry")]


@pytest.mark.parametrize(
    ("kind", "title"), [("pulls", "Counting <b>: open"), ("verdicts", "approve by bruno"), ("releases", "release 1.0")]
)
def test_what_is_new_is_in_the_feed(site, kind, title):
    """Newest first, each with its page; a title with markup in it is that text."""
    found = entries(site, kind)

    assert any(title in entry["title"].text for entry in found)
    dates = [entry["updated"].text for entry in found]
    assert dates == sorted(dates, reverse=True)
    assert all(entry["link"].get("href").startswith(f"/{NAME}/") for entry in found)
    assert len({entry["id"].text for entry in found}) == len(found)
    assert [entry["id"].text for entry in entries(site, kind)] == [entry["id"].text for entry in found]


def test_the_pages_that_it_names_are_there(site):
    for kind in ("pulls", "releases"):
        for entry in entries(site, kind):
            assert site.ask(entry["link"].get("href")).status == 200


def test_a_host_that_somebody_names_is_in_no_feed(site):
    """Who asks may say any Host: links lead to where the hub's owner says it is, or to wherever the feed came from."""
    assert b"evil.example" not in site.ask(f"/{NAME}/feed/pulls.atom", Host="evil.example").body


def test_no_other_feed(site):
    assert site.ask(f"/{NAME}/feed/nothing.atom").status == 404
    assert site.ask("/no/model/feed/pulls.atom").status == 404
