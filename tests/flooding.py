"""A bazaar whose policy has limits, with newcomers nobody has enrolled: nothing is trained, so it is quickly built."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from souq.cli import run
from souq.cli.demo.stage import Actor, Stage
from souq.governance import foundation
from souq.pulls import pull as pulls
from souq.pulls import vouches
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.safetensors import write_tensors
from tests.bazaar import MAINTAINERS, NAMES, Bazaar, write_eval
from tests.tiny import tensors, write_model

MAINTAINING = {"amira": "Atlas", "adil": "Atlas", "bruno": "Borealis", "chen": "University"}
NEWCOMERS = ("layla", "omar", "nadia")
LIMITS = """
[limits]
open_per_key = 2
open_per_org = 3
open_strangers = 2
evals_strangers = 1
vouches = 1
"""


class Crowd(Bazaar):
    """A bazaar of these people."""

    def __init__(self, folder, capfd=None):
        self.folder, self.capfd, self.lines = folder, capfd, []
        self.stage = Stage(folder, self.lines.append, run)
        people = MAINTAINING | dict.fromkeys(NEWCOMERS, "Nowhere")
        self.actors = {name: Actor(name, org, folder / name) for name, org in people.items()}

    def document(self, who, name, *, licence="CC0-1.0", title=None):
        """A pull request of a text; its number."""
        path = self.folder / f"{who}-{name}.md"
        path.write_text(f"# {name}, by {who}\n")
        words = ["pr", "create", "--file", f"docs/{name}.md={path}", "--title", title or name, "--licence", licence]
        return self._offered(who, [*words, "--signoff", "--unchecked"])

    def weights(self, who, seed, *, scale=0.01, licence="Apache-2.0"):
        """A pull request of a full fine-tune that taught nothing; its number."""
        folder, path = self.folder / f"{who}-{seed}", self.folder / f"{who}-{seed}.delta"
        shutil.copytree(self.folder / "tiny", folder)
        chance, base = np.random.default_rng(seed), tensors()
        name = "model.layers.0.mlp.up_proj.weight"
        moved = base[name].astype("f4") + scale * chance.standard_normal(base[name].shape)
        write_tensors(folder / "model.safetensors", base | {name: moved.astype(base[name].dtype)}, {"format": "pt"})
        assert self(who, ["delta", "make", "--from", folder, "--out", path]) == 0
        words = ["pr", "create", path, "--title", f"Noise {seed}", "--licence", licence, "--signoff"]
        return self._offered(who, [*words, "--fixes", "greet", "--unchecked"])

    def _offered(self, who, words):
        assert self(who, words) == 0
        return max(pull.number for pull in pulls.listed(self.repo(who)))

    def key(self, who):
        return self.person(who).public_key

    def newcomers(self, who="amira"):
        """Whose newcomer each is, as one clone sees it."""
        repo = self.repo(who)
        voucher = vouches.newcomers(repo, Snapshot(repo, repo.tip()), pulls.listed(repo))
        return {name: voucher[self.key(name)].name for name in NEWCOMERS if self.key(name) in voucher}


def build_crowd(folder, limits=LIMITS):
    """init, push, clone."""
    crowd = Crowd(folder)
    for actor in crowd.actors.values():
        actor.make_key()
    write_model(folder / "tiny")
    policy = folder / "GOVERNANCE.toml"
    policy.write_text(foundation([crowd.actors[name].who() for name in MAINTAINERS]) + limits)
    greet = write_eval(folder / "evals" / "greet", [(f"say hello to {name}", "hello") for name in NAMES[:6]])
    words = ["init", "smol", "--from", folder / "tiny", "--governance", policy, "--no-suite", "--evals", greet]
    assert crowd("amira", words, at=folder / "amira") == 0
    assert crowd("amira", ["push", folder / "hub.git"]) == 0
    for name in crowd.actors:
        if name != "amira":
            assert crowd(name, ["clone", folder / "hub.git", "smol"], at=folder / name) == 0


@pytest.fixture(scope="session")
def built_crowd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crowd") / "town"
    folder.mkdir()
    build_crowd(folder)
    return folder


def copied(built, folder, capfd=None):
    """A town of one's own, whose clones point at its own hub."""
    shutil.copytree(built, folder)
    crowd = Crowd(folder, capfd)
    for name in crowd.actors:
        config = folder / name / "smol" / ".git" / "config"
        config.write_text(config.read_text().replace(str(built), str(folder)))
        assert Repo.find(folder / name / "smol").remote == str(folder / "hub.git")
    return crowd


@pytest.fixture
def crowd(built_crowd, tmp_path, capfd):
    return copied(built_crowd, tmp_path / "town", capfd)


__all__ = ["Crowd", "build_crowd", "built_crowd", "copied", "crowd"]
