"""Trust nobody: judge every landing of main again by the policy before it, rebuild, and compare every digest.

No network, no torch. What a server, a maintainer or this clone says about itself is not asked; what is read is main's
own history, the records in it, and tensors whose digests are computed again.

    report = verify(repo, repo.tip())
    report.findings   # empty when all is well
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from souq import releases, signing
from souq.build import differing, model_lock, moved
from souq.errors import SouqError
from souq.governance import Landed, Policy, SignedChecked, SignedVote, read_policy, replay
from souq.progress import Progress, quiet
from souq.pulls import change_of
from souq.records import Checked, Vote, format_toml
from souq.repo import Repo
from souq.snapshot import RECORDS, Offer, Snapshot
from souq.weights import lock_digest


@dataclass
class Report:
    """What was judged, and every line that did not hold."""

    root: str
    commit: str
    landings: int = 0
    releases: int = 0
    tensors: int = 0
    rebuilt: int = 0
    model: str = ""
    findings: list[str] = field(default_factory=list)


def verify(
    repo: Repo, commit: str, *, root: str | None = None, rebuild: bool = True, progress: Progress = quiet
) -> Report:
    """Replay main's history up to `commit`, check every release, and rebuild the model.

    `root` is the first commit as its readers pinned it; without one, the history's own is taken and reported.
    """
    history = repo.history(commit)
    report = Report(root=history[0], commit=history[-1])
    if root is not None and repo.commit(root) != history[0]:
        report.findings.append(f"history begins at {history[0][:12]}, not at the pinned root {root[:12]}")
    for done, (before, after) in enumerate(pairwise(history)):
        progress("replay", done, len(history) - 1)
        report.findings += [f"{after[:12]}: {line}" for line in _step(repo, before, after, report)]
    if rebuild:
        _rebuild(Snapshot(repo, commit, fresh=True), report, progress)
    return report


def _step(repo: Repo, before: str, after: str, report: Report) -> list[str]:
    """What is wrong with one step of main: it must be one judged landing, or one signed release, and nothing else."""
    try:
        changed = repo.changed(before, after)
        base, main = Snapshot(repo, before, fresh=True), Snapshot(repo, after, fresh=True)
        new = sorted(set(releases.listed(main)) - set(releases.listed(base)))
        if new and all(path.startswith(f"releases/{new[0]}/") for path in changed):
            report.releases += 1
            return _release(base, main, new[0])
        report.landings += 1
        return _landing(base, main, changed)
    except SouqError as error:
        return [str(error)]


def _release(base: Snapshot, main: Snapshot, version: str) -> list[str]:
    signed = releases.read(main, version)
    problem = read_policy(base.policy_text).may_release(signed.key, signed.release.at)
    wrong = [problem] if problem else []
    if signed.release.commit != base.commit or signed.release.recipe != base.recipe():
        wrong.append(f"release {version} does not name the commit and recipe it stands on")
    if signed.release.model != lock_digest(base.model):
        wrong.append(f"release {version} names another model than main's model.lock")
    return wrong


def _landing(base: Snapshot, main: Snapshot, changed: list[str]) -> list[str]:
    new = set(main.repo.folders(main.commit, "contributions")) - set(base.repo.folders(base.commit, "contributions"))
    if len(new) != 1:
        return [f"changes {changed[0] if changed else 'nothing'} without a pull request"]
    offer = main.offer(new.pop())
    return [*_only_its_own(offer, base, main, changed), *replay([_landed(offer, base, main)])]


def _only_its_own(offer: Offer, base: Snapshot, main: Snapshot, changed: list[str]) -> list[str]:
    """A landing writes what was offered and its records, and moves model.lock; not a byte more."""
    landing, home = offer.landing(), f"contributions/{offer.slug}/{RECORDS}"
    allowed = {*landing, *(["model.lock"] if offer.delta or offer.merge is not None else [])}
    if offer.merge is not None:
        allowed.add("souq.toml")
    wrong = [
        f"changes {path}, which {offer.slug} did not offer"
        for path in changed
        if path not in allowed and not path.startswith(home)
    ]
    if offer.merge is not None and main.text("souq.toml") != format_toml(base.config_with(offer)):
        wrong.append(f"souq.toml is not what {offer.slug} asked for")
    for path, data in landing.items():
        if path.startswith("evals/") and main.repo.read(main.commit, path) != data:
            wrong.append(f"{path} is not what {offer.slug} offered")
    return wrong


def _landed(offer: Offer, base: Snapshot, main: Snapshot) -> Landed:
    policy = read_policy(base.policy_text)
    records = main.repo.files(main.commit, f"contributions/{offer.slug}/records")
    merged = _read(records, "merge", policy, offer)
    checked = [
        SignedChecked(checked=msgspec.convert(s.predicate, Checked), key=s.key)
        for s in _read(records, "checked", policy, offer)
    ]
    votes = [
        SignedVote(vote=msgspec.convert(s.predicate, Vote), key=s.key) for s in _read(records, "vote", policy, offer)
    ]
    return Landed(
        name=offer.slug,
        policy=policy,
        change=change_of(offer),
        checked=tuple(found for found in checked if found.checked.base == base.commit),
        votes=tuple(votes),
        at=str(merged[0].predicate.get("at", "")) if merged else "",
    )


def _read(records: dict[str, bytes], kind: str, policy: Policy, offer: Offer) -> list[signing.Signed]:
    """The records of a kind whose signatures hold and which are about exactly this contribution."""
    found = []
    for path, data in sorted(records.items()):
        if path.startswith(kind):
            try:
                signed = signing.verify(data, keys=policy.keys, namespace=f"souq.{kind}.v1")
            except SouqError:
                continue  # counts for nothing; replay says what is then missing
            if signed.subject == offer.digest:
                found.append(signed)
    return found


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
