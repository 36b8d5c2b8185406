"""When a merge keeps too little: `souq pr rebase` trains again, `resketch` looks again, `search` weighs anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec
import tomli_w

from souq.build import delta_file
from souq.cli.console import answer, bars, done, json_option, key_option, on_option, out, person, starting_lab
from souq.cli.here import compute_on, here
from souq.cli.named import PULL, landed_slug
from souq.cli.table import table
from souq.errors import UsageError
from souq.evals import suite
from souq.pulls import offer as offers
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.pulls.offer import Draft
from souq.pulls.pull import PullRequest
from souq.records import Contribution
from souq.repo.contribution import SKETCHES, number_of
from souq.repo.remote import Repo
from souq.repo.rows import Rows, read_rows, rows_of
from souq.repo.snapshot import Snapshot
from souq.repo.travel import bring_main
from souq.text import shortlist
from souq.weights.lockfile import format_delta

LITTLE = 0.75  # of a gain: the least that a merge is expected to keep of anybody


@click.command()
@click.argument("number", type=PULL)
@click.option(
    "--data", type=click.Path(path_type=Path), help="What it was trained on, where the pull request has not brought it."
)
@click.option("--epochs", default=1, show_default=True, help="How often each row is read.")
@click.option("--lr", default=0.0, help="The learning rate; half of the recipe's own unless told.")
@on_option
@key_option
@json_option
def rebase(
    number: int, data: Path | None, epochs: int, lr: float, on: str | None, key: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Train your pull request again where it will live: in today's main, through the merge; then offer the result."""
    repo = here()
    author = person(repo, key)
    main, pull = _open(repo, number)
    rows = data if data is not None else _rows_of(pull)
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab import rebase as lab

        compute_on(on, repo, progress)
        reviews.bring(repo, main, pull.offer, progress)
        made, tensors, recipe = lab.rebased(main, pull.offer, rows, epochs=epochs, lr=lr, progress=progress)
        delta_file.keep(made, tensors, main, progress)
        c = msgspec.structs.replace(pull.offer.contribution, recipe=recipe)
        again = offers.amend(repo, number, replace(Draft.of(pull.offer), contribution=c, delta=made), author, progress)
    value = {"number": number, "digest": again.offer.digest, **recipe["rebase"]}

    def show() -> None:
        rebased = recipe["rebase"]
        nats = f"{rebased['before']:.4f} -> {rebased['after']:.4f}"
        out.print(f"#{number} rebased onto {rebased['onto'][:12]}: nats of its own answers in the merge {nats}")
        done(f"digest {again.offer.digest}\nnext: `souq pr checks {number}`; votes on the old one no longer count")

    answer(value, as_json, show)


@click.command()
@click.argument("slugs", nargs=-1, metavar="[SLUG]...")
@click.option(
    "--data", "private", multiple=True, metavar="SLUG=FILE", help="Its rows, where it has not brought them to main."
)
@click.option("--sketch-rank", default=64, show_default=True, help="Of the sketches.")
@key_option
@json_option
def resketch(
    slugs: tuple[str, ...], private: tuple[str, ...], sketch_rank: int, key: Path | None, as_json: bool
) -> None:
    """Offer new sketches of what has landed, taken within today's main: of those SLUGs, or of all whose rows are there.

    A sketch that was taken before others landed grows old, and the merge then keeps less. Weights stay as they are.
    """
    repo = here()
    author = person(repo, key)
    repo.refresh()
    main = Snapshot(repo, repo.tip())
    rows = _rows_of_landed(main, slugs, private)
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab import sketching

        bring_main(repo, progress)
        made, tensors = sketching.renewed(main, rows, rank=sketch_rank, progress=progress)
        contribution = Contribution(
            title=f"New sketches of {shortlist(rows, 3)}", kind="sketches", author=author.author,
            licence=main.config.licence, signoff=f"{author.name} <{author.email}>",
            recipe={"sketched": {"within": main.commit, "rank": sketch_rank}},
        )  # fmt: skip
        for new in made.values():
            delta_file.keep(new, tensors, main, progress)
        files = {f"{SKETCHES}{slug}.lock": format_delta(new).encode() for slug, new in made.items()}
        pull = offers.create(repo, Draft(contribution, more=files), author, progress=progress)
    value = {
        "number": pull.number,
        "digest": pull.offer.digest,
        "sketched": {slug: len(own) for slug, own in rows.items()},
    }

    def show() -> None:
        out.print(f"#{pull.number} {contribution.title}")
        done(f"digest {pull.offer.digest}\nnext: `souq pr checks {pull.number}`")

    answer(value, as_json, show)


@click.command()
@click.option(
    "--data", "private", multiple=True, metavar="SLUG=FILE", help="Its rows, where it has not brought them to main."
)
@json_option
def kept(private: tuple[str, ...], as_json: bool) -> None:
    """What main keeps of each contribution's gain, measured on the rows it was trained on."""
    repo = here()
    repo.refresh()
    measured = measured_kept(Snapshot(repo, repo.tip()), private)
    answer(measured, as_json, lambda: show_kept(measured))


