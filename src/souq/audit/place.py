"""A place that is audited: files by path, whatever holds them, and the evidence that cites one of them by digest.

A repository, a release's folder or any other. Every file is a stranger's: sizes are bounded, links are not followed.

    open_place(Path("SmolLM2-135M-Instruct")).cite("README.md")
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from blake3 import blake3

from souq.errors import Hostile, NotFound, SouqError
from souq.progress import Progress, quiet
from souq.records import Record, digest, spelled_out
from souq.releases.verify import judge
from souq.repo.git import git_dir_of
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

MAX_FILES, MAX_TEXT = 20_000, 4 << 20
MAX_HOLES, BLOCK = 1 << 30, 512  # bytes of a file that may be in no place on the disk, and what the disk counts in


class Evidence(Record, frozen=True):
    """A file that was read, by digest, and what it shows."""

    path: str
    digest: str
    note: str = ""


@dataclass(frozen=True)
class Place:
    """Files by path, whatever holds them; and the repository's commit, where there is one."""

    name: str
    paths: frozenset[str]
    load: Callable[[str], bytes]  # raises Hostile where it is too large
    hash: Callable[[str], str]
    main: Snapshot | None = None
    folder: Path | None = None
    proven: tuple[str, ...] = ()  # what a release's papers say and its files bear out
    wrong: tuple[str, ...] = ()  # files that are not what a release's papers say

    @cached_property
    def kind(self) -> str:
        if self.main:
            return "souq repository"
        return "exported release" if "release.json" in self.paths else "folder"

    def text(self, path: str) -> str:
        """A file's text; nothing where it is absent or no text that could be shown."""
        with suppress(SouqError, OSError):
            return self.load(path).decode("utf-8", "replace") if path in self.paths else ""
        return ""

    def cite(self, *paths: str, note: str = "") -> tuple[Evidence, ...]:
        return tuple(
            Evidence(path=spelled_out(path), digest=self.hash(path), note=note) for path in paths if path in self.paths
        )

    def matching(self, pattern: str) -> list[str]:
        """Files by a pattern of their whole path, in order; capitals do not count."""
        return sorted(path for path in self.paths if re.fullmatch(pattern, path, re.IGNORECASE))


def open_place(path: Path, progress: Progress = quiet) -> Place:
    """A repository, a release's folder, or any other.

    Raises:
        NotFound: nothing is there.
        Hostile: more files than anybody publishes.
    """
    if not path.is_dir():
        raise NotFound(f"no folder {path}", hint="name a souq repository, an exported release or a model's folder")
    if ((path / "souq.toml").is_file() and (path / ".git").exists()) or git_dir_of(path) == path.resolve():  # or bare
        return _of_repo(Repo.find(path))
    files = {str(file.relative_to(path)): file for file in _walk(path)}
    place = Place(
        path.resolve().name, frozenset(files), lambda name: _bounded(files[name]), lambda name: _hash(files[name]),
        folder=path,
    )  # fmt: skip
    if place.kind != "exported release":
        return place
    judged = judge(path, progress=progress)
    wrong = tuple(f"{finding.file}: {finding.because}" for finding in judged.findings)
    return replace(place, proven=tuple(judged.proven), wrong=wrong)


def _of_repo(repo: Repo) -> Place:
    main = Snapshot(repo, repo.tip())
    paths = frozenset(entry.path for entry in repo.entries(main.commit))

    def load(path: str) -> bytes:
        return repo.read(main.commit, path)

    return Place(main.config.name, paths, load, lambda path: digest(load(path)), main)


def _walk(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if name not in (".git", ".cache")]
        for name in files:
            count += 1
            if count > MAX_FILES:
                raise Hostile(f"{folder}: more than {MAX_FILES:,} files", hint="name the model's own folder")
            if (path := Path(place) / name).is_file() and (not path.is_symlink() or _in_hub_cache(path, folder)):
                yield path


def _in_hub_cache(path: Path, folder: Path) -> bool:
    """The hub's client keeps snapshots/<commit>/<file> as links to blobs/; no other link is followed."""
    return path.resolve().parent == folder.resolve().parent.parent / "blobs"


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise Hostile(f"{path.name}: more than {MAX_TEXT:,} bytes of text")
    return data


def _hash(path: Path) -> str:
    """A file's digest; "" for an empty one, and for a huge one of holes: a download that ended, or one that never does.

    Terabytes that are nowhere cost their sender a word and their reader hours.
    """
    facts = path.stat()
    is_there = facts.st_size <= MAX_HOLES or facts.st_blocks * BLOCK > facts.st_size // 8
    return "b3:" + blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest() if facts.st_size and is_there else ""
