"""`souq init`, `clone`, `push`, `fetch`: where a model repository comes from and how it travels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from souq.cli.console import answer, bars, done, here, json_option, key_option, out, person
from souq.errors import NotFound, SouqError, UsageError, nearest
from souq.evals import suite as general
from souq.evals.eval import read_folder
from souq.governance import Who
from souq.governance.policy import Key
from souq.governance.templates import TEMPLATES, from_template
from souq.model.config import approved
from souq.model.source import Source, open_source
from souq.progress import Progress
from souq.pulls import pull as pulls
from souq.records import Record, parse_toml
from souq.repo.init import Beginning, bring_main, clone_all
from souq.repo.init import init as start
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, needed
from souq.signing import Person, normal_key
from souq.weights.delta import Delta, Lock, Tensors
from souq.weights.lockfile import lock_digest


@click.command()
@click.argument("name", type=click.Path(path_type=Path))
@click.option("--from", "source", required=True, help="A Hugging Face folder, a .gguf file, or a hub id.")
@click.option("--licence", "--license", help="SPDX; the source's own where it says one.")
@click.option(
    "--governance",
    "policy",
    default="solo",
    help="`solo`, `apache`, `foundation`, `company-plus-community`, or a GOVERNANCE.toml of yours.",
)
@click.option("--people", type=click.Path(path_type=Path), help="Who else decides: a TOML file of [[person]] tables.")
@click.option("--evals", type=click.Path(path_type=Path), multiple=True, help="Folders with eval.toml and cases.jsonl.")
@click.option("--store", default="", help="Where the tensors travel if not beside the remote: s3://bucket/folder.")
@click.option("--suite/--no-suite", default=True, help="Protect a small general suite, and sketch the base's inputs.")
@key_option
@json_option
def init(
    name: Path, source: str, licence: str | None, policy: str, people: Path | None, evals: tuple[Path, ...],
    store: str, suite: bool, key: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Start a model repository NAME from a model."""
    founder = person(Repo(Path.cwd(), Path.cwd()), key)
    model = open_source(source)
    if (licence or model.licence) is None:
        raise UsageError("the source names no licence", hint="add --licence, for example --licence Apache-2.0")
    cases = {path: data for folder in evals for path, data in _folder(folder).items()}
    with bars() as progress:
        if suite:
            cases |= general.files()
        begin = Beginning(
            name=name.name, licence=str(licence or model.licence), policy=_policy(policy, founder, people), evals=cases,
            store=store, sketch=partial(_sketch, progress) if suite else None,
        )  # fmt: skip
        repo = start(name, model, begin, progress)
    main, template = Snapshot(repo, "main"), approved(model.files)
    value = {"repo": str(name), "root": main.commit, "base": main.base_digest, "tensors": len(main.base)}

    def show() -> None:
        out.print(f"{name}: {len(main.base)} tensors, base {main.base_digest}")
        if template is not None and template.adds:
            done(f"where nobody gives a system message, its chat template says: {template.adds}")
        done(f"root {main.commit} (pin it: `souq verify --root {main.commit}`)\nnext: cd {name} && souq status")

    answer(value, as_json, show)


class _People(Record, frozen=True, forbid_unknown_fields=True):
    person: tuple[Who, ...]


def _policy(template: str, founder: Person, people: Path | None) -> str:
    if template in TEMPLATES:
        me = Who(name=founder.name, org=founder.org or founder.name, email=founder.email, keys=(founder.public_key,))
        return from_template(template, [me, *_others(people, founder)])
    path = Path(template)
    if not path.is_file():
        known = nearest(template, TEMPLATES)
        raise NotFound(f"no template and no file {template!r}{known}", hint=f"one of {', '.join(TEMPLATES)}, or a path")
    return path.read_text()


def _others(people: Path | None, founder: Person) -> list[Who]:
    if people is None:
        return []
    if not people.is_file():
        raise NotFound(f"no file {people}", hint="check --people")
    others = parse_toml(people.read_text(), _People, where=str(people)).person
    return [other for other in others if founder.public_key not in [normal_key(_plain(key)) for key in other.keys]]


def _plain(key: str | Key) -> str:
    return key.key if isinstance(key, Key) else key


def _sketch(progress: Progress, source: Source, lock: Lock) -> tuple[Delta, Tensors]:
    from souq.lab import sketching

    return sketching.of_base(source, lock_digest(lock), general.general_texts(), progress)


def _folder(folder: Path) -> dict[str, bytes]:
    return {f"{folder.name}/{name}": data for name, data in read_folder(folder).items()}


@click.command()
@click.argument("url")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--no-tensors", is_flag=True, help="History only: enough to read and to vote; `souq fetch` brings the rest."
)
def clone(url: str, folder: Path | None, no_tensors: bool) -> None:
    """Copy a model repository, history and tensors."""
    folder = folder or Path(Path(url).name.removesuffix(".git"))
    with bars() as progress:
        repo = clone_all(url, folder, progress, tensors=not no_tensors)
    out.print(f"{folder}: {len(Snapshot(repo, 'main').base)} tensors")
    done(f"next: cd {folder} && souq status")


@click.command()
@click.argument("remote", required=False)
def push(remote: str | None) -> None:
    """Send history and missing tensors to the shared remote; REMOTE, a folder or a URL, names it the first time."""
    repo = here()
    if remote is not None:
        repo.set_remote(remote)
    commits = {"main": repo.commit("main")} | {
        str(pull.number): pull.head for pull in pulls.listed(repo) if _readable(repo, pull.head)
    }
    with bars() as progress:
        repo.push_all(needed(repo, commits), progress)
    out.print(f"pushed to {remote or repo.remote}")


def _readable(repo: Repo, head: str) -> bool:

    try:
        return all(ref.digest in repo.store for ref in Snapshot(repo, head).tensors())
    except SouqError:
        return False


@click.command()
def fetch() -> None:
    """Bring history and missing tensors from the shared remote."""
    repo = here()
    repo.fetch()
    with bars() as progress:
        bring_main(repo, progress)
    if not repo.forward(repo.tip()):
        done("main here has changes of its own; `git status` shows them")
    out.print(f"main is {repo.tip()[:12]}")
