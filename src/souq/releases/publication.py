"""What of a release, its evals and its corpora stands on a hub: folders as a hub wants them, and who replaces whom.

A release's folder is the one that `souq release export` writes, so whoever downloads it can verify it; beside it are
its scores, as a claim that is signed.

    folder = release_folder(repo, tip, "1.0", out, person, Card("atlas/smol"))
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from souq import signing
from souq.corpus.dump import changed, manifest
from souq.errors import Hostile, NotFound, Refused, SouqError, UsageError
from souq.files import replacing, write_files
from souq.governance import read_policy
from souq.progress import Progress, quiet
from souq.records import Record, Release
from souq.releases import claims, export
from souq.releases.card import ForHub, head
from souq.releases.verify import NAMESPACE, STATEMENT, UNREADABLE, stated_in
from souq.repo.git import GitRepo
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person

CLAIM = (f"{claims.FOLDER}souq{claims.FACE}", f"{claims.FOLDER}souq{claims.PROOF}")
MANIFEST, CARD = "manifest.json", "README.md"
MAX_PICTURES = 200
_REPO = re.compile(r"[A-Za-z0-9_][\w.\-]{0,95}/[A-Za-z0-9_][\w.\-]{0,89}", re.ASCII)  # with room for `-evals`
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", re.ASCII)
Read = Callable[[str], bytes]
"""A file that is in the hub's repository now; b"" where there is none."""


@dataclass(frozen=True)
class Words:
    """What is typed about a release for a hub."""

    repo: str
    for_hub: ForHub = field(default_factory=ForHub)
    url: str = ""  # of the repository's page

    def refuse_odd(self) -> None:
        """Say no to what a hub's card cannot hold.

        Raises:
            UsageError: a name, a language or a data set that is none.
        """
        for name in (self.repo, *self.for_hub.datasets):
            if not _REPO.fullmatch(name):
                raise UsageError(f"no name on a hub: {name[:120]!r}", hint="org/name")
        for language in self.for_hub.languages:
            if not _LANGUAGE.fullmatch(language):
                raise UsageError(f"no language: {language[:40]!r}", hint="a code of ISO 639, such as ar or en")

    @property
    def evals(self) -> str:
        """The data set that holds the evals."""
        return f"{self.repo}-evals"


def newest(tip: Snapshot) -> str:
    """The version that was released last and is not yanked.

    Raises:
        NotFound: there is none.
    """
    usable = [version for version in tip.releases if f"releases/{version}/yanked.toml" not in _all(tip, version)]
    if not usable:
        raise NotFound("no release to publish", hint="`souq release create VERSION`")
    age = {commit: n for n, commit in enumerate(tip.repo.history(tip.commit))}
    return max(usable, key=lambda version: (age[export.read(tip, version).release.commit], version))


def _all(tip: Snapshot, version: str) -> Collection[str]:
    return {f"releases/{version}/{path}" for path in tip.below(f"releases/{version}")}


def refuse_older(tip: Snapshot, version: str, there: bytes) -> None:
    """Say no to a release that is older than the one a hub's repository holds, whose record is `there`.

    Raises:
        Refused: it is.
    """
    other = str(signing.peek(there).get("version", "")) if there else ""
    if other in tip.releases and other != version:
        known = [each.release.version for each in export.earlier(tip, export.read(tip, version))]
        if other not in known:
            raise Refused(f"{other} is there, and {version} is older", hint="publish it to another repository")


# -- the model ---------------------------------------------------------------------------------------------------------


def release_folder(
    repo: Repo, version: str, folder: Path, person: Person, words: Words, there: Read, progress: Progress = quiet
) -> Release:
    """Write a release into a new folder, with its scores as a signed claim; signatures that are there already stay."""
    release = export.export(repo, version, folder, person, for_hub=words.for_hub, progress=progress)
    policy = read_policy((folder / "GOVERNANCE.toml").read_text())
    if release.scores:
        scores = claims.Scores(
            version=version, scores=release.scores, dataset=words.evals, by=person.name, at=release.at, source=words.url
        )
        write_files(claims.claimed(scores, release, person), folder)
    for path, namespace in ((STATEMENT, NAMESPACE), (CLAIM[1], claims.NAMESPACE)):
        if (folder / path).is_file():
            _keep_signature(folder / path, there(path), policy.keys, namespace)
    return release


def _keep_signature(path: Path, before: bytes, keys: tuple[str, ...], namespace: str) -> None:
    """Some keys sign the same words otherwise each time: where they were signed before, that is the signature."""
    with suppress(*UNREADABLE):
        words, _ = signing.unseal(path.read_bytes(), keys=keys, namespace=namespace)
        if signing.unseal(before, keys=keys, namespace=namespace)[0] == words:
            path.write_bytes(before)


