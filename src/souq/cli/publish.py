"""`souq publish`: a release, its evals and its corpora on a hub that Hugging Face's clients read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from souq.cli.console import answer, bars, done, json_option, key_option, out, person
from souq.cli.here import here
from souq.cli.together import together
from souq.corpus.dump import manifest
from souq.errors import Refused
from souq.files import beside
from souq.model import hub_client
from souq.model.hub_client import Target
from souq.progress import Progress
from souq.releases import publication, upload
from souq.releases.card import ForHub
from souq.releases.publication import Published, Words
from souq.releases.release import read
from souq.releases.upload import Plan
from souq.releases.verify import RELEASE, STATEMENT
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person


@dataclass(frozen=True)
class Job:
    """One repository of the hub, and what is to be said of its commit."""

    plan: Plan
    message: str
    tag: str = ""

    def value(self) -> dict[str, Any]:
        """For programs."""
        target, plan = self.plan.target, self.plan
        return {
            "repo": target.repo, "kind": target.kind, "new": not plan.head, "bytes": plan.size,
            "send": dict(plan.send), "remove": list(plan.remove), "unchanged": plan.same,
        }  # fmt: skip


@click.command()
@click.argument("repo_id", metavar="ORG/NAME")
@click.option("--release", "version", help="The version to publish.  [default: the newest that is not yanked]")
@click.option(
    "--corpus", "corpora", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A corpus that `souq corpus make` wrote, as a data set ORG/FOLDER; once for each.",
)  # fmt: skip
@click.option("--language", "languages", multiple=True, help="A language that the model speaks, for its card: en, ar.")
@click.option("--dataset", "datasets", multiple=True, help="A hub's data set that it was trained on, for its card.")
@click.option("--evals/--no-evals", default=True, help="Put the evals it was scored by beside it, as ORG/NAME-evals.")
@click.option("--private", is_flag=True, help="What is new on the hub is seen by its owners alone.")
@click.option("--dry-run", is_flag=True, help="Say what would be uploaded, and upload nothing.")
@key_option
@json_option
def publish(
    repo_id: str, version: str | None, corpora: tuple[Path, ...], languages: tuple[str, ...],
    datasets: tuple[str, ...], evals: bool, private: bool, dry_run: bool, key: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Put a release on a Hugging Face hub as ORG/NAME: weights, card, papers, signature, signed scores and a tag.

    HF_ENDPOINT names the hub and HF_TOKEN your token. Only what changed is uploaded; cut short, type it again.
    """
    url = f"{hub_client.endpoint()}/{repo_id}"
    words = Words(repo_id, ForHub(languages, datasets), url)
    together(words.refuse_odd, *(partial(manifest, corpus) for corpus in corpora))
    repo = here()
    repo.refresh()
    author, tip = person(repo, key), Snapshot(repo, repo.tip())
    version = version or publication.newest(tip)
    if because := read(tip, version).yanked:
        raise Refused(f"{version} is yanked: {because}", hint="publish another release")
    api = hub_client.client()
    with beside(repo.git_dir / "souq" / "publish") as scratch, bars() as progress:
        jobs = list(_jobs(api, repo, tip, version, author, words, corpora, scratch, progress, evals=evals))
        for job in jobs:
            done(_announced(job.plan))
        value: dict[str, Any] = {"version": version, "url": url, "uploaded": not dry_run}
        value["repositories"] = [job.value() for job in jobs]
        if not dry_run:
            commits = [_do(api, job, private=private, progress=progress) for job in jobs]
            for row, commit in zip(value["repositories"], commits, strict=True):
                row["commit"] = commit
            value["replaced"] = _follow(api, repo, tip, Published(hub_client.endpoint(), repo_id, version))
    answer(value, as_json, partial(_show, value))


def _jobs(
    api: Any, repo: Repo, tip: Snapshot, version: str, author: Person, words: Words, corpora: tuple[Path, ...],
    scratch: Path, progress: Progress, *, evals: bool,
) -> Iterator[Job]:  # fmt: skip
    if not hub_client.speaks_xet():
        done(f"{hub_client.endpoint()} is not Hugging Face's hub: files are sent plainly (HF_HUB_DISABLE_XET=1 is set)")
    model = Target(words.repo, "model")
    there = partial(hub_client.read, api, model, hub_client.head_of(api, model))
    publication.refuse_older(tip, version, there(RELEASE))
    folder = scratch / "model"
    release = publication.release_folder(repo, version, folder, author, words, there, progress)
    plan = upload.planned(api, model, folder, publication.ours_in_model(there(STATEMENT)))
    if release.scores and evals:
        (exam := scratch / "evals").mkdir()
        publication.evals_folder(Snapshot(repo, release.commit), release.scores, exam, words)
        target = Target(words.evals, "dataset")
        yield Job(upload.planned(api, target, exam, _evals_there(api, target)), f"Evals of {version}")
    for corpus in corpora:
        yield _corpus(api, corpus, words, scratch)
    yield Job(plan, f"Release {version}", f"v{version}")  # the last: what its card names is there by then


def _evals_there(api: Any, target: Target) -> set[str]:
    """What is there of evals: all but what people write."""
    listed = hub_client.listed(api, target)
    return {path for path in listed if path.endswith(("/eval.toml", "/cases.jsonl"))}


def _corpus(api: Any, corpus: Path, words: Words, scratch: Path) -> Job:
    name = f"{words.repo.partition('/')[0]}/{corpus.resolve().name}"
    Words(name).refuse_odd()
    target, folder = Target(name, "dataset"), scratch / f"corpus-{corpus.resolve().name}"
    publication.corpus_folder(corpus, folder)
    listed = hub_client.read(api, target, hub_client.head_of(api, target), publication.MANIFEST)
    plan = upload.planned(api, target, folder, publication.ours_in_corpus(listed))
    return Job(plan, f"Edition {manifest(corpus)['latest']}")


def _announced(plan: Plan) -> str:
    kind = "data set " if plan.target.kind == "dataset" else ""
    if not plan and plan.head:
        return f"{kind}{plan.target.repo}: nothing to upload, all {plan.same} files are there"
    new = ", which is new" if not plan.head else ""
    gone = f"; {len(plan.remove)} go" if plan.remove else ""
    sent = f"{len(plan.send)} files, {plan.size:,} bytes to upload"
    return f"{kind}{plan.target.repo}{new}: {sent}; {plan.same} are there{gone}"


def _do(api: Any, job: Job, *, private: bool, progress: Progress) -> str:
    commit = upload.upload(api, job.plan, job.message, private=private, progress=progress)
    if job.tag:
        upload.tagged(api, job.plan.target, job.tag, commit)
    return commit


def _follow(api: Any, repo: Repo, tip: Snapshot, made: Published) -> list[str]:
    """Have the cards of older releases name this one, and note what was published."""
    older = publication.replaced(repo, tip, made)
    for name in older:
        upload.replaced_by(api, Target(name, "model"), made.repo)
    publication.remember(repo, made)
    return older


def _show(value: dict[str, Any]) -> None:
    if not value["uploaded"]:
        out.print(f"{value['version']} would be at {value['url']}: nothing was uploaded")
        return
    out.print(f"{value['version']} is at {value['url']}")
    for name in value["replaced"]:
        done(f"the card of {name} says new_version: {value['repositories'][-1]['repo']}")
    done(f"next: hf download {value['repositories'][-1]['repo']} --revision v{value['version']} --local-dir out")
