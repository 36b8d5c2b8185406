"""A hub's repository made to hold what a folder holds, by Hugging Face's own client: only what differs is sent.

What lies there and is nobody's of ours stays. A commit is there whole or not at all; large files that came before an
upload was cut are not sent again. After it every file is compared with what the hub lists.

    api = client()
    plan = planned(api, Target("atlas/smol", "model"), folder, ours=set())
    upload(api, plan, "Release 1.0")
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from souq.errors import Corrupt
from souq.model.hub_client import Target, asking, head_of, listed, read, speaks_xet
from souq.progress import Progress, quiet
from souq.releases.verify import sha256
from souq.repo.git import blob_name

LEFT = (".gitattributes",)  # a hub's own


@dataclass(frozen=True)
class Plan:
    """What is to change in it."""

    target: Target
    head: str  # its commit now; "" where it is not there yet
    folder: Path
    send: Mapping[str, int]  # path -> bytes
    remove: tuple[str, ...]
    same: int

    @property
    def size(self) -> int:
        """Bytes to send."""
        return sum(self.send.values())

    def __bool__(self) -> bool:
        return bool(self.send or self.remove)


def planned(api: Any, target: Target, folder: Path, ours: Collection[str]) -> Plan:
    """What to send of a folder, and what goes: of `ours`, which were there before, those it has no more."""
    head = head_of(api, target)
    there = listed(api, target, head)
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    send = {name: path.stat().st_size for name, path in paths.items() if not _is_same(path, there.get(name))}
    gone = sorted(name for name in there if name in ours and name not in paths and name not in LEFT)
    return Plan(target, head, folder, send, tuple(gone), len(paths) - len(send))


def _is_same(path: Path, row: Any) -> bool:
    if row is None or row.size != path.stat().st_size:
        return False
    return bool(sha256(path) == row.lfs.sha256 if row.lfs else blob_name(path.read_bytes()) == row.blob_id)


def upload(api: Any, plan: Plan, message: str, *, private: bool = False, progress: Progress = quiet) -> str:
    """Do it; the commit that main is at then.

    Raises:
        Corrupt: what the hub has is not what was sent.
    """
    target = plan.target
    if not plan.head:
        with asking(f"make {target.repo}"):
            api.create_repo(target.repo, repo_type=target.kind, private=private, exist_ok=True)
    if plan:
        _commit(api, plan, message, progress)
        left = planned(api, target, plan.folder, plan.remove)
        if left:
            wrong = ", ".join([*left.send, *left.remove][:5])
            raise Corrupt(f"{target.repo} does not hold what was sent: {wrong}", hint="publish again")
    return head_of(api, target)


def _commit(api: Any, plan: Plan, message: str, progress: Progress) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    meter = _Meter(plan.size, progress)
    files = {name: meter.opened(plan.folder / name) for name in plan.send}
    adding = [CommitOperationAdd(name, file) for name, file in files.items()]
    removing = [CommitOperationDelete(name) for name in plan.remove]
    meter.begin()
    try:
        with asking(f"write to {plan.target.repo}"):
            api.create_commit(
                plan.target.repo, [*adding, *removing], commit_message=message, repo_type=plan.target.kind,
                parent_commit=plan.head or None,
            )  # fmt: skip
    finally:
        for file in files.values():
            if isinstance(file, io.BufferedReader):
                file.close()
    meter.end()


class _Meter:
    """How many bytes of all files were read to be sent."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._at, self._counts = dict[Path, int](), False

    def opened(self, path: Path) -> Any:
        """A file that is counted as it is read; by Xet, which shows bars of its own, a path."""
        return str(path) if speaks_xet() else _Counted(path, lambda at: self._read(path, at))

    def begin(self) -> None:
        """Count from here: what was read before was hashed."""
        self._counts = True
        self._progress("upload", 0, self._total)

    def end(self) -> None:
        self._progress("upload", self._total, self._total)

    def _read(self, path: Path, at: int) -> None:
        if self._counts:
            self._at[path] = max(at, self._at.get(path, 0))
            self._progress("upload", min(sum(self._at.values()), self._total), self._total)


class _Counted(io.BufferedReader):
    """A file that says how far it was read."""

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._tell = tell

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._tell(self.tell())
        return data


def tagged(api: Any, target: Target, tag: str, commit: str) -> None:
    """Have a tag name a commit; one that named another commit is moved."""
    with asking(f"tag {target.repo}"):
        refs = api.list_repo_refs(target.repo, repo_type=target.kind)
        known = {each.name: each.target_commit for each in refs.tags}
        if known.get(tag) == commit:
            return
        if tag in known:
            api.delete_tag(target.repo, tag=tag, repo_type=target.kind)
        api.create_tag(target.repo, tag=tag, revision=commit, repo_type=target.kind)


def replaced_by(api: Any, target: Target, newer: str) -> None:
    """Have the card of an older release's repository name the newer one; where it is gone, nothing is to be said."""
    from huggingface_hub import ModelCard

    if not (head := head_of(api, target)) or not (
        text := read(api, target, head, "README.md").decode("utf-8", "replace")
    ):
        return
    card = ModelCard(text, ignore_metadata_errors=True)
    if card.data.get("new_version") == newer:
        return
    card.data["new_version"] = newer
    with asking(f"write to {target.repo}"):
        api.upload_file(
            path_or_fileobj=str(card).encode(), path_in_repo="README.md", repo_id=target.repo,
            commit_message=f"A newer version: {newer}", parent_commit=head,
        )  # fmt: skip
