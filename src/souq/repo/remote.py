"""A model repository and what others have of it: the shared remote, the store that carries its tensors, and clones.

What is local to a clone, and how git is run, is git.py.

    repo = Repo.find(Path.cwd())
    repo.fetch()
    repo.read(repo.tip(), "souq.toml")
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from souq.errors import Hostile, NotFound, SouqError, UsageError
from souq.files import beside
from souq.progress import Progress, quiet
from souq.records import Digest, read_toml
from souq.repo.git import MAIN, OUTSIDE, GitError, GitRepo, last_line, run_git
from souq.weights.bucket import Bucket, check_url, open_remote
from souq.weights.store import Store


class Raced(SouqError):
    """Somebody else moved a ref first; fetch and try again."""


class Repo(GitRepo):
    """A model repository on this disk, and its shared remote: the one that git has for it, or one to be."""

    def __init__(self, git_dir: Path, root: Path | None, remote: str = "") -> None:
        super().__init__(git_dir, root)
        self._remote = remote

    @property
    def remote(self) -> str | None:
        return self._remote or self.config("remote.origin.url") or None

    def remote_store(self) -> Store | Bucket | None:
        """Where the tensors travel: a store with a URL, or else the one beside the remote's git directory.

        Raises:
            NotFound: the remote is no folder, and nothing says where its tensors are.
        """
        folder = self._remote_folder()
        if url := self._store_url(local=folder is not None):
            return open_remote(url)
        if self.remote is None:
            return None
        if folder is None:
            raise NotFound(
                f"{self.remote} carries history and no tensors, and main's souq.toml names no [store]",
                hint="ask its people where the tensors are, and run `git config souq.store URL`",
            )
        inside = run_git(folder, "rev-parse", "--git-common-dir").stdout.decode().strip()
        return Store((folder / inside).resolve() / "souq")

    def _store_url(self, *, local: bool) -> str:
        """This person's own `souq.store`, else what main says; a head's souq.toml is asked by nobody."""
        if mine := self.config("souq.store"):
            return check_url(mine, local=True)
        settings: dict[str, Any] = {}
        with suppress(NotFound, Hostile, UsageError, UnicodeDecodeError):  # whoever reads main says what is wrong
            settings = read_toml(self.read(self.tip(), "souq.toml").decode(), where="souq.toml")
        url = settings.get("store", {}).get("url", "") if isinstance(settings.get("store", {}), dict) else ""
        return check_url(str(url), local=local) if url else ""

    def _remote_folder(self) -> Path | None:
        """The remote as a folder of this machine; None where there is no remote, or it is a URL.

        Raises:
            NotFound: it ought to be a folder, and is not there.
        """
        if self.remote is None or is_url(self.remote):
            return None
        folder = Path(self.remote)
        folder = folder if folder.is_absolute() or self.root is None else self.root / folder
        if not folder.is_dir():
            raise NotFound(f"the remote {self.remote} is not a folder that can be reached", hint="see `git remote -v`")
        return folder

    def _send(self, names: Iterable[Digest], progress: Progress) -> None:
        """Tensors to where they travel, before any ref that needs them."""
        self._remote_folder()
        if (wanted := list(names)) and (remote := self.remote_store()) is not None:
            self.store.copy(remote, wanted, progress)

    def publish(
        self, updates: Mapping[str, tuple[str | None, str]], needed: Iterable[Digest], progress: Progress = quiet
    ) -> None:
        """Move refs from what they were to what they are, at the remote and here, all or none; tensors go first.

        Raises:
            Raced: a ref was not what we thought it was.
            UsageError: main cannot move here, because files of the working tree were changed by hand.
        """
        if self.remote is not None:
            self._send(needed, progress)
            leases = [f"--force-with-lease={name}:{old or ''}" for name, (old, _) in updates.items()]
            specs = [f"{new}:{name}" for name, (_, new) in updates.items()]
            _raced_if_rejected(
                self._git("push", "--quiet", "--atomic", "--no-verify", *leases, "origin", *specs, check=False)
            )
        others = {name: moved for name, moved in updates.items() if name != MAIN}
        lines = "".join(f"update {name} {new} {old or '0' * 40}\n" for name, (old, new) in others.items())
        moved = self._git("update-ref", "--stdin", stdin=lines.encode(), check=False)
        if moved.returncode:
            raise Raced(last_line(moved.stderr), hint="run the command again")
        if MAIN in updates:
            self._advance(*updates[MAIN])

    def _advance(self, old: str | None, new: str) -> None:
        if self.remote:
            self._git("update-ref", "refs/remotes/origin/main", new)
        if self.forward(new) or self.remote:
            return
        if self.ref(MAIN) != old:
            raise Raced("main moved meanwhile", hint="run the command again")
        raise UsageError(
            "main cannot move: files here were changed by hand", hint="commit or `git stash` them and run it again"
        )

    def forward(self, commit: str) -> bool:
        """Bring this clone's main and its files to `commit`; False when local changes stand in the way."""
        on_main = self._git("symbolic-ref", "--quiet", "HEAD", check=False).stdout.decode().strip() == MAIN
        if self.root is not None and on_main:
            return self._git("merge", "--quiet", "--ff-only", commit, check=False).returncode == 0
        old = self.ref(MAIN) or "0" * 40
        return self.contains(commit, old) and not self._git("update-ref", MAIN, commit, old, check=False).returncode

    def fetch(self) -> None:
        """Bring main and every pull request's refs.

        A head that moved is followed: votes and checks name a digest, so they stay behind with what they were for.
        A record the remote lost stays here.
        """
        if self.remote:
            self._remote_folder()
            self._git(
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin",
                "+refs/heads/main:refs/remotes/origin/main", "+refs/souq/*:refs/souq/*", "refs/tags/*:refs/tags/*",
            )  # fmt: skip

    def tip(self) -> str:
        """Main as everybody sees it: the remote's where there is one."""
        commit = self.ref("refs/remotes/origin/main") if self.remote else None
        return commit or self.commit(MAIN)

    def push_all(self, to: str, needed: Iterable[Digest], progress: Progress = quiet) -> None:
        """Send main and every souq ref this clone has, with the tensors they point at; only what is missing.

        `to` is the shared remote from then on, and not before all is there.

        Raises:
            Raced: somebody else moved it first; no ref was moved.
        """
        named = to == self.remote
        at = "origin" if named else to
        self._git("ls-remote", "--quiet", "--", at, MAIN)  # whether anybody answers
        Repo(self.git_dir, self.root, to)._send(needed, progress)
        words = ("push", "--quiet", "--atomic", "--no-verify", "--", at, MAIN, "refs/souq/*:refs/souq/*")
        _raced_if_rejected(self._git(*words, check=False))
        if not named:
            self._git("config", "--replace-all", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
            self._git("config", "--replace-all", "remote.origin.url", to)
        self._git("update-ref", "refs/remotes/origin/main", self.commit(MAIN))

    @contextmanager
    def outside(self, ref: str, most: int) -> Iterator[Repo]:
        """What the remote has under a ref, as OUTSIDE in a repository of its own that is thrown away.

        It sees the objects here, so little is sent; nothing of it comes here but what its reader takes.

        Raises:
            NotFound: the remote has no such ref.
            Hostile: more than `most` bytes.
        """
        if self.remote is None:
            raise UsageError("no remote to take it from", hint="run `souq push URL` once")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/+\-]*", ref):
            raise UsageError(f"not a ref: {ref!r}", hint="name a branch, refs/pull/N/head, or a whole commit id")
        folder = self._remote_folder()
        with beside(self.git_dir / "outside") as place:
            run_git(place, "init", "--quiet", "--bare")
            (place / "objects/info/alternates").write_text(f"{self.git_dir / 'objects'}\n")
            self._lend_access(place)
            fetched = run_git(
                place, "-c", "fetch.unpackLimit=1", "-c", "maintenance.auto=false",
                "-c", "core.bigFileThreshold=16m", "-c", "fetch.fsckObjects=true",
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
                str(folder or self.remote), f"+{ref}:{OUTSIDE}", check=False, most=most,
            )  # fmt: skip
            if fetched.returncode:
                raise _not_taken(ref, fetched, most)
            yield Repo(place, None)

    def _lend_access(self, place: Path) -> None:
        """How this clone reaches its remote, for another repository: proxies, keys, credential helpers."""
        kinds = r"^(http|credential|url)\.|^core\.sshcommand$"
        listing = self._git("config", "--local", "--null", "--get-regexp", kinds, check=False).stdout.decode()
        for row in filter(None, listing.split("\0")):
            key, _, value = row.partition("\n")
            run_git(place, "config", "--add", key, value)


def is_url(remote: str) -> bool:
    """Whether git would take this for a URL or for `host:path`, and not for a folder."""
    return re.match(r"[a-z][a-z0-9+]*://|[A-Za-z0-9_.\-]+(@[A-Za-z0-9_.\-]+)?:(?!//)[^\\]", remote) is not None


def _not_taken(ref: str, fetched: subprocess.CompletedProcess[bytes], most: int) -> SouqError:
    message = fetched.stderr.decode("utf-8", "replace")
    if "couldn't find remote ref" in message:
        return NotFound(f"the remote has no {ref}", hint="is the pull request still there?")
    if "index-pack" in message:
        return Hostile(f"{ref} cannot be taken: it is broken, or larger than {most:,} bytes")
    return GitError(f"git fetch: {last_line(fetched.stderr)}")


def _raced_if_rejected(pushed: subprocess.CompletedProcess[bytes]) -> None:
    if pushed.returncode == 0:
        return
    message = pushed.stderr.decode("utf-8", "replace")
    if "rejected" in message or "stale info" in message or "cannot lock ref" in message:
        raise Raced("somebody else moved the remote first; nothing was sent", hint="run the command again")
    raise GitError(f"git push: {last_line(pushed.stderr)}")
