"""What earlier builds left on this disk: models, and the sums they were made from. All of it can be made again.

A build folder holds model.safetensors, model.lock and made.json: who is in it, and what is in each tensor's sums
(merge/sums.py). The sums themselves are arrays named by what is in them, so builds that share them share the files.

    cache = BuildCache(repo.cache)
    cache.nearest("b3:… covariance", wanted)   # the build from which the fewest must join or leave
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from blake3 import blake3

from souq.errors import SouqError
from souq.files import beside, replacing
from souq.merge.sums import Kept, Tally, Whole
from souq.records import Digest, Record
from souq.weights.delta import Array, Delta, Lock
from souq.weights.lockfile import format_delta, parse_delta, parse_lock
from souq.weights.safetensors import TensorFile, open_tensors

WITH_SUMS = 2  # builds whose sums stay: main's own, and main with the pull request that is being checked
_HEADERS = threading.Lock()
ROOM = 4  # times the size of the sums must be free on the disk, or they are not kept


class BuildInfo(Record, frozen=True):
    """made.json: how a build came to be. `tallies` are those of its sums, empty where the method has none."""

    sums: str  # what the sums are sums of: base, and whether sketches are heard
    method: str  # method and settings
    shape: Digest  # what is made of what: additions make a model larger
    members: tuple[Digest, ...]
    tallies: dict[str, tuple[int, int, int, int, str, str]]
    kept: int = 0  # contributions that were not read
    joined: tuple[Digest, ...] = ()
    left: tuple[Digest, ...] = ()
    computed: tuple[str, ...] = ()  # tensors
    copied: int = 0  # tensors taken from an earlier build
    base: int = 0  # tensors read from the store: the base's own

    def tally(self, name: str) -> Tally:
        count, known, mass, unsketched_weight, member_set, sketch_set = self.tallies[name]
        return Tally(count, known, mass, unsketched_weight, int(member_set, 16), int(sketch_set, 16))


def _load(path: Path) -> Array:
    """An array that `keep` wrote.

    One header at a time: it is a literal, and until 3.11.8 Python's parser of literals fails where threads parse at
    once ("AST constructor recursion depth mismatch", https://github.com/python/cpython/issues/106905).
    """
    with path.open("rb") as file:
        with _HEADERS:
            np.lib.format.read_magic(file)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        array: Array = np.fromfile(file, dtype)
    return array.reshape(shape, order="F" if is_fortran else "C")


def written_tallies(tallies: Mapping[str, Tally]) -> dict[str, tuple[int, int, int, int, str, str]]:
    """As made.json has them: keys in hexadecimal."""
    return {
        name: (t.count, t.known, t.mass, t.unsketched_weight, f"{t.member_set:032x}", f"{t.sketch_set:032x}")
        for name, t in tallies.items()
    }


@dataclass(frozen=True)
class CachedBuild:
    """An earlier build."""

    folder: Path
    info: BuildInfo

    @property
    def lock(self) -> Lock:
        return parse_lock((self.folder / "model.lock").read_text())

    @property
    def file(self) -> TensorFile:
        return open_tensors(self.folder / "model.safetensors")


class BuildCache:
    """The earlier builds of one repository."""

    def __init__(self, cache: Path) -> None:
        self.folder, self.builds, self._sums = cache, cache / "built", cache / "sums"
        self.builds.mkdir(parents=True, exist_ok=True)
        (self._sums / "deltas").mkdir(parents=True, exist_ok=True)

    def finished(self) -> Iterator[CachedBuild]:
        """Finished builds, the newest first."""
        notes = sorted(self.builds.glob("*/made.json"), key=lambda path: -path.stat().st_mtime_ns)
        for note in notes:
            if not (note.parent / "model.lock").is_file():  # its writer was stopped, or is not done
                continue
            try:
                yield CachedBuild(note.parent, msgspec.json.decode(note.read_bytes(), type=BuildInfo))
            except (OSError, msgspec.MsgspecError):
                continue

    def nearest(self, sums: str, wanted: frozenset[Digest]) -> tuple[Kept, dict[Digest, Delta]]:
        """The kept sums from which the fewest must join or leave, and those who must leave.

        Nothing where no kept sums are nearer than beginning from none.
        """
        best, cost = (Kept(), dict[Digest, Delta]()), len(wanted)
        for info in (build.info for build in self.finished()):
            members = frozenset(info.members)
            distance = len(members ^ wanted)
            if info.sums != sums or distance > cost or not self._has_all_sums(info):
                continue
            try:
                leaving = {member: parse_delta(self._delta(member).read_text()) for member in members - wanted}
            except (OSError, SouqError):
                continue
            best, cost = (self._kept(info), leaving), distance
        return best

    def _kept(self, info: BuildInfo) -> Kept:
        tallies = {name: info.tally(name) for name in info.tallies}
        return Kept(
            frozenset(info.members),
            tallies,
            top=lambda name: _load(self.top(info.sums, name, tallies[name])),
            gram=lambda name: _load(self.gram(tallies[name])),
        )

    def _has_all_sums(self, info: BuildInfo) -> bool:
        return bool(info.tallies) and all(path.is_file() for path in self._files(info))

    def _files(self, info: BuildInfo) -> set[Path]:
        tallies = {name: info.tally(name) for name in info.tallies}
        tops = {self.top(info.sums, name, tally) for name, tally in tallies.items()}
        return tops | {self.gram(tally) for tally in tallies.values() if tally.known}

    def top(self, sums: str, name: str, tally: Tally) -> Path:
        """Where N of a tensor is kept: the same contributions, the same file."""
        text = f"{sums} {name} {tally.member_set:x} {tally.sketch_set:x}"
        return self._sums / f"{blake3(text.encode()).hexdigest(16)}.npy"

    def gram(self, tally: Tally) -> Path:
        """Where S is kept: the same sketches, the same file."""
        return self._sums / f"gram-{tally.sketch_set:032x}.npy"

    def _delta(self, member: Digest) -> Path:
        return self._sums / "deltas" / member.removeprefix("b3:")

    def room(self, size: int) -> bool:
        """Whether the disk has room for sums of `size` bytes and to spare."""
        return shutil.disk_usage(self._sums).free > ROOM * size

    def keep(self, path: Path, array: Whole) -> None:
        """Keep an array, whole or not at all."""
        if path.is_file():
            return
        with beside(path) as scratch:
            np.save(part := scratch / path.name, array)
            part.replace(path)

    def remember(self, joined: Mapping[Digest, Delta]) -> None:
        """Write down what joined, so that it can leave when nobody has it any more."""
        for member, delta in joined.items():
            with replacing(self._delta(member)) as part:
                part.write_text(format_delta(delta))

    def clear(self) -> None:
        """Throw away all sums."""
        for path in self._sums.glob("*.npy"):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Throw away the sums of all but the newest builds."""
        held = [build.info for build in islice(self.finished(), WITH_SUMS)]
        wanted = set().union(*(self._files(info) for info in held))
        deltas = {self._delta(member) for info in held for member in info.members}
        for path in self._sums.iterdir():
            if path.is_file() and path not in wanted:
                path.unlink(missing_ok=True)
        for path in (self._sums / "deltas").iterdir():
            if path.is_file() and path not in deltas:
                path.unlink(missing_ok=True)
