"""`souq rebuild`: train a contribution again from its own source, and say how near it came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from souq import signing
from souq.build import reproducible
from souq.cli.console import answer, bars, done, json_option, key_option, out, person, starting_lab
from souq.cli.here import here
from souq.cli.table import table
from souq.errors import NotFound, Refused, nearest
from souq.evals import suite
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.pulls.pull import PullRequest
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

if TYPE_CHECKING:
    from souq.lab.rebuild import Rebuilt

WITHIN = 0.02  # decisions/source.md


@click.command()
@click.option("--from-source", "which", required=True, metavar="N|SLUG", help="A pull request, or what landed as SLUG.")
@click.option("--within", default=WITHIN, show_default=True, help="What is still near: ||d' - d|| over ||d||.")
@click.option(
    "--most", default=float(reproducible.MOST_WORK), show_default=True, help="MB of rows times epochs to train on."
)
@click.option("--attest", is_flag=True, help="Sign what came out, for everybody to read.")
@key_option
@json_option
def rebuild(which: str, within: float, most: float, attest: bool, key: Path | None, as_json: bool) -> None:
    """Train a contribution again from the rows and the recipe it brought, and say how near that comes to its weights.

    Exit 3 where it does not come near, or where it is a binary that nobody can train again.
    """
    repo = here()
    repo.fetch() if attest else repo.refresh()
    main = Snapshot(repo, repo.tip())
    offer = _offer(repo, main, which)
    pull = _pull(repo, offer) if attest else None
    signer = person(repo, key) if attest else None
    if (judgement := reproducible.judged(offer)) is None:
        raise Refused(f"{offer.slug} brings no weights", hint="`souq status` counts those that do")
    if not judgement:
        hint = "source is `souq train`, `souq delta make`, and `souq pr create --data` with the rows it was trained on"
        raise Refused(f"{offer.slug} is a binary: {judgement.because}", hint=hint)
    reproducible.bounded(judgement, most)
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab import rebuild as lab

        reviews.bring(repo, main, offer, progress)
        made = lab.rebuild(main, offer, judgement, suite.general_texts(), progress)
    near = made.near.within(within)
    value = _value(offer, made, within)
    if pull is not None and signer is not None:
        record = value | {"base": main.commit, "by": signer.name, "at": signing.now()}
        pulls.publish_about(pull, "rebuilt", record, signer, main)
    answer(value, as_json, lambda: _show(offer, made, within))
    if attest:
        done(f"signed, for everybody to read with `souq pr view {offer.slug[:4].lstrip('0')}`")
    if not near:
        done("Error: its weights are not what its source makes")
        raise click.exceptions.Exit(3)


def _offer(repo: Repo, main: Snapshot, which: str) -> Offer:
    if which.isdigit():
        return pulls.get(repo, int(which)).offer
    if which not in main.offers:
        raise NotFound(f"no contribution {which!r}{nearest(which, main.offers)}", hint="see `souq pr list --all`")
    return main.offers[which]


def _pull(repo: Repo, offer: Offer) -> PullRequest:
    """The pull request a contribution came by: what is signed about it stands there."""
    matches = [pull for pull in pulls.listed(repo) if offer.slug.startswith(f"{pull.number:04d}-")]
    if not matches or matches[0].offer.digest != offer.digest:
        raise NotFound(f"the pull request of {offer.slug} is not here", hint="leave out --attest")
    return matches[0]


def _value(offer: Offer, made: Rebuilt, within: float) -> dict[str, Any]:
    near, worst = made.near, made.near.worst
    return {
        "contribution": offer.slug, "digest": offer.digest, "exact": near.exact, "near": near.within(within),
        "within": within, "tensors": len(near.parts), "differ": near.differ, "distance": _number(near.distance),
        "cosine": _number(near.cosine), "worst": {"tensor": worst.tensor, "distance": _number(worst.distance)},
        "loss": dict(made.loss), "unlike": {name: list(pair) for name, pair in made.unlike.items()},
    }  # fmt: skip


def _number(value: float) -> float:
    """As records spell it: short, and never infinite."""
    return float(f"{min(value, 1e9):.6g}")


def _show(offer: Offer, made: Rebuilt, within: float) -> None:
    near, worst = made.near, made.near.worst
    for name, (theirs, ours) in made.unlike.items():
        done(f"  {name} is {ours or 'absent'} here and was {theirs or 'absent'}: the bits may differ")
    line = f"retrained from source: {near.differ} of {len(near.parts)} tensors differ"
    if not near.exact:
        line += f", by {_percent(near.distance)} in norm, cosine {near.cosine:.4f}"
        line += f"; at most {_percent(worst.distance)}, {worst.tensor}"
    out.print(line)
    rows = [[{"again": "retrained"}.get(name, name), f"{loss:.4f}"] for name, loss in made.loss.items()]
    table(["its own rows", "nats a token"], rows, right=["nats a token"])
    out.print(f"{offer.slug}: {_verdict(made, within)}")


def _verdict(made: Rebuilt, within: float) -> str:
    if made.near.exact:
        return "the same, bit for bit"
    if made.near.within(within):
        return f"near: no tensor is further off than {_percent(within)}"
    return f"NOT near: {made.near.worst.tensor} is further off than {_percent(within)}"


def _percent(share: float) -> str:
    return f"{100 * min(share, 1e6):.2g}%" if share < 1 else f"{100 * min(share, 1e6):,.0f}%"
