"""A model repository and what others have of it: the shared remote, the store that carries its tensors, and clones.

What is local to a clone, and how git is run, is git.py.

    repo = Repo.find(Path.cwd())
    repo.fetch()
    repo.read(repo.tip(), "souq.toml")
"""

from __future__ import annotations

import os
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
from souq.repo.git import MAIN, OUTSIDE, GitError, GitRepo, failed, git_dir_of, last_line, run_git, shared_dir
from souq.weights.bucket import Bucket, check_url, open_remote
from souq.weights.store import Store

# What a repository may say of itself and start nothing by it: a fetch for who only looks goes by no other settings.
_PLAIN = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|worktree)"
    r"|extensions\.(objectformat|partialclone)|remote\..*\.(url|pushurl|fetch|promisor|partialclonefilter|tagopt|prune)"
    r"|(branch|user|souq|http|url|alias|advice|color|pull|push|submodule)\..*|credential\.(.*\.)?username|gc\.auto|",
    re.DOTALL,
)
_PUSH = ("push", "--quiet", "--no-verify", "--recurse-submodules=no")
_PROTOCOLS = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
_TYPED = re.compile(r"(.*?)((?:\^|~\d{0,6})*)", re.DOTALL)


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
        folder = self.remote_folder()
        if url := self._store_url(local=folder is not None):
            return open_remote(url)
        if self.remote is None:
            return None
        if folder is None:
            raise NotFound(
                f"{self.remote} carries history and no tensors, and main's souq.toml names no [store]",
                hint="ask its people where the tensors are, and run `git config souq.store URL`",
            )
        if (git_dir := git_dir_of(folder)) is None:
            raise NotFound(f"the remote {self.remote} is no git repository", hint="see `git remote -v`")
        return Store(shared_dir(git_dir) / "souq")

    def _store_url(self, *, local: bool) -> str:
        """This person's own `souq.store`, else what main says; a head's souq.toml is asked by nobody."""
        if mine := self.config("souq.store"):
            return check_url(mine, local=True)
        settings: dict[str, Any] = {}
        with suppress(NotFound, Hostile, UsageError, UnicodeDecodeError):  # whoever reads main says what is wrong
            settings = read_toml(self.read(self.tip(), "souq.toml").decode(), where="souq.toml")
        url = settings.get("store", {}).get("url", "") if isinstance(settings.get("store", {}), dict) else ""
        return check_url(str(url), local=local) if url else ""

    def remote_folder(self) -> Path | None:
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
        self.remote_folder()
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
            _raced_if_rejected(self._own(*_PUSH, "--atomic", *leases, "origin", *specs, check=False))
        others = {name: moved for name, moved in updates.items() if name != MAIN}
        lines = "".join(f"update {name} {new} {old or '0' * 40}\n" for name, (old, new) in others.items())
        moved = self._own("update-ref", "--stdin", stdin=lines.encode(), check=False)
        if moved.returncode:
            error = failed("update-ref", moved.stderr)
            raise Raced(str(error), hint=error.hint or "run the command again")
        if MAIN in updates:
            self._advance(*updates[MAIN])

    def _advance(self, old: str | None, new: str) -> None:
        if self.remote:
            self._own("update-ref", "refs/remotes/origin/main", new)
        if not self.forward(new) or self.remote:
            return
        if self.ref(MAIN) != old:
            raise Raced("main moved meanwhile", hint="run the command again")
        raise UsageError(
            "main cannot move: files here were changed by hand", hint="commit or `git stash` them and run it again"
        )

    def forward(self, commit: str) -> str:
        """Bring this clone's main and its files to `commit`; why they stay as they are, or "" where they came along."""
        where = self._worktrees_on_main()
        if self.root is not None and git_dir_of(self.root) in where:
            moved = self._own("merge", "--quiet", "--ff-only", commit, check=False)
            return "main here has changes of its own; `git status` shows them" if moved.returncode else ""
        if where:  # its files would stay behind, and look as if somebody had undone what landed
            return f"main is checked out elsewhere, by {where[0]}: run `souq fetch` there"
        old = self.ref(MAIN) or "0" * 40
        if not self.contains(commit, old) or self._own("update-ref", MAIN, commit, old, check=False).returncode:
            return "main here has commits of its own: `git log origin/main..main` shows them"
        return ""

    def _worktrees_on_main(self) -> list[Path]:
        """The git directories of the worktrees whose files are main's."""
        own = [] if self.config("core.bare") == "true" else [self.git_dir]
        places, on_main = [*own, *sorted((self.git_dir / "worktrees").glob("*"))], f"ref: {MAIN}".encode()
        return [at for at in places if (at / "HEAD").is_file() and (at / "HEAD").read_bytes().strip() == on_main]

    def fetch(self, env: Mapping[str, str] = {}) -> None:
        """Bring main and every pull request's refs.

        A head that moved is followed: votes and checks name a digest, so they stay behind with what they were for.
        A record the remote lost stays here.
        """
        if self.remote:
            self.remote_folder()
            self._own(
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "origin",
                "+refs/heads/main:refs/remotes/origin/main", "+refs/souq/*:refs/souq/*", "refs/tags/*:refs/tags/*",
                env=env,
            )  # fmt: skip

    def refresh(self) -> None:
        """Fetch, for a verb that only looks.

        A folder that somebody sent may name in its settings what git is to start; then nothing is asked for, and that
        is said. Who types `souq fetch` says that the settings are their own.
        """
        if odd := sorted(key for key in self._own_settings() if not _PLAIN.fullmatch(key)):
            self.tell(f"not fetched: this clone's own settings may start something ({', '.join(odd)[:120]})")
            self.tell("if they are yours, run `souq fetch`, or keep them in your own ~/.gitconfig")
        else:
            self.fetch({} if "GIT_ALLOW_PROTOCOL" in os.environ else _PROTOCOLS)

    def tip(self) -> str:
        """Main as everybody sees it: the remote's where there is one."""
        commit = self.ref("refs/remotes/origin/main") if self.remote else None
        return commit or self.commit(MAIN)

    def resolve(self, name: str) -> str:
        """The commit that a person names: `main`, `HEAD`, a branch, a tag or digits of an id, and `~n` or `^` after it.

        Main is the one main whatever else is called so: what everybody sees, which `verify` judges.

        Raises:
            NotFound: nothing is called so.
            UsageError: more than one thing is.
        """
        base, back = _TYPED.fullmatch(name).groups()  # type: ignore[union-attr]  # it matches anything
        commits = {self.tip()} if base in ("main", MAIN) else self._named(base)
        if len(commits) > 1:
            raise UsageError(f"{name[:80]!r} means more than one commit", hint=f"one of {', '.join(sorted(commits))}")
        for commit in commits:
            shown = self._git("rev-parse", "--verify", "--quiet", f"{commit}{back}^{{commit}}", check=False)
            if shown.returncode == 0:
                return shown.stdout.decode().strip()
        raise NotFound(f"no commit {name[:80]!r}", hint="see `souq log`")

    def _named(self, name: str) -> set[str]:
        """The commits that a word can mean, but for main."""
        head = (git_dir_of(self.root) if self.root else None) or self.git_dir
        if name == "HEAD":
            name = (head / "HEAD").read_text(errors="replace").strip().removeprefix("ref: ")
        refs = [name] if name.startswith("refs/") else [f"refs/{kind}/{name}" for kind in ("heads", "tags", "remotes")]
        oids = [oid for ref in refs if (oid := self.ref(ref)) is not None]
        if re.fullmatch(r"[0-9a-f]{4,40}", name):
            oids += self._git("rev-parse", f"--disambiguate={name}").stdout.decode().split()
        peeled = "".join(f"{oid}^{{commit}}\n" for oid in oids).encode()
        lines = self._git("cat-file", "--batch-check=%(objectname)", stdin=peeled).stdout.decode().splitlines()
        return {line for line in lines if re.fullmatch(r"[0-9a-f]{40}", line)}

    def push_all(self, to: str, needed: Iterable[Digest], progress: Progress = quiet) -> None:
        """Send main and every souq ref this clone has, with the tensors they point at; only what is missing.

        `to` is the shared remote from then on, and not before all is there.

        Raises:
            Raced: somebody else moved it first; no ref was moved.
        """
        named = to == self.remote
        at = "origin" if named else to
        self._own("ls-remote", "--quiet", "--", at, MAIN)  # whether anybody answers
        Repo(self.git_dir, self.root, to)._send(needed, progress)
        words = (*_PUSH, "--atomic", "--", at, MAIN, "refs/souq/*:refs/souq/*")
        _raced_if_rejected(self._own(*words, check=False))
        if not named:
            self._own("config", "--replace-all", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
            self._own("config", "--replace-all", "remote.origin.url", to)
        self._own("update-ref", "refs/remotes/origin/main", self.commit(MAIN))

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
        folder = self.remote_folder()
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
        listing = self._own("config", "--local", "--null", "--get-regexp", kinds, check=False).stdout.decode()
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
    message, error = pushed.stderr.decode("utf-8", "replace"), failed("push", pushed.stderr)
    if error.hint:  # a lock of somebody who is quicker, or was killed
        raise Raced(str(error), hint=error.hint)
    if "rejected" in message or "stale info" in message or "cannot lock ref" in message:
        raise Raced("somebody else moved the remote first; nothing was sent", hint="run the command again")
    raise error
