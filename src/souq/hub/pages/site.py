"""A repository's pages as files of a folder: what `souq report` writes, and anybody can put where pages are served.

for name, text in site(Shown(repo), quiet, pictures=True):
    (folder / name).write_text(text)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from souq.errors import SouqError
from souq.hub.pages.facts import Facts, Shown
from souq.hub.pages.render import FileLinks, page
from souq.progress import Progress

MOST_PAGES = 1_000  # pull requests with a page, the newest


def site(shown: Shown, progress: Progress, *, pictures: bool) -> Iterator[tuple[str, str]]:
    """(name, HTML) of each page: those of the whole, and one of each pull request."""
    numbers = [pull.number for pull in shown.listed[-MOST_PAGES:]][::-1]
    made = partial(page, of=shown, name=shown.main.config.name, to=FileLinks({*numbers}), inline=True)
    for done, number in enumerate(numbers):
        progress("pages", done, len(numbers))
        yield f"pr-{number}.html", made("pull", _drawn(shown, number) if pictures else shown.pull(number))
    progress("pages", len(numbers), len(numbers))
    yield "pulls.html", made("pulls", shown.every_pull(MOST_PAGES))
    whole = {
        "index": ("front", shown.front), "queue": ("queue", shown.queue), "releases": ("releases", shown.release_list),
        "bugs": ("bugs", shown.bug_list), "governance": ("governance", shown.governance),
        "contributors": ("contributors", shown.contributors), "openness": ("openness", shown.openness),
    }  # fmt: skip
    for name, (template, facts) in whole.items():
        yield f"{name}.html", made(template, facts())


def _drawn(shown: Shown, number: int) -> Facts:
    facts = shown.pull(number)
    if facts.get("drawn"):
        with suppress(SouqError):  # its tensors may be elsewhere
            facts["picture"] = shown.picture(number)
    return facts
