"""A worker: takes a job, has it done by a process of its own within limits, and says what came of it.

It may be killed at any time: the process ends with it, and when the lease is over another worker begins the job anew.
The job's own process knows no database and no secret of the hub's: it writes its log, and prints its result.

    Worker(Jobs(database), commands(catalog, data)).run()
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from souq.errors import NotFound, SouqError
from souq.hub.catalog import Catalog
from souq.hub.database import Away
from souq.hub.jobs.store import MAX_LOG, MAX_RESULT, Job, Jobs

LEASE, BEAT, IDLE = 30.0, 1.0, 1.0  # seconds: a job is held, said to be held, looked for
MINUTES, GIB = 60, 16  # of one job, unless told
MOST_WRITTEN = 64 << 20  # bytes of a log before it is too much
REFUSED = 3  # how a verb ends that ran and says no
SECRET = (
    "SOUQ_",
    "HF_",
    "AWS_",
    "PG",
)  # what the hub's own environment may hold, and a stranger's files shall not meet


@dataclass(frozen=True)
class Command:
    """What does a job, and where."""

    words: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Bounds:
    """What one job may take."""

    seconds: float = MINUTES * 60.0
    memory: int = GIB << 30
    lease: float = LEASE
    beat: float = BEAT


@dataclass(frozen=True)
class Keys:
    """Whose ssh keys sign what jobs make: all checks, and the papers of releases that are built."""

    checks: Path | None = None
    papers: Path | None = None


def commands(catalog: Catalog, data: Path, keys: Keys = Keys()) -> Callable[[Job], Command]:
    """How each kind of job is done; what is built is kept where the hub keeps it, in `data`."""
    signed = ("--key", str(keys.checks.resolve())) if keys.checks is not None else ("--unsigned",)
    papers = (str(keys.papers.resolve()),) if keys.papers is not None else ()
    how = {"look": ("--quick",), "checks": signed}

    def command(job: Job) -> Command:
        repo = catalog.open(job.repository)
        place = repo.root or repo.git_dir
        if job.kind == "build":
            name = f"refs/pr/{job.number}" if job.number else "main"
            building = ("souq.hub.huggingface.building", str(place), str(data.resolve()), name, *papers)
            return Command((sys.executable, "-m", *building), place)
        verb = ("pr", "checks", str(job.number), *how[job.kind], "--json")
        return Command((sys.executable, "-m", "souq", *verb), place)

    return command


class Worker:
    """Does one job after another, and where none waits what is to be done otherwise."""

    def __init__(
        self, jobs: Jobs, command: Callable[[Job], Command], bounds: Bounds = Bounds(),
        otherwise: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._jobs, self._command, self._bounds, self._otherwise = jobs, command, bounds, otherwise
        self._is_ending = False

    def run(self, *, until_idle: bool = False) -> None:
        """Work until told to end (SIGTERM), or until nothing waits; what is being done then goes back."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._end)
        while not self._is_ending:
            if not self._next():
                if until_idle:
                    return
                time.sleep(IDLE)

    def _end(self, *_: Any) -> None:
        self._is_ending = True

    def _next(self) -> bool:
        """Whether there was something to do; while the database is away there is not."""
        try:
            if (job := self._jobs.take(self._bounds.lease)) is None:
                return self._otherwise()
            self._do(job)
        except Away:
            return False
        return True

    def _do(self, job: Job) -> None:
        try:
            command = self._command(job)
        except NotFound as error:
            self._jobs.finish(job, "failed", "", because=str(error))
            return
        except SouqError as error:
            self._jobs.finish(job, "failed", str(error), because="the repository cannot be read")
            return
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = _begin(command, self._bounds, out, err)
            try:
                self._watch(job, process, out, err)
            finally:
                _kill(process)

    def _watch(self, job: Job, process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]) -> None:
        """Until it has ended, or shall: say that it is held, and what it has written."""
        begun = beat = time.monotonic()
        while process.poll() is None:
            time.sleep(min(0.05, self._bounds.beat))
            now = time.monotonic()
            if self._is_ending:
                _kill(process)
                self._jobs.give_back(job)
                return
            if because := self._too_much(now - begun, out, err):
                _kill(process)
                self._jobs.finish(job, "failed", _end_of(err), because=because)
                return
            if now - beat >= self._bounds.beat:
                beat = now
                if not self._jobs.hold(job, self._bounds.lease, _end_of(err)):
                    return
        self._conclude(job, process.returncode, out, err)

    def _too_much(self, took: float, out: IO[bytes], err: IO[bytes]) -> str:
        if took > self._bounds.seconds:
            return f"it took more than {self._bounds.seconds:,.0f} s"
        if max(os.fstat(file.fileno()).st_size for file in (out, err)) > MOST_WRITTEN:
            return "it wrote too much"
        return ""

    def _conclude(self, job: Job, code: int, out: IO[bytes], err: IO[bytes]) -> None:
        log = _end_of(err)
        if code in (0, REFUSED):
            out.seek(0)
            result = out.read(MAX_RESULT + 1).decode("utf-8", "replace")
            self._jobs.finish(job, "done", log, result=result)
        else:
            last = next((line for line in reversed(log.splitlines()) if line.startswith("Error")), "")
            ended = f"it was ended by signal {-code}" if code < 0 else f"it ended with {code}"
            self._jobs.finish(job, "failed", log, because=last or ended)


def _begin(command: Command, bounds: Bounds, out: IO[bytes], err: IO[bytes]) -> subprocess.Popen[bytes]:
    limits = (str(os.getpid()), str(int(bounds.seconds) + 1), str(bounds.memory))
    return subprocess.Popen(
        [sys.executable, "-m", "souq.hub.jobs.limited", *limits, *command.words], cwd=command.folder, env=_plain(),
        stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
    )  # fmt: skip


def _plain() -> dict[str, str]:
    """An environment without what is the hub's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it, and whatever it began."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(file: IO[bytes]) -> str:
    """The end of what was written so far, by a handle that shares no place with who writes."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), MAX_LOG, max(0, size - MAX_LOG)).decode("utf-8", "replace")
