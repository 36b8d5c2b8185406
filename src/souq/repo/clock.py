"""Whether this machine's clock can be right, asked before anything is signed: what is signed keeps its time for ever.

Nobody knows the time for certain. What is asked: the clock of the folder that all share, which dates a file that is
written there, and the newest commits, which other machines have dated.

    refuse_wrong_clock(repo, main, pull.head)
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from datetime import datetime

from souq import signing
from souq.errors import NotFound, Refused
from souq.governance.decide import HOUR, SKEW, seconds, spelled
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

QUIET = 30 * 24 * HOUR  # without a commit for so long, whoever signs is asked whether it is so late
CONFIRMED = "SOUQ_MY_CLOCK_IS_RIGHT"


def refuse_wrong_clock(repo: Repo, main: Snapshot, *heads: str) -> None:
    """Say no to a clock that others contradict, unless its owner says that it is right.

    Raises:
        Refused: the shared folder's clock says otherwise, or nothing is as young as it ought to be.
    """
    if os.environ.get(CONFIRMED):
        return
    at = signing.now()
    now, shared = seconds(at) or 0.0, _shared(repo)
    newest = max(_committed(repo, commit) for commit in (main.commit, *heads))
    wrong = []
    if shared is not None and abs(now - shared) > SKEW:
        wrong.append(f"the clock of the shared folder says {spelled(shared)}")
    if now > newest + QUIET:
        wrong.append(f"the newest commit here is of {spelled(newest)}")
    if wrong:
        hint = f"set your clock; if it is right, say so: {CONFIRMED}=1 souq …"
        raise Refused(f"your clock says {at}, and {', and '.join(wrong)}", hint=hint)


def _committed(repo: Repo, commit: str) -> float:
    with suppress(ValueError, NotFound):  # git lets anybody date a commit as they like, and a head be none
        return datetime.fromisoformat(repo.summary(commit)[1]).timestamp()
    return 0.0


def _shared(repo: Repo) -> float | None:
    """What the clock of a remote folder says; None where there is none, or nothing can be written there."""
    if (folder := repo.remote_folder()) is None:
        return None
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder, prefix=".souq-clock-") as file:
        file.write(b".")
        file.flush()
        return os.fstat(file.fileno()).st_mtime
    return None