def measured_kept(main: Snapshot, private: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """What a main keeps of each contribution: what is right, nats, and `share`, None where it taught too little.

    Raises:
        UsageError: nobody's rows are there.
    """
    rows = _rows_of_landed(main, (), private)
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab.retention import retention

        bring_main(Repo.of(main.repo), progress)
        return [{**msgspec.to_builtins(each), "share": each.share} for each in retention(main, rows, progress)]


def show_kept(measured: list[dict[str, Any]]) -> None:
    """A table of it, and what to type where somebody lost much."""
    lines = [
        [
            each["slug"], each["rows"],
            *(f"{each[where]['right']:.0%} ({each[where]['nats']:.3f})" for where in ("base", "alone", "main")),
            "too little to tell" if each["share"] is None else f"{each['share']:.0%}",
        ]
        for each in measured
    ]  # fmt: skip
    table(["contribution", "rows", "base", "alone", "main", "kept"], lines)
    done(
        "answers of its own rows that are right, and nats a token; kept is (main - base) / (alone - base) of the right"
    )
    if any(each["share"] is not None and each["share"] < LITTLE for each in measured):
        done("next: `souq pr resketch` takes new sketches within today's main, or an author offers it retrained")


def _rows_of_landed(main: Snapshot, slugs: tuple[str, ...], private: tuple[str, ...]) -> dict[str, Rows]:
    """The rows of landed contributions of weights by slug: of those named, else of all that have some.

    Raises:
        UsageError: one whose rows are not here, or no contribution of weights.
    """
    slugs = tuple(landed_slug(main, word) for word in slugs)
    known = sorted((slug for slug, landing in main.landed.items() if landing.moves), key=number_of)
    files = {landed_slug(main, word): path for word, _, path in (part.partition("=") for part in private)}
    if wrong := [slug for slug in {**dict.fromkeys(slugs), **files} if slug not in known]:
        hint = f"main has {shortlist(known, 8)}"
        raise UsageError(f"{shortlist(wrong)}: no contribution of weights on main", hint=hint)
    asked = [slug for slug in known if slug in slugs or slug in files] if slugs or files else [*known]
    rows = {slug: read_rows(Path(files[slug])) if slug in files else rows_of(main.offers[slug].data) for slug in asked}
    bare, hint = [slug for slug in asked if not rows[slug]], "name them: `--data SLUG=FILE.jsonl`"
    if len(bare) == len(asked):
        raise UsageError("nobody brought rows to main with their weights", hint=hint)
    if bare and (slugs or files):
        raise UsageError(f"{shortlist(bare)} brought no rows to main", hint=hint)
    if bare:
        done(f"left out: {shortlist(bare, 8)}, which brought no rows to main; {hint}")
    return {slug: own for slug, own in rows.items() if own}


@click.command()
@click.argument("number", type=PULL)
@click.option(
    "--take", is_flag=True, help="Offer your pull request anew with what was found: votes then decide on both."
)
@click.option("--out", "target", type=click.Path(path_type=Path), help="Write what was found as a merge.toml.")
@key_option
@json_option
def search(number: int, take: bool, target: Path | None, key: Path | None, as_json: bool) -> None:
    """Look for the merge method, settings and weights that serve everybody best with this pull request in."""
    repo = here()
    main, pull = _open(repo, number)
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab import search as lab

        reviews.bring(repo, main, pull.offer, progress)
        texts = [text for _, text in suite.passages()[suite.PASSAGES + suite.SKETCH_PASSAGES :]]
        looking = lab.Search(main, pull.offer, texts, progress)
        done(f"searching {looking.cost()}")
        best = looking.run()
    table_found = {"method": best.method, **best.settings} | ({"weights": best.weights} if best.weights else {})
    value = {"merge": table_found, "score": best.score, "now": best.now, "tried": best.tried}
    if target is not None:
        target.write_text(tomli_w.dumps(table_found))
    if take and best.score < best.now:
        again = offers.amend(repo, number, replace(Draft.of(pull.offer), merge=table_found), person(repo, key))
        value["digest"] = again.offer.digest

    def show() -> None:
        rows = [[trial["name"], trial["rows"], f"{trial['score']:.4f}"] for trial in best.tried]
        table(["tried", "rows of each", "share of the base's loss left"], rows)
        out.print(f"best: {best.name}, {best.score:.4f} (as main merges now: {best.now:.4f})")
        if best.score >= best.now:
            done("nothing better than what main has; nothing was changed")
        elif "digest" in value:
            done(f"offered anew with merge.toml, digest {value['digest']}\nnext: `souq pr checks {number}`")
        else:
            done(f"next: its author runs `souq pr search {number} --take`")

    answer(value, as_json, show)


def _open(repo: Repo, number: int) -> tuple[Snapshot, PullRequest]:
    repo.refresh()
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, number)
    if pull.state(main) != "open":
        raise UsageError(f"#{number} is not open", hint="see `souq pr list`")
    return main, pull


def _rows_of(pull: PullRequest) -> Path:
    """The rows a pull request brought, as a file."""
    parts = [data for path, data in sorted(pull.offer.data.items()) if path.endswith(".jsonl")]
    if not parts:
        raise UsageError(f"#{pull.number} brought no data to train on", hint="name its rows with --data FILE.jsonl")
    path = pull.repo.cache / f"rows-{pull.offer.digest[3:19]}.jsonl"
    path.write_bytes(b"".join(data if data.endswith(b"\n") else data + b"\n" for data in parts))
    return path
