"""Every moment at which a verb changes something on disk, counted, so that it can be stopped at any one of them.

A verb runs in a fork of this process, where files that are written, names that move and git calls that change
something are counted. At the k-th it ends as `kill -9` would end it, or finds the disk full or broken. What only reads
changes nothing, so a verb that is killed there leaves what the change before left: no point is lost by not counting it.

    typed = Typed(Path("town"), Path("town/out"), env={})
    events = typed.count(["pr", "merge", "2"])                   # what is counted, in its order
    typed(["pr", "merge", "2"], Stop(7, "killed"))               # Done(code=137, out="", err="")

What threads do together is done in turn, so that the same count is the same change.
What compiled libraries write by themselves (Parquet, numpy's arrays) is seen when it begins and when it gets its name.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal

from souq import signing
from souq.cli import run

How = Literal["killed", "torn", "full", "broken"]
"""Before it happens; half of it happened; no room for it, or for more than half; the disk does not answer."""
HOWS = ("killed", "torn", "full", "broken")
KILLED = 137
TRACEBACK = 99

READING = {
    "rev-parse", "cat-file", "ls-tree", "for-each-ref", "rev-list", "diff-tree", "diff-index", "log", "show", "var", "merge-base",
    "symbolic-ref", "ls-remote", "check-ref-format", "status", "diff", "ls-files", "check-attr", "version",
}  # fmt: skip
MOVES = {"os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod"}


@dataclass(frozen=True)
class Stop:
    """At which event, and how."""

    at: int
    how: How


@dataclass(frozen=True)
class Event:
    """One change: what kind it is, and of what; those that write can be torn."""

    kind: str
    of: str

    @property
    def tears(self) -> bool:
        return self.kind.startswith(("write", "git"))


@dataclass(frozen=True)
class Done:
    """How a line ended."""

    code: int
    out: str
    err: str


@dataclass
class Meddler:
    """Counts, and stops."""

    root: str
    stop: Stop | None = None
    log: io.TextIOWrapper | None = None
    count: int = 0
    busy: bool = False
    full: str = ""  # the file whose next write finds no room, since half of the one before had it
    doomed: list[subprocess.Popen] = field(default_factory=list)

    def event(self, kind: str, of: object, half: Callable[[], object] | None = None, *, short: bool = False) -> str:
        """One change that is about to happen; the way in which a git call is to fail, which only git can do."""
        path = os.fsdecode(of) if isinstance(of, str | bytes | os.PathLike) else str(of)
        outside = path.startswith("pipe:") or Path(self.root) not in Path(path).absolute().parents
        if self.busy or (kind[:3] != "git" and outside) or (kind == "os.mkdir" and Path(path).is_dir()):
            return ""
        self.count += 1
        if self.log is not None:
            self.busy = True
            self.log.write(f"{kind}\t{path!r}\n")
            self.log.flush()
            self.busy = False
        if self.stop is None or self.count != self.stop.at:
            return ""
        if (kind[:3] == "git" and self.stop.how == "torn") or (
            (kind[:3] == "git" or short) and self.stop.how == "full"
        ):
            return self.stop.how
        return self._stopped(path, half)

    def _stopped(self, path: str, half: Callable[[], object] | None) -> str:
        how = self.stop.how
        self.busy = True
        if how in ("torn", "full") and half is not None:
            half()
        if how in ("killed", "torn"):
            os._exit(KILLED)
        self.busy = False
        number = errno.ENOSPC if how == "full" else errno.EIO
        raise OSError(number, os.strerror(number), path)

    def audit(self, name: str, args: tuple) -> None:
        """What Python says before it touches the disk."""
        if name == "open":
            path, _, flags = args
            if (
                isinstance(path, str | bytes)
                and isinstance(flags, int)
                and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            ):
                self.event("open", path)
        elif name in MOVES and not isinstance(args[0], int):
            path, folder = args[1 if name in ("os.rename", "os.link") else 0], args[-1]
            below = _path_of(folder) if name != "os.truncate" and isinstance(folder, int) and folder >= 0 else ""
            if os.path.lexists(whole := Path(below) / os.fsdecode(path)) or name not in ("os.remove", "os.rmdir"):
                self.event(name, whole)

    def install(self) -> None:
        """In this process from here on; there is no way back."""
        sys.addaudithook(self.audit)
        for name in ("write", "pwrite", "fsync", "copy_file_range"):
            setattr(os, name, self._written(name, getattr(os, name)))
        builtins.open = io.open = self._open()
        subprocess.Popen.__init__ = self._begun(subprocess.Popen.__init__)
        subprocess.Popen.wait = self._ended(subprocess.Popen.wait)
        ThreadPoolExecutor.submit = _at_once  # else the k-th change is another one each time

    def _written(self, name: str, real: Callable) -> Callable:
        def call(*words):
            handle = words[1] if name == "copy_file_range" else words[0]
            half = (
                (lambda: real(words[0], words[1][: len(words[1]) // 2], *words[2:])) if name.endswith("write") else None
            )
            if handle > 2:
                self.event("fsync" if name == "fsync" else "write", _path_of(handle), half)
            return real(*words)

        return call

    def _open(self) -> Callable:
        meddler, real = self, io.open

        class Raw(io.FileIO):
            def write(self, data):
                view, path = memoryview(data).cast("B"), _path_of(self.fileno())
                half = view[: len(view) // 2]
                if meddler.full == path:
                    meddler.full = ""
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
                if meddler.event("write", path, lambda: io.FileIO.write(self, half), short=len(half) > 0):
                    meddler.full = path  # as the kernel has it: so much was written; and the next time, no room
                    return super().write(half)
                return super().write(data)

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            plain = mode.replace("b", "").replace("t", "")
            if meddler.busy or plain == "r" or (isinstance(file, int) and opener is None):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Raw(file, plain, closefd, opener)
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in plain else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)

        return opened

    def _begun(self, real: Callable) -> Callable:
        def init(process, args, *more, **how):
            way = self.event(f"git {verb}", " ".join(map(str, args))) if (verb := changing(args)) else ""
            if way:
                how["preexec_fn"] = _no_room(deadly=way == "torn")
            real(process, args, *more, **how)
            if way == "torn":
                self.doomed.append(process)

        return init

    def _ended(self, real: Callable) -> Callable:
        def wait(process, *words, **how):
            code = real(process, *words, **how)
            if process in self.doomed:
                os._exit(KILLED)
            return code

        return wait


def _at_once(pool: ThreadPoolExecutor, task: Callable, *words, **how) -> Future:
    """What threads do, each to its end before the next begins."""
    future = Future()
    try:
        future.set_result(task(*words, **how))
    except Exception as error:
        future.set_exception(error)
    return future


def _path_of(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def _no_room(*, deadly: bool) -> Callable[[], None]:
    """No file may grow: git is killed at its first write, or told that there is no room."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    return limit


