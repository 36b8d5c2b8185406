"""`souq release`: say which model this is, with whose signature and which scores."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import msgspec

from souq.build.model import build
from souq.checks.evals import scores as eval_scores
from souq.cli.console import answer, bars, done, json_option, key_option, out, person
from souq.cli.help import VerbGroup
from souq.cli.here import here
from souq.cli.missing import show_missing
from souq.cli.offers import offer_command
from souq.cli.table import table
from souq.cli.tail import texts_of
from souq.cli.together import together
from souq.corpus import tails
from souq.corpus.dump import manifest
from souq.errors import UsageError
from souq.governance import read_policy
from souq.model.gguf.writer import GGUF_KINDS
from souq.progress import Progress
from souq.records import Published, digest, spelled_out
from souq.releases import export as bundling
from souq.releases import openssf
from souq.releases import release as releases
from souq.releases.scores import charts, scored
from souq.releases.verify import Judged, judge
from souq.repo.history import nightlies
from souq.repo.snapshot import Snapshot


@click.group(cls=VerbGroup)
def release() -> None:
    """Create, list, view, export or verify releases."""


@release.command()
@click.argument("version")
@click.option("--no-scores", is_flag=True, help="Do not run main's evals first.")
@click.option("--corpus", "folder", type=click.Path(path_type=Path), help="What main's model wrote, published with it.")
@click.option(
    "--against", "real", type=click.Path(path_type=Path), help="Real text that the corpus's tail is compared with."
)
@key_option
@json_option
def create(
    version: str, no_scores: bool, folder: Path | None, real: Path | None, key: Path | None, as_json: bool
) -> None:
    """Score main's model, sign what it builds to, and offer it as VERSION; it lands when main's policy says yes."""
    repo = here()
    repo.fetch()
    main, author = Snapshot(repo, repo.tip()), person(repo, key)
    _, corpus = together(partial(releases.refuse_unnameable, main, version, author), partial(_published, folder, real))
    with bars() as progress:
        scores = {} if no_scores else _scores(main, progress)
        pull, made = releases.propose(repo, version, scores, author, progress, corpus=corpus)
        decision, commit = releases.settle(repo, pull.number, author, progress)
    value = {"number": pull.number, "release": made, "landed": commit, "missing": decision.missing}

    def show() -> None:
        if commit is not None:
            out.print(f"released {made.version}: {made.model}")
            done("next: `souq verify`, `souq export ./out`, `souq corpus make`")
        else:
            out.print(f"#{pull.number} Release {made.version}: {made.model}")
            show_missing(pull.number, decision)

    answer(value, as_json, show)


def _scores(main: Snapshot, progress: Progress) -> dict[str, float]:
    """What main's model scores on main's evals, as a release says it."""
    scores = eval_scores(main, build(main, progress=progress), main.evals, progress)
    return {name: round(score.value, 4) for name, score in scores.items()}


def _published(folder: Path | None, real: Path | None) -> Published | None:
    """What a release says of its corpus; whether that is enough of a tail, the check decides."""
    if folder is None and real is None:
        return None
    if folder is None or real is None:
        hint = "--corpus FOLDER --against REAL"
        raise UsageError("a corpus is published with real text to compare it with", hint=hint)
    contents = manifest(folder)
    latest, report = contents["dumps"][contents["latest"]], tails.compare(texts_of(folder), texts_of(real))
    return Published(
        manifest=digest((folder / "manifest.json").read_bytes()), dump=contents["latest"], teacher=latest["teacher"],
        licence=latest["licence"], rows=latest["rows"]["kept"], words=report.corpus.words, rare=report.rare,
        kept=round(report.kept, 4), real=digest(real.read_bytes()),
    )  # fmt: skip


@release.command()
@click.option("--no-scores", is_flag=True, help="Do not run main's evals first.")
@key_option
@json_option
def nightly(no_scores: bool, key: Path | None, as_json: bool) -> None:
    """Sign what main builds to now, beside main: no decision, only what there is tonight."""
    repo = here()
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    with bars() as progress:
        scores = {} if no_scores else _scores(main, progress)
        made = releases.nightly(repo, scores, person(repo, key), progress)
    answer(made, as_json, lambda: out.print(f"{made.version}: {made.model}"))


YANK = "Offer to mark a release as one not to be used; it stays, for whoever has it."
release.add_command(offer_command("yank", "VERSION", YANK, why="Why nobody should use it."))


@release.command("list")
@click.option(
    "--picture", type=click.Path(path_type=Path), help="Draw the scores, release by release: an SVG for each unit."
)
@json_option
def list_(picture: Path | None, as_json: bool) -> None:
    """The releases on main, and the nightlies beside it."""
    repo = here()
    repo.refresh()
    main = Snapshot(repo, repo.tip())
    signed = [releases.read(main, version) for version in main.releases] + nightlies(repo, main)
    rows = [
        [f.release.version, f.release.at, len(f.release.recipe.contributions), f.release.model[:19], f.yanked]
        for f in signed
    ]
    value = [msgspec.to_builtins(f.release) | ({"yanked": f.yanked} if f.yanked else {}) for f in signed]
    answer(value, as_json, lambda: table(["version", "at", "contributions", "model", "yanked"], rows))
    if picture is not None:
        _draw(main, picture)


def _draw(main: Snapshot, picture: Path) -> None:
    """Right answers into the file that was named, nats into one beside it, where there are both."""
    if not (drawn := charts(main, scored(main))):
        raise UsageError("scores over releases are drawn from the second release on that has some")
    for number, (title, svg) in enumerate(drawn):
        file = picture if number == 0 else picture.with_name(f"{picture.stem}-nats{picture.suffix}")
        file.write_text(svg)
        done(f"{file}: {title.lower()}")


@release.command()
@click.argument("version")
@json_option
def view(version: str, as_json: bool) -> None:
    """One release: its recipe, digest and scores, if its signature holds."""
    repo = here()
    signed = releases.read(Snapshot(repo, repo.tip()), version)
    text = msgspec.json.format(msgspec.json.encode(signed.release)).decode()
    answer(signed.release, as_json, lambda: out.print(text))


@release.command()
@click.argument("version")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--sign", type=click.Path(path_type=Path), help="Also an OpenSSF model signature, by this ECDSA key (ssh or PEM)."
)
@click.option("--ask-passphrase", is_flag=True, help="Ask for the passphrase of the --sign key.")
@click.option("--gguf", type=click.Choice(GGUF_KINDS), help="With a file for llama.cpp, its numbers of this kind.")
@key_option
@json_option
def export(
    version: str, folder: Path, sign: Path | None, ask_passphrase: bool, gguf: str | None, key: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Write VERSION to FOLDER as it was released: the model, its papers, and your signature on them."""
    repo = here()
    repo.refresh()
    secret = click.prompt("passphrase", hide_input=True, err=True) if ask_passphrase else None
    with bars() as progress:
        made = bundling.export(
            repo, version, folder, person(repo, key), sign=sign, password=secret, gguf=gguf or "", progress=progress
        )
    answer(made, as_json, lambda: out.print(f"{folder}: {made.version}, {made.model}"))
    if sign is not None and not _enrolled(Snapshot(repo, made.commit), sign, secret):
        done(f"{sign} is nobody's in GOVERNANCE.toml: hand out its public half, for --public-key")
    done(f"next: `souq release verify {folder}`")


