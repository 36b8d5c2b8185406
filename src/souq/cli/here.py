"""The model repository that a verb is typed in, with its remote.

repo, main = here(), main_here()
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from souq.cli.console import done, enter, workers
from souq.errors import SouqError
from souq.progress import Progress
from souq.repo.git import MAIN, TRACKED, GitRepo
from souq.repo.policy_state import unsound
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.bucket import Bucket

JUDGED = 500  # commits of a main that is shared with nobody: as many are judged in a second or two


def here() -> Repo:
    """The model repository this command stands in."""
    repo = Repo.find(Path.cwd())
    repo.tell = done
    enter(repo)
    return repo


def own_commits(repo: Repo) -> tuple[str, str] | None:
    """What is wrong with commits of main that only this clone has, and how to go back; None where nobody would mind.

    `git commit` on main is no landing: whoever verifies refuses it, and everything after it.
    """
    mine, shared = repo.ref(MAIN), repo.ref(TRACKED) or ""
    if mine is None or mine == shared or (not shared and len(repo.history(mine)) > JUDGED):
        return None
    judged = unsound(repo, repo.meeting(mine, shared) if shared else "", mine)
    if not judged.problems:
        return None
    back = f"`git branch aside main && git reset --keep {judged.good[:12]}`" if judged.good else "`souq init` anew"
    because = f"main here has commits that nobody could verify: {judged.problems[0]}"
    return because, f"keep them aside and go back: {back}; what they hold can be offered: `souq pr create`"


def main_here() -> Snapshot:
    """Main of the model repository this command stands in, as everybody has it; that the one here differs is said."""
    repo = here()
    if (mine := repo.ref(MAIN)) != (tip := repo.tip()) and mine is not None:
        done(f"this is of everybody's main, {tip[:12]}; main here is at {mine[:12]}: `souq fetch` says why")
    return Snapshot(repo, tip)


def compute_on(on: str | None, repo: GitRepo, progress: Progress) -> None:
    """Have a cluster compute what is built and asked in a repository, where --on names one."""
    repo.workers = workers(on, progress, _bucket_of(repo) if on is not None else "")


def _bucket_of(repo: GitRepo) -> str:
    """The URL of the bucket by which this repository's tensors travel; empty where they travel otherwise."""
    with suppress(SouqError):
        remote = repo.remote_store() if isinstance(repo, Repo) else None
        return remote.url if isinstance(remote, Bucket) else ""
    return ""
