"""How a model repository gets from one disk to another: cloned and pushed, whole or not at all.

A clone is made beside its name and gets it once every tensor is there. A remote that is named first is asked first,
filled, and only then the one this clone shares with others.

    repo = clone("https://forge.example/smol", Path("smol"))
    push(repo, needed(repo, {"main": repo.tip()}), to="../hub.git")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from souq.errors import NotFound, UsageError
from souq.files import new_folder
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.repo.git import run_git
from souq.repo.remote import Repo, is_url, refuse_endless_remote
from souq.repo.snapshot import needed


def clone(url: str, folder: Path, progress: Progress = quiet, *, tensors: bool = True) -> Repo:
    """A clone, with the tensors main points at unless only its history is wanted.

    Raises:
        NotFound: nothing is there.
        Hostile: git would read on for ever in it.
        UsageError: the folder is there and holds something.
    """
    source = absolute(url)
    if not is_url(url):
        if not Path(source).is_dir():
            raise NotFound(f"no repository {url}", hint="name the folder of a model repository or of its bare remote")
        refuse_endless_remote(Path(source))
    with new_folder(folder) as partial:
        words = ("--quiet", "--no-local", "--no-tags", "--single-branch", "--branch=main", "--origin=origin")
        run_git(partial.parent, "clone", *words, "--", source, str(partial))
        run_git(partial, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")  # for git's own fetch
        run_git(partial, "config", "--unset", "remote.origin.tagOpt")
        repo = Repo.find(partial)
        repo.fetch()
        if tensors:
            bring_main(repo, progress)
    return Repo.find(folder)


def bring_main(repo: Repo, progress: Progress = quiet, *, at: str = "") -> None:
    """The tensors main points at, or pointed at with an earlier commit, from the remote, each verified."""
    if (remote := repo.remote_store()) is not None:
        remote.copy(repo.store, needed(repo, {"main": at or repo.tip()}), progress)


def push(repo: Repo, needed: Iterable[Digest], progress: Progress = quiet, *, to: str | None = None) -> None:
    """Send main and all that was said about pull requests, to a remote that is named from then on.

    Where `to` is a folder that is not there yet, it is made: a bare repository.

    Raises:
        UsageError: nothing is named, now or before.
        Raced: somebody else moved the remote first.
    """
    where = absolute(to) if to is not None else repo.remote
    if not where:
        raise UsageError("no remote to push to", hint="run `souq push FOLDER.git` once")
    if to is not None and not is_url(where) and not Path(where).exists():
        with new_folder(Path(where)) as bare:
            run_git(bare, "init", "--quiet", "--bare", "--initial-branch=main", "--object-format=sha1")
    repo.push_all(where, needed, progress)


def absolute(url: str) -> str:
    """A remote as it is written down: a URL as it is, a folder by its whole path."""
    return url if is_url(url) else str(Path(url).absolute())