def changing(args: object) -> str:
    """The verb of a git call that changes something; "" for one that reads, and for what is not git."""
    words = [str(word) for word in args] if isinstance(args, list | tuple) else []
    if "git" not in words:
        return ""
    words = words[words.index("git") + 1 :]
    while words and words[0].startswith("-"):
        words = words[2 if words[0] in ("-c", "-C") else 1 :]
    verb = words[0] if words else ""
    reads = verb in READING or (verb == "config" and bool({"--list", "--get", "--get-regexp"} & {*words}))
    reads |= verb == "hash-object" and "-w" not in words
    return "" if reads or not verb else verb


@dataclass(frozen=True)
class Typed:
    """Lines typed as souq's, each in a process of its own that begins warm; where its env dates commits, all is of then."""

    root: Path  # what is counted lies below it
    notes: Path  # a folder for what they say

    def __call__(
        self, words: Sequence[str], at: Path, env: dict[str, str], stop: Stop | None = None, *, log: bool = False
    ) -> Done:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            self._play([*map(str, words)], at, env, stop, log)
        _, status = os.waitpid(child, 0)
        out, err = ((self.notes / name).read_text(errors="replace") for name in ("out", "err"))
        return Done(os.waitstatus_to_exitcode(status), out, err)

    def count(self, words: Sequence[str], at: Path, env: dict[str, str]) -> tuple[Done, list[Event]]:
        """Every change of a line that nothing stops; whatever it imported is here from then on, for those that come."""
        done = self(words, at, env, log=True)
        for name in (self.notes / "modules").read_text().splitlines():
            with suppress(ImportError):
                import_module(name)
        rows = [row.split("\t", 1) for row in (self.notes / "log").read_text().splitlines()]
        return done, [Event(kind, of) for kind, of in rows]

    def _play(self, words: list[str], at: Path, env: dict[str, str], stop: Stop | None, log: bool) -> None:
        code = TRACEBACK
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, name in ((1, "out"), (2, "err")):
                handle = os.open(self.notes / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(handle, number)
            os.chdir(at)
            os.environ.update(env | {"SOUQ_QUIET": "1"})
            if dated := env.get("GIT_COMMITTER_DATE"):
                signing.now = lambda: dated
            note = (self.notes / "log").open("w") if log else None
            if stop is not None or log:
                Meddler(str(self.root), stop, note).install()
            code = run(words)
            if log:
                (self.notes / "modules").write_text("\n".join([*sys.modules]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
