"""Another program within limits: so much memory, so many seconds of a core, and no longer than who began it.

It is this process that is limited, and becomes the other. Where the system cannot end it with its parent (Linux can),
the seconds end it.

    python -m souq.hub.jobs.limited 60 4000000000 souq pr checks 7
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Be killed when the process of this number ends, and now where it has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def limit(what: int, most: int) -> None:
    """Have no more of it from now on; 0 is as much as before."""
    _, before = resource.getrlimit(what)
    if most:
        least = most if before == resource.RLIM_INFINITY else min(most, before)
        resource.setrlimit(what, (least, least))


def main(parent: str, seconds: str, memory: str, *words: str) -> None:
    """Become another program."""
    die_with_parent(int(parent))
    limit(resource.RLIMIT_CPU, int(seconds))
    limit(resource.RLIMIT_AS, int(memory))
    limit(resource.RLIMIT_CORE, 1)
    os.execvp(words[0], words)  # noqa: S606 - words of ours


if __name__ == "__main__":
    main(*sys.argv[1:])
