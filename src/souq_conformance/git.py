"""Git's objects written by hand, straight into a folder: fast, and able to write what git itself never would.

    git = Git(Path(".git"))
    files = {"souq.toml": git.file(b"…")}
    git.ref("refs/heads/main", git.commit(git.tree(files), [], "begin", 1_770_000_000))

Sources: git's gitformat-loose and gitformat-commit-graph pages.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PLAIN, FOLDER = "100644", "40000"


@dataclass(frozen=True)
class File:
    """One entry of a tree."""

    oid: str
    mode: str = PLAIN


def name_of(kind: str, data: bytes) -> str:
    """Git's name of an object."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


@dataclass
class Git:
    """A git directory's objects and refs."""

    folder: Path
    _there: set[str] = field(default_factory=set)

    def path(self, oid: str) -> Path:
        return self.folder / "objects" / oid[:2] / oid[2:]

    def put(self, kind: str, data: bytes, *, under: str = "") -> str:
        """Keep an object; `under` lies about its name."""
        oid = under or name_of(kind, data)
        if under or oid not in self._there:
            self.path(oid).parent.mkdir(parents=True, exist_ok=True)
            self.path(oid).write_bytes(zlib.compress(b"%s %d\0" % (kind.encode(), len(data)) + data, 1))
            self._there.add(oid)
        return oid

    def file(self, data: bytes, mode: str = PLAIN) -> File:
        return File(self.put("blob", data), mode)

    def tree(self, files: Mapping[str, File]) -> str:
        """The tree of some files by path, folders as they are needed."""
        folders: dict[str, dict[str, File]] = {}
        here: dict[str, File] = {}
        for path, file in files.items():
            name, _, rest = path.partition("/")
            if rest:
                folders.setdefault(name, {})[rest] = file
            else:
                here[name] = file
        here |= {name: File(self.tree(inside), FOLDER) for name, inside in folders.items()}
        order = sorted(here.items(), key=lambda entry: entry[0] + "/" * (entry[1].mode == FOLDER))
        return self.entries(order)

    def entries(self, entries: Sequence[tuple[str, File]], *, under: str = "") -> str:
        """A tree of exactly these entries in this order, however odd."""
        rows = [(f"{file.mode} {name}\0".encode("utf-8", "surrogateescape"), file.oid) for name, file in entries]
        return self.put("tree", b"".join(head + bytes.fromhex(oid) for head, oid in rows), under=under)

    def commit(self, tree: str, parents: Sequence[str], message: str, at: int, more: str = "") -> str:
        """A commit; `more` are header lines of their own, a signature for example."""
        lines = [f"tree {tree}", *(f"parent {oid}" for oid in parents)]
        lines += [f"{role} souq <souq@example.org> {at} +0000" for role in ("author", "committer")]
        return self.put("commit", "\n".join([*lines, *more.splitlines(), "", message]).encode())

    def ref(self, name: str, oid: str) -> None:
        self.write(name, f"{oid}\n".encode())

    def write(self, name: str, data: bytes) -> None:
        """A file of the git directory."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def graph(self, commits: Sequence[tuple[str, str, Sequence[str], int]]) -> None:
        """A commit-graph of (commit, tree, parents, time): git believes it without reading the commits themselves."""
        rows = sorted(commits)
        place = {oid: number for number, (oid, *_) in enumerate(rows)}
        fan = b"".join(sum(int(oid[:2], 16) <= i for oid in place).to_bytes(4, "big") for i in range(256))
        look = b"".join(bytes.fromhex(oid) for oid in place)
        data = b""
        for number, (_, tree, parents, at) in enumerate(rows, 1):
            held = [place[parent] for parent in parents][:2] + [0x70000000] * (2 - len(parents))
            data += bytes.fromhex(tree) + b"".join(place_of.to_bytes(4, "big") for place_of in held)
            data += ((number << 34) | at).to_bytes(8, "big")
        chunks = {b"OIDF": fan, b"OIDL": look, b"CDAT": data}
        at, table = 8 + 12 * (len(chunks) + 1), b""
        for name, chunk in chunks.items():
            table, at = table + name + at.to_bytes(8, "big"), at + len(chunk)
        whole = b"CGPH\1\1" + bytes([len(chunks), 0]) + table + bytes(4) + at.to_bytes(8, "big") + fan + look + data
        self.write("objects/info/commit-graph", whole + hashlib.sha1(whole, usedforsecurity=False).digest())
