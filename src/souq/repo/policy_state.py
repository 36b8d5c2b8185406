"""What history leaves to the next decision, kept in this clone so that each step is read once.

The memory serves this clone's own questions (pulls.py): whoever verifies reads everything again, and never this.

    policy_state(repo, main.commit).pending   # emergencies that nobody has ratified yet
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from souq import signing
from souq.errors import Refused
from souq.files import replacing
from souq.governance import POLICY, PolicyState
from souq.governance.replay import Replay
from souq.records import Record
from souq.repo.contribution import Landing
from souq.repo.git import Blobs, GitRepo
from souq.repo.history import History


class _Remembered(Record, frozen=True):
    """A PolicyState, the commit after which it holds, and the time then."""

    commit: str
    clock: str
    latest: str  # what landed is dated, by whoever merged it
    seen: dict[str, str]
    pending: dict[str, str]
    ever: dict[str, Landing]

    @property
    def replay(self) -> Replay:
        return Replay(PolicyState(self.seen, self.pending), self.clock)


_NOTHING = _Remembered(commit="", clock="", latest="", seen={}, pending={}, ever={})


def policy_state(repo: GitRepo, commit: str) -> PolicyState:
    """What history up to a commit leaves to the next decision."""
    remembered = _remembered(repo, commit)
    return PolicyState(remembered.seen, remembered.pending)


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
    note, known = repo.cache / "standing.json", _NOTHING
    with suppress(OSError, msgspec.MsgspecError):
        kept = msgspec.json.decode(note.read_bytes(), type=_Remembered)
        if kept.commit == commit:
            return kept
        known = kept if repo.contains(commit, kept.commit) else known
    with repo.blobs() as blobs:
        history, latest = _judged(repo, blobs, known, commit), known.latest
        if history.replay.earliest < latest:
            history, latest = _judged(repo, blobs, _NOTHING, commit), ""
    replay = history.replay
    remembered = _Remembered(
        commit=commit, clock=replay.at, latest=max(latest, replay.latest), seen=dict(replay.state.seen),
        pending=dict(replay.state.pending), ever=history.ever,
    )  # fmt: skip
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
        history.line = {commit: place for place, commit in enumerate(repo.history(known.commit))}
        history.ever = dict(known.ever)
    return history


def refuse_unsound(repo: GitRepo, before: str, commit: str) -> None:
    """Ask of a landing that nobody has seen what every reader of main will ask, by the same code.

    Raises:
        Refused: they would not accept it.
    """
    known = _remembered(repo, before)
    with repo.blobs() as blobs:
        history = _judged(repo, blobs, known if known.latest <= signing.now() else _NOTHING, before)
        wrong = [line.partition(": ")[2] for step in repo.steps(commit, before) for line in history.judge(step)]
    if wrong:
        raise Refused(f"nobody could verify main with it: {'; '.join(wrong)}", hint="nothing was sent")
