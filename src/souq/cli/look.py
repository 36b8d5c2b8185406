"""`souq status`, `log`, `show`, `diff`, `fsck`, `gc`: look, and keep the house in order."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from souq import signing
from souq.build import reproducible
from souq.build.lock import differing
from souq.checks.evals import released
from souq.cli.console import alone, answer, bars, done, json_option, key_option, out, person
from souq.cli.here import here, own_commits
from souq.cli.named import landed_slug
from souq.cli.table import table
from souq.errors import NotFound, SouqError, UsageError, nearest
from souq.governance import read_policy
from souq.pulls import pull as pulls
from souq.pulls.overview import gathered
from souq.pulls.turns import Turn, turn
from souq.pulls.waiting import Line
from souq.records import spelled_out
from souq.releases import release as releases
from souq.repo.ever import ever_named
from souq.repo.git import MAIN
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, needed
from souq.text import shortlist
from souq.weights.bucket import Bucket
from souq.weights.leases import sweep_bucket
from souq.weights.lockfile import lock_digest
from souq.weights.sweeping import sweep_store


@click.command()
@key_option
@json_option
def status(key: Path | None, as_json: bool) -> None:
    """Say where things stand, what waits for you and what for others, and the next command to type."""
    repo = here()
    repo.refresh()
    if wrong := own_commits(repo):
        repo.notice("; ".join(wrong))
    main = Snapshot(repo, repo.tip())
    versions = repo.folders(main.commit, "releases")
    with bars() as progress:
        main.read_landed(progress)
        offered = [pull for pull in pulls.listed(repo, progress=progress) if pull.state(main) == "open"]
        share = reproducible.share(main, progress)
    open_ = [pull.number for pull in offered]
    you, public = _you(repo, main, key)
    line = Line(repo, main)
    pulls.begin_reading(repo, first := line.ordered(offered)[:MOST_TURNS])
    turns = [turn(pull, main, public, line.waits.get(pull.number, "")) for pull in first]
    mine, others = [each for each in turns if each.do], [each for each in turns if not each.do]
    value = {
        "name": main.config.name, "main": main.commit, "model": lock_digest(main.model), "base": main.base_digest,
        "contributions": len(main.offers), "evals": len(main.exam), "open": open_, "releases": versions,
        "source": share, "you": you, "waiting_for_you": mine, "waiting_for_others": others,
        "next": _next(main, mine, others),
    }  # fmt: skip
    value |= {"notices": repo.notices} if repo.notices else {}

    def show() -> None:
        out.print(f"{main.config.name} at {main.commit[:12]}, from {main.config.base} ({main.config.licence})")
        counts = f"{len(main.base)} tensors, {len(main.offers)} contributions, {len(main.exam)} evals"
        out.print(f"{counts}, {len(open_)} open pull requests")
        out.print(f"model {value['model']}")
        if trainable := reproducible.sentence(share):
            out.print(trainable)
        _show_turns(you, mine, others, len(offered) - len(turns))
        done(f"next: {value['next']}")

    answer(value, as_json, show)


MOST_TURNS = 20  # of the pull requests, the first: each is asked of the policy
TYPE = {
    "check": "souq pr checks {0}", "vote": "souq pr review {0} --approve --reason …", "merge": "souq pr merge {0}",
    "ballot": "souq election ballot {0} NAME", "mend": "souq pr view {0}",
}  # fmt: skip


def _you(repo: Repo, main: Snapshot, key: Path | None) -> tuple[dict[str, Any] | None, str]:
    """Who is at this keyboard to the policy, and their public key; None and "" where that cannot be told."""
    try:
        public = person(repo, key).public_key
    except SouqError:
        if key is not None:
            raise
        return None, ""  # who only looks need have none
    policy = read_policy(main.policy_text)
    enrolled = policy.person_of(public, signing.now())
    roles = [role.name for role in policy.role if enrolled and enrolled.name in role.members]
    return ({"name": enrolled.name, "org": enrolled.org, "roles": roles} if enrolled else None), public


def _show_turns(you: dict[str, Any] | None, mine: list[Turn], others: list[Turn], more: int) -> None:
    if you is not None:
        of = f" of {you['org']}" if you["org"] else ""
        out.print(f"you are {you['name']}{of}{': ' if you['roles'] else ', in no role'}{', '.join(you['roles'])}")
    if mine:
        out.print("waiting for you:")
    for each in mine:
        commands = ", then ".join(f"`{TYPE[step].format(each.number)}`" for step in each.do)
        out.print(f"  #{each.number} {spelled_out(each.title)}: {commands}")
    if others:
        out.print("waiting for others:")
    for each in others:
        first = gathered(each.missing, each.number)[0] if each.missing else "somebody enrolled may merge it"
        out.print(f"  #{each.number} {spelled_out(each.title)}: {spelled_out(first)}")
    if more:
        out.print(f"  and {more} more: `souq pr list`")


def _next(main: Snapshot, mine: list[Turn], others: list[Turn]) -> str:
    if mine:
        return TYPE[mine[0].do[0]].format(mine[0].number)
    if others:
        return f"souq pr view {others[0].number}"
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
@click.argument("a", required=False)
@click.argument("b", default="main")
@json_option
def diff(a: str | None, b: str, as_json: bool) -> None:
    """Which tensors moved between two commits (B is main unless given); without any, what is new since the last
    release."""
    repo = here()
    if a is None:
        _since_release(Snapshot(repo, repo.tip()), as_json)
        return
    moved = differing(Snapshot(repo, a).model, Snapshot(repo, b).model)
    answer(moved, as_json, lambda: out.print("\n".join(moved) if moved else "no tensor moved"))


def _since_release(main: Snapshot, as_json: bool) -> None:
    """What landed, left and moved since the last release that stands; since main began, where there is none."""
    last = released(main)
    version = next((v for v in main.releases if v not in last.releases and _stands_at(main, v) == last.commit), None)
    moved = differing(last.model, main.model)
    kinds = {slug: landing.kind for slug, landing in main.landed.items() if slug not in last.landed}
    value = {
        "since": version, "commit": last.commit, "landed": kinds, "left": sorted({*last.landed} - {*main.landed}),
        "evals": sorted({*main.exam} - {*last.exam}), "tensors": moved,
    }  # fmt: skip

    def show() -> None:
        out.print(f"since {f'release {version}' if version else 'the beginning'}, {last.commit[:12]}:")
        table(["landed", "kind"], [[slug, kind] for slug, kind in sorted(kinds.items())] or [["nothing", ""]])
        for what, names in (("taken back", value["left"]), ("new evals", value["evals"])):
            if names:
                out.print(f"{what}: {shortlist(names, 8)}")
        out.print(f"{len(moved)} of {len(main.model)} tensors moved{': ' if moved else ''}{shortlist(moved, 3)}")
        if moved:
            done(f"next: `souq diff {last.commit[:12]}` names them all; `souq release create VERSION` releases main")

    answer(value, as_json, show)


def _stands_at(main: Snapshot, version: str) -> str:
    with suppress(SouqError):
        return releases.read(main, version).release.commit
    return ""


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
@click.option("--remote", is_flag=True, help="In the bucket where the tensors travel, instead of in this clone.")
def gc(grace: float, remote: bool) -> None:
    """Remove tensors nothing points at, and cached builds."""
    repo = here()
    if remote:
        _sweep_bucket(repo, grace)
        return
    alone(repo, lambda: done("waiting until the other souq lines typed in this clone have ended"))
    commits = {"main": repo.tip(), "here": repo.commit(MAIN)} | {str(p.number): p.head for p in pulls.listed(repo)}
    keep = [name for commit in commits.values() for name in _tensors(repo, commit)]
    gone = sweep_store(repo.store, keep, grace=grace * 86_400)
    freed = repo.drop_cache()
    out.print(f"removed {len(gone)} tensors and {freed / 1e6:.0f} MB of builds that can be made again")


def _sweep_bucket(repo: Repo, grace: float) -> None:
    """What no main ever pointed at, and no pull request does."""
    bucket = repo.remote_store()
    if not isinstance(bucket, Bucket) or not bucket.takes_marks:
        raise UsageError(
            "the tensors travel in no bucket that can be swept from here", hint="see `git config souq.store`"
        )

    def keep() -> set[str]:
        repo.fetch()
        heads = [name for pull in pulls.listed(repo) for name in _tensors(repo, pull.head)]
        return ever_named(repo, repo.tip()).union(heads)

    with bars() as progress:
        gone = sweep_bucket(bucket, keep, repo.beginning, grace=grace * 86_400, progress=progress)
    out.print(f"removed {len(gone)} tensors from {bucket.url}")


def _tensors(repo: Repo, commit: str) -> list[str]:
    try:
        return [ref.digest for ref in Snapshot(repo, commit).tensors()]
    except SouqError:  # a hostile pull request keeps nothing alive, and stops nobody
        return []
