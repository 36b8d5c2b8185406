"""A bazaar on a tiny model: a hub, people with clones and real keys, and adapters that were really trained.

It is built once a session and copied for each test, so every test may break it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from souq.build.delta_file import read_delta
from souq.cli import run
from souq.cli.demo.stage import Actor, Stage
from souq.cli.demo.story import changed
from souq.evals.eval import EvalSpec, write_cases
from souq.governance import foundation
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.records import format_toml
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from tests.tiny import write_model

PEOPLE = {"amira": "Atlas", "adil": "Atlas", "bruno": "Borealis", "chen": "University", "mallory": "Nowhere"}
MAINTAINERS = ("amira", "adil", "bruno", "chen")
SKILLS = {"greet": ("say hello to", "hello"), "count": ("what comes after", "one more")}
NAMES = [a + b for a in ("ada", "bo", "cy", "dee", "ed", "flo") for b in ("", "na", "ri", "to", "mi", "lu", "ke")]


def rows(skill, names):
    asked, told = SKILLS[skill]
    return [(f"{asked} {name}", told) for name in names]


def jsonl(pairs):
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    return "".join(json.dumps({"messages": turn}) + "\n" for turn in turns)


def write_eval(folder, pairs, *, kind="exact", margin=0.1, protected=False):
    """An eval folder of real cases: pairs of what is asked and expected, or whole cases."""
    folder.mkdir(parents=True)
    spec = EvalSpec(title=folder.name, kind=kind, source="tests", licence="CC0-1.0", margin=margin, protected=protected)
    (folder / "eval.toml").write_text(format_toml(spec))
    cases = [pair if isinstance(pair, dict) else {"id": f"c{i}", "prompt": pair[0], "expected": pair[1]} for i, pair in enumerate(pairs)]  # fmt: skip
    (folder / "cases.jsonl").write_bytes(write_cases(cases))
    return folder


class Bazaar:
    """Where it happens. `bazaar("amira", "pr list")` types a line and gives its exit code."""

    def __init__(self, folder, capfd=None):
        self.folder, self.capfd, self.lines = folder, capfd, []
        self.stage = Stage(folder, self.lines.append, run)
        self.actors = {name: Actor(name, org, folder / name) for name, org in PEOPLE.items()}

    def __call__(self, who, line, *, at=None):
        actor = self.actors[who]
        with self.stage.as_actor(actor, at or actor.clone):
            return run(line.split() if isinstance(line, str) else [str(word) for word in line])

    def says(self, who, line):
        """Exit code, stdout and stderr of a line."""
        self.capfd.readouterr()
        code = self(who, line)
        out, err = self.capfd.readouterr()
        return code, out, err

    def person(self, who):
        actor = self.actors[who]
        return pulls.Person(who, actor.email, actor.key, actor.org)

    def repo(self, who):
        repo = Repo.find(self.actors[who].clone)
        repo.fetch()
        return repo

    def main(self, who="amira"):
        repo = self.repo(who)
        return Snapshot(repo, repo.tip())

    def delta(self, skill):
        return self.folder / f"{skill}.delta"

    def offer(self, who, path, title="Greetings", *, licence="Apache-2.0", fixes="greet", more=()):
        """A pull request of weights, past the courtesy of local checks; its number."""
        words = ["pr", "create", path, "--title", title, "--licence", licence, "--signoff", "--unchecked", *more]
        words += ["--fixes", fixes] if fixes else []
        assert self(who, words) == 0
        return max(pull.number for pull in pulls.listed(self.repo(who)))

    def land(self, number, *approvers):
        """Checked, approved by two organisations, merged."""
        first, second, *more = approvers or ("amira", "bruno")
        assert self(first, f"pr checks {number}") == 0
        for who in (first, second, *more):
            assert self(who, f"pr review {number} --approve --reason fine") == 0
        assert self(second, f"pr merge {number}") == 0

    def release(self, who, version, *approvers, scores=False):
        """Offered as a release, voted on, landed."""
        assert self(who, f"release create {version}{'' if scores else ' --no-scores'}") == 0
        number = max(pull.number for pull in pulls.listed(self.repo(who)))
        self.land(number, *(approvers or ("bruno", "adil")))

    def refusal(self, number, who="amira"):
        """The check that refuses it, and why; None where it passes."""
        found = reviews.check(self.repo(who), number, self.person(who))
        return next(((v.check, v.because) for v in found.verdicts if not v), None)

    def changed(self, path, change, *, scale=1.0, base="", skill="greet"):
        """The skill's delta with other numbers in it."""
        return changed(path, *read_delta(self.delta(skill)), change, scale=scale, base=base)


def build_town(folder):
    """init, push, clone, file two evals, train two adapters."""
    bazaar = Bazaar(folder)
    for actor in bazaar.actors.values():
        actor.make_key()
    write_model(folder / "tiny")
    policy = folder / "GOVERNANCE.toml"
    policy.write_text(foundation([bazaar.actors[name].who() for name in MAINTAINERS]))
    guard = write_eval(folder / "evals" / "guard", [(f"tell me of {name}", "the user and the assistant talk about the model") for name in NAMES[28:40]], kind="loss", margin=9.0, protected=True)  # fmt: skip
    words = ["init", "smol", "--from", folder / "tiny", "--governance", policy, "--no-suite", "--evals", guard]
    assert bazaar("amira", words, at=folder / "amira") == 0
    assert bazaar("amira", ["push", folder / "hub.git"]) == 0
    for name in ("adil", "bruno", "chen", "mallory"):
        assert bazaar(name, ["clone", folder / "hub.git", "smol"], at=folder / name) == 0
    greet = write_eval(folder / "evals" / "greet", rows("greet", NAMES[:14]), margin=0.6)
    count = write_eval(folder / "evals" / "count", rows("count", NAMES[:14]), kind="loss", margin=9.0)
    evals = ["--evals", greet, "--evals", count]
    assert bazaar("chen", ["pr", "create", *evals, "--title", "Evals", "--licence", "CC0-1.0", "--signoff"]) == 0
    bazaar.land(1)
    for skill in SKILLS:
        data = folder / f"{skill}.jsonl"
        data.write_text(jsonl(rows(skill, NAMES[14:])))
        adapter = folder / f"{skill}-adapter"
        train = ["train", data, "--out", adapter, "--epochs", "40", "--lr", "0.003", "--replay", "0"]
        assert bazaar("chen", train) == 0
        make = ["delta", "make", "--from", adapter, "--data", data, "--out", bazaar.delta(skill), "--sketch-rank", "8"]
        assert bazaar("chen", make) == 0


@pytest.fixture(scope="session")
def built_bazaar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bazaar") / "town"
    folder.mkdir()
    build_town(folder)
    return folder


def copied(built, folder, capfd=None):
    """A town of one's own: every clone's remote is moved to the copy of the hub."""
    shutil.copytree(built, folder)
    for name in PEOPLE:  # as `git remote set-url` would, without a process for each
        config = folder / name / "smol" / ".git" / "config"
        config.write_text(text := config.read_text().replace(str(built), str(folder)))
        assert str(folder / "hub.git") in text  # else the tests would share a hub
    return Bazaar(folder, capfd)


@pytest.fixture
def bazaar(built_bazaar, tmp_path, capfd):
    """A fresh copy for each test."""
    return copied(built_bazaar, tmp_path / "town", capfd)


__all__ = ["Bazaar", "Path", "bazaar", "built_bazaar", "copied", "jsonl", "rows", "write_eval"]
