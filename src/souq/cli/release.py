"""`souq release`: say which model this is, with whose signature and which scores."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from souq import bundling, openssf, releases
from souq.build import build
from souq.bundle import Judged, judge
from souq.checks.evals import scores as evals_of
from souq.cli.console import answer, bars, done, here, json_option, key_option, out, person, table
from souq.errors import UsageError
from souq.governance import read_policy
from souq.snapshot import Snapshot


@click.group()
def release() -> None:
    """Create, list, view, export or verify releases."""


@release.command()
@click.argument("version")
@click.option("--no-scores", is_flag=True, help="Do not run main's evals first.")
@key_option
@json_option
def create(version: str, no_scores: bool, key: Path | None, as_json: bool) -> None:
    """Score main's model, sign what it builds to, and put it on main as VERSION."""
    repo = here()
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    with bars() as progress:
        found = {} if no_scores else evals_of(main, build(main, progress=progress), main.evals, progress)
        scores = {name: round(score.value, 4) for name, score in found.items()}
        made = releases.create(repo, version, scores, person(repo, key), progress)
    answer(made, as_json, lambda: out.print(f"released {made.version}: {made.model}"))
    done("next: `souq verify`, `souq export ./out`, `souq corpus make`")


@release.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The releases on main."""
    repo = here()
    main = Snapshot(repo, repo.tip())
    found = [releases.read(main, version).release for version in releases.listed(main)]
    answer(
        found,
        as_json,
        lambda: table(
            ["version", "at", "contributions", "model"],
            [[r.version, r.at, len(r.recipe.contributions), r.model[:19]] for r in found],
        ),
    )


@release.command()
@click.argument("version")
@json_option
def view(version: str, as_json: bool) -> None:
    """One release: its recipe, digest and scores, if its signature holds."""
    repo = here()
    found = releases.read(Snapshot(repo, repo.tip()), version)
    answer(found.release, as_json, lambda: out.print(msgspec.json.format(msgspec.json.encode(found.release)).decode()))


@release.command()
@click.argument("version")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--sign", type=click.Path(path_type=Path), help="Also an OpenSSF model signature, by this ECDSA key (ssh or PEM)."
)
@click.option("--ask-passphrase", is_flag=True, help="Ask for the passphrase of the --sign key.")
@key_option
@json_option
def export(
    version: str, folder: Path, sign: Path | None, ask_passphrase: bool, key: Path | None, as_json: bool
) -> None:
    """Write VERSION to FOLDER as it was released: the model, its papers, and your signature on them."""
    repo = here()
    repo.fetch()
    secret = click.prompt("passphrase", hide_input=True, err=True) if ask_passphrase else None
    with bars() as progress:
        made = bundling.export(repo, version, folder, person(repo, key), sign=sign, password=secret, progress=progress)
    answer(made, as_json, lambda: out.print(f"{folder}: {made.version}, {made.model}"))
    if sign is not None and not _enrolled(bundling.read(Snapshot(repo, repo.tip()), version), sign, secret):
        done(f"{sign} is nobody's in GOVERNANCE.toml: hand out its public half, for --public-key")
    done(f"next: `souq release verify {folder}`")


def _enrolled(standing: bundling.Standing, key: Path, password: str | None) -> bool:
    known = filter(openssf.usable, read_policy(standing.main.policy_text).keys)
    return openssf.public_of(key, password) in map(openssf.public_pem, known)


@release.command()
@click.argument("what", metavar="FOLDER|VERSION")
@click.option("--governance", metavar="DIGEST|FILE", help="The GOVERNANCE.toml you trust: b3:…, sha256:… or a file.")
@click.option(
    "--public-key", "keys", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A PEM file: whose OpenSSF signature you take besides those in GOVERNANCE.toml.",
)  # fmt: skip
@json_option
def verify(what: str, governance: str | None, keys: tuple[Path, ...], as_json: bool) -> None:
    """Judge an exported FOLDER by what is in it, with no repository; or, inside one, build VERSION again.

    Exit 3 when something does not hold."""
    if not Path(what).is_dir():
        _verify_version(what, governance, keys, as_json)
        return
    with bars() as progress:
        found = judge(Path(what), governance=governance, public_keys=keys, progress=progress)
    answer(found, as_json, lambda: _show(found))
    if found.findings:
        raise click.exceptions.Exit(3)


def _show(found: Judged) -> None:
    if found.version:
        out.print(f"release {found.version}: {found.model}")
    for mark, lines in (("proven", found.proven), ("not proven", found.unproven)):
        for line in lines:
            out.print(f"  {mark}: {line}")
    for finding in found.findings:
        out.print(f"  wrong: {finding.file}: {finding.because}")
    out.print("verified" if not found.findings else f"NOT verified: {len(found.findings)} findings")


def _verify_version(version: str, governance: str | None, keys: tuple[Path, ...], as_json: bool) -> None:
    if governance or keys:
        raise UsageError("--governance and --public-key are for a folder", hint=f"is there a folder {version}?")
    repo = here()
    with bars() as progress:
        standing = bundling.read(Snapshot(repo, repo.tip()), version)
        rebuilt = bundling.rebuilt(repo, standing, progress)
    value = {"version": version, "model": standing.release.model, "rebuilt": rebuilt}
    same = rebuilt == standing.release.model

    def show() -> None:
        out.print(f"release {version}: {standing.release.model}\nrebuilt from {standing.main.commit}: {rebuilt}")
        out.print("verified" if same else "NOT verified: the recipe builds to another model")

    answer(value, as_json, show)
    if not same:
        raise click.exceptions.Exit(3)
