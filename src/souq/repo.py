"""The only file that runs git: commits, refs, remotes, and the tensor store that travels beside them.

A model repository is an ordinary git repository. Its tensors live in `souq/objects` inside the git directory, in
every clone and in the bare remote alike, so a folder remote needs no server and a clone needs no configuration.

    repo = Repo.find(Path.cwd())
    repo.read("main", "souq.toml")
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from souq.errors import Corrupt, Hostile, Missing, NotFound, SouqError, UsageError
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.store import Store

MAX_BLOB = 64 << 20  # bytes of one file in a pull request
MAX_FILES = 2_000
MAIN = "refs/heads/main"

# A pull request is somebody else's repository: none of its hooks, helpers or filters may run.
_SAFE: tuple[str, ...] = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "core.fsmonitor=false",
)
# Nor may a clone's own settings and caches change what git says is there.
_SAFE += ("-c", "core.commitGraph=false", "-c", "log.showSignature=false", "-c", "diff.ignoreSubmodules=none")
_FIXED = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
_FIXED |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull}  # a clone cannot be told another history


class GitError(SouqError):
    """git said no; its own last line is the message."""


class Raced(SouqError):
    """Somebody else moved a ref first; fetch and try again."""


@dataclass(frozen=True)
class Entry:
    """One file of a tree, as git lists it."""

    path: str
    mode: str
    oid: str
    size: int


@dataclass(frozen=True)
class Moved:
    """One path that a commit changes: git's names of its bytes before and after, "" where it is not there."""

    path: str
    old: str
    new: str
    mode: str  # after


@dataclass(frozen=True)
class Step:
    """One commit of main and what it changes against the one before; the root's `before` is ""."""

    commit: str
    before: str
    moved: tuple[Moved, ...]

    @property
    def odd(self) -> str:
        """What is in its trees that two readers could read two ways; "" where nothing is."""
        paths = [found.path for found in self.moved]
        if len({*paths}) < len(paths):
            return "a path stands twice in its tree: readers disagree on which one counts"
        bad = next((path for path in paths if {"", ".", "..", ".git"} & {*path.split("/")}), None)
        return f"a tree with an entry that is no name: {bad!r}" if bad else ""


