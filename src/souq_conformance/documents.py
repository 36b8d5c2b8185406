"""Histories, good and bad, in which documents land: texts for people, at main's top or in its docs/."""

from __future__ import annotations

from typing import Any

from souq_conformance.cases import bad, good
from souq_conformance.town import Offered, Town


def written(town: Town, title: str = "papers", **named: str) -> Offered:
    """Documents by their names, `docs_sheet_md` for docs/sheet.md, agreed to by two organisations."""
    files = {f"documents/{_path(name)}": text.encode() for name, text in named.items()}
    return town.offer("documents", title, "mallory", files).agreed("amira", "bruno")


def _path(name: str) -> str:
    place, _, rest = name.partition("_")
    return f"docs/{rest.replace('_', '.')}" if place == "docs" else name.replace("_", ".")


def covered(town: Town, **work: Any) -> None:
    """A policy whose scope of contributions covers documents too."""
    match = ("contributions/**", "model.*", "souq.toml", "LICENSE", "*.md", "docs/**")
    town.begin(town.policy(scope=town.scopes(**{"match": match, **work})))


@good
def documents_land(town: Town) -> None:
    """A licence, and a page in docs/; a later one stands in the place of the first."""
    covered(town)
    town.land(written(town, LICENSE="Take it.", docs_sheet_md="rows"))
    town.land(written(town, "better", docs_sheet_md="rows, and whose"))
    assert town.read("docs/sheet.md") == b"rows, and whose"


@good
def documents_taken_back_and_restored(town: Town) -> None:
    """What was there before is there again, and then not."""
    covered(town)
    town.land(written(town, README_md="first"))
    second = town.land(written(town, "second", README_md="second", docs_sheet_md="rows"))
    back = town.land(town.revert(second).agreed("chen", "bruno"))
    assert town.read("README.md") == b"first"
    assert "docs/sheet.md" not in town.files
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("chen", "bruno"))
    assert town.read("docs/sheet.md") == b"rows"


@bad("nothing-to-undo")
def documents_taken_back_that_changed_since(town: Town) -> None:
    """Somebody has written a newer one: that is taken back first."""
    covered(town)
    first = town.land(written(town, README_md="first"))
    town.land(written(town, "second", README_md="second"))
    town.land(town.revert(first).agreed("chen", "bruno"))


@bad("not-taken")
def documents_taken_back_that_stay(town: Town) -> None:
    """The folder is gone, and the page still stands."""
    covered(town)
    first = town.land(written(town, docs_sheet_md="rows"))
    town.land(town.revert(first).agreed("chen", "bruno"), also={"docs/sheet.md": b"rows"})


@bad("no-scope")
def documents_that_no_scope_covers(town: Town) -> None:
    """A policy that is older than documents: by default nobody may change what it does not name."""
    town.land(written(town, README_md="hello"))


@bad("threshold")
def documents_nobody_agreed_to(town: Town) -> None:
    """A text for people is voted on like all else."""
    covered(town)
    town.land(town.offer("documents", "papers", "mallory", {"documents/README.md": b"hello"}).agreed("amira"))


@bad("not-landed")
def documents_that_did_not_land(town: Town) -> None:
    """They stand in the contribution's folder alone."""
    covered(town)
    town.land(written(town, docs_sheet_md="rows"), also={"docs/sheet.md": None})


@bad("altered-landing")
def documents_that_landed_as_others(town: Town) -> None:
    """What was voted on is not what stands on main."""
    covered(town)
    town.land(written(town, README_md="hello"), also={"README.md": b"buy this"})


@bad("odd-offer")
def documents_that_are_rules(town: Town) -> None:
    """A policy is no text for people, whoever agrees."""
    covered(town)
    files = {"documents/GOVERNANCE.toml": town.read("GOVERNANCE.toml")}
    town.land(town.offer("documents", "rules", "mallory", files).agreed("amira", "bruno"))


@bad("odd-offer")
def documents_in_no_place(town: Town) -> None:
    """Deeper than docs/."""
    covered(town)
    town.land(town.offer("documents", "s", "mallory", {"documents/docs/a/b.md": b"x"}).agreed("amira", "bruno"))


@bad("odd-offer")
def documents_too_many(town: Town) -> None:
    """More than one contribution may bring."""
    covered(town)
    files = {f"documents/docs/page-{number}.md": b"x" for number in range(65)}
    town.land(town.offer("documents", "many", "mallory", files).agreed("amira", "bruno"))
