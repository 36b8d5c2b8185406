"""Trust nobody: judge every landing of main again by the policy before it, rebuild, and compare every digest.

No network, no torch. What a server, a maintainer or this clone says about itself is not asked; what is read is main's
own history, the records in it, and tensors whose digests are computed again.

    report = verify(repo, repo.tip())
    report.findings   # empty when all is well
"""

from __future__ import annotations

from dataclasses import dataclass, field

from souq.build import differing, model_lock, moved
from souq.errors import SouqError
from souq.governance.decide import SKEW, seconds
from souq.history import History
from souq.progress import Progress, quiet
from souq.releases import nightlies
from souq.repo import Repo
from souq.snapshot import Snapshot
from souq.weights import lock_digest
from souq.witness import forks


@dataclass
class Report:
    """What was judged, and every line that did not hold."""

    root: str
    commit: str
    landings: int = 0
    releases: int = 0
    witnesses: int = 0
    tensors: int = 0
    rebuilt: int = 0
    model: str = ""
    at: str = ""  # of the last landing, by its merger's clock
    findings: list[str] = field(default_factory=list)


def verify(
    repo: Repo,
    commit: str,
    *,
    root: str | None = None,
    now: str | None = None,
    rebuild: bool = True,
    progress: Progress = quiet,
) -> Report:
    """Replay main's history up to `commit`, check every release, and rebuild the model.

    `root` is the first commit as its readers pinned it; without one, the history's own is taken and reported. `now`
    is the reader's clock: what is dated after it is a finding.
    """
    whole = repo.history(commit)
    report = Report(root=whole[0], commit=whole[-1])
    if root is not None and repo.commit(root) != whole[0]:
        report.findings.append(f"history begins at {whole[0][:12]}, not at the pinned root {root[:12]}")
    with repo.blobs() as blobs:
        history = History(repo, blobs)
        for done, step in enumerate(repo.steps(commit)):
            progress("replay", done, len(whole))
            report.findings += history.judge(step)
        told = nightlies(repo, Snapshot(repo, commit))
        report.findings += [line for found in told for line in history.stands(found.release)]
    report.landings, report.releases = len(history.commits) - 1, history.releases
    report.at = history.replay.at
    if now is not None and (seconds(report.at) or 0.0) > (seconds(now) or 0.0) + SKEW:
        report.findings.append(f"the last landing is dated {report.at}, and it is {now}: which clock is wrong?")
    report.witnesses, wrong = forks(repo, whole, Snapshot(repo, commit).policy_text)
    report.findings += wrong
    if rebuild:
        _rebuild(Snapshot(repo, commit, fresh=True), report, progress)
    return report


def _rebuild(main: Snapshot, report: Report, progress: Progress) -> None:
    """Every tensor from base and contributions again, against model.lock."""
    try:
        claimed, rebuilt = main.model, model_lock(main, progress)
        changed = set(moved(main, rebuilt))
        for name in rebuilt.keys() - changed:  # reading is checking: the store compares every digest
            main.repo.store.get(rebuilt[name].digest)
    except SouqError as error:
        report.findings.append(str(error))
        return
    report.tensors, report.model = len(rebuilt), lock_digest(rebuilt)
    report.rebuilt = len(changed)
    report.findings += [f"{name} is not what model.lock says" for name in differing(claimed, rebuilt)]
