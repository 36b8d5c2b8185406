"""What history leaves to the next decision, kept in this clone so that each step is read once.

The memory serves this clone's own questions (pulls.py): whoever verifies reads everything again, and never this.

    policy_state(repo, main.commit).pending   # emergencies that nobody has ratified yet
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import msgspec

from souq import signing
from souq.errors import Refused
from souq.files import replacing
from souq.governance import POLICY, PolicyState
from souq.governance.replay import Replay
from souq.records import Record
from souq.repo.contribution import Landing
from souq.repo.git import MEMORY, Blobs, GitRepo
from souq.repo.history import Binding, History


class _Remembered(Record, frozen=True):
    """A PolicyState, the commit after which it holds, and the time then."""

    commit: str
    clock: str
    latest: str  # what landed is dated, by whoever merged it
    seen: dict[str, str]
    pending: dict[str, str]
    urgent: frozenset[str]
    ever: dict[str, Landing]
    since: str
    amended: int
    spent: set[str]

    @property
    def replay(self) -> Replay:
        return Replay(self.state, self.clock)

    @property
    def state(self) -> PolicyState:
        return PolicyState(dict(self.seen), dict(self.pending), self.urgent)


_NOTHING = _Remembered(
    commit="", clock="", latest="", seen={}, pending={}, urgent=frozenset(), ever={}, since="", amended=0, spent=set()
)


def policy_state(repo: GitRepo, commit: str) -> PolicyState:
    """What history up to a commit leaves to the next decision."""
    return _remembered(repo, commit).state


def replayed(repo: GitRepo, commit: str, at: str) -> Replay:
    """History up to a commit, for who is to land something at some time."""
    known = _remembered(repo, commit)
    if known.latest <= at:
        return known.replay
    with repo.blobs() as blobs:
        return _judged(repo, blobs, _NOTHING, commit).replay


def _remembered(repo: GitRepo, commit: str) -> _Remembered:
    """What history up to a commit leaves behind, judged from the last commit that is remembered.

    Which clocks may still be set back is not remembered: where one was, all is read again.
    """
    note, known, key = repo.cache / "standing.json", _NOTHING, (repo.git_dir, "standing", commit)
    if (in_memory := MEMORY.get(key)) is not None:
        return cast(_Remembered, in_memory)
    with suppress(OSError, msgspec.MsgspecError):
        kept = msgspec.json.decode(data := note.read_bytes(), type=_Remembered)
        if kept.commit == commit:
            MEMORY.put(key, kept, 4 * len(data))
            return kept
        known = kept if repo.contains(commit, kept.commit) else known
    with repo.blobs() as blobs:
        history, latest = _judged(repo, blobs, known, commit), known.latest
        if history.replay.earliest < latest:
            history, latest = _judged(repo, blobs, _NOTHING, commit), ""
    replay, held = history.replay, history.binding
    remembered = _Remembered(
        commit=commit, clock=replay.at, latest=max(latest, replay.latest), seen=dict(replay.state.seen),
        pending=dict(replay.state.pending), urgent=replay.state.urgent, ever=history.ever, since=held.since,
        amended=held.amended, spent=held.spent,
    )  # fmt: skip
    if commit in repo.history(repo.tip()):  # nobody goes on from a tree that was only tried
        with replacing(note) as partial:
            partial.write_bytes(msgspec.json.encode(remembered))
    return remembered


def _judged(repo: GitRepo, blobs: Blobs, known: _Remembered, commit: str) -> History:
    history = _resumed(repo, blobs, known)
    for step in repo.steps(commit, known.commit):
        history.judge(step)
    return history


def _resumed(repo: GitRepo, blobs: Blobs, known: _Remembered) -> History:
    """A judge of history who has seen all up to a remembered commit."""
    history = History(repo, blobs, known.replay)
    if known.commit:
        history.policy, history.config = (repo.entry(known.commit, path).oid for path in (POLICY, "souq.toml"))
        history.resumed = True
        history.ever, history.binding = dict(known.ever), _binding(repo, known)
    return history


def binding(repo: GitRepo, commit: str) -> Binding:
    """What the records of the next landing are held to."""
    return _binding(repo, _remembered(repo, commit))


def _binding(repo: GitRepo, known: _Remembered) -> Binding:
    line = {commit: place for place, commit in enumerate(repo.history(known.commit))}
    return Binding(line, known.since, known.amended, set(known.spent))


class Unsound(Record, frozen=True):
    """What every reader would refuse of some commits: `problems` of those after `good`, the last that is well."""

    good: str
    problems: tuple[str, ...] = ()


def refuse_unsound(repo: GitRepo, before: str, commit: str) -> None:
    """Ask of a landing that nobody has seen what every reader of main will ask, by the same code.

    Raises:
        Refused: they would not accept it.
    """
    if wrong := unsound(repo, before, commit).problems:
        raise Refused(f"nobody could verify main with it: {'; '.join(wrong)}", hint="nothing was sent")


def unsound(repo: GitRepo, before: str, commit: str) -> Unsound:
    """Main's steps from `before`, or from nothing where that is "", to `commit`, judged as whoever verifies will."""
    known, good, problems = _NOTHING, before, list[str]()
    if before and (remembered := _remembered(repo, before)).latest <= signing.now():
        known = remembered
    with repo.blobs() as blobs:
        history = _judged(repo, blobs, known, before) if before else _resumed(repo, blobs, known)
        for step in repo.steps(commit, before):
            problems += [line.partition(": ")[2] for line in history.judge(step)]
            good = good if problems else step.commit
    return Unsound(good, tuple(problems))
