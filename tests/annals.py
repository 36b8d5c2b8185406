"""Histories for tests of who judges them: real git objects and real ssh signatures, made without running either.

town = Annals(tmp_path)
town.open("data", "mallory")
town.land(town.checked("chen"), town.vote("amira"), town.vote("bruno"))
town.findings()
"""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from souq import signing
from souq.governance import CHECKS, Ballot, foundation
from souq.governance.policy import Emergency, Role, format_policy
from souq.records import Author, Checked, Contribution, Release, Verdict, Vote, digest, format_toml
from souq.repo.contribution import Offer
from souq.repo.git import MAIN
from souq.repo.history import History
from souq.repo.landing import files_gained, files_lost, files_returned
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import TensorRef
from souq.weights.lockfile import format_lock, lock_digest
from souq_conformance import keys
from souq_conformance.git import PLAIN, Git
from tests.voters import NAMES, at, of, ruled, who

CONFIG = 'name = "smol"\nlicence = "Apache-2.0"\nbase = "x"\n'
BASE = np.arange(6, dtype=np.float32).reshape(2, 3)


@cache
def _private(name: str, which: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{name} {which}".encode()).digest())


def public(name: str, which: int = 0) -> str:
    return keys.public_of(_private(name, which))


def seal(payload: bytes, name: str, namespace: str, which: int = 0, hashed: str = "sha512") -> bytes:
    """An envelope as signing.sign makes it."""
    return keys.seal(payload, [keys.sshsig(_private(name, which), payload, namespace, hashed=hashed)])


def enrolled(*names: str, **more):
    """People with two keys that can really sign."""
    return [who(name, keys=(public(name), public(name, 1)), **more.get(name, {})) for name in names or NAMES]


POLICY = foundation(enrolled())


class Annals:
    """A model repository, and one contribution at a time that may land on it."""

    def __init__(self, folder, policy: str = POLICY, **files: str) -> None:
        subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
        self.repo, self.git = Repo(folder / ".git", folder), Git(folder / ".git")
        self.base = {"model.norm.weight": TensorRef.of(BASE)}
        lock = format_lock(self.base)
        root = {"GOVERNANCE.toml": policy, "souq.toml": CONFIG, "base.lock": lock, "model.lock": lock} | files
        self.files: dict[str, bytes] = {}
        self.commits = [self._commit({path: text.encode() for path, text in root.items()}, [])]
        self.number, self.offered = 0, None

    # -- git -------------------------------------------------------------------------------------------------------

    def _commit(self, changes, parents, modes=None) -> str:
        self.files = {path: data for path, data in {**self.files, **changes}.items() if data is not None}
        files = {path: self.git.file(data, (modes or {}).get(path, PLAIN)) for path, data in self.files.items()}
        oid = self.git.commit(self.git.tree(files), parents, "x\n", 1_764_000_000)
        self.git.ref(MAIN, oid)
        return oid

    @property
    def head(self) -> str:
        return self.commits[-1]

    @property
    def main(self) -> Snapshot:
        return Snapshot(self.repo, self.head, fresh=True)

    def step(self, changes, modes=None) -> str:
        """A commit of whatever one likes."""
        self.commits.append(self._commit(changes, [self.head], modes))
        return self.head

    # -- contributions and records ---------------------------------------------------------------------------------

    def open(self, kind="data", author="mallory", files=None, *, of="", title="x", which=0, slug=None) -> Offer:
        """What the records made next are about."""
        self.number += 1
        told = Contribution(
            title=title, kind=kind, of=of, licence="CC0-1.0", signoff="a <a@b>",
            author=Author(name=author, email="a@b", key=public(author, which)),
        )  # fmt: skip
        brings = files if files is not None else {"data/rows.jsonl": b"{}\n"} if kind == "data" else {}
        whole = {"contribution.toml": format_toml(told).encode()} | brings
        self.offered = Offer(slug or f"{self.number:04d}-x", whole)
        self.author, self.which = author, which
        return self.offered

    def record(
        self, kind, name, said, *, which=0, slug=None, subject=None, urn=None, namespace=None, main=None
    ) -> dict[str, bytes]:
        """`main`: the commit its signer saw; what was signed before that was asked names none."""
        offer = self.offered
        about = f"contributions/{slug or offer.slug}"
        predicate = msgspec.to_builtins(said) | ({"main": main} if main is not None else {})
        payload = signing.statement(urn or f"urn:souq:{kind}:1", about, subject or offer.digest, predicate)
        data = seal(payload, name, namespace or f"souq.{kind}.v1", which)
        return {f"records/{kind}-{digest(data)[3:19]}.json": data}

    def vote(self, name, choice="approve", *, hours=1.0, after=(), **more):
        told = Vote(subject=self.offered.digest, choice=choice, reason="r", by=name, at=at(hours), after=_names(after))
        return self.record("vote", name, told, **more)

    def ballot(self, name, *choices, hours=1.0, after=(), **more):
        told = Ballot(subject=self.offered.digest, choices=choices, by=name, at=at(hours), after=_names(after))
        return self.record("ballot", name, told, **more)

    def checked(self, name="chen", outcome="pass", *, hours=1.0, base=None, after=(), **more):
        verdicts = tuple(Verdict(check=check, outcome=outcome, because="b") for check in CHECKS)
        told = Checked(
            subject=self.offered.digest,
            base=base or self.head,
            verdicts=verdicts,
            by=name,
            at=at(hours),
            after=_names(after),
        )
        return self.record("checked", name, told, **more)

    def signoff(self, name=None, **more):
        promise = {"certificate": "DCO-1.1", "at": at(more.pop("hours", 0.5))}
        found = self.record("signoff", name or self.author, promise, **{"which": self.which} | more)
        return {"records/signoff.json": next(iter(found.values()))}

    def merged(self, name="amira", *, hours=2.0, base=None, after=(), **more):
        told = {"pr": self.number, "base": base or self.head, "by": name, "at": at(hours), "after": list(_names(after))}
        found = self.record("merge", name, told, **more)
        return {"records/merge.json": next(iter(found.values()))}

    def land(self, *records, by="amira", hours=2.0, more=None, modes=None, signed=True, merged=None) -> str:
        """The offer with its records on main; `more` is what else the commit writes (None: removes)."""
        told = {path: data for one in records for path, data in one.items()}
        told |= self.signoff() if signed else {}
        told |= self.merged(by, hours=hours) if merged is None else merged
        offer, main = self.offered, self.main
        files = dict.fromkeys(files_lost(offer, main)) | files_gained(offer) | files_returned(offer, main)
        files |= {f"{offer.home}{path}": data for path, data in told.items()}
        return self.step(files | (more or {}), modes)

    def agreed(self, *names, hours=1.0, **more) -> str:
        """Landed as it should: checked by Chen, approved by two organisations."""
        yes = [self.vote(name, hours=hours) for name in names or ("amira", "bruno")]
        return self.land(self.checked(hours=hours), *yes, **{"hours": hours + 1} | more)

    def release(self, version="v1", name="amira", **told) -> dict[str, bytes]:
        """The files a release brings."""
        main = self.main
        said = Release(**{
            "version": version, "commit": self.head, "recipe": main.recipe(), "model": lock_digest(main.model), "at": at(1),
        } | told)  # fmt: skip
        payload = signing.statement("urn:souq:release:1", f"releases/{version}", said.model, msgspec.to_builtins(said))
        return {"release/release.json": seal(payload, name, "souq.release.v1"), "release/README.md": b"x"}

    # -- judging ---------------------------------------------------------------------------------------------------

    def judged(self) -> tuple[History, list[str]]:
        with self.repo.blobs() as blobs:
            history = History(self.repo, blobs)
            return history, [line for step in self.repo.steps(self.head) for line in history.judge(step)]

    def findings(self) -> list[str]:
        """What is wrong with this history, without the commits' names."""
        return [line.partition(": ")[2] for line in self.judged()[1]]


@pytest.fixture
def town(tmp_path):
    """Under a foundation of four organisations."""
    return Annals(tmp_path / "town")


@pytest.fixture
def quick(tmp_path):
    """Under one scope: three yes for anything, and two of security for what is urgent."""
    urgent = Emergency(requires=(of(2, "security"),), days=3)
    roles = (Role(name="security", members=NAMES), Role(name="council", members=("dora",), elected_by="core", seats=1))
    told = ruled(of(3), roles=roles, emergency=urgent, people=enrolled())
    return Annals(tmp_path / "quick", format_policy(told))


def _names(records) -> tuple[str, ...]:
    return tuple(digest(data) for data in records.values()) if isinstance(records, dict) else tuple(records)
