"""Offers about what landed before, and about who decides: taking back, ratifying, restoring; amendments, elections."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from souq.cli.console import answer, bars, done, json_option, key_option, out, person
from souq.cli.here import here
from souq.cli.missing import show_missing
from souq.cli.named import landed_slug, reverted_by
from souq.pulls.offer import Draft, create
from souq.records import Contribution
from souq.releases import release
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

TITLES = {"revert": "Take back", "yank": "Yank", "ratify": "Ratify", "restore": "Bring back what it took:"}

WHY = "Why, for everybody to read."


def offer_command(
    kind: Literal["revert", "yank", "ratify", "restore"], of: str, purpose: str, *, why: str = ""
) -> click.Command:
    """The verb that offers something about what landed; with `why`, only with a reason, which `why` explains."""

    @click.command(kind, help=purpose)
    @click.argument("of", metavar=of)
    @click.option("--reason", **({"required": True} if why else {"default": ""}), help=why or WHY)
    @key_option
    @json_option
    def command(of: str, reason: str, key: Path | None, as_json: bool) -> None:
        repo = here()
        if kind != "yank":  # what landed, by any name that is no other's; a version is itself
            repo.refresh()
            main = Snapshot(repo, repo.tip())
            of = (reverted_by(main, of) if kind == "restore" else "") or landed_slug(main, of)
        title = f"{TITLES[kind]} {of}"
        offer(repo, f"{title}: {reason}" if reason else title, kind, key, as_json, of=of)

    return command


def offer(
    repo: Repo,
    title: str,
    kind: Literal["revert", "yank", "ratify", "restore", "governance", "election"],
    key: Path | None,
    as_json: bool,
    *,
    of: str = "",
    more: dict[str, bytes] | None = None,
) -> None:
    """Offer it signed off by whoever is at the keyboard, and say what is missing."""
    author = person(repo, key)
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    contribution = Contribution(
        title=title, kind=kind, of=of, author=author.author, licence=main.config.licence,
        signoff=f"{author.name} <{author.email}>",
    )  # fmt: skip
    with bars() as progress:
        pull = create(repo, Draft(contribution, more=more), author, progress=progress)
        decision, commit = release.settle(repo, pull.number, author, progress)
    value = {"number": pull.number, "digest": pull.offer.digest, "landed": commit, "missing": decision.missing}

    def show() -> None:
        if commit is not None:
            out.print(f"merged #{pull.number} as {commit[:12]}")
            return
        out.print(f"#{pull.number} {title}")
        done(f"digest {pull.offer.digest}")
        show_missing(pull.number, decision)

    answer(value, as_json, show)
