"""Trust nobody: judge every landing of main again by the policy before it, rebuild, and compare every digest.

No network, no torch. What a server, a maintainer or this clone says about itself is not asked; what is read is main's
own history, the records in it, and tensors whose digests are computed again.

    report = verify(repo, repo.tip())
    report.findings   # empty when all is well
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from souq.build.lock import differing, model_lock, moved
from souq.errors import NotFound, SouqError
from souq.governance.decide import SKEW, seconds
from souq.progress import Progress, quiet
from souq.records import spelled_out
from souq.repo.git import GitRepo
from souq.repo.history import History, nightlies
from souq.repo.snapshot import Snapshot
from souq.repo.witness import forks
from souq.weights.delta import Lock
from souq.weights.lockfile import lock_digest


@dataclass
class Report:
    """What was judged, and every line that did not hold."""

    root: str
    commit: str
    landings: int = 0
    releases: int = 0
    bound: str = ""  # the contribution since which every record names a main of this line
    unbound: int = 0  # landings before it
    witnesses: int = 0
    tensors: int = 0
    rebuilt: int = 0
    model: str = ""
    at: str = ""  # of the last landing, by its merger's clock
    findings: list[str] = field(default_factory=list)
    unbuilt: list[str] = field(default_factory=list)  # releases whose tensors are not all here


def verify(
    repo: GitRepo, commit: str = "", *, root: str | None = None, now: str | None = None, rebuild: bool = True,
    progress: Progress = quiet, lock_of: Callable[[Snapshot, Progress], Lock] = model_lock,
) -> Report:  # fmt: skip
    """Replay main's history up to `commit` (its tip, where none is named), check every release, and rebuild the model.

    `root` is the first commit as its readers pinned it; without one, the history's own is taken and reported. `now`
    is the reader's clock: what is dated after it is a finding. `lock_of` computes what a commit builds to.
    """
    report = Report(root=root or "", commit=commit)
    try:
        history = _replay(repo, report, root, now, progress)
        for stood in dict.fromkeys([*history.released, report.commit]) if rebuild else ():
            _rebuild(Snapshot(repo, stood, fresh=True), report, progress, lock_of)
    except SouqError as error:  # a history that cannot be read whole is none to build on
        report.findings.append(f"{error}: {error.hint}" if error.hint else str(error))
    report.findings = [spelled_out(line) for line in report.findings]
    return report


def _replay(repo: GitRepo, report: Report, root: str | None, now: str | None, progress: Progress) -> History:
    report.commit = repo.resolve(report.commit or "main")
    repo.check_names(report.commit)
    whole = repo.history(report.commit)
    report.root, report.commit = whole[0], whole[-1]
    if root is not None and root != whole[0]:
        report.findings.append(f"history begins at {whole[0][:12]}, not at the pinned root {root[:12]}")
    with repo.blobs() as blobs:
        history = History(repo, blobs)
        for done, step in enumerate(repo.steps(report.commit)):
            progress("replay", done, len(whole))
            report.findings += history.judge(step)
        nights = nightlies(repo, Snapshot(repo, report.commit))
        report.findings += [line for night in nights for line in history.stands(night.release)]
    report.landings, report.releases = len(history.commits) - 1, history.releases
    report.at, report.bound = history.replay.latest, history.binding.since.removeprefix("contributions/")
    report.unbound = [*history.ever].index(report.bound) if report.bound else 0
    if now is not None and (seconds(report.at) or 0.0) > (seconds(now) or 0.0) + SKEW:
        report.findings.append(f"the last landing is dated {report.at}, and it is {now}: which clock is wrong?")
    report.witnesses, wrong = forks(repo, whole, Snapshot(repo, report.commit).policy_text)
    report.findings += wrong
    return history


def _rebuild(main: Snapshot, report: Report, progress: Progress, lock_of: Callable[[Snapshot, Progress], Lock]) -> None:
    """Every tensor from base and contributions again, against model.lock."""
    try:
        claimed, rebuilt = main.model, lock_of(main, progress)
        changed = set(moved(main, rebuilt))
        for name in rebuilt.keys() - changed:  # reading is checking: the store compares every digest
            main.repo.store.get(rebuilt[name].digest)
    except NotFound as error:  # a clone brings what main is made of now; what a release was made of may be gone from it
        (report.findings if main.commit == report.commit else report.unbuilt).append(f"{main.commit[:12]}: {error}")
        return
    except SouqError as error:
        report.findings.append(str(error))
        return
    report.tensors, report.model = len(rebuilt), lock_digest(rebuilt)
    report.rebuilt = len(changed)
    report.findings += [f"{name} is not what model.lock says" for name in differing(claimed, rebuilt)]