class Repo:
    """A model repository on this disk."""

    def __init__(self, git_dir: Path, root: Path | None) -> None:
        self.git_dir, self.root = git_dir, root

    @classmethod
    def find(cls, start: Path) -> Repo:
        """The model repository that holds `start`.

        Raises:
            NotFound: no git repository here, or one without a souq.toml.
        """
        if not start.is_dir():
            raise NotFound(f"no folder {start}", hint="check the path")
        found = _run(start, "rev-parse", "--git-common-dir", "--show-toplevel", check=False)
        if found.returncode:
            raise NotFound(
                f"{start} is not in a model repository", hint="run `souq init NAME --from MODEL` or `souq clone URL`"
            )
        git_dir, root = found.stdout.decode().splitlines()
        repo = cls((start / git_dir).resolve(), Path(root))
        if not repo.ref(MAIN):
            raise NotFound(f"{root} has no main branch yet", hint="run `souq init NAME --from MODEL`")
        return repo

    @classmethod
    def create(cls, root: Path) -> Repo:
        """An empty repository in a new folder.

        Raises:
            UsageError: the folder is there and holds something.
        """
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UsageError(f"{root} is already there and not empty", hint="choose another name")
        root.mkdir(parents=True, exist_ok=True)
        _run(root, "init", "--quiet", "--initial-branch=main")
        return cls((root / ".git").resolve(), root.resolve())

    @cached_property
    def store(self) -> Store:
        return Store(self.git_dir / "souq")

    @property
    def cache(self) -> Path:
        """What can be made again: built models and scores."""
        folder = self.git_dir / "souq" / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # -- reading ---------------------------------------------------------------------------------------------------

    def commit(self, name: str) -> str:
        """The full id of a commit by any of its names."""
        if name.startswith("-"):
            raise UsageError(f"not a commit: {name!r}")
        found = self._git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
        if found.returncode:
            raise NotFound(f"no commit {name!r}", hint="see `souq log`")
        return found.stdout.decode().strip()

    def entries(self, commit: str, folder: str = "") -> list[Entry]:
        """Every file below a folder of a commit; at most MAX_FILES.

        Raises:
            Hostile: more files than that.
        """
        listed = self._git("ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", folder or ".").stdout
        rows = [row for row in listed.decode("utf-8", "surrogateescape").split("\0") if row]
        if len(rows) > MAX_FILES and folder:
            raise Hostile(f"{folder} holds {len(rows):,} files; the most is {MAX_FILES:,}")
        return [_entry(row) for row in rows]

    def read(self, commit: str, path: str) -> bytes:
        """A file of a commit.

        Raises:
            NotFound: it is not there.
            Hostile: it is larger than MAX_BLOB, or not a plain file.
        """
        found = [entry for entry in self.entries(commit, path) if entry.path == path]
        if not found:
            raise NotFound(f"no {path} in {commit[:12]}")
        return self.blob(found[0])

    def blob(self, entry: Entry) -> bytes:
        return self._blobs([entry])[0]

    def _blobs(self, entries: list[Entry]) -> list[bytes]:
        """The bytes of some files, by one git."""
        for entry in entries:
            if entry.mode != "100644":
                raise Hostile(f"{entry.path} is not a plain file (mode {entry.mode})")
            if entry.size > MAX_BLOB:
                raise Hostile(f"{entry.path} has {entry.size:,} bytes; the most is {MAX_BLOB:,}")
        if not entries:
            return []
        told = self._git("cat-file", "--batch", stdin="".join(f"{entry.oid}\n" for entry in entries).encode()).stdout
        found, at = [], 0
        for _ in entries:  # a line "oid type size", the bytes, a line feed
            end = told.index(b"\n", at)
            size = int(told[at:end].split()[2])
            found.append(told[end + 1 : end + 1 + size])
            at = end + size + 2
        return found

    def files(self, commit: str, folder: str) -> dict[str, bytes]:
        """Every plain file below a folder, by its path inside that folder."""
        below = folder.rstrip("/") + "/"
        entries = [entry for entry in self.entries(commit, folder) if entry.path.startswith(below)]
        return {entry.path.removeprefix(below): data for entry, data in zip(entries, self._blobs(entries), strict=True)}

    def folders(self, commit: str, folder: str) -> list[str]:
        """The names of the folders directly inside a folder of a commit."""
        return sorted(self.trees(commit, folder))

    def trees(self, commit: str, folder: str) -> dict[str, str]:
        """The folders directly inside a folder of a commit, and git's name of all that is in each."""
        listed = self._git("ls-tree", "-d", "-z", "--full-tree", commit, folder.rstrip("/") + "/").stdout
        rows = [row.partition("\t")[::2] for row in listed.decode().split("\0") if row]
        return {path.rpartition("/")[2]: facts.split()[2] for facts, path in sorted(rows)}

    def changed(self, old: str, new: str) -> list[str]:
        """The paths that differ between two commits."""
        listed = self._git("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new).stdout
        return [path for path in listed.decode("utf-8", "surrogateescape").split("\0") if path]

    def history(self, commit: str) -> list[str]:
        """First parents from the root to `commit`: the landings of main, oldest first."""
        return self._git("rev-list", "--first-parent", "--reverse", commit).stdout.decode().split()

    def check_names(self, commit: str) -> None:
        """Compute the name of every object main is made of: git believes its own disk, and a copied folder may lie.

        Raises:
            UsageError: the clone is shallow: its beginning is not here.
            GitError: something is not here.
            Corrupt: the bytes under a name are another object's.
        """
        if self._git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            raise UsageError("this clone is shallow: main's beginning is not here", hint="run `git fetch --unshallow`")
        words = ("rev-list", "--objects", "--no-object-names", "--first-parent", commit)
        with (
            self._running(*words) as names,
            self._running("cat-file", "--batch", "--buffer", stdin=names.stdout) as git,
        ):
            assert git.stdout is not None
            while facts := git.stdout.readline().split():
                if len(facts) != 3:
                    raise NotFound(f"{facts[0].decode()[:12]} is not here: history is not whole", hint="run `git fsck`")
                oid, kind, size = facts
                if _name(kind, git.stdout, int(size)) != oid.decode():
                    raise Corrupt(f"the {kind.decode()} {oid.decode()[:12]} lies: its bytes have another name")
                git.stdout.read(1)
        if names.returncode or git.returncode:
            raise GitError("something is not here: history is not whole", hint="run `git fsck`, then `souq fetch`")

    def steps(self, commit: str, since: str = "") -> Iterator[Step]:
        """The same history with what each step changed, by one git however long it is.

        Raises:
            UsageError: the clone is shallow: its beginning is not here.
        """
        if self._git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            raise UsageError("this clone is shallow: main's beginning is not here", hint="run `git fetch --unshallow`")
        words: tuple[str, ...] = (
            "log",
            "--first-parent",
            "--diff-merges=first-parent",
            "--reverse",
            "--root",
            "--raw",
            "--no-renames",
        )
        words += ("--no-abbrev", "--no-ext-diff", "-z", "--format=%x01%H", f"{since}..{commit}" if since else commit)
        before, now, facts, moved = since, "", "", list[Moved]()
        for token in self._tokens(*words):
            if facts:  # what follows them is a path, however it begins
                _, mode, old, new, _ = facts.split()
                moved.append(Moved(token, old.strip("0") and old, new.strip("0") and new, mode))
                facts = ""
            elif (told := token.lstrip("\n")).startswith("\x01"):
                if now:
                    yield Step(now, before, tuple(moved))
                    before = now
                now, moved = told[1:], []
            else:
                facts = told
        if now:
            yield Step(now, before, tuple(moved))

    def _tokens(self, *words: str) -> Iterator[str]:
        """What git says between its zero bytes, as it says it."""
        with self._running(*words) as git:
            assert git.stdout is not None
            rest = b""
            while part := git.stdout.read(1 << 16):
                *whole, rest = (rest + part).split(b"\0")
                yield from (token.decode("utf-8", "surrogateescape") for token in whole)
            if rest.strip():
                yield rest.decode("utf-8", "surrogateescape")
        if git.returncode:
            raise GitError(f"git {words[0]} stopped: is history whole? `git fsck` tells")

    def _running(self, *words: str, stdin: IO[bytes] | int | None = subprocess.PIPE) -> subprocess.Popen[bytes]:
        where = self.root if self.root is not None and self.root.is_dir() else self.git_dir
        return subprocess.Popen(
            ["git", *_SAFE, *words], cwd=where, env=_environment(), stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @contextmanager
    def blobs(self) -> Iterator[Blobs]:
        """Bytes by git's name of them, as many as one likes, by one git."""
        with self._running("cat-file", "--batch") as git:
            try:
                yield Blobs(git)
            finally:
                git.kill()

    def contains(self, commit: str, ancestor: str) -> bool:
        return self._git("merge-base", "--is-ancestor", ancestor, commit, check=False).returncode == 0

    def summary(self, commit: str) -> tuple[str, str, str, str]:
        """A commit's id, date, author and subject."""
        found = self._git("show", "--no-patch", "--format=%H%x00%aI%x00%an%x00%s", commit).stdout.decode(
            "utf-8", "replace"
        )
        oid, at, by, subject = found.rstrip("\n").split("\0")
        return oid, at, by, subject

    def drop_cache(self) -> int:
        """Remove built models and scores; returns the bytes freed."""
        freed = sum(path.stat().st_size for path in self.cache.rglob("*") if path.is_file())
        shutil.rmtree(self.cache)
        return freed

    def is_clean(self) -> bool:
        return not self._git("status", "--porcelain").stdout

    def config(self, key: str) -> str:
        return self._git("config", "--get", key, check=False).stdout.decode().strip()

    def patch(self, old: str, new: str, paths: Iterable[str] = ()) -> str:
        return self._git("diff", "--no-ext-diff", "--no-textconv", old, new, "--", *paths).stdout.decode(
            "utf-8", "replace"
        )

    def object(self, oid: str, most: int) -> bytes:
        """A blob by its id.

        Raises:
            Hostile: not a blob, or larger than `most` bytes.
        """
        facts = self._git("cat-file", "--batch-check=%(objecttype) %(objectsize)", stdin=oid.encode()).stdout.split()
        if facts[0] != b"blob" or int(facts[1]) > most:
            raise Hostile(f"{oid[:12]} is not a record of at most {most:,} bytes")
        return self._git("cat-file", "blob", oid).stdout

    # -- writing ---------------------------------------------------------------------------------------------------

    def write_commit(
        self, parents: Iterable[str], files: Mapping[str, bytes | None], message: str, *, tree_of: str | None = None
    ) -> str:
        """A commit of `tree_of`'s files with some written (bytes) or removed (None); no branch and no file moves."""
        with tempfile.TemporaryDirectory(dir=self.git_dir) as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if tree_of:
                self._git("read-tree", tree_of, env=index)
            rows = "".join(self._index_row(path, data) for path, data in files.items())
            self._git("update-index", "-z", "--index-info", stdin=rows.encode(), env=index)
            tree = self._git("write-tree", env=index).stdout.decode().strip()
        links = [word for parent in parents for word in ("-p", parent)]
        self.identity()
        made = self._git("commit-tree", tree, *links, stdin=message.encode())
        return made.stdout.decode().strip()

    def write_blob(self, data: bytes) -> str:
        return self._git("hash-object", "-w", "--stdin", stdin=data).stdout.decode().strip()

    def _index_row(self, path: str, data: bytes | None) -> str:
        if data is None:
            return f"0 {'0' * 40}\t{path}\0"
        return f"100644 {self.write_blob(data)}\t{path}\0"

    def identity(self) -> tuple[str, str]:
        """Name and e-mail, as git would write them; git's guess from the machine's name is not taken.

        Raises:
            UsageError: git was never told.
        """
        found = self._git("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT", check=False)
        told = re.fullmatch(r"(.+) <(.+)> \d+ [+-]\d+\n", found.stdout.decode("utf-8", "replace"))
        if found.returncode or told is None:
            raise UsageError(
                "git does not know who you are", hint='run `git config user.name "…"` and `git config user.email "…"`'
            )
        return told.group(1), told.group(2)

    # -- refs and remotes ------------------------------------------------------------------------------------------

    def ref(self, name: str) -> str | None:
        found = self._git("rev-parse", "--verify", "--quiet", name, check=False)
        return found.stdout.decode().strip() if found.returncode == 0 else None

    def refs(self, prefix: str) -> dict[str, str]:
        """Refs below a prefix: full name -> object id."""
        listed = self._git("for-each-ref", "--format=%(refname) %(objectname)", prefix).stdout.decode()
        return dict(line.split(" ") for line in listed.splitlines())

    @property
    def remote(self) -> str | None:
        return self.config("remote.origin.url") or None

    def remote_store(self) -> Store | None:
        """The store beside the remote's git directory."""
        if self.remote is None:
            return None
        folder = Path(self.remote)
        folder = folder if folder.is_absolute() or self.root is None else self.root / folder
        if not folder.is_dir():
            raise NotFound(f"the remote {self.remote} is not a folder that can be reached", hint="see `git remote -v`")
        inside = _run(folder, "rev-parse", "--git-common-dir").stdout.decode().strip()
        return Store((folder / inside).resolve() / "souq")

    def publish(
        self, updates: Mapping[str, tuple[str | None, str]], needed: Iterable[Digest], progress: Progress = quiet
    ) -> None:
        """Move refs from what they were to what they are, at the remote and here, all or none; tensors go first.

        Raises:
            Raced: a ref was not what we thought it was.
            UsageError: main cannot move here, because files of the working tree were changed by hand.
        """
        if (remote := self.remote_store()) is not None:
            self.store.copy(remote, needed, progress)
            leases = [f"--force-with-lease={name}:{old or ''}" for name, (old, _) in updates.items()]
            specs = [f"{new}:{name}" for name, (_, new) in updates.items()]
            _raced_if_rejected(
                self._git("push", "--quiet", "--atomic", "--no-verify", *leases, "origin", *specs, check=False)
            )
        others = {name: moved for name, moved in updates.items() if name != MAIN}
        lines = "".join(f"update {name} {new} {old or '0' * 40}\n" for name, (old, new) in others.items())
        moved = self._git("update-ref", "--stdin", stdin=lines.encode(), check=False)
        if moved.returncode:
            raise Raced(_last_line(moved.stderr), hint="run the command again")
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
            self.remote_store()
            self._git(
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin",
                "+refs/heads/main:refs/remotes/origin/main", "+refs/souq/*:refs/souq/*", "refs/tags/*:refs/tags/*",
            )  # fmt: skip

    def tip(self) -> str:
        """Main as everybody sees it: the remote's where there is one."""
        found = self.ref("refs/remotes/origin/main") if self.remote else None
        return found or self.commit(MAIN)

    def set_remote(self, url: str) -> None:
        """Name the shared remote, making a bare repository there when the folder is not there yet."""
        folder = Path(url).absolute()
        if not folder.exists():
            folder.mkdir(parents=True)
            _run(folder, "init", "--quiet", "--bare", "--initial-branch=main")
        self._git("remote", "remove", "origin", check=False)
        self._git("remote", "add", "origin", str(folder))

    def push_all(self, needed: Iterable[Digest], progress: Progress = quiet) -> None:
        """Send main and every souq ref this clone has, with the tensors they point at; only what is missing."""
        remote = self.remote_store()
        if remote is None:
            raise UsageError("no remote to push to", hint="run `souq push FOLDER.git` once")
        self.store.copy(remote, needed, progress)
        pushed = self._git("push", "--quiet", "--no-verify", "origin", MAIN, "refs/souq/*:refs/souq/*", check=False)
        _raced_if_rejected(pushed)
        self._git("fetch", "--quiet", "origin", "+refs/heads/main:refs/remotes/origin/main")

    def _git(
        self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        where = self.root if self.root is not None and self.root.is_dir() else self.git_dir
        return _run(where, *words, stdin=stdin, env=env, check=check)


class Blobs:
    """A `git cat-file --batch` that stays."""

    def __init__(self, git: subprocess.Popen[bytes]) -> None:
        self._git = git

    def __getitem__(self, oid: str) -> bytes:
        """A blob.

        Raises:
            NotFound: it is not here.
            Hostile: it is larger than MAX_BLOB, or no blob.
        """
        into, out = self._git.stdin, self._git.stdout
        assert into is not None
        assert out is not None
        into.write(oid.encode() + b"\n")
        into.flush()
        facts = out.readline().split()
        if len(facts) != 3:
            raise NotFound(f"{oid[:12]} is not here: history is not whole", hint="run `git fsck`, then `souq fetch`")
        size = int(facts[2])
        if facts[1] != b"blob" or size > MAX_BLOB:
            _name(facts[1], out, size + 1)  # read past, or the next answer would begin with it
            raise Hostile(f"{oid[:12]} is {facts[1].decode()} of {size:,} bytes; the most is {MAX_BLOB:,}")
        data = out.read(size)
        out.read(1)
        return data


def _name(kind: bytes, stream: IO[bytes], size: int) -> str:
    """Git's name of the object that a stream begins with."""
    found = hashlib.sha1(b"%s %d\0" % (kind, size), usedforsecurity=False)
    for start in range(0, size, 1 << 20):
        found.update(stream.read(min(1 << 20, size - start)))
    return found.hexdigest()


def clone(url: str, folder: Path) -> Repo:
    """A clone of a folder remote's git side; its tensors follow by `Store.copy`."""
    source = Path(url).absolute()
    if not source.is_dir():
        raise NotFound(f"no repository {url}", hint="name the folder of a model repository or of its bare remote")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is already there and not empty", hint="choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run(folder.parent, "clone", "--quiet", "--no-hardlinks", "--", str(source), str(folder.absolute()))
    repo = Repo.find(folder)
    repo.fetch()
    return repo


def _entry(row: str) -> Entry:
    facts, _, path = row.partition("\t")
    mode, _, oid, size = facts.split()
    return Entry(path, mode, oid, int(size) if size.isdigit() else 0)


def _environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not re.match(r"GIT_(DIR|WORK_TREE|INDEX|OBJ)", key)}
    return inherited | _FIXED


def _run(
    where: Path, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    try:
        done = subprocess.run(
            ["git", *_SAFE, *words],
            cwd=where,
            input=stdin,
            capture_output=True,
            env=_environment() | dict(env or {}),
            check=False,
        )
    except FileNotFoundError as error:
        raise Missing("git is not installed", hint="install git, for example `apt-get install git`") from error
    if check and done.returncode:
        raise GitError(f"git {words[0]}: {_last_line(done.stderr)}")
    return done


def _last_line(text: bytes) -> str:
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"


def _raced_if_rejected(pushed: subprocess.CompletedProcess[bytes]) -> None:
    if pushed.returncode == 0:
        return
    said = pushed.stderr.decode("utf-8", "replace")
    if "rejected" in said or "stale info" in said or "cannot lock ref" in said:
        raise Raced("somebody else moved the remote first; nothing was sent", hint="run the command again")
    raise GitError(f"git push: {_last_line(pushed.stderr)}")
