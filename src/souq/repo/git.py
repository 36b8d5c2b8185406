"""The only file that runs git: commits, refs, remotes, and the tensor store that travels beside them.

A model repository is an ordinary git repository. Its tensors live in `souq/objects` inside the git directory, in
every clone and in the bare remote alike, so a folder remote needs no server and a clone needs no configuration. A
remote that is no folder (a forge) carries the history; main's souq.toml names the store that carries the tensors.

    repo = Repo.find(Path.cwd())
    repo.read("main", "souq.toml")
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, Any, Self

from souq.errors import Corrupt, Hostile, Missing, NotFound, SouqError, UsageError
from souq.files import beside, refuse_full
from souq.weights.store import Store

MAX_BLOB = 64 << 20  # bytes of one file in a pull request
MAX_OFFER = 64 << 20  # and of all its files: git keeps sixty alike as one
MAX_FILES = 2_000
MAX_MOVED = 100_000  # paths that one commit may change
MAX_KNOWN = 1 << 20  # bytes of one file that is kept in memory once read
MAIN = "refs/heads/main"
OUTSIDE = "refs/outside/head"
TREE = "040000"  # a folder, where git lists one
NO_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's name of an empty one

# A pull request is somebody else's repository: none of its hooks, helpers or filters may run.
_SAFE = ["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "core.fsmonitor=false"]
# Nor may a clone's own settings and caches change what git says is there.
_SAFE += ["-c", "core.commitGraph=false", "-c", "log.showSignature=false", "-c", "diff.ignoreSubmodules=none"]
_FIXED = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
_FIXED |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull}  # a clone cannot be told another history


class GitError(SouqError):
    """git said no; its own last line is the message."""


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
        paths = [moved.path for moved in self.moved]
        if len({*paths}) < len(paths):
            return "a path stands twice in its tree: readers disagree on which one counts"
        bad = next((path for path in paths if {"", ".", "..", ".git"} & {*path.split("/")}), None)
        return f"a tree with an entry that is no name: {bad!r}" if bad else ""


class _Memory:
    """What git answered about objects, up to so many bytes, the longest unasked given up first.

    An object's name is a digest of what it is, so no answer about one ever changes; a landing asks most of them ten
    times, and each costs a process. Another repository's answers are never taken: its disk may lie.
    """

    def __init__(self, most: int) -> None:
        self._answers: OrderedDict[tuple[Hashable, ...], tuple[Any, int]] = OrderedDict()
        self._left = most

    def get(self, key: tuple[Hashable, ...]) -> Any:
        """The answer to a question; None where it is not known."""
        if (known := self._answers.get(key)) is None:
            return None
        self._answers.move_to_end(key)
        return known[0]

    def put(self, key: tuple[Hashable, ...], answer: Any, size: int) -> None:
        """Keep an answer of about `size` bytes."""
        self._left += self._answers.pop(key, (None, 0))[1] - size
        self._answers[key] = answer, size
        while self._left < 0:
            self._left += self._answers.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Know nothing."""
        self._left += sum(size for _, size in self._answers.values())
        self._answers.clear()


_MEMORY = _Memory(64 << 20)
_OID = re.compile(r"[0-9a-f]{40}")
_LOOSE = re.compile(r"refs/(heads|remotes|souq)(/[A-Za-z0-9_\-]+)+")
_ENTRY_BYTES = 400  # what a row of a listing takes in memory, about


