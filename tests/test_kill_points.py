"""Whatever stops a verb, and wherever: what was there is there, the same line goes on, nothing half remains.

Here one point of some verbs, near its end, where names and refs move; all of them: `python -m tests.kill_points`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

SOME = ("init", "push", "clone", "pr-create", "pr-merge", "release-create", "gc")


@pytest.fixture(scope="module")
def held(built_bazaar, tmp_path_factory):
    """What is said of each verb, by one process that forks for each line."""
    place = tmp_path_factory.mktemp("kill-points")
    (place / "built").symlink_to(built_bazaar)
    words = [sys.executable, "-m", "tests.kill_points", "--sample", "--town", place, *SOME]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.mark.long
@pytest.mark.parametrize("verb", SOME)
def test_a_verb_is_stopped(held, verb):
    """Killed before a change, killed within one, no room for it, or a disk that does not answer."""
    assert any(line.startswith(f"{verb} ") and ": 1/1 points hold" in line for line in held.splitlines()), held