def _enrolled(main: Snapshot, key: Path, password: str | None) -> bool:
    known = filter(openssf.usable, read_policy(main.policy_text).keys)
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

    Its files are sorted: stated by the release, claimed later and signed, strangers that no loader reads.
    Exit 3 when something does not hold."""
    if not Path(what).is_dir():
        _verify_version(what, governance, keys, as_json)
        return
    with bars() as progress:
        judged = judge(Path(what), governance=governance, public_keys=keys, progress=progress)
    answer(judged, as_json, lambda: _show(judged))
    if judged.findings:
        raise click.exceptions.Exit(3)


def _show(judged: Judged) -> None:
    if judged.version:
        out.print(f"release {judged.version}: {judged.model}")
    for mark, lines in (("proven", judged.proven), ("not proven", judged.unproven)):
        for line in lines:
            out.print(f"  {mark}: {line}")
    for claim in judged.claims:
        out.print(f"  later, and signed: {claim.file}: {claim.because}")
    for stranger in judged.strangers:
        out.print(f"  stranger: {spelled_out(stranger.file)}: {stranger.because}")
    for finding in judged.findings:
        out.print(f"  wrong: {spelled_out(finding.file)}: {spelled_out(finding.because)}")
    out.print("verified" if not judged.findings else f"NOT verified: {len(judged.findings)} findings")


def _verify_version(version: str, governance: str | None, keys: tuple[Path, ...], as_json: bool) -> None:
    if governance or keys:
        raise UsageError("--governance and --public-key are for a folder", hint=f"is there a folder {version}?")
    repo = here()
    with bars() as progress:
        signed = bundling.read(Snapshot(repo, repo.tip()), version)
        rebuilt = bundling.rebuilt(repo, signed, progress)
    release = signed.release
    value = {"version": version, "model": release.model, "rebuilt": rebuilt}
    same = rebuilt == release.model

    def show() -> None:
        out.print(f"release {version}: {release.model}\nrebuilt from {release.commit}: {rebuilt}")
        out.print("verified" if same else "NOT verified: the recipe builds to another model")

    answer(value, as_json, show)
    if not same:
        raise click.exceptions.Exit(3)
