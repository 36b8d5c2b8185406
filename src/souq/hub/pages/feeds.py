"""What is new of a model, for programs that look again and again: pull requests, what was found and voted, releases.

Atom (RFC 4287). What strangers wrote is text and never markup; an entry has the same id for ever, and another one once
something else is offered.

    feed(shown, "pulls", "https://hub.example", "atlas/smol")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

from souq.errors import NotFound, SouqError
from souq.hub.pages.facts import Shown
from souq.hub.pages.render import HubLinks
from souq.notebook.pull_request import PullRequest
from souq.records import spelled_out

ATOM = "http://www.w3.org/2005/Atom"
MOST, MOST_LOOKED_AT = 50, 25  # entries; pull requests whose records are read
MOST_TEXT = 400  # characters


@dataclass(frozen=True)
class Entry:
    """Something that is new."""

    id: str
    title: str
    at: str
    path: str  # of its page
    by: str = ""
    text: str = ""


def feed(shown: Shown, kind: str, url: str, name: str) -> bytes:
    """The newest of a kind, the newest first.

    Raises:
        NotFound: no such kind.
    """
    if kind not in KINDS:
        raise NotFound("no such feed", hint=f"one of {', '.join(KINDS)}")
    entries = sorted(KINDS[kind](shown, HubLinks(name)), key=lambda entry: entry.at, reverse=True)[:MOST]
    root = ElementTree.Element("feed", {"xmlns": ATOM})
    _add(root, "id", f"urn:souq:{shown.root}:{kind}")
    _add(root, "title", f"{name}: {kind}")
    _add(root, "updated", entries[0].at if entries else _date(""))
    ElementTree.SubElement(root, "link", {"rel": "self", "href": f"{url}/{name}/feed/{kind}.atom"})
    for entry in entries:
        _entry(root, entry, url)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _entry(root: ElementTree.Element, entry: Entry, url: str) -> None:
    element = ElementTree.SubElement(root, "entry")
    _add(element, "id", entry.id)
    _add(element, "title", entry.title)
    _add(element, "updated", entry.at)
    ElementTree.SubElement(element, "link", {"href": f"{url}{entry.path}"})
    _add(ElementTree.SubElement(element, "author"), "name", entry.by or "?")
    if entry.text:
        _add(element, "summary", entry.text)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = spelled_out(" ".join(text.split()))[:MOST_TEXT]


def _date(at: str) -> str:
    """As Atom has dates; a stranger's that is none is the first there is."""
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "1970-01-01T00:00:00Z"


# -- of each kind ------------------------------------------------------------------------------------------------------


def _pulls(shown: Shown, to: HubLinks) -> Iterator[Entry]:
    for row in shown.rows[:MOST]:
        at = shown.repo.summary(shown.pull_request(row["number"]).pull.head)[1]
        title = f"#{row['number']} {row['title']}: {row['state']}"
        name = f"urn:souq:{shown.root}:pull:{row['number']}:{row['digest']}:{row['state']}"
        yield Entry(
            name, title, _date(at), to("pull", row["number"]), str(row["author"]), f"{row['kind']}, {row['digest']}"
        )


def _verdicts(shown: Shown, to: HubLinks) -> Iterator[Entry]:
    for row in shown.rows[:MOST_LOOKED_AT]:
        with suppress(SouqError):  # what nobody can read has no verdicts
            yield from _of_pull(shown, shown.pull_request(row["number"]), str(row["title"]), to)


def _of_pull(shown: Shown, pull: PullRequest, title: str, to: HubLinks) -> Iterator[Entry]:
    about, path = f"urn:souq:{shown.root}:pull:{pull.number}:{pull.digest}", to("pull", pull.number)
    if checks := pull.checks:
        counts = Counter(str(check["verdict"]) for check in checks)
        line = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        text = "; ".join(f"{check['check']}: {check['because']}" for check in checks if check["verdict"] != "pass")
        at = str(checks[0]["at"])
        yield Entry(
            f"{about}:checks:{at}", f"#{pull.number} {title}: {line}", _date(at), path, str(checks[0]["by"]), text
        )
    for vote in pull.votes:
        voter, at = str(vote["by"]), str(vote["at"])
        line = f"#{pull.number} {title}: {vote['choice']} by {voter}"
        yield Entry(f"{about}:vote:{voter}:{at}", line, _date(at), path, voter, str(vote["reason"]))


def _releases(shown: Shown, to: HubLinks) -> Iterator[Entry]:
    for row in shown.releases:
        yanked = f", not to be used: {row['yanked']}" if row["yanked"] else ""
        name = f"urn:souq:{shown.root}:release:{row['version']}{':yanked' if yanked else ''}"
        path = to("release", row["version"])
        yield Entry(name, f"release {row['version']}{yanked}", _date(row["at"]), path, text=str(row["model"]))


KINDS: dict[str, Callable[[Shown, HubLinks], Iterator[Entry]]] = {
    "pulls": _pulls, "verdicts": _verdicts, "releases": _releases,
}  # fmt: skip
