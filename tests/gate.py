"""A model repository of a few thousand numbers whose main is filled by hand, to see what the checks of weights say."""

from __future__ import annotations

import numpy as np

from souq.checks import CHECKS, Case
from souq.governance import solo
from souq.model.source import open_source
from souq.pulls.offer import Draft
from souq.records import Author, Contribution
from souq.repo.contribution import Offer
from souq.repo.init import Beginning, init
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Dense, Lora, TensorRef
from tests.tiny import write_model

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v1m2vUeWnK9wZk3yqJ2qJ2qJ2qJ2qJ2qJ2qJ2qJ2q"


class Gate:
    """Main, what lands on it, and what a check answers to an offer."""

    def __init__(self, folder):
        write_model(folder / "tiny")
        init(
            folder / "repo", open_source(str(folder / "tiny")), Beginning("gate", "Apache-2.0", solo("a", "a", KEY), {})
        )
        self.repo = Repo.find(folder / "repo")

    @property
    def main(self):
        return Snapshot(self.repo, self.repo.tip())

    def keep(self, array):
        self.repo.store.put(array)
        return TensorRef.of(array)

    def lora(self, seed, *, rank=8, decay=0.7, share=0.05, only=("q", "k", "v", "o", "gate", "up", "down")):
        """A low-rank change whose singular values fall by `decay`, `share` of each matrix's norm give or take."""
        chance, parts = np.random.default_rng(seed), {}
        for name, ref in self.main.base.items():
            if any(name.endswith(f".{kind}_proj.weight") for kind in only):
                m, n = ref.shape
                size = np.linalg.norm(self.repo.store.get(ref.digest).astype(float))
                values = decay ** (np.arange(rank) + 0.3 * chance.standard_normal(rank))
                values *= share * size * np.exp(0.2 * chance.standard_normal()) / np.linalg.norm(values)
                left = np.linalg.qr(chance.standard_normal((m, rank)))[0] * values
                right = np.linalg.qr(chance.standard_normal((n, rank)))[0].T
                parts[name] = Lora(a=self.keep(right.astype("f4")), b=self.keep(left.astype("f4")), scale=1.0)
        return Delta(self.main.base_digest, parts)

    def dense(self, change):
        """A full fine-tune: each matrix of the layers as `change` makes it of the base's."""
        parts = {}
        for name, ref in self.main.base.items():
            if name.endswith("_proj.weight"):
                base = self.repo.store.get(ref.digest)
                parts[name] = Dense(value=self.keep(change(base.astype("f4")).astype(base.dtype)))
        return Delta(self.main.base_digest, parts)

    def rewritten(self, delta, change):
        """The same LoRA with other factors: change(b, a) -> b, a."""
        parts = {}
        for name, part in delta.parts.items():
            b, a = change(*(self.repo.store.get(ref.digest).astype(float) for ref in (part.b, part.a)))
            parts[name] = Lora(a=self.keep(a.astype("f4")), b=self.keep(b.astype("f4")), scale=part.scale)
        return Delta(delta.base, parts)

    def offer(self, delta, number, by="amira"):
        author = Author(name=by, email=f"{by}@example.org", key=f"{KEY} {by}")
        said = Contribution(title="a skill", kind="weights", author=author, licence="Apache-2.0", signoff=by)
        return Offer(f"{number:04}-skill", Draft(said, delta).files())

    def land(self, *deltas):
        """On main by hand, numbered from 1: nobody votes here."""
        main, files = self.main, {}
        for number, delta in enumerate(deltas, len(main.offers) + 1):
            offer = self.offer(delta, number)
            files |= {f"{offer.home}{path}": data for path, data in offer.files.items()}
        commit = self.repo.write_commit([main.commit], files, "many\n", tree_of=main.commit)
        self.repo.publish({"refs/heads/main": (main.commit, commit)}, [])

    def says(self, check, delta, *, earlier=()):
        """Outcome and reason of one check."""
        case = Case(self.main, self.main.commit, self.offer(delta, 900, "mallory"), earlier=lambda: list(earlier))
        outcome, because, _ = CHECKS[check](case)
        return outcome, because
