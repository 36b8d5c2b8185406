"""`souq status`, `log`, `show`, `diff`, `fsck`, `gc`: look, and keep the house in order."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from souq.build import reproducible
from souq.build.lock import differing
from souq.cli.console import alone, answer, bars, done, json_option, out, table
from souq.cli.here import here, own_commits
from souq.cli.named import landed_slug
from souq.errors import NotFound, SouqError, nearest
from souq.pulls import land
from souq.pulls import pull as pulls
from souq.pulls.pull import PullRequest
from souq.repo.git import MAIN
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, needed
from souq.weights.lockfile import lock_digest


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Say where things stand, and the next command to type."""
    repo = here()
    repo.refresh()
    if wrong := own_commits(repo):
        repo.notice("; ".join(wrong))
    main = Snapshot(repo, repo.tip())
    offered = [pull for pull in pulls.listed(repo) if pull.state(main) == "open"]
    open_ = [pull.number for pull in offered]
    releases = repo.folders(main.commit, "releases")
    with bars() as progress:
        share = reproducible.share(main, progress)
    value = {
        "name": main.config.name, "main": main.commit, "model": lock_digest(main.model), "base": main.base_digest,
        "contributions": len(main.offers), "evals": len(main.exam), "open": open_, "releases": releases,
        "source": share, "next": _next(main, offered),
    }  # fmt: skip
    value |= {"notices": repo.notices} if repo.notices else {}

    def show() -> None:
        out.print(f"{main.config.name} at {main.commit[:12]}, from {main.config.base} ({main.config.licence})")
        counts = f"{len(main.base)} tensors, {len(main.offers)} contributions, {len(main.exam)} evals"
        out.print(f"{counts}, {len(open_)} open pull requests")
        out.print(f"model {value['model']}")
        if trainable := reproducible.sentence(share):
            out.print(trainable)
        done(f"next: {value['next']}")

    answer(value, as_json, show)


def _next(main: Snapshot, offered: list[PullRequest]) -> str:
    for pull in offered:
        number, decision = pull.number, land.decision_on(pull, main)
        if decision:
            return f"souq pr merge {number}"
        if any("has not been run" in line or line.startswith("checks on") for line in decision.missing):
            return f"souq pr checks {number}"
    if offered:
        return f"souq pr view {offered[0].number}"
    if not main.offers:
        return "souq pr create FILE.delta --title … --licence … --signoff --fixes EVAL"
    return "souq verify"


@click.command()
@json_option
def log(as_json: bool) -> None:
    """What landed on main, newest first."""
    repo = here()
    landings = [_summary(row) for row in repo.summaries(repo.tip())]
    rows = [[row["commit"][:12], row["at"], row["by"], row["subject"]] for row in landings]
    answer(landings, as_json, lambda: table(["commit", "at", "by", "what"], rows))


def _summary(row: tuple[str, str, str, str]) -> dict[str, str]:
    return dict(zip(("commit", "at", "by", "subject"), row, strict=True))


@click.command()
@click.argument("what")
@json_option
def show(what: str, as_json: bool) -> None:
    """A tensor by name, a contribution by slug, or a commit."""
    repo = here()
    main = Snapshot(repo, repo.tip())
    value: Any
    if what in main.base or what in main.model:  # new layers and experts bring names, and take others away
        base, model = (str(lock[what]) if what in lock else None for lock in (main.base, main.model))
        changed_by = [slug for slug, offer in main.offers.items() if offer.delta and what in offer.delta.parts]
        value = {"tensor": what, "base": base, "model": model, "changed_by": changed_by}
    elif (slug := _landed(main, what)) is not None:
        offer = main.offers[slug]
        value = {"contribution": offer.contribution, "digest": offer.digest, "source": reproducible.word(offer)}
    else:
        try:
            commit = repo.resolve(what)
        except SouqError as error:
            known = [*main.offers, *main.base, *main.model]
            raise NotFound(f"no tensor, contribution or commit {what!r}{nearest(what, known)}") from error
        value = _summary(repo.summary(commit))
    answer(value, True, lambda: None)


def _landed(main: Snapshot, what: str) -> str | None:
    with suppress(SouqError):
        return landed_slug(main, what)
    return None


@click.command()
@click.argument("a")
@click.argument("b", default="main")
@json_option
def diff(a: str, b: str, as_json: bool) -> None:
    """Which tensors moved between two commits (B is main unless given)."""
    repo = here()
    moved = differing(Snapshot(repo, a).model, Snapshot(repo, b).model)
    answer(moved, as_json, lambda: out.print("\n".join(moved) if moved else "no tensor moved"))


@click.command()
@json_option
def fsck(as_json: bool) -> None:
    """Read every stored tensor and find damage; exit 3 when there is some."""
    repo = here()
    with bars() as progress:
        wrong = repo.store.fsck(progress)
    absent = [name for name in needed(repo, {"main": repo.tip()}) if name not in repo.store]
    wrong += [f"no tensor {name}, which main points at" for name in absent]
    count = len(list(repo.store.digests()))
    text = "\n".join(wrong) or f"{count} objects, all sound"
    answer({"objects": count, "damage": wrong}, as_json, lambda: out.print(text))
    if wrong:
        done("next: remove the damaged files and run `souq fetch`")
        raise click.exceptions.Exit(3)


@click.command()
@click.option("--grace", default=14.0, show_default=True, help="Days a tensor is kept after nothing points at it.")
def gc(grace: float) -> None:
    """Remove tensors nothing points at, and cached builds."""
    repo = here()
    alone(repo, lambda: done("waiting until the other souq lines typed in this clone have ended"))
    commits = {"main": repo.tip(), "here": repo.commit(MAIN)} | {str(p.number): p.head for p in pulls.listed(repo)}
    keep = [name for commit in commits.values() for name in _tensors(repo, commit)]
    gone = repo.store.gc(keep, grace=grace * 86_400)
    freed = repo.drop_cache()
    out.print(f"removed {len(gone)} tensors and {freed / 1e6:.0f} MB of builds that can be made again")


def _tensors(repo: Repo, commit: str) -> list[str]:
    try:
        return [ref.digest for ref in Snapshot(repo, commit).tensors()]
    except SouqError:  # a hostile pull request keeps nothing alive, and stops nobody
        return []
