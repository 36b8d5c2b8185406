"""How git is run, and a repository as it is read: commits, refs, and the tensor store that lies beside them.

A repository may be a folder that somebody sent, so reading goes around what it says of itself: git is given a
directory of ours, whose settings are ours and whose objects are the repository's, and refs are read here. What writes
into it is local.py, and what asks its remote is remote.py: their owner's doing, which heeds their settings.

A model repository is an ordinary git repository. Its tensors live in `souq/objects` inside the git directory, in
every clone and in the bare remote alike, so a folder remote needs no server and a clone needs no configuration. A
remote that is no folder (a forge) carries the history; main's souq.toml names the store that carries the tensors.

    repo = GitRepo.find(Path.cwd())
    repo.read(repo.tip(), "souq.toml")
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from io import BufferedReader
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, Self

from souq.errors import Corrupt, Hostile, Missing, NotFound, SouqError, UsageError
from souq.weights.store import Store

if TYPE_CHECKING:
    from souq.workers import Workers

MAX_BLOB = 64 << 20  # bytes of one file in a pull request
MAX_OFFER = 64 << 20  # and of all its files: git keeps sixty alike as one
MAX_FILES = 2_000  # files and folders in one folder, or that a pull request changes
MAX_MOVED = 250_000  # files and folders that one commit of main may change, the first of them too
MAX_PATH = 4_096
MAX_READ = 256 << 20  # bytes of all files of a folder that are read at once
MAX_EVALS = 10_000  # of a main
MAX_BORROWED = 64  # repositories whose objects one takes for its own
MAX_KNOWN = 1 << 20  # bytes of one file that is kept in memory once read
MAIN = "refs/heads/main"
TRACKED = "refs/remotes/origin/main"  # main as the remote had it
TREE = "040000"  # a folder, where git lists one
TREES = 256  # pairs of trees that one git compares
NO_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's name of an empty one

# A pull request is somebody else's repository: none of its hooks, helpers or filters may run.
_SAFE = ["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "core.fsmonitor=false"]
# Nor may a clone's own settings and caches change what git says is there.
_SAFE += ["-c", "core.commitGraph=false", "-c", "core.multiPackIndex=false", "-c", "diff.ignoreSubmodules=none"]
_SAFE += ["-c", "log.showSignature=false"]
_FIXED = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
_FIXED |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull}  # a clone cannot be told another history
# What a person's environment tells git of themselves; all else would have it look at another repository or otherwise.
_OWNER = """
AUTHOR_ COMMITTER_ CONFIG_ SSH ASKPASS PROXY SSL_ HTTP_ TRACE CURL_ EXEC_PATH ALLOW_PROTOCOL PROTOCOL
ALTERNATE_OBJECT_DIRECTORIES
"""
NOBODY = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}  # nor do its reader's settings change an answer
# What a repository may say of itself: that it is read by these rules, or of what does not concern who reads objects.
_EXTENSIONS = {"objectformat": "sha1", "refstorage": "files"}
_HARMLESS = {"partialclone", "worktreeconfig", "preciousobjects", "noop"}


class GitError(SouqError):
    """git said no; its own last line is the message."""


class Locked(GitError):
    """Another git is at work there, or was killed there and has left its lock."""


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
        self._left, self._lock = most, Lock()  # whoever verifies several at once asks from several threads

    def get(self, key: tuple[Hashable, ...]) -> Any:
        """The answer to a question; None where it is not known."""
        with self._lock:
            if (known := self._answers.get(key)) is None:
                return None
            self._answers.move_to_end(key)
            return known[0]

    def put(self, key: tuple[Hashable, ...], answer: Any, size: int) -> None:
        """Keep an answer of about `size` bytes."""
        with self._lock:
            self._left += self._answers.pop(key, (None, 0))[1] - size
            self._answers[key] = answer, size
            while self._left < 0:
                self._left += self._answers.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Know nothing."""
        with self._lock:
            self._left += sum(size for _, size in self._answers.values())
            self._answers.clear()


MEMORY = _Memory(64 << 20)
_OID = re.compile(r"[0-9a-f]{40}")
_COMMIT = re.compile(r"[0-9a-f]{40}\^?")  # a commit, or the one before it
_TYPED = re.compile(r"(.*?)((?:\^|~\d{0,6})*)", re.DOTALL)  # a name, and how far back from it
ENTRY_BYTES = 400  # what a row of a listing takes in memory, about