def ours_in_model(statement: bytes) -> set[str]:
    """The files of a hub's repository that an earlier release brought."""
    with suppress(*UNREADABLE):
        return {*stated_in(statement), STATEMENT, *CLAIM}
    return set(CLAIM)


# -- evals -------------------------------------------------------------------------------------------------------------


def evals_folder(main: Snapshot, names: Collection[str], folder: Path, words: Words) -> None:
    """The evals of a release as a data set: the cases, how each is judged, and a list for leaderboards.

    As https://huggingface.co/docs/hub/eval-results has it, a data set whose `eval.yaml` lists tasks can be a benchmark.
    """
    paths = {f"evals/{name}/{file}" for name in names for file in ("eval.toml", "cases.jsonl")}
    files = {path.removeprefix("evals/"): data for path, data in main.exam_files(paths).items()}
    there = sorted({path.partition("/")[0] for path in files})
    files |= {"eval.yaml": _tasks(main.config.name, there), CARD: _evals_card(main, there, words)}
    write_files(files, folder)


def _tasks(name: str, evals: list[str]) -> bytes:
    lines = [f"name: {json.dumps(f'{name}: evals')}", 'description: "What its people measure it by"']
    lines += ["evaluation_framework: souq", "tasks:"]
    for each in evals:
        lines += [f"- id: {json.dumps(each)}", f"  config: {json.dumps(each)}", "  split: test"]
    return ("\n".join(lines) + "\n").encode()


def _evals_card(main: Snapshot, evals: list[str], words: Words) -> bytes:
    facts = head(main.config.licence, "")
    lines = ["---", *(f"{key}: {facts[key]}" for key in ("license", "license_name") if key in facts)]
    lines += ["tags:", "- souq", "configs:"]
    for each in evals:
        lines += [f"- config_name: {json.dumps(each)}", "  data_files:", "  - split: test"]
        lines += [f"    path: {json.dumps(f'{each}/cases.jsonl')}"]
    lines += [
        "---",
        f"# Evals of {words.repo}",
        "",
        "What its people measure it by, as they stood when it was released.",
    ]
    return ("\n".join([*lines, "Keep them out of training data.", ""])).encode()


# -- corpora -----------------------------------------------------------------------------------------------------------


def corpus_folder(corpus: Path, folder: Path) -> None:
    """What a corpus's manifest names, its datasheet and its pictures; the card says that it is synthetic.

    Raises:
        Hostile: a file is not what the manifest says.
    """
    for path, facts in _shards(manifest(corpus)):
        if changed(corpus, path, facts):
            raise Hostile(f"{path} is not what {MANIFEST} says", hint="make the edition again with `souq corpus make`")
        _copy(corpus, path, folder)
    pictures = sorted((corpus / "datasheet").glob("*.svg"))[:MAX_PICTURES]
    for path in (MANIFEST, *(f"datasheet/{picture.name}" for picture in pictures)):
        _copy(corpus, path, folder)
    (folder / CARD).write_bytes(_tagged((corpus / CARD).read_bytes()))


def _shards(listed: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for dump in listed["dumps"].values():
        yield from dump["files"].items()


def _copy(source: Path, path: str, to: Path) -> None:
    (to / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / path, to / path)


def _tagged(card: bytes) -> bytes:
    top, end = b"---\n", b"\n---\n"
    if not card.startswith(top) or end not in card or re.search(rb"^tags:", card.partition(end)[0], re.MULTILINE):
        return card
    return top + b"tags:\n- souq\n- synthetic\n" + card.removeprefix(top)


def ours_in_corpus(listed: bytes) -> set[str]:
    """The files of a hub's data set that an earlier edition brought."""
    try:
        dumps = json.loads(listed)["dumps"].values()
        return {str(path) for dump in dumps for path in dump["files"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()


# -- what was published from here --------------------------------------------------------------------------------------


class Published(Record, frozen=True):
    """A version in a repository of a hub."""

    endpoint: str
    repo: str
    version: str


def published(repo: GitRepo) -> list[Published]:
    """What this clone published, a repository once."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(_note(repo).read_bytes(), type=list[Published])
    return []


def remember(repo: GitRepo, made: Published) -> None:
    """Note what was published."""
    others = [each for each in published(repo) if (each.endpoint, each.repo) != (made.endpoint, made.repo)]
    with replacing(_note(repo)) as partial:
        partial.write_bytes(msgspec.json.encode([*others, made]))


def replaced(repo: GitRepo, tip: Snapshot, made: Published) -> list[str]:
    """Repositories of this hub that hold an older release: their cards are to name the new one."""
    with suppress(SouqError):
        known = {each.release.version for each in export.earlier(tip, export.read(tip, made.version))}
        others = [each for each in published(repo) if each.endpoint == made.endpoint and each.repo != made.repo]
        return [each.repo for each in others if each.version in known]
    return []


def _note(repo: GitRepo) -> Path:
    return repo.git_dir / "souq" / "published.json"
