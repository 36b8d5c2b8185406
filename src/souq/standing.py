"""What history leaves to the next decision, kept in this clone so that each step is read once.

The memory serves this clone's own questions (pulls.py): whoever verifies reads everything again, and never this.

    standing(repo, main.commit).pending   # emergencies that nobody has ratified yet
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from souq.governance import POLICY, Standing
from souq.governance.replay import Replay
from souq.history import History
from souq.records import Record
from souq.repo import Repo


class _Remembered(Record, frozen=True):
    commit: str
    at: str
    seen: dict[str, str]
    pending: dict[str, str]


def standing(repo: Repo, commit: str) -> Standing:
    """What history up to a commit leaves to the next decision."""
    told = _remembered(repo, commit)
    return Standing(told.seen, told.pending)


def last_landing(repo: Repo, commit: str) -> str:
    """When main last moved, by the clock of who moved it."""
    return _remembered(repo, commit).at


def _remembered(repo: Repo, commit: str) -> _Remembered:
    """The same, kept, so that each step is read once.

    The memory is this clone's own and serves its own questions: whoever verifies reads everything again.
    """
    note = repo.cache / "standing.json"
    known = _Remembered(commit="", at="", seen={}, pending={})
    with suppress(OSError, msgspec.MsgspecError):
        told = msgspec.json.decode(note.read_bytes(), type=_Remembered)
        if told.commit == commit:
            return told
        known = told if repo.contains(commit, told.commit) else known
    with repo.blobs() as blobs:
        history = History(repo, blobs, Replay(Standing(known.seen, known.pending), known.at))
        if known.commit:
            found = {
                entry.path: entry.oid for entry in repo.entries(known.commit) if entry.path in (POLICY, "souq.toml")
            }
            history.policy, history.config = found[POLICY], found["souq.toml"]
            history.commits[known.commit] = 0
        for step in repo.steps(commit, known.commit):
            history.judge(step)
    left = history.replay.standing
    partial = note.with_suffix(".part")
    now = _Remembered(commit=commit, at=history.replay.at, seen=dict(left.seen), pending=dict(left.pending))
    partial.write_bytes(msgspec.json.encode(now))
    partial.replace(note)
    return now
