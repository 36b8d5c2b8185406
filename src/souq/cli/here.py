"""The model repository that a verb is typed in, with its remote.

repo, main = here(), main_here()
"""

from __future__ import annotations

from pathlib import Path

from souq.cli.console import done, enter
from souq.repo.git import MAIN
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot


def here() -> Repo:
    """The model repository this command stands in."""
    repo = Repo.find(Path.cwd())
    repo.tell = done
    enter(repo)
    return repo


def main_here() -> Snapshot:
    """Main of the model repository this command stands in, as everybody has it; that the one here differs is said."""
    repo = here()
    if (mine := repo.ref(MAIN)) != (tip := repo.tip()) and mine is not None:
        done(f"this is of everybody's main, {tip[:12]}; main here is at {mine[:12]}: `souq fetch` says why")
    return Snapshot(repo, tip)