class GitRepo:
    """A model repository on this disk."""

    def __init__(self, git_dir: Path, root: Path | None) -> None:
        self.git_dir, self.root = git_dir, root
        # What `config` read last, and the file's stamp then: one landing asks for its remote two hundred times.
        self._settings: tuple[tuple[int, int, int], dict[str, str]] | None = None

    @classmethod
    def find(cls, start: Path) -> Self:
        """The model repository that holds `start`.

        Raises:
            NotFound: no git repository here, or one without a souq.toml.
        """
        if not start.is_dir():
            raise NotFound(f"no folder {start}", hint="check the path")
        result = run_git(start, "rev-parse", "--git-common-dir", "--show-toplevel", check=False)
        if result.returncode:
            hint = "run `souq init NAME --from MODEL` or `souq clone URL`"
            raise NotFound(f"{start} is not in a model repository", hint=hint)
        git_dir, root = result.stdout.decode().splitlines()
        repo = cls((start / git_dir).resolve(), Path(root))
        if not repo.ref(MAIN):
            raise NotFound(f"{root} has no main branch yet", hint="run `souq init NAME --from MODEL`")
        return repo

    @classmethod
    def create(cls, root: Path) -> Self:
        """An empty repository in a new folder.

        Raises:
            UsageError: the folder is there and holds something.
        """
        refuse_full(root, hint="choose another name")
        root.mkdir(parents=True, exist_ok=True)
        run_git(root, "init", "--quiet", "--initial-branch=main")
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
        """The full id of a commit by any of its names.

        Raises:
            NotFound: no such commit.
            UsageError: not a name.
        """
        if name.startswith("-"):
            raise UsageError(f"not a commit: {name!r}")
        if (known := _MEMORY.get((self.git_dir, "commit", name))) is not None:
            return str(known)
        result = self._git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)
        if result.returncode:
            raise NotFound(f"no commit {name!r}", hint="see `souq log`")
        oid = result.stdout.decode().strip()
        if _OID.fullmatch(name.removesuffix("^")):  # a commit, or the one before it
            _MEMORY.put((self.git_dir, "commit", name), oid, _ENTRY_BYTES)
        return oid

    def entries(self, commit: str, folder: str = "") -> list[Entry]:
        """Every file below a folder of a commit; at most MAX_FILES files and folders.

        A kilobyte of trees can name ten billion files, or folders without any: what git lists is read as it comes, and
        no further than that.

        Raises:
            Hostile: more than that, or a name that is not UTF-8.
        """
        words = ("ls-tree", "-r", "-t", "-z", "--long", "--full-tree", commit, "--", folder or ".")
        most = MAX_FILES if folder else MAX_MOVED
        rows = self._listed(commit, words, lambda: self._first(words, most, f"{folder or commit[:12]} holds"))
        return [entry for entry in map(_entry, rows) if entry.mode != TREE]

    def _listed(self, name: str, words: Sequence[str], ask: Callable[[], list[str]]) -> list[str]:
        """The rows that git lists for some words about the object `name`, from memory where it listed them before."""
        key = (self.git_dir, *words)
        rows: list[str] | None = _MEMORY.get(key) if _OID.fullmatch(name) else None
        if rows is None:
            rows = ask()
            if _OID.fullmatch(name):
                _MEMORY.put(key, rows, _ENTRY_BYTES * (len(rows) + 1))
        return list(rows)

    def _first(self, words: Sequence[str], most: int, what: str) -> list[str]:
        """What git lists between its zero bytes, as long as it is no more than that."""
        with closing(self._tokens(*words)) as tokens:
            rows = list(islice(tokens, most + 1))
        if len(rows) > most:
            raise Hostile(f"{what} more than {most:,} files and folders")
        if odd := next((row for row in rows if not _is_utf8(row)), None):
            raise Hostile(f"{what} a name that is not UTF-8: {odd.rpartition(chr(9))[2][:80]!r}")
        return rows

    def read(self, commit: str, path: str) -> bytes:
        """A file of a commit.

        Raises:
            NotFound: it is not there.
            Hostile: it is larger than MAX_BLOB, or not a plain file.
        """
        entries = [entry for entry in self.entries(commit, path) if entry.path == path]
        if not entries:
            raise NotFound(f"no {path} in {commit[:12]}")
        return self.blob(entries[0])

    def blob(self, entry: Entry) -> bytes:
        return self._blobs([entry])[0]

    def _blobs(self, entries: list[Entry], most: int | None = None) -> list[bytes]:
        """The bytes of some files, by one git."""
        for entry in entries:
            if entry.mode != "100644":
                raise Hostile(f"{entry.path!r} is not a plain file (mode {entry.mode})")
            if entry.size > MAX_BLOB:
                raise Hostile(f"{entry.path!r} has {entry.size:,} bytes; the most is {MAX_BLOB:,}")
        if most is not None and (total := sum(entry.size for entry in entries)) > most:
            raise Hostile(f"{len(entries):,} files of {total:,} bytes; the most is {most:,}")
        return self._contents([entry.oid for entry in entries])

    def _contents(self, oids: Sequence[str]) -> list[bytes]:
        known = {oid: data for oid in oids if (data := _MEMORY.get((self.git_dir, oid))) is not None}
        missing = [oid for oid in dict.fromkeys(oids) if oid not in known]
        for oid, data in zip(missing, self._read(missing), strict=True):
            known[oid] = data
            if len(data) <= MAX_KNOWN:
                _MEMORY.put((self.git_dir, oid), data, len(data) + _ENTRY_BYTES)
        return [known[oid] for oid in oids]

    def _read(self, oids: Sequence[str]) -> list[bytes]:
        if not oids:
            return []
        output = self._git("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in oids).encode()).stdout
        contents, at = [], 0
        for _ in oids:  # a line "oid type size", the bytes, a line feed
            end = output.index(b"\n", at)
            size = int(output[at:end].split()[2])
            contents.append(output[end + 1 : end + 1 + size])
            at = end + size + 2
        return contents

    def files(self, commit: str, folder: str, most: int | None = None) -> dict[str, bytes]:
        """Every plain file below a folder, by its path inside that folder; at most `most` bytes of them.

        Raises:
            Hostile: more than that, or what is no plain file.
        """
        below = folder.rstrip("/") + "/"
        entries = [entry for entry in self.entries(commit, folder) if entry.path.startswith(below)]
        blobs = self._blobs(entries, most)
        return {entry.path.removeprefix(below): data for entry, data in zip(entries, blobs, strict=True)}

    def folders(self, commit: str, folder: str) -> list[str]:
        """The names of the folders directly inside a folder of a commit."""
        return sorted(self.trees(commit, folder))

    def trees(self, commit: str, folder: str) -> dict[str, str]:
        """The folders directly inside a folder of a commit, and git's name of all that is in each."""
        words = ("ls-tree", "-d", "-z", "--full-tree", commit, folder.rstrip("/") + "/")
        listed = self._listed(
            commit, words, lambda: self._git(*words).stdout.decode("utf-8", "surrogateescape").split("\0")
        )
        rows = [row.partition("\t")[::2] for row in listed if row]
        return {path.rpartition("/")[2]: facts.split()[2] for facts, path in sorted(rows)}  # odd names: see Offer.slug

    def changed(self, old: str, new: str) -> list[str]:
        """The paths that differ between two commits.

        Raises:
            Hostile: more than a contribution can have.
        """
        # Not `diff-tree -r`: git would walk ten billion files before it says the first. So two folders down one by one,
        # where a contribution begins, and what is below as it is listed.
        files, folders = self._differ("", old, new)
        for _ in range(2):
            levels = [self._differ(*folder) for folder in folders]
            files += [path for inside, _ in levels for path in inside]
            folders = [folder for _, deeper in levels for folder in deeper]
            if len(files) + len(folders) > MAX_FILES:
                raise Hostile(f"it changes more than {MAX_FILES:,} files and folders")
        for folder in folders:
            files += self._differ_below(*folder)
        return sorted(files)

    def _differ(self, at: str, old: str, new: str) -> tuple[list[str], list[tuple[str, str, str]]]:
        """What differs directly in a folder: files, and folders with git's names of both sides."""
        words = ("diff-tree", "-z", "--no-renames", old, new)
        known = new if _OID.fullmatch(old) else old
        rows = self._listed(known, words, lambda: self._first(words, 2 * MAX_FILES, "it changes"))
        files, folders = [], []
        for facts, name in zip(rows[::2], rows[1::2], strict=True):
            before, after, *oids = facts.lstrip(":").split()[:4]
            modes = (before, after)
            if TREE in modes:
                left, right = (oid if mode == TREE else NO_TREE for mode, oid in zip(modes, oids, strict=True))
                folders.append((f"{at}{name}/", left, right))
            if {*modes} - {TREE, "000000"}:
                files.append(f"{at}{name}")
        return files, folders

    def _differ_below(self, at: str, old: str, new: str) -> list[str]:
        sides = [{entry.path: (entry.mode, entry.oid) for entry in self.entries(tree, ".")} for tree in (old, new)]
        paths = sides[0].keys() | sides[1].keys()
        return [f"{at}{path}" for path in paths if sides[0].get(path) != sides[1].get(path)]

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
        self._refuse_shallow()
        _MEMORY.clear()  # what was read before anybody looked at its name is read again
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

    def _refuse_shallow(self) -> None:
        if self._git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            raise UsageError("this clone is shallow: main's beginning is not here", hint="run `git fetch --unshallow`")

    def steps(self, commit: str, since: str = "") -> Iterator[Step]:
        """Main's landings up to `commit`, oldest first, with what each changed; one git process however many there are.

        Raises:
            UsageError: the clone is shallow: its beginning is not here.
        """
        self._refuse_shallow()
        words = [
            "log",
            "--first-parent",
            "--diff-merges=first-parent",
            "--reverse",
            "--root",
            "--raw",
            "--no-renames",
            "--no-abbrev",
        ]
        words += ["--no-ext-diff", "-z", "--format=%x01%H", f"{since}..{commit}" if since else commit]
        before, now, facts, moved = since, "", "", list[Moved]()
        for token in self._tokens(*words):
            if facts:  # what follows them is a path, however it begins
                _, mode, old, new, _ = facts.split()
                moved.append(Moved(token, old.strip("0") and old, new.strip("0") and new, mode))
                facts = ""
            elif (line := token.lstrip("\n")).startswith("\x01"):
                if now:
                    yield Step(now, before, tuple(moved))
                    before = now
                now, moved = line[1:], []
            else:
                facts = line
        if now:
            yield Step(now, before, tuple(moved))

    def _tokens(self, *words: str) -> Generator[str, None, None]:
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
        shown = self._git("show", "--no-patch", "--format=%H%x00%aI%x00%an%x00%s", commit).stdout
        oid, at, by, subject = shown.decode("utf-8", "replace").rstrip("\n").split("\0")
        return oid, at, by, subject

    def message(self, commit: str) -> str:
        """The whole of what a commit says."""
        return self._git("show", "--no-patch", "--format=%B", commit).stdout.decode("utf-8", "replace").strip()

    def drop_cache(self) -> int:
        """Remove built models and scores; returns the bytes freed."""
        freed = sum(path.stat().st_size for path in self.cache.rglob("*") if path.is_file())
        shutil.rmtree(self.cache)
        return freed

    def is_clean(self) -> bool:
        return not self._git("status", "--porcelain").stdout

    def config(self, key: str) -> str:
        """A setting of git's, by its name in small letters; "" where there is none."""
        if self._settings is None or self._settings[0] != self._config_stamp():
            rows = self._git("config", "--list", "--null").stdout.decode("utf-8", "replace").split("\0")
            settings = {name: value.strip() for name, _, value in (row.partition("\n") for row in rows)}
            self._settings = self._config_stamp(), settings
        return self._settings[1].get(key, "")

    def _config_stamp(self) -> tuple[int, int, int]:
        """What changes whenever git writes this clone's settings, which it does into a new file."""
        path = self.git_dir / "config"
        facts = path.stat() if path.is_file() else None  # where `souq init` is typed there is none yet
        return (facts.st_ino, facts.st_mtime_ns, facts.st_size) if facts else (0, 0, 0)

    def patch(self, old: str, new: str, paths: Iterable[str] = ()) -> str:
        shown = self._git("diff", "--no-ext-diff", "--no-textconv", old, new, "--", *paths).stdout
        return shown.decode("utf-8", "replace")

    def object(self, oid: str, most: int) -> bytes:
        """A blob by its id.

        Raises:
            Hostile: not a blob, or larger than `most` bytes.
        """
        if self._sizes([oid]).get(oid, most + 1) > most:
            raise Hostile(f"{oid[:12]} is not a record of at most {most:,} bytes")
        return self._contents([oid])[0]

    def small(self, oids: Iterable[str], most: int, total: int) -> dict[str, bytes]:
        """The blobs of at most `most` bytes among some objects, by one git; the smallest, where all are above `total`.

        What anybody put beside them, a commit or a blob of any size, takes nothing away from the others.
        """
        sizes = sorted((size, oid) for oid, size in self._sizes(oids).items() if size <= most)
        room = accumulate(size for size, _ in sizes)
        fitting = [oid for (_, oid), used in zip(sizes, room, strict=True) if used <= total]
        return dict(zip(fitting, self._contents(fitting), strict=True))

    def _sizes(self, oids: Iterable[str]) -> dict[str, int]:
        """The bytes of every blob among some objects."""
        known = {oid: _MEMORY.get((self.git_dir, "size", oid)) for oid in sorted(set(oids))}
        if missing := "".join(f"{oid}\n" for oid, size in known.items() if size is None).encode():
            shape = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
            for line in self._git("cat-file", shape, stdin=missing).stdout.decode().splitlines():
                oid, kind, *size = line.split()
                if kind == "blob":
                    known[oid] = int(size[0])
                    _MEMORY.put((self.git_dir, "size", oid), known[oid], _ENTRY_BYTES)
        return {oid: size for oid, size in known.items() if size is not None}

    # -- writing ---------------------------------------------------------------------------------------------------

    def write_commit(
        self, parents: Iterable[str], files: Mapping[str, bytes | None], message: str, *, tree_of: str | None = None
    ) -> str:
        """A commit of `tree_of`'s files with some written (bytes) or removed (None); no branch and no file moves."""
        with beside(self.git_dir / "index") as folder:
            index = {"GIT_INDEX_FILE": str(folder / "index")}
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
        key = (self.git_dir, hashlib.sha256(data).digest())
        if (oid := _MEMORY.get(key)) is None:
            oid = self._git("hash-object", "-w", "--stdin", stdin=data).stdout.decode().strip()
            _MEMORY.put(key, oid, _ENTRY_BYTES)
        return str(oid)

    def _index_row(self, path: str, data: bytes | None) -> str:
        if data is None:
            return f"0 {'0' * 40}\t{path}\0"
        return f"100644 {self.write_blob(data)}\t{path}\0"

    def identity(self) -> tuple[str, str]:
        """Name and e-mail, as git would write them; git's guess from the machine's name is not taken.

        Raises:
            UsageError: git was never told.
        """
        result = self._git("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT", check=False)
        match = re.fullmatch(r"(.+) <(.+)> \d+ [+-]\d+\n", result.stdout.decode("utf-8", "replace"))
        if result.returncode or match is None:
            hint = 'run `git config user.name "…"` and `git config user.email "…"`'
            raise UsageError("git does not know who you are", hint=hint)
        return match.group(1), match.group(2)

    # -- refs and remotes ------------------------------------------------------------------------------------------

    def ref(self, name: str) -> str | None:
        """The object a ref names; None where there is no such ref."""
        loose = self.git_dir / name  # what git itself looks at first, without a process
        if _LOOSE.fullmatch(name) and loose.is_file() and _OID.fullmatch(oid := loose.read_text().strip()):
            return oid
        result = self._git("rev-parse", "--verify", "--quiet", name, check=False)
        return result.stdout.decode().strip() if result.returncode == 0 else None

    def refs(self, prefix: str) -> dict[str, str]:
        """Refs below a prefix: full name -> object id; no ref of souq's has other signs in its name than these."""
        listed = self._git("for-each-ref", "--format=%(refname) %(objectname)", prefix).stdout
        named = [line.split(b" ") for line in listed.split(b"\n") if line]
        return {name.decode(): oid.decode() for name, oid in named if _REF.fullmatch(name)}

    def begin_again(self, root: str, more: Mapping[str, bytes]) -> str:
        """Main as a root commit with some files more; only for a root that nobody has pinned yet."""
        message = self._git("log", "--format=%B", "--max-count=1", root).stdout.decode().rstrip() + "\n"
        commit = self.write_commit([], dict(more), message, tree_of=root)
        if self.root is None:
            self._git("update-ref", MAIN, commit, root)
        else:
            self._git("reset", "--quiet", "--hard", commit)
        return commit

    def make_branch(self, name: str, commit: str) -> None:
        """Point a local branch at a commit.

        Raises:
            UsageError: no name for a branch, or the one that is checked out.
        """
        named = self._git("check-ref-format", "--branch", name, check=False)
        if named.returncode:
            raise UsageError(f"{name!r} cannot be the branch of a contribution", hint="choose another --branch")
        moved = self._git("branch", "--quiet", "--force", "--no-track", name, commit, check=False)
        if moved.returncode:
            raise UsageError(last_line(moved.stderr), hint="choose another --branch, or `git switch main` first")

    def merge_base(self, commit: str, other: str) -> str | None:
        """The newest commit both have, or None for strangers."""
        return self._git("merge-base", commit, other, check=False).stdout.decode().strip() or None

    def commits(self, since: str, until: str, most: int) -> list[str]:
        """What `until` has and `since` has not, newest first."""
        return self._git("rev-list", f"--max-count={most}", until, f"^{since}").stdout.decode().split()

    def _git(
        self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        where = self.root if self.root is not None and self.root.is_dir() else self.git_dir
        return run_git(where, *words, stdin=stdin, env=env, check=check)


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
    hasher = hashlib.sha1(b"%s %d\0" % (kind, size), usedforsecurity=False)
    for start in range(0, size, 1 << 20):
        hasher.update(stream.read(min(1 << 20, size - start)))
    return hasher.hexdigest()


_REF = re.compile(rb"[A-Za-z0-9._/+\-]{1,300}")


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def _entry(row: str) -> Entry:
    facts, _, path = row.partition("\t")
    mode, _, oid, size = facts.split()
    return Entry(path, mode, oid, int(size) if size.isdigit() else 0)


def _environment() -> dict[str, str]:
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX", "GIT_OBJ")  # what would make git look at another repository
    return {key: value for key, value in os.environ.items() if not key.startswith(elsewhere)} | _FIXED


def run_git(
    where: Path,
    *words: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    check: bool = True,
    most: int | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run git; with `most`, no file it writes may be larger.

    Raises:
        GitError: with `check`, git said no.
        Missing: git is not installed.
    """
    bounded = ["sh", "-c", 'ulimit -f "$1"; shift; exec "$@"', "sh", str(-(-most // 512))] if most is not None else []
    try:
        done = subprocess.run(
            [*bounded, "git", *_SAFE, *words],
            cwd=where,
            input=stdin,
            capture_output=True,
            env=_environment() | dict(env or {}),
            check=False,
        )
    except FileNotFoundError as error:
        raise Missing("git is not installed", hint="install git, for example `apt-get install git`") from error
    if check and done.returncode:
        raise GitError(f"git {words[0]}: {last_line(done.stderr)}")
    return done


def last_line(text: bytes) -> str:
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"
