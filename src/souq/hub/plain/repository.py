"""One plain repository: a bare git repository of ours, which is written by plumbing and has no working tree.

A commit is made beside everybody's eyes and becomes visible by one move of a ref, so that whoever reads sees all of it
or nothing, whatever stops the one who writes.

    repository.commit("refs/heads/main", [Added("config.json", path, sha256)], "Begin", "amira")
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Self

from souq.errors import NotFound, Refused, UsageError
from souq.files import beside, replacing
from souq.hub.listing import LARGE, File, Listing
from souq.hub.plain.large import MOST_POINTER, Large, pointed, pointer
from souq.hub.plain.paths import clashing, wrong_with
from souq.repo.git import MAIN, NOBODY, Entry, GitRepo, run_git

MOST_FILES = 100_000  # of a repository
MOST_SHOWN = 20  # of what is wrong
MOST_LOOSE = 2_000  # objects, about; a file each slows down every look for one
TRIES = 10  # while others move the same ref
REPEATED = 600  # seconds in which a commit that is made again is the one that was made
ATTRIBUTES = ".gitattributes"
_BINARY = """
7z arrow bin bz2 ckpt ftz gguf gz h5 joblib model msgpack npy npz onnx ot parquet pb pickle pkl pt pth rar safetensors
tar tgz tflite wasm xz zip zst
"""
_SETTINGS = {
    "core.protectHFS": "true", "core.protectNTFS": "true", "core.fsync": "committed", "core.fsyncMethod": "batch",
    "core.logAllRefUpdates": "false", "transfer.fsckObjects": "true", "gc.autoDetach": "false",
}  # fmt: skip


@dataclass(frozen=True)
class Added:
    """A file that is written, whose bytes are at `place`; or are kept as large already, where there is none."""

    path: str
    sha256: str
    size: int
    place: Path | None = None


@dataclass(frozen=True)
class Removed:
    """A file that goes, or a folder with all that is in it."""

    path: str
    is_folder: bool = False


Change = Added | Removed


class Stale(Refused):
    """A ref is not what somebody thought it was."""


class Plain(GitRepo):
    """A plain repository, with its large files beside git's objects."""

    def __init__(self, git_dir: Path) -> None:
        super().__init__(git_dir, None)
        self.large = Large(git_dir / "large")  # with the repository they go

    @classmethod
    def create(cls, git_dir: Path, author: str) -> Self:
        """An empty one, but for what tells git which files are large."""
        run_git(git_dir.parent, "init", "--quiet", "--bare", "--initial-branch=main", "--object-format=sha1",
                "--template=", str(git_dir), env=NOBODY)  # fmt: skip
        repository = cls(git_dir)
        for key, value in _SETTINGS.items():
            repository._write("config", key, value)
        lines = "".join(f"*.{ending} {_LFS}\n" for ending in _BINARY.split())
        tree = repository._tree("", [], {ATTRIBUTES: lines.encode()})
        commit = repository._committed(tree, [], "Begin", author)
        repository.move(MAIN, commit, None)
        return repository

    # -- reading ---------------------------------------------------------------------------------------------------

    def listing(self, commit: str) -> Listing:
        """The files of a commit."""
        return _listing(self, commit)

    def reaches(self, commit: str) -> bool:
        """Whether some ref leads to a commit."""
        named = self._git("cat-file", "-t", commit, check=False).stdout.strip() == b"commit"
        return named and any(self.contains(tip, commit) for tip in dict.fromkeys(self.refs("refs/").values()))

    def place(self, file: File) -> Path:
        """Where the bytes of a file are; a small one is written out of git when it is first asked for.

        Raises:
            NotFound: it is a large one, and nobody ever brought it.
        """
        if file.by_pointer and self.large.size(file.sha256) is not None:
            return self.large.path(file.sha256)
        place = self.git_dir / "small" / file.oid[:2] / file.oid
        if not place.is_file():
            data = self.contents([file.oid])[0]
            if pointed(data):
                raise NotFound("this file is named here, and nobody has brought its bytes")
            with replacing(place) as partial:
                partial.write_bytes(data)
        return place

    # -- writing ---------------------------------------------------------------------------------------------------

    def commit_to(self, ref: str, changes: Sequence[Change], message: str, author: str, *, parent: str = "") -> str:
        """Change files, by one commit more of a ref; what was just done is not done twice.

        Raises:
            Stale: `parent` is named and the ref is elsewhere, or others move it faster.
            NotFound: no such ref, or what is removed is not there.
            UsageError: what the files would be together is wrong.
        """
        for _ in range(TRIES):
            if (head := self.ref(ref)) is None:
                raise NotFound(f"no {ref}")
            if parent and parent != head and not self.reaches(parent):
                raise Stale(f"{parent[:12]} is no commit here: look at what changed, and try again")
            commit = self.prepared(parent or head, changes, message, author)
            if self.repeats(head, commit):
                return head
            if parent and parent != head:
                raise Stale(f"{ref} is at {head[:12]} and not at {parent[:12]}: look at what changed, and try again")
            if commit == head or self.move(ref, commit, head):
                return commit
        raise Stale(f"others move {ref} faster: try again")

    def drop(self, ref: str) -> None:
        """Remove a ref, and the large files that no other ref names."""
        if (old := self.ref(ref)) is not None:
            mine = self.large_in([old])
            self.remove_ref(ref, old)
            for sha256 in mine - self.large_in(self.refs("refs/").values()):
                self.large.remove(sha256)

    def large_in(self, commits: Iterable[str]) -> set[str]:
        """The large files of some commits."""
        listings = [self.listing(self.commit(oid)) for oid in {*commits}]
        return {file.sha256 for listing in listings for file in listing.values() if file.by_pointer}

    def merged(self, commit: str, author: str, message: str) -> str:
        """A commit of main with another, which nothing leads to yet; main itself where it has that already.

        Raises:
            Stale: both changed the same; the message names where.
            UsageError: what the files would be together is wrong.
        """
        head = self.commit(MAIN)
        if self.contains(head, commit):
            return head
        words = ("merge-tree", "--write-tree", "--name-only", "--no-messages", head, commit)
        done = run_git(self.git_dir, *words, env=NOBODY, check=False)
        tree, *paths = done.stdout.decode("utf-8", "replace").splitlines() or [""]
        if done.returncode:
            raise Stale(f"main changed the same since: {', '.join(filter(None, paths))[:300]}")
        made = self._committed(tree, [head, commit], message, author)
        if wrong := clashing(self.listing(made)):
            raise UsageError("; ".join(wrong[:MOST_SHOWN]))
        return made

    def prepared(self, parent: str, changes: Sequence[Change], message: str, author: str) -> str:
        """A commit that nothing leads to yet; the parent itself where it would change nothing."""
        tree = self._tree(parent, changes)
        return parent if tree == self._tree_of(parent) else self._committed(tree, [parent], message, author)

    def move(self, ref: str, commit: str, old: str | None) -> bool:
        """Move a ref from what it was; whether it was that. None is a ref that is not there yet."""
        return self._write("update-ref", ref, commit, old or "0" * 40, check=False)

    def remove_ref(self, ref: str, old: str) -> bool:
        """Remove a ref; whether it was what it was thought to be."""
        return self._write("update-ref", "-d", ref, old, check=False)

    def tag(self, name: str, commit: str, message: str, author: str) -> bool:
        """Name a commit; whether the name was free."""
        if message:
            head = f"object {commit}\ntype commit\ntag {name}\ntagger {_by(author)} {int(time.time())} +0000\n\n"
            commit = self.output("mktag", stdin=f"{head}{message}\n".encode())
        return self.move(f"refs/tags/{name}", commit, None)

    def repeats(self, head: str, commit: str) -> bool:
        """Whether a ref is already where a commit would bring it, by the same author and words, just now."""
        if head == commit:
            return True
        words = ("log", "-1", f"--since={REPEATED} seconds ago", "--format=%T%n%P%n%an%n%B")
        made, again = (self._git(*words, each).stdout for each in (head, commit))
        return bool(made) and made == again

    def loose(self) -> int:
        """How many objects lie each in a file of its own."""
        return int(self._git("count-objects").stdout.split()[0])

    def pack(self) -> None:
        """Have git put together what lies loose, where it is worth it; what no ref leads to stays for two weeks."""
        settings = (f"gc.auto={MOST_LOOSE}", "gc.pruneExpire=2.weeks.ago", "gc.autoDetach=false")
        self._write(*(word for each in settings for word in ("-c", each)), "gc", "--auto", "--quiet")

    def _tree_of(self, commit: str) -> str:
        return self._git("rev-parse", f"{commit}^{{tree}}").stdout.decode().strip()

    def _tree(self, parent: str, changes: Sequence[Change], more: Mapping[str, bytes] | None = None) -> str:
        """The tree of a commit with some changes."""
        with beside(self.git_dir / "index") as scratch:
            index = _Index(self, scratch)
            if parent:
                index.read(parent)
            index.change(changes, self.listing(parent) if parent else {})
            index.write(more or {})
            return index.tree()

    def _committed(self, tree: str, parents: Iterable[str], message: str, author: str) -> str:
        links = [word for parent in parents for word in ("-p", parent)]
        return self.output("commit-tree", tree, *links, stdin=message.encode(), env=_identity(author))

    def output(self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What git says, to write."""
        done = run_git(self.git_dir, *words, stdin=stdin, env=NOBODY | dict(env or {}))
        return done.stdout.decode().strip()

    def _write(self, *words: str, check: bool = True) -> bool:
        return run_git(self.git_dir, *words, env=NOBODY, check=check).returncode == 0


_LFS = "filter=lfs diff=lfs merge=lfs -text"


class _Index:
    """The files of a commit to be, in an index of git's own."""

    def __init__(self, repository: Plain, scratch: Path) -> None:
        self._repository, self._scratch = repository, scratch
        self._env = {"GIT_INDEX_FILE": str(scratch / "index")}

    def read(self, commit: str) -> None:
        """Begin with the files of a commit."""
        self._run("read-tree", commit)

    def change(self, changes: Sequence[Change], before: Listing) -> None:
        """Write and remove files."""
        _refuse_wrong(changes, before)
        self._update([("0", "0" * 40, path) for path in _gone(changes, before)])
        added = [change for change in changes if isinstance(change, Added)]
        self._add([each for each in added if each.path == ATTRIBUTES])  # it says of the others which are large
        others = [each for each in added if each.path != ATTRIBUTES]
        marked = self._marked([each.path for each in others])
        large = [each for each in others if each.path in marked or each.size >= LARGE or each.place is None]
        self._point(large)
        self._add([each for each in others if each.path not in {file.path for file in large}])
        self._mark([each.path for each in large if each.path not in marked])

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write some files from memory."""
        for number, (path, data) in enumerate(files.items()):
            (place := self._scratch / f"file-{number}").write_bytes(data)
            self._add([Added(path, "", len(data), place)])

    def tree(self) -> str:
        """What it all is."""
        return self._run("write-tree")

    def _add(self, files: Sequence[Added]) -> None:
        if files:
            places = "".join(f"{each.place}\n" for each in files)
            oids = self._run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=places.encode()).split()
            self._update([("100644", oid, each.path) for oid, each in zip(oids, files, strict=True)])

    def _point(self, files: Sequence[Added]) -> None:
        """Keep large files, and write their pointers."""
        pointers = []
        for number, each in enumerate(files):
            if each.place is not None:
                self._repository.large.take(each.place, each.sha256)
            (place := self._scratch / f"pointer-{number}").write_bytes(pointer(each.sha256, each.size))
            pointers.append(Added(each.path, each.sha256, each.size, place))
        self._add(pointers)

    def _marked(self, paths: Sequence[str]) -> set[str]:
        """Those paths of which the repository's own attributes say that they are large."""
        asked = "".join(f"{path}\0" for path in paths).encode()
        answers = (
            self._run("check-attr", "-z", "--stdin", "--cached", "filter", stdin=asked).split("\0") if asked else []
        )
        return {path for path, value in zip(answers[::3], answers[2::3], strict=False) if value == "lfs"}

    def _mark(self, paths: Sequence[str]) -> None:
        """Have git-lfs know files that are large, whatever they are called."""
        if paths:
            where, name = self._repository.git_dir, f":{ATTRIBUTES}"
            held = run_git(where, "cat-file", "blob", name, env=NOBODY | self._env, check=False).stdout
            held += b"" if held.endswith(b"\n") or not held else b"\n"
            self.write({ATTRIBUTES: held + "".join(f"{_pattern(path)} {_LFS}\n" for path in paths).encode()})

    def _update(self, rows: Sequence[tuple[str, str, str]]) -> None:
        text = "".join(f"{mode} {oid}\t{path}\0" for mode, oid, path in rows)
        self._run("update-index", "-z", "--index-info", stdin=text.encode())

    def _run(self, *words: str, stdin: bytes = b"") -> str:
        return self._repository.output(*words, stdin=stdin, env=self._env)


def _gone(changes: Sequence[Change], before: Listing) -> set[str]:
    """The paths that are removed."""
    removed = [change for change in changes if isinstance(change, Removed)]
    folders = tuple(f"{each.path}/" for each in removed if each.is_folder)
    return {each.path for each in removed if not each.is_folder} | {path for path in before if path.startswith(folders)}


def _refuse_wrong(changes: Sequence[Change], before: Listing) -> None:
    """Say no to all that is wrong with some changes, at once."""
    for each in changes:
        if isinstance(each, Removed) and not each.is_folder and each.path not in before:
            raise NotFound(f"A file with this name doesn't exist: {each.path[:200]!r}")
        if (
            isinstance(each, Removed)
            and each.is_folder
            and not any(path.startswith(f"{each.path}/") for path in before)
        ):
            raise NotFound(f"no folder {each.path[:200]!r}")
    added = [each.path for each in changes if isinstance(each, Added)]
    wrong = [f"{path[:200]!r}: {why}" for path in added if (why := wrong_with(path))]
    wrong += [f"{path[:200]!r} stands twice in it" for path, count in Counter(added).items() if count > 1]
    after = {*before} - _gone(changes, before) | {*added}
    wrong += clashing(after) if not wrong else []
    if len(after) > MOST_FILES:
        wrong.append(f"{len(after):,} files; the most is {MOST_FILES:,}")
    if wrong:
        raise UsageError("; ".join(wrong[:MOST_SHOWN]))


def _pattern(path: str) -> str:
    """A path as git's attributes name it, and nothing else."""
    literal = "".join(f"\\{sign}" if sign in "*?[]!#\\" else sign for sign in path)
    return '"/{}"'.format(literal.replace("\\", "\\\\").replace('"', '\\"'))


def _by(author: str) -> str:
    return f"{author} <{author}@users.noreply.invalid>"


def _identity(author: str) -> dict[str, str]:
    """Who a commit is by, for git."""
    name, mail = author, f"{author}@users.noreply.invalid"
    return {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail, "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": mail}


@lru_cache(maxsize=1_000)
def _listing(repository: Plain, commit: str) -> Listing:
    entries = [entry for entry in repository.entries(commit) if entry.mode in ("100644", "100755")]
    small = [entry.oid for entry in entries if entry.size <= MOST_POINTER]
    known = dict(zip(small, repository.contents(small), strict=True))
    return {entry.path: _file(repository, entry, known.get(entry.oid, b"")) for entry in entries}


def _file(repository: Plain, entry: Entry, data: bytes) -> File:
    if large := pointed(data):
        return File(large[1], large[0], entry.oid, by_pointer=True)
    file = File(entry.size, "", entry.oid)
    if not file.is_large(entry.path):
        return file
    return File(entry.size, sha256(repository.contents([entry.oid])[0]).hexdigest(), entry.oid)
