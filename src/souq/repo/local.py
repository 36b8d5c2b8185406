"""What souq writes into a repository on this disk: blobs, commits and branches; who only reads never loads it.

repo = LocalRepo.create(Path("smol"))
repo.write_commit([], {"README.md": b"# smol"}, "Begin")
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from souq.errors import UsageError
from souq.files import beside, refuse_full
from souq.repo.git import ENTRY_BYTES, MAIN, MEMORY, GitRepo, blob_name, last_line, refuse_broken, run_git


def hold(git_dir: Path) -> int:
    """A handle that says somebody is at work in a repository: until it is closed, gc waits and removes nothing."""
    handle = os.open(git_dir, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


class LocalRepo(GitRepo):
    """A repository whose owner is at work: git runs as they would type it, with their own settings."""

    @classmethod
    def of(cls, repo: GitRepo) -> Self:
        """The repository that somebody reads, as its owner's."""
        return repo if isinstance(repo, cls) else cls(repo.git_dir, repo.root)

    @classmethod
    def create(cls, root: Path) -> Self:
        """An empty repository in a new folder.

        Raises:
            UsageError: the folder is there and holds something.
        """
        refuse_full(root, hint="choose another name")
        root.mkdir(parents=True, exist_ok=True)
        run_git(root, "init", "--quiet", "--initial-branch=main", "--object-format=sha1")
        return cls((root / ".git").resolve(), root.resolve())

    def write_commit(
        self, parents: Iterable[str], files: Mapping[str, bytes | None], message: str, *, tree_of: str | None = None
    ) -> str:
        """A commit of `tree_of`'s files with some written (bytes) or removed (None); no branch and no file moves."""
        with beside(self.git_dir / "index") as folder:
            index = {"GIT_INDEX_FILE": str(folder / "index")}
            if tree_of:
                self._own("read-tree", tree_of, env=index)
            rows = "".join(self._index_rows(files))
            self._own("update-index", "-z", "--index-info", stdin=rows.encode(), env=index)
            tree = self._own("write-tree", env=index).stdout.decode().strip()
        links = [word for parent in parents for word in ("-p", parent)]
        self.identity()
        made = self._own("commit-tree", tree, *links, stdin=message.encode())
        return made.stdout.decode().strip()

    def write_blob(self, data: bytes) -> str:
        key = (self.git_dir, hashlib.sha256(data).digest())
        if (oid := MEMORY.get(key)) is None:
            oid = self._own("hash-object", "-w", "--stdin", stdin=data).stdout.decode().strip()
            MEMORY.put(key, oid, ENTRY_BYTES)
        return str(oid)

    def _index_rows(self, files: Mapping[str, bytes | None]) -> Iterator[str]:
        names = {path: blob_name(data) for path, data in files.items() if data is not None}
        there = self.sizes(names.values())  # most of a landing came with the offer: no process for each
        for path, data in files.items():
            if data is None:
                yield f"0 {'0' * 40}\t{path}\0"
            else:
                oid = names[path] if names[path] in there else self.write_blob(data)
                yield f"100644 {oid}\t{path}\0"

    def identity(self) -> tuple[str, str]:
        """Name and e-mail, as git would write them; git's guess from the machine's name is not taken.

        Raises:
            UsageError: git was never told.
        """
        result = self._own("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT", check=False)
        match = re.fullmatch(r"(.+) <(.+)> \d+ [+-]\d+\n", result.stdout.decode("utf-8", "replace"))
        if result.returncode or match is None:
            hint = 'run `git config --global user.name "…"` and `git config --global user.email "…"`'
            raise UsageError("git does not know who you are", hint=hint)
        return match.group(1), match.group(2)

    def begin_again(self, root: str, more: Mapping[str, bytes]) -> str:
        """Main as a root commit with some files more; only for a root that nobody has pinned yet."""
        message = self._git("log", "--format=%B", "--max-count=1", root).stdout.decode().rstrip() + "\n"
        commit = self.write_commit([], dict(more), message, tree_of=root)
        if self.root is None:
            self._own("update-ref", MAIN, commit, root)
        else:
            self._own("reset", "--quiet", "--hard", commit)
        return commit

    def make_branch(self, name: str, commit: str) -> None:
        """Point a local branch at a commit.

        Raises:
            UsageError: no name for a branch, or the one that is checked out.
        """
        named = self._own("check-ref-format", "--branch", name, check=False)
        if named.returncode:
            raise UsageError(f"{name!r} cannot be the branch of a contribution", hint="choose another --branch")
        moved = self._own("branch", "--quiet", "--force", "--no-track", name, commit, check=False)
        if moved.returncode:
            refuse_broken("branch", moved)
            raise UsageError(last_line(moved.stderr), hint="choose another --branch, or `git switch main` first")

    def check_out(self, name: str, commit: str, *, force: bool = False) -> None:
        """Switch to a local branch that points at a commit, as `git switch` does; files changed by hand stay.

        Raises:
            UsageError: a branch of that name holds something else, no name for one, or files are in the way.
        """
        if self.root is None:
            raise UsageError("this repository has no working files", hint="do it in a clone")
        if not force and (there := self.ref(f"refs/heads/{name}")) not in (None, commit):
            hint = "`--force` moves it, `--branch NAME` takes another"
            raise UsageError(f"the branch {name} is at {str(there)[:12]} and this at {commit[:12]}", hint=hint)
        switched = self._own("switch", "--quiet", "--no-track", "-C", name, commit, check=False)
        if switched.returncode:
            refuse_broken("switch", switched)
            raise UsageError(last_line(switched.stderr), hint="commit or `git stash` what you changed, and try again")

    def configure(self, key: str, value: str | None, *, everywhere: bool = False) -> None:
        """Write one of git's settings for this clone, or for all of its owner's; None forgets it.

        Raises:
            UsageError: git does not take it.
        """
        words = ("--unset-all", key) if value is None else ("--replace-all", key, value)
        written = self._own("config", "--global" if everywhere else "--local", *words, check=False)
        if written.returncode and not (value is None and written.returncode == 5):  # 5: there is none to forget
            refuse_broken("config", written)
            raise UsageError(f"git does not take {key}: {last_line(written.stderr)}")
        self._settings = None
        self.__dict__.pop("_persons_settings", None)  # read again when next asked

    def drop_cache(self) -> int:
        """Remove built models and scores; returns the bytes freed."""
        freed = sum(path.stat().st_size for path in self.cache.rglob("*") if path.is_file())
        shutil.rmtree(self.cache)
        return freed

    def is_clean(self) -> bool:
        return not self._own("status", "--porcelain").stdout

    def _own(
        self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Git, as the repository's owner would type it: to write, and to ask its remote."""
        where = self.root if self.root is not None and self.root.is_dir() else self.git_dir
        return run_git(where, *words, stdin=stdin, env=env, check=check)