class GitRepo:
    """A model repository on this disk."""

    def __init__(self, git_dir: Path, root: Path | None) -> None:
        self.git_dir, self.root = git_dir, root
        self.tell: Callable[[str], None] = lambda line: None  # what whoever types should know, a line each
        self.notices: list[str] = []  # which those were
        self.workers: Workers | None = None  # who computes, where that is not this process alone
        self._packed_refs: tuple[tuple[int, int, int], dict[str, str]] = (0, 0, 0), {}
        # What `config` read last, and the file's stamp then: one landing asks for its remote two hundred times.
        self._settings: tuple[tuple[int, int, int], dict[str, str]] | None = None

    @classmethod
    def find(cls, start: Path) -> Self:
        """The model repository that holds `start`.

        Raises:
            NotFound: no git repository here, or one without a souq.toml.
            Hostile: git would read on for ever in it.
        """
        if not start.is_dir():
            raise NotFound(f"no folder {start}", hint="check the path")
        folders = (start.resolve(), *start.resolve().parents)
        place = next((folder for folder in folders if git_dir_of(folder)), None)
        if place is None or (git_dir := git_dir_of(place)) is None:
            hint = "run `souq init NAME --from MODEL` or `souq clone URL`"
            raise NotFound(f"{start} is not in a model repository", hint=hint)
        inside, bare = place.name == ".git", not (place / ".git").exists()
        repo = cls(shared_dir(git_dir), place.parent if inside else None if bare else place)
        repo._refuse_unknown()
        refuse_endless(repo.git_dir / "objects")
        if not repo.ref(MAIN):
            raise NotFound(f"{repo.root or repo.git_dir} has no main", hint="run `souq init NAME --from MODEL`")
        return repo

    def _refuse_unknown(self) -> None:
        """Nothing is read by guessing: not what is kept in a way that is not known here."""
        rows = [(*key.split(".", 1), value.lower()) for key, value in self._own_settings().items() if "." in key]
        kept = [(name, value) for section, name, value in rows if section == "extensions"]
        odd = [f"{k} = {v}" for k, v in kept if k not in _HARMLESS and _EXTENSIONS.get(k) != v]
        if odd:
            raise UsageError(
                f"this repository is kept in a way souq does not read: {', '.join(odd)[:200]}",
                hint="souq reads git's own sha1 and files: `souq init` makes such a one, whatever git's default is",
            )

    @cached_property
    def store(self) -> Store:
        return Store(self.git_dir / "souq")

    @property
    def cache(self) -> Path:
        """What can be made again: built models and scores; not beyond this process where nothing can be written."""
        folder = self.git_dir / "souq" / "cache"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        return folder if os.access(folder, os.W_OK | os.X_OK) and self._may_read_cache else self._glass

    @cached_property
    def _may_read_cache(self) -> bool:
        """Whether everything in it ends: a folder that was sent brings its own."""
        return endless_in(self.git_dir / "souq" / "cache") is None

    # -- reading ---------------------------------------------------------------------------------------------------

    def commit(self, name: str) -> str:
        """The id of a commit by a name that can mean one thing: 40 digits, what is before those (`^`), a whole ref.

        Raises:
            NotFound: no such commit.
            UsageError: not such a name.
        """
        oid = self.ref(name) if name.startswith("refs/") else name
        if oid is not None and not _COMMIT.fullmatch(oid):
            raise UsageError(f"not a commit's full name: {name!r}")
        if (known := MEMORY.get((self.git_dir, "commit", oid))) is not None:
            return str(known)
        result = self._git("rev-parse", "--verify", "--quiet", f"{oid}^{{commit}}", check=False)
        if oid is None or result.returncode:
            raise NotFound(f"no commit {name!r}", hint="see `souq log`")
        commit = result.stdout.decode().strip()
        MEMORY.put((self.git_dir, "commit", oid), commit, ENTRY_BYTES)
        return commit

    @property
    def remote(self) -> str | None:
        """Where the shared remote is, where there is one."""
        return self.config("remote.origin.url") or None

    def tip(self) -> str:
        """Main as everybody sees it: the remote's where there is one."""
        commit = self.ref(TRACKED) if self.remote else None
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

    def entries(self, commit: str, folder: str = "", most: int = MAX_FILES) -> list[Entry]:
        """Every file below a folder of a commit; at most so many files and folders, and MAX_MOVED of a whole commit.

        A kilobyte of trees can name ten billion files, or folders without any: what git lists is read as it comes, and
        no further than that.

        Raises:
            Hostile: more than that, or a name that is not UTF-8.
        """
        words = ("ls-tree", "-r", "-t", "-z", "--long", "--full-tree", commit, "--", folder or ".")
        most = most if folder else MAX_MOVED
        what = f"{folder or commit[:12]} holds"
        rows = self._listed(commit, words, lambda: self._first(words, most, what))
        _refuse_many(rows, most, what)  # who listed them before may have been let further
        return [entry for entry in map(_entry, rows) if entry.mode != TREE]

    def _listed(self, name: str, words: Sequence[str], ask: Callable[[], list[str]]) -> list[str]:
        """The rows that git lists for some words about the object `name`, from memory where it listed them before."""
        key = (self.git_dir, *words)
        rows: list[str] | None = MEMORY.get(key) if _OID.fullmatch(name) else None
        if rows is None:
            rows = ask()
            if _OID.fullmatch(name):
                MEMORY.put(key, rows, ENTRY_BYTES * (len(rows) + 1))
        return list(rows)

    def _first(self, words: Sequence[str], most: int, what: str) -> list[str]:
        """What git lists between its zero bytes, as long as it is no more than that."""
        with closing(self._tokens(*words)) as tokens:
            rows = list(islice(tokens, most + 1))
        _refuse_many(rows, most, what)
        if odd := next((row for row in rows if not _is_utf8(row)), None):
            raise Hostile(f"{what} a name that is not UTF-8: {odd.rpartition(chr(9))[2][:80]!r}")
        return rows

    def read(self, commit: str, path: str) -> bytes:
        """A file of a commit.

        Raises:
            NotFound: it is not there.
            Hostile: it is larger than MAX_BLOB, or not a plain file.
        """
        return self.blob(self.entry(commit, path))

    def entry(self, commit: str, path: str) -> Entry:
        """A file of a commit as git lists it.

        Raises:
            NotFound: it is not there.
        """
        entry = next((entry for entry in self.entries(commit, path) if entry.path == path), None)
        if entry is None:
            raise NotFound(f"no {path} in {commit[:12]}")
        return entry

    def blob(self, entry: Entry) -> bytes:
        return self._blobs([entry])[0]

    def _blobs(self, entries: Sequence[Entry], most: int = MAX_READ) -> list[bytes]:
        """The bytes of some files, by one git."""
        for entry in entries:
            if entry.mode != "100644":
                raise Hostile(f"{entry.path!r} is not a plain file (mode {entry.mode})")
            if entry.size > MAX_BLOB:
                raise Hostile(f"{entry.path!r} has {entry.size:,} bytes; the most is {MAX_BLOB:,}")
        if (total := sum(entry.size for entry in entries)) > most:
            raise Hostile(f"{len(entries):,} files of {total:,} bytes; the most is {most:,}")
        return self.contents([entry.oid for entry in entries])

    def contents(self, oids: Sequence[str]) -> list[bytes]:
        """The bytes of some blobs, by one git."""
        known = {oid: data for oid in oids if (data := MEMORY.get((self.git_dir, oid))) is not None}
        missing = [oid for oid in dict.fromkeys(oids) if oid not in known]
        for oid, data in zip(missing, self._read(missing), strict=True):
            known[oid] = data
            if len(data) <= MAX_KNOWN:
                MEMORY.put((self.git_dir, oid), data, len(data) + ENTRY_BYTES)
        return [known[oid] for oid in oids]

    def _read(self, oids: Sequence[str]) -> list[bytes]:
        if not oids:
            return []
        output = self._git("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in oids).encode()).stdout
        contents, at = [], 0
        for _ in oids:  # a line "oid type size", the bytes, a line feed
            end = output.index(b"\n", at)
            if len(facts := output[at:end].split()) != 3:
                raise _absent(facts[0].decode())
            size = int(facts[2])
            contents.append(output[end + 1 : end + 1 + size])
            at = end + size + 2
        return contents

    def files(
        self, commit: str, folder: str, most: int = MAX_READ, count: int = MAX_FILES,
        keep: Callable[[str], bool] = lambda path: True,
    ) -> dict[str, bytes]:  # fmt: skip
        """Every plain file below a folder whose path is kept, by its path inside that folder; all count.

        Raises:
            Hostile: more than `most` bytes or `count` files and folders, or what is no plain file.
        """
        below = folder.rstrip("/") + "/"
        listed = self.entries(commit, folder, count)
        entries = [entry for entry in listed if entry.path.startswith(below) and keep(entry.path)]
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
        key = (self.git_dir, "changed", old, new)
        if (known := MEMORY.get(key)) is None:
            with self._differences() as differences:
                trees = self._git("rev-parse", f"{old}^{{tree}}", f"{new}^{{tree}}").stdout.decode().split()
                moved = differences.between(trees[0], trees[1], MAX_FILES)
            known = sorted({each.path for each in moved})
            if _OID.fullmatch(old) and _OID.fullmatch(new):
                MEMORY.put(key, known, ENTRY_BYTES * (len(known) + 1))
        return list(known)

    def _differences(self) -> _Differences:
        return _Differences(lambda: self._running("diff-tree", "--stdin", "-z", "--no-renames"))

    def history(self, commit: str) -> list[str]:
        """First parents from the root to `commit`: the landings of main, oldest first."""
        words = ("rev-list", "--first-parent", "--reverse", commit)
        return self._listed(commit, words, lambda: self._git(*words).stdout.decode().split())

    def check_names(self, commit: str) -> None:
        """Compute the name of every object main is made of: git believes its own disk, and a copied folder may lie.

        Raises:
            UsageError: the clone is shallow: its beginning is not here.
            GitError: something is not here.
            Corrupt: the bytes under a name are another object's.
        """
        self._refuse_shallow()
        MEMORY.clear()  # what was read before anybody looked at its name is read again
        # The heads that landed too: without them nobody could clone it.
        if self._git("rev-list", "--count", commit, check=False).returncode:
            raise GitError("something is not here: history is not whole", hint=_WHOLE)
        words = ("rev-list", "--objects", "--no-object-names", "--first-parent", commit)
        with (
            self._running(*words) as names,
            self._running("cat-file", "--batch", "--buffer", stdin=names.stdout) as git,
        ):
            assert git.stdout is not None
            while facts := git.stdout.readline().split():
                if len(facts) != 3:
                    raise _absent(facts[0].decode())
                oid, kind, size = facts
                if _name(kind, git.stdout, int(size)) != oid.decode():
                    raise Corrupt(f"the {kind.decode()} {oid.decode()[:12]} lies: its bytes have another name")
                git.stdout.read(1)
        if names.returncode or git.returncode:
            raise GitError("something is not here: history is not whole", hint=_WHOLE)

    def _refuse_shallow(self) -> None:
        if (self.git_dir / "shallow").is_file():
            raise UsageError("this clone is shallow: main's beginning is not here", hint="run `git fetch --unshallow`")

    def steps(self, commit: str, since: str = "") -> Iterator[Step]:
        """Main's landings up to `commit`, oldest first, with what each changed; two git processes for all of them.

        Raises:
            UsageError: the clone is shallow: its beginning is not here.
            Hostile: one changes more than MAX_MOVED files and folders.
        """
        self._refuse_shallow()
        words = ("log", "--first-parent", "--reverse", "--format=%H %T", f"{since}..{commit}" if since else commit)
        old = self._git("rev-parse", f"{since}^{{tree}}").stdout.decode().strip() if since else NO_TREE
        before = since
        with self._differences() as differences:
            for now, tree in (line.split() for line in self._git(*words).stdout.decode().splitlines()):
                yield Step(now, before, differences.between(old, tree, MAX_MOVED))
                before, old = now, tree

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
            raise GitError(f"git {words[0]} stopped: something is not here", hint=_WHOLE)

    def _running(self, *words: str, stdin: IO[bytes] | int | None = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["git", *_SAFE, *words], cwd=self._glass, env=_environment() | self._reading, stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @contextmanager
    def blobs(self) -> Iterator[Blobs]:
        """Bytes by git's name of them, as many as one likes, by one git."""
        with self._running("cat-file", "--batch") as git:
            try:
                yield Blobs(git)
            finally:
                git.kill()

    def meeting(self, a: str, b: str) -> str:
        """The newest commit that two commits both come after; "" where they have none in common."""
        base = self._git("merge-base", a, b, check=False)
        return base.stdout.decode().strip() if base.returncode == 0 else ""

    def contains(self, commit: str, ancestor: str) -> bool:
        return self._git("merge-base", "--is-ancestor", ancestor, commit, check=False).returncode == 0

    def summary(self, commit: str) -> tuple[str, str, str, str]:
        """A commit's id, date, author and subject.

        Raises:
            NotFound: it is none.
        """
        if not (rows := self.summaries(commit, 1)):
            raise NotFound(f"{commit[:12]} is no commit", hint="see `souq log`")
        return rows[0]

    def summaries(self, commit: str, most: int = MAX_MOVED) -> list[tuple[str, str, str, str]]:
        """The same of the landings up to a commit, the newest first, by one git however many there are."""
        words = ("log", "--first-parent", f"--max-count={most}", "--format=%H%x00%aI%x00%an%x00%s", commit)
        rows = [row.split("\0") for row in self._git(*words).stdout.decode("utf-8", "replace").split("\n") if row]
        return [(oid, at, by, subject) for oid, at, by, subject in rows]

    def message(self, commit: str) -> str:
        """The whole of what a commit says."""
        return self._git("show", "--no-patch", "--format=%B", commit).stdout.decode("utf-8", "replace").strip()

    def config(self, key: str) -> str:
        """A setting of git's, by its name in small letters; "" where there is none. The repository's come first."""
        return self._own_settings().get(key) or self._persons_settings.get(key, "")

    def _own_settings(self) -> dict[str, str]:
        """What the repository says of itself in its own file; no other file is read because it says so."""
        if self._settings is None or self._settings[0] != self._config_stamp():
            path = self.git_dir / "config"
            listed = ("--file", str(path), "--no-includes", "--list", "--null")
            self._settings = self._config_stamp(), _settings(*listed) if path.is_file() else {}
        return self._settings[1]

    @cached_property
    def _persons_settings(self) -> dict[str, str]:
        """What whoever types says to git wherever they are."""
        return _settings("--list", "--null")

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
        if self.sizes([oid]).get(oid, most + 1) > most:
            raise Hostile(f"{oid[:12]} is not a record of at most {most:,} bytes")
        return self.contents([oid])[0]

    def at_most(self, oids: Iterable[str], most: int) -> list[str]:
        """The blobs of at most `most` bytes among some objects: a commit or a huge blob beside them is left out."""
        return [oid for oid, size in self.sizes(oids).items() if size <= most]

    def sizes(self, oids: Iterable[str]) -> dict[str, int]:
        """The bytes of every blob among some objects, by one git."""
        known = {oid: MEMORY.get((self.git_dir, "size", oid)) for oid in sorted(set(oids))}
        if missing := "".join(f"{oid}\n" for oid, size in known.items() if size is None).encode():
            shape = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
            for line in self._git("cat-file", shape, stdin=missing).stdout.decode().splitlines():
                oid, kind, *size = line.split()
                if kind == "blob":
                    known[oid] = int(size[0])
                    MEMORY.put((self.git_dir, "size", oid), known[oid], ENTRY_BYTES)
        return {oid: size for oid, size in known.items() if size is not None}

    # -- refs ------------------------------------------------------------------------------------------------------

    def ref(self, name: str) -> str | None:
        """The object a ref names; None where there is no such ref."""
        held = ""
        for _ in range(5):  # a ref may name another, as git's own HEAD does
            held = (_value(self.git_dir / name) if _NAMED.fullmatch(name) else "") or self._packed().get(name, "")
            if not held.startswith("ref: "):
                break
            name = held.removeprefix("ref: ")
        return held if _OID.fullmatch(held) else None

    def refs(self, below: str) -> dict[str, str]:
        """Refs below a folder: full name -> object id; no ref of souq's has other signs in its name than these.

        Read here and not by git, who would follow a link in a folder that was sent through the whole disk.
        """
        places = os.walk(self.git_dir / below)  # before what is packed: git packs a ref first and then removes its file
        files = [Path(place, name) for place, _, names in places for name in names]
        loose = {path.relative_to(self.git_dir).as_posix(): _value(path) for path in files}
        held = {name: oid for name, oid in self._packed().items() if name.startswith(below)} | loose
        return {name: oid for name, oid in sorted(held.items()) if _REF.fullmatch(name) and _OID.fullmatch(oid)}

    def _packed(self) -> dict[str, str]:
        """The refs that git keeps in one file, which it replaces and never changes."""
        path = self.git_dir / "packed-refs"
        facts = path.stat() if path.is_file() else None
        stamp = (facts.st_ino, facts.st_mtime_ns, facts.st_size) if facts else (0, 0, 0)
        if self._packed_refs[0] != stamp:
            text = path.read_bytes().decode("utf-8", "surrogateescape") if facts else ""
            rows = [line.split(" ", 1) for line in text.split("\n") if line[:1] not in ("#", "^", "")]
            self._packed_refs = stamp, {row[1]: row[0] for row in rows if len(row) == 2}
        return self._packed_refs[1]

    def merge_base(self, commit: str, other: str) -> str | None:
        """The newest commit both have, or None for strangers."""
        return self._git("merge-base", commit, other, check=False).stdout.decode().strip() or None

    def commits(self, since: str, until: str, most: int) -> list[str]:
        """What `until` has and `since` has not, newest first."""
        return self._git("rev-list", f"--max-count={most}", until, f"^{since}").stdout.decode().split()

    @cached_property
    def _glass(self) -> Path:
        """A git directory of ours to look through, gone with this object: settings that say nothing, and no refs."""
        place = Path(tempfile.mkdtemp(prefix="souq-"))
        weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        (place / "HEAD").write_text(f"ref: {MAIN}\n")
        (place / "config").write_text("[core]\n\trepositoryFormatVersion = 0\n\tbare = true\n")
        (place / "refs").mkdir()
        if (shallow := self.git_dir / "shallow").is_file():
            shutil.copyfile(shallow, place / "shallow")
        return place

    @property
    def _reading(self) -> dict[str, str]:
        return NOBODY | {"GIT_DIR": str(self._glass), "GIT_OBJECT_DIRECTORY": str(self.git_dir / "objects")}

    def _git(self, *words: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Git, to read: nothing that the repository says of itself is heard."""
        return run_git(self._glass, *words, stdin=stdin, env=self._reading, check=check)


class _Differences:
    """A `git diff-tree` that stays: what differs between two trees, folder by folder, and no further than asked.

    Told to go down by itself, git would walk ten billion files before it says the first. It keeps every tree that it
    reads, a thousand large ones in half a gigabyte: after some it is begun again.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start, self._answered = start, 0
        self._git: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._git is not None:
            with self._git as git:
                git.kill()
        self._git, self._answered = None, 0

    def _begun(self) -> subprocess.Popen[bytes]:
        if self._git is None:
            self._git = self._start()
        return self._git

    def between(self, old: str, new: str, most: int) -> tuple[Moved, ...]:
        """The files that differ between two trees.

        Raises:
            Hostile: more than `most` files and folders do, or one is as deep as no file system takes.
        """
        try:
            return self._between(old, new, most)
        except Hostile:
            self._end()  # what it has left to say would be taken for the next answer
            raise

    def _between(self, old: str, new: str, most: int) -> tuple[Moved, ...]:
        moved, folders, seen = [], [("", old, new)], 0
        level = cache(lambda left, right: [*islice(self.level(left, right), most + 1)])  # what is there often, once
        while folders:
            at, *folder = folders.pop()
            for before, after, left, right, name in level(*folder):
                if (seen := seen + 1) > most:
                    raise Hostile(f"it changes more than {most:,} files and folders")
                if len(path := f"{at}{name}") > MAX_PATH:
                    raise Hostile(f"a path of more than {MAX_PATH:,} letters: {path[:80]!r} …")
                if TREE in (before, after):
                    folders.append(
                        (f"{path}/", left if before == TREE else NO_TREE, right if after == TREE else NO_TREE)
                    )
                gone, new_file = "" if before == TREE else left, "" if after == TREE else right
                if gone or new_file:
                    moved.append(Moved(path, gone, new_file, after))
        return tuple(sorted(moved, key=lambda each: each.path))

    def level(self, old: str, new: str) -> Iterator[tuple[str, str, str, str, str]]:
        """Both modes, git's names of both sides ("" for what is not there) and the name of each entry that differs."""
        if self._answered >= TREES:
            self._end()
        git, self._answered = self._begun(), self._answered + 1
        into, out = git.stdin, git.stdout
        assert into is not None
        assert isinstance(out, BufferedReader)
        into.write(f"{old} {new}\n.\n".encode())  # a line that names nothing is said again, and all before it at once
        into.flush()
        is_answer = out.readline() == f"{old} {new}\n".encode()
        facts, rest = b"", b""
        while facts or rest != b".\n":
            if not is_answer or not (part := out.read1(1 << 16)):
                raise GitError("git diff-tree stopped: is history whole? `git fsck` tells")
            *whole, rest = (rest + part).split(b"\0")
            for token in whole:
                if facts:  # what follows them is a name, however it begins
                    before, after, *oids = facts.decode().lstrip(":").split()[:4]
                    left, right = (oid.strip("0") and oid for oid in oids)
                    yield before, after, left, right, token.decode("utf-8", "surrogateescape")
                facts = b"" if facts else token


class Blobs:
    """A `git cat-file --batch` that stays."""

    def __init__(self, git: subprocess.Popen[bytes]) -> None:
        self._git = git

    def __getitem__(self, oid: str) -> bytes:
        return self.read(oid)

    def read(self, oid: str, most: int = MAX_BLOB) -> bytes:
        """A blob.

        Raises:
            NotFound: it is not here.
            Hostile: it is larger than `most`, or no blob.
        """
        into, out = self._git.stdin, self._git.stdout
        assert into is not None
        assert out is not None
        into.write(oid.encode() + b"\n")
        into.flush()
        facts = out.readline().split()
        if len(facts) != 3:
            raise _absent(oid)
        size = int(facts[2])
        if facts[1] != b"blob" or size > most:
            _name(facts[1], out, size + 1)  # read past, or the next answer would begin with it
            raise Hostile(f"{oid[:12]} is {facts[1].decode()} of {size:,} bytes; the most is {most:,}")
        data = out.read(size)
        out.read(1)
        return data


def _name(kind: bytes, stream: IO[bytes], size: int) -> str:
    """Git's name of the object that a stream begins with."""
    hasher = hashlib.sha1(b"%s %d\0" % (kind, size), usedforsecurity=False)
    for start in range(0, size, 1 << 20):
        hasher.update(stream.read(min(1 << 20, size - start)))
    return hasher.hexdigest()


def blob_name(data: bytes) -> str:
    """Git's name of a file's bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


_REF = re.compile(r"[A-Za-z0-9._/+\-]{1,300}")
_NAMED = re.compile(r"refs(/[^\x00-\x20\x7f~^:?*\[\\/.][^\x00-\x20\x7f~^:?*\[\\/]*)+")


def _refuse_many(rows: Sequence[str], most: int, what: str) -> None:
    if len(rows) > most:
        raise Hostile(f"{what} more than {most:,} files and folders")


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def _entry(row: str) -> Entry:
    facts, _, path = row.partition("\t")
    mode, _, oid, size = facts.split()
    return Entry(path, mode, oid, int(size) if size.isdigit() else 0)


_WHOLE = "this copy is not whole: `souq clone` it anew, or, if it is your own partial clone, `git fetch --refetch`"


def _absent(oid: str) -> NotFound:
    return NotFound(f"{oid[:12]} is not here: history is not whole", hint=_WHOLE)


def _value(path: Path) -> str:
    with suppress(OSError, ValueError):
        return _line(path) if path.is_file() else ""
    return ""


def git_dir_of(folder: Path) -> Path | None:
    """The git directory in a folder, or which it is; None where it is none. No setting is asked where it stands."""
    inside = folder / ".git"
    with suppress(OSError, ValueError):
        if inside.is_file():  # of a linked worktree or a submodule
            inside = folder / _line(inside).removeprefix("gitdir:").strip()
        for place in (inside, folder):
            shared = shared_dir(place)
            if (place / "HEAD").is_file() and (shared / "objects").is_dir() and (shared / "refs").is_dir():
                return place.resolve()
    return None


def refuse_endless(objects: Path) -> None:
    """Say no to objects, a repository's own or those it borrows, that git would wait for or read without an end.

    Raises:
        Hostile: a pipe or a device is among them, or they are borrowed from more than MAX_BORROWED others.
    """
    waiting, known = [objects], set[Path]()
    while waiting:
        place = Path(os.path.realpath(waiting.pop()))
        if place not in known:
            known.add(place)
            inside = [Path(entry.path) for entry in _entries(place) if _is_folder(entry)]  # git goes no deeper
            refuse_odd(next((odd for folder in (place, *inside) if (odd := endless_in(folder, below=False))), None))
            waiting += _borrowed(place)
        if len(known) + len(waiting) > MAX_BORROWED:
            raise Hostile(f"{objects} borrows from more than {MAX_BORROWED} others", hint="`git repack -a -d` there")


def refuse_odd(path: Path | None) -> None:
    """Say no to what `endless_in` names.

    Raises:
        Hostile: it names something.
    """
    if path is not None:
        raise Hostile(f"{path} is no file and has no end: git would wait for it", hint="take the folder without it")


def endless_in(folder: Path, *, below: bool = True) -> Path | None:
    """A pipe, a device or a link to one in a folder; `below`, in those inside it too, or a link that leads around."""
    waiting = [folder]
    while waiting:
        for entry in _entries(waiting.pop()):
            if _is_endless(entry) or (below and entry.is_symlink() and _is_folder(entry)):
                return Path(entry.path)
            if below and _is_folder(entry):
                waiting.append(Path(entry.path))
    return None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [*entries]
    return []


def _is_endless(entry: os.DirEntry[str]) -> bool:
    """Whether it is neither a file nor a folder, and opens all the same: a socket, or a link to nothing, does not."""
    with suppress(OSError):
        mode = 0 if entry.is_file() else entry.stat().st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link to itself
        return entry.is_dir()
    return False


def _borrowed(objects: Path) -> list[Path]:
    """The folders whose objects git takes for a repository's own."""
    path = objects / "info" / "alternates"
    if not path.is_file():
        return []
    with path.open("rb") as file:
        data = file.read(MAX_PATH * MAX_BORROWED + 1)
    if len(data) > MAX_PATH * MAX_BORROWED:
        raise Hostile(f"{path} is longer than {MAX_BORROWED} names", hint="`git repack -a -d` there")
    lines = os.fsdecode(data).split("\n")
    if odd := next((line for line in lines if line.startswith('"')), None):
        raise Hostile(f"{path} names {odd[:80]} in a way souq does not read", hint="write the path as it is")
    return [objects / line for line in lines if line and not line.startswith("#")]


def shared_dir(git_dir: Path) -> Path:
    """Where the worktrees of a repository have their objects and refs together."""
    pointer = git_dir / "commondir"
    return (git_dir / _line(pointer)).resolve() if pointer.is_file() else git_dir


def _line(path: Path) -> str:
    with path.open("rb") as file:
        return os.fsdecode(file.read(1 << 14)).strip()


def _settings(*words: str) -> dict[str, str]:
    """What git lists of settings, without looking for a repository."""
    listed = os.fsdecode(run_git(Path(os.sep), "config", *words, env={"GIT_DIR": os.devnull}).stdout)
    return {name: value.strip() for name, _, value in (row.partition("\n") for row in listed.split("\0"))}


def _environment() -> dict[str, str]:
    owners = tuple(f"GIT_{name}" for name in _OWNER.split())
    return {key: v for key, v in os.environ.items() if not key.startswith("GIT_") or key.startswith(owners)} | _FIXED


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
        raise failed(words[0], done.stderr, where)
    return done


def failed(verb: str, stderr: bytes, where: Path = Path(), remote: str = "") -> GitError | OSError:
    """What git said: a disk of ours that failed, a lock that one who was killed has left, or a no.

    A lock in the remote lies on this machine only where no URL of it is given.
    """
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.startswith(("fatal: ", "error: "))]
    if number := next(filter(None, map(disk_error, lines)), None):
        return OSError(number, os.strerror(number), f"git {verb}")
    if unwritten := next(filter(_UNWRITTEN.match, lines), None):  # it does not always say why
        return OSError(errno.EIO, unwritten[7:], f"git {verb}")
    if held := _LOCKED.search(os.fsdecode(stderr)):
        return _locked(verb, where / f"{held[2]}.lock", place="in the remote" if held[1] else "here", remote=remote)
    return GitError(f"git {verb}: {last_line(stderr)}")


def _locked(verb: str, lock: Path, place: str, remote: str) -> Locked:
    way = f"`rm {shlex.quote(str(lock))}`, and type the same again"
    if remote and place != "here":
        way = f"ask whoever keeps {remote} to remove that file, and type the same again"
    message = f"git {verb}: another git is at work {place}, for {lock} is there"
    return Locked(message, hint=f"wait for it; if none is, one was killed: {way}")


def refuse_broken(verb: str, done: subprocess.CompletedProcess[bytes], remote: str = "") -> GitError:
    """The no of a git that failed, for whoever knows what it means.

    Raises:
        OSError: it is none, but a disk that failed.
        Locked: nor is a lock.
    """
    error = failed(verb, done.stderr, remote=remote)
    if isinstance(error, OSError | Locked):
        raise error
    return error


def disk_error(line: str) -> int | None:
    """Which error of a disk a line of git's ends with; None where it is no such line."""
    return next((number for number in _DISK if line.endswith(f": {os.strerror(number)}")), None)


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_UNWRITTEN = re.compile(r"\w+: (?:unable to write|failed to write|could not write|.*couldn't write '/)")
_LOCKED = re.compile(r"(?m)^(remote: )?.*?(?:Unable to create|lock config file) '?([^\n]+?)(?:\.lock)?'?: File exists")


def last_line(text: bytes) -> str:
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"
