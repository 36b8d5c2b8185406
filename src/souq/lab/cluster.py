"""Work on the machines of a Ray cluster, each with this very souq: pieces go where there is room.

Ray places, retries and spills; here is bounded how much is under way, and looked at who answers. A machine may die:
what it was at is done again by another. The one that this process is on may not.

    cluster = connect("ray")     # RAY_ADDRESS, else the cluster of this machine, else one started here
    for done in cluster.map(task, pieces): ...
"""

from __future__ import annotations

import logging
import os
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import ray
from blake3 import blake3
from ray import cloudpickle as pickle

import souq
from souq.errors import Refused, SouqError, UsageError
from souq.lab.score_cache import conditions
from souq.optional import installed_version
from souq.records import Record, spelled_out
from souq.workers import Done

log = logging.getLogger(__name__)
RAY = "ray"
AHEAD = 2  # pieces under way for each that can be done at once: what is done waits in memory, or is spilled
RETRIES = 5  # of a piece whose worker died
PATIENCE = 30.0  # seconds from one look at who is there to the next
HELD = 3  # tasks a worker stays ready for: the gate asks main, main with a change, and the last release in turn
_READY: dict[str, Callable[[Any], Any]] = {}  # of a worker, the oldest first


class Kind(Record, frozen=True):
    """What a machine computes with; whoever has another souq is not asked."""

    souq: str
    numpy: str
    arithmetic: str

    @classmethod
    @cache
    def here(cls) -> Kind:
        under = conditions()
        return cls(souq=_souq(), numpy=installed_version("numpy"), arithmetic=f"{under.arithmetic}, {under.engine}")

    def __str__(self) -> str:
        return f"numpy {self.numpy}, {self.arithmetic}"


@cache
def _souq() -> str:
    """Its version and the digest of its source: two of one number may be two."""
    folder, hasher = Path(souq.__file__).parent, blake3()
    for path in sorted(folder.rglob("*.py")):
        hasher.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return f"{installed_version('souq')} ({hasher.hexdigest()[:12]})"


# max_calls: a worker with a GPU else ends with each piece, and a model is loaded anew.
@ray.remote(max_retries=RETRIES, max_calls=0, scheduling_strategy="SPREAD")  # type: ignore[untyped-decorator]
def _do(task: str, held: list[Any], asker: Kind, piece: Any) -> tuple[str, Kind, Any]:
    """What a worker does: a piece of a task that it was made ready for, or gets ready for now."""
    mine = Kind.here()
    if mine.souq != asker.souq:
        number = asker.souq.partition(" ")[0]
        raise Refused(
            f"{platform.node()} has souq {mine.souq}, and {asker.souq} asks it",
            hint=f'run `pip install "souq[ray]=={number}"` there, from where this one is from',
        )
    if task not in _READY:
        for oldest in [*_READY][: len(_READY) - HELD + 1]:
            del _READY[oldest]
        _READY[task] = pickle.loads(ray.get(held[0])).ready()
    return platform.node(), mine, _READY[task](piece)


@dataclass
class Cluster:
    """The machines of one Ray cluster. `store` is where those find tensors that do not see this machine's folders."""

    store: str = ""
    kind: Kind = field(default_factory=Kind.here)
    _strange: set[tuple[str, Kind]] = field(default_factory=set)

    def map(self, task: Any, pieces: Sequence[Any]) -> Iterator[Done[Any]]:
        """Every piece's answer, each once, as they come.

        Raises:
            SouqError: what the task raised, or that Ray could not go on.
        """
        sent = pickle.dumps(task)
        name, held, left = blake3(sent).hexdigest(), ray.put(sent), deque(enumerate(pieces))
        going: dict[Any, int] = {}
        try:
            while left or going:
                place, room = _room(task.cores)
                while left and len(going) < AHEAD * room:
                    number, piece = left.popleft()
                    going[_do.options(**place).remote(name, [held], self.kind, piece)] = number
                done = ray.wait(list(going), timeout=PATIENCE)[0] if going else []
                if not done and not room:
                    raise SouqError("the Ray cluster has no worker left", hint="start one, or compute here: no --on")
                for ref in done:
                    yield self._answered(going[ref], *ray.get(ref))
                    del going[ref]
        except ray.exceptions.RayTaskError as error:
            raise _raised(error) from error
        except ray.exceptions.RayError as error:
            raise SouqError(
                f"Ray could not go on: {last_line(error)}", hint="what was finished is kept: run the same again"
            ) from error
        finally:
            for ref in going:
                ray.cancel(ref, force=True)

    def _answered(self, number: int, node: str, kind: Kind, answer: Any) -> Done[Any]:
        if kind != self.kind and (node, kind) not in self._strange:
            self._strange.add((node, kind))
            log.warning("%s computes with %s; this machine with %s: last bits may differ", node, kind, self.kind)
        return Done(number, answer, f"the worker {spelled_out(node)}")


def _raised(error: Any) -> Exception:
    """What went wrong on a worker, as if it had been here; a fault of souq's own by its last line."""
    if isinstance(error.cause, SouqError | OSError | ValueError):
        cause: Exception = error.cause
        return cause
    if "No module named" in (because := last_line(error)):
        hint = f'every machine needs this souq: run `pip install "souq[ray]=={installed_version("souq")}"` there'
        return SouqError(f"a worker lacks a library: {because}", hint=hint)
    return SouqError(f"a worker failed: {because}", hint="this is a fault of souq: please report it")


def _room(cores: int) -> tuple[dict[str, int], int]:
    """What a piece takes of a machine, and how many can be done at once by who is alive."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    counts = [int(machine.get("CPU", 0)) for machine in machines]
    if not cores and (gpus := sum(int(machine.get("GPU", 0)) for machine in machines)):
        return {"num_gpus": 1}, gpus
    each = cores or min((count for count in counts if count), default=1)
    return {"num_cpus": each}, sum(count // each for count in counts)


def last_line(error: Exception) -> str:
    """An error of Ray's in a line: what it says last."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return spelled_out(lines[-1].strip()[:300]) if lines else type(error).__name__


def connect(on: str, store: str = "") -> Cluster:
    """The cluster of `ray` or `ray://HOST:PORT`, where Ray's client server listens.

    Raises:
        UsageError: it is called otherwise.
        SouqError: no cluster answers.
    """
    if on != RAY and not on.startswith(f"{RAY}://"):
        raise UsageError(f"no workers {spelled_out(on[:80])!r}", hint="write --on ray, or --on ray://HOST:10001")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is asked here
    if not ray.is_initialized():
        try:
            ray.init(address=None if on == RAY else on, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
            raise SouqError(
                f"no Ray cluster answers: {last_line(error)}",
                hint="start one with `ray start --head`, and name it in RAY_ADDRESS or --on ray://HOST:10001",
            ) from error
    return Cluster(store)
