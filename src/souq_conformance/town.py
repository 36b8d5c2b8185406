"""A town of its own for each case: a policy, a clock that only the case moves, people who offer, vote and land.

Everything is written by hand and at once, so a case may write what souq's own verbs refuse to.

    town = Town(folder, stock)
    town.land(town.data().agreed("amira", "bruno"))
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from souq import signing
from souq.build.lock import model_lock
from souq.governance.policy import Emergency, Needs, Policy, Role, Scope, Who, format_policy
from souq.records import Author, Contribution, Release, digest, digest_files, format_toml
from souq.repo.git import MAIN
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Dense, TensorRef
from souq.weights.lockfile import format_delta, format_lock, lock_digest
from souq.weights.store import Store
from souq_conformance.git import File, Git
from souq_conformance.keys import PEOPLE, Keys, seal

BEGUN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BASE = {
    name: np.arange(4, dtype="<f4").reshape(2, 2) + at
    for at, name in enumerate(("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"))
} | {"model.norm.weight": np.ones(4, "<f4")}
EVAL = 'title = "Sums"\nkind = "exact"\nsource = "conformance"\nlicence = "CC0-1.0"\n'
CASES = b'{"id": "a", "prompt": "1 + 1", "expected": "2"}\n'
ROWS = b'{"prompt": "1 + 1", "completion": "2"}\n'


def spell(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Stock:
    """What all towns share: keys, and an empty repository with the base's tensors in its store."""

    folder: Path

    @cached_property
    def keys(self) -> Keys:
        return Keys.make(self.folder / "keys")

    @cached_property
    def empty(self) -> Path:
        place = self.folder / "empty"
        words = ["git", "init", "--quiet", "--template=", "--initial-branch=main", str(place)]
        subprocess.run(words, check=True)
        store = Store(place / ".git" / "souq")
        for array in BASE.values():
            store.put(array)
        return place

    def who(self, name: str, *keys: Any, **more: Any) -> Who:
        """`[[person]]`, with their first key where none is given."""
        org = more.pop("org", PEOPLE[name])
        return Who(name=name, org=org, keys=keys or (self.keys[name].public,), **more)


@dataclass
class Offered:
    """A contribution and the records about it."""

    town: Town
    slug: str
    files: dict[str, bytes]
    said: Contribution
    records: dict[str, bytes] = field(default_factory=dict)
    policy: str | None = None  # what GOVERNANCE.toml becomes, where that is computed
    held: dict[str, File] = field(default_factory=dict)  # what it takes, once it has landed

    @property
    def digest(self) -> str:
        return digest_files(self.files)

    @property
    def home(self) -> str:
        return f"contributions/{self.slug}/"

    def record(
        self, kind: str, who: str, predicate: Mapping[str, Any], *, namespace: str = "", name: str = "",
        subject: str = "", as_: str = "", about: str = "", version: int = 1, more: Sequence[signing.Signature] = (),
        first: Sequence[signing.Signature] = (), payload: bytes | None = None,
    ) -> bytes:  # fmt: skip
        """Sign something about it; each keyword is a way of getting it wrong."""
        said = {"by": who.partition("-")[0], "at": spell(self.town.tick()), "after": self.tips(), **predicate}
        said = {key: value for key, value in said.items() if value is not None}
        payload = payload or signing.statement(as_ or f"urn:souq:{kind}:1", about or self.home[:-1], subject or self.digest, said)  # fmt: skip
        made = self.town.keys[who].sign(payload, namespace or f"souq.{kind}.v1", version=version)
        data = seal(payload, [*first, made, *more])
        self.put(name or (kind if kind in ("signoff", "merge") else f"{kind}-{len(self.records):04d}"), data)
        return data

    def put(self, name: str, data: bytes) -> None:
        """A record as it is."""
        self.records[f"{name}.json"] = data

    def tips(self) -> list[str]:
        named = {name for data in self.records.values() for name in signing.peek(data).get("after", [])}
        return sorted({digest(data) for data in self.records.values()} - named)

    def checks(self, who: str = "amira", outcome: str = "pass", *, check: str = "files", **told: Any) -> Offered:
        verdicts = [{"check": check, "outcome": outcome, "because": "looked"}]
        told = {"subject": self.digest, "base": self.town.main, "verdicts": verdicts, **told}
        ways = {key: told.pop(key) for key in ("namespace", "as_") if key in told}
        self.record("checked", who, told, **ways)
        return self

    def vote(self, who: str, choice: str = "approve", reason: str = "read it", **told: Any) -> bytes:
        said: dict[str, Any] = {key: told.pop(key) for key in ("at", "by", "after", "invented") if key in told}
        said = {"subject": told.get("subject") or self.digest, "choice": choice, "reason": reason, **said}
        return self.record("vote", who, said, **told)

    def no(self, who: str, reason: str = "it is wrong", **told: Any) -> bytes:
        return self.vote(who, "reject", reason, **told)

    def ballot(self, who: str, *choices: str, **told: Any) -> Offered:
        self.record("ballot", who, {"subject": self.digest, "choices": list(choices), **told})
        return self

    def agreed(self, *people: str, by: str = "") -> Offered:
        """Checked by the first, or `by`, and approved by all."""
        self.checks(by or people[0])
        for who in people:
            self.vote(who)
        return self


@dataclass
class Town:
    """One repository in the making."""

    folder: Path
    stock: Stock
    clock: datetime = BEGUN
    files: dict[str, File] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    written: list[tuple[str, str, tuple[str, ...], int]] = field(default_factory=list)
    number: int = 0
    now: str = ""  # the reader's clock, where it is not the town's
    root: str = ""  # the root its readers pinned, where it is not the first commit
    landed: dict[str, Offered] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.copytree(self.stock.empty, self.folder)
        self.git = Git(self.folder / ".git")
        self.store = Store(self.folder / ".git" / "souq")

    @property
    def keys(self) -> Keys:
        return self.stock.keys

    @property
    def main(self) -> str:
        if not self.commits:
            self.begin()
        return self.commits[-1]

    @cached_property
    def repo(self) -> Repo:
        assert self.main  # a repository is one with a main
        return Repo.find(self.folder)

    def snapshot(self, commit: str = "") -> Snapshot:
        return Snapshot(self.repo, commit or self.main, fresh=True)

    def who(self, name: str, *keys: Any, **more: Any) -> Who:
        return self.stock.who(name, *keys, **more)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self) -> datetime:
        """A minute later."""
        self.clock += timedelta(minutes=1)
        return self.clock

    def wait(self, **how: float) -> None:
        self.clock += timedelta(**how)

    def at(self, **how: float) -> str:
        """A time from now on, or before."""
        return spell(self.clock + timedelta(**how))

    # -- policy --------------------------------------------------------------------------------------------------------

    def policy(self, **other: Any) -> Policy:
        """Four maintainers of three organisations, two of which must agree; parts may be others."""
        asked, names = (Needs(role="maintainer", n=2),), ("amira", "adil", "bruno", "chen")
        told: dict[str, Any] = {
            "person": tuple(self.who(name) for name in names),
            "role": (Role(name="maintainer", members=names), Role(name="security", members=("amira", "bruno", "chen"))),
            "scope": (self.work(), *self.rules(asked)),
            "emergency": Emergency(requires=(Needs(role="security", n=2),)),
        }
        return Policy(**(told | other))

    def work(self, **other: Any) -> Scope:
        """The scope of contributions."""
        told: dict[str, Any] = {
            "name": "work", "match": ("contributions/**", "model.*", "souq.toml"), "max_per_org": 1, "checks": ("files",),
            "requires": (Needs(role="maintainer", n=2),),
        }  # fmt: skip
        return Scope(**(told | other))

    def rules(self, asked: tuple[Needs, ...] = (Needs(role="maintainer", n=2),)) -> tuple[Scope, ...]:
        """The scopes of evals, releases and the policy itself."""
        harder = (Needs(role="maintainer", n=3),)
        return (
            Scope(name="evals", match=("evals/**",), requires=harder, max_per_org=1, checks=("files",)),
            Scope(name="releases", match=("releases/**",), requires=asked, max_per_org=1, majority=True),
            Scope(
                name="policy", match=("GOVERNANCE.toml",), requires=(Needs(role="maintainer", share="2/3"),), min_orgs=3,
                window_h=336,
            ),
        )  # fmt: skip

    # -- history -------------------------------------------------------------------------------------------------------

    def begin(self, policy: Policy | str | None = None, files: Mapping[str, bytes | None] | None = None) -> None:
        """The root commit, with files more, or less where one is None."""
        told = policy if isinstance(policy, str) else format_policy(policy or self.policy())
        lock = format_lock({name: TensorRef.of(array) for name, array in BASE.items()}).encode()
        settings = 'name = "town"\nlicence = "Apache-2.0"\nbase = "tiny"\n\n[merge]\nmethod = "mean"\n'
        whole: dict[str, bytes | None] = {
            "README.md": b"# town\n", "souq.toml": settings.encode(), "GOVERNANCE.toml": told.encode(), "base.lock": lock,
            "model.lock": lock, "model/config.json": b'{"model_type": "llama"}', "evals/sums/eval.toml": EVAL.encode(),
            "evals/sums/cases.jsonl": CASES, **(files or {}),
        }  # fmt: skip
        self.commit({path: data for path, data in whole.items() if data is not None}, "begin")

    def commit(
        self, changes: Mapping[str, bytes | File | None], message: str = "by hand", *, parents: Sequence[str] | None = None,
        tree: str = "", more: str = "",
    ) -> str:  # fmt: skip
        """Main one commit further, however it comes there."""
        for path, data in changes.items():
            if data is None:
                self.files.pop(path, None)
            else:
                self.files[path] = data if isinstance(data, File) else self.git.file(data)
        tree = tree or self.git.tree(self.files)
        links = tuple(self.commits[-1:] if parents is None else parents)
        at = int(self.clock.timestamp())
        self.commits.append(self.git.commit(tree, links, message + "\n", at, more))
        self.written.append((self.commits[-1], tree, links, at))
        self.git.ref(MAIN, self.commits[-1])
        return self.commits[-1]

    def read(self, path: str) -> bytes:
        return self.repo._git("cat-file", "blob", self.files[path].oid).stdout

    # -- offering ------------------------------------------------------------------------------------------------------

    def offer(
        self, kind: str, title: str, by: str = "mallory", files: Mapping[str, bytes] | None = None, *, of: str = "",
        slug: str = "", signed: bool = True, **more: Any,
    ) -> Offered:  # fmt: skip
        """Anything, signed off by its author."""
        _ = self.main
        self.number += 1
        name, org = self.keys[by].name, PEOPLE[self.keys[by].name]
        mail = f"{name}@example.org"
        told: dict[str, Any] = {
            "title": title, "kind": kind, "of": of, "licence": "Apache-2.0", "signoff": f"{name} <{mail}>",
            "author": Author(name=name, email=mail, key=self.keys[by].public, org=org), **more,
        }  # fmt: skip
        said = Contribution(**told)
        whole = {"contribution.toml": format_toml(said).encode(), **(files or {})}
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in title.lower())
        made = Offered(self, slug or f"{self.number:04d}-{plain}", whole, said)
        if signed:
            made.record("signoff", by, {"certificate": "DCO-1.1", "signoff": said.signoff, "licence": said.licence})
        return made

    def data(self, title: str = "rows", by: str = "mallory", rows: bytes = ROWS, **more: Any) -> Offered:
        return self.offer("data", title, by, {"data/rows.jsonl": rows}, **more)

    def exam(self, title: str = "exam", by: str = "mallory", cases: bytes = CASES) -> Offered:
        files = {"evals/sums/eval.toml": EVAL.encode(), "evals/sums/cases.jsonl": cases}
        return self.offer("evals", title, by, files)

    def weights(
        self, title: str = "weights", by: str = "mallory", tensor: str = "model.norm.weight", value: float = 2.0,
        files: Mapping[str, bytes] | None = None,
    ) -> Offered:  # fmt: skip
        """A whole new tensor."""
        array = np.full_like(BASE[tensor], value)
        self.store.put(array)
        delta = Delta(lock_digest(self.snapshot().base), {tensor: Dense(value=TensorRef.of(array))})
        return self.offer("weights", title, by, {"delta.lock": format_delta(delta).encode(), **(files or {})})

    def amend(self, policy: Policy | str, title: str = "amend", by: str = "mallory") -> Offered:
        text = policy if isinstance(policy, str) else format_policy(policy)
        return self.offer("governance", title, by, {"GOVERNANCE.toml": text.encode()})

    def release(
        self, version: str = "1.0", by: str = "amira", *, signer: str = "", of: str = "", text: str = "", **other: Any
    ) -> Offered:
        """Main as a release; parts may lie."""
        main = self.snapshot()
        told: dict[str, Any] = {
            "version": version, "commit": main.commit, "recipe": main.recipe(), "model": lock_digest(main.model),
            "scores": {"sums": 1.0}, "at": spell(self.clock), **other,
        }  # fmt: skip
        release = Release(**told)
        said = signing.statement(
            "urn:souq:release:1", f"releases/{version}", release.model, msgspec.to_builtins(release)
        )
        sealed = seal(said, [self.keys[signer or by].sign(said, "souq.release.v1")])
        files = {"release/release.json": sealed, "release/README.md": b"# 1.0\n"}
        return self.offer("release", f"Release {version}", by, files, of=of or version)

    def revert(self, of: Offered, by: str = "amira", title: str = "take back") -> Offered:
        return self.offer("revert", title, by, of=of.slug)

    def election(
        self, by: str = "mallory", candidates: Sequence[str] = ("amira", "bruno", "chen"), **when: float
    ) -> Offered:
        told = {"role": "council", "candidates": list(candidates), "closes": self.at(**(when or {"days": 7}))}
        return self.offer("election", "council", by, {"election.toml": format_toml(told).encode()})

    # -- landing -------------------------------------------------------------------------------------------------------

    def land(
        self, offer: Offered, by: str = "bruno", *, at: str | None = None, base: str | None = None, merged: bool = True,
        also: Mapping[str, bytes | File | None] | None = None, lock: bytes | None = None, **how: Any,
    ) -> Offered:  # fmt: skip
        """Merge it: its files, its effect, its records, and what more is smuggled in."""
        when = at or spell(self.tick())
        if merged:
            offer.record("merge", by, {"pr": self.number, "base": base or self.main, "at": when})
        changes: dict[str, bytes | File | None] = {f"{offer.home}{path}": data for path, data in offer.files.items()}
        changes |= self._effect(offer)
        changes |= {f"{offer.home}records/{name}": data for name, data in offer.records.items()}
        self.landed[offer.slug] = offer
        kept = dict(self.files)
        if offer.said.kind in ("weights", "revert", "restore"):
            self._write(changes)
            changes["model.lock"] = lock or self._built()
        self.files = kept
        self.commit({**changes, **(also or {})}, f"Merge {offer.slug}", **how)
        return offer

    def _write(self, changes: Mapping[str, bytes | File | None]) -> None:
        for path, data in changes.items():
            if data is None:
                self.files.pop(path, None)
            else:
                self.files[path] = data if isinstance(data, File) else self.git.file(data)

    def _built(self) -> bytes:
        """model.lock of the files as they are."""
        bare = self.git.commit(self.git.tree(self.files), [], "bare", 0)
        return format_lock(model_lock(self.snapshot(bare))).encode()

    def _effect(self, offer: Offered) -> dict[str, bytes | File | None]:
        kind, of = offer.said.kind, offer.said.of
        if kind == "evals":
            return {path: data for path, data in offer.files.items() if path.startswith("evals/")}
        if kind == "governance":
            return {"GOVERNANCE.toml": offer.files["GOVERNANCE.toml"]}
        if kind == "election" and offer.policy is not None:
            return {"GOVERNANCE.toml": offer.policy.encode()}
        if kind == "release":
            return {f"releases/{of}/{p.removeprefix('release/')}": d for p, d in offer.files.items() if p.startswith("release/")}  # fmt: skip
        if kind == "yank":
            told = format_toml({"by": offer.slug, "reason": offer.said.title})
            return {f"releases/{of}/yanked.toml": told.encode()}
        if kind == "revert":
            offer.held = {path: file for path, file in self.files.items() if path.startswith(f"contributions/{of}/")}
            return dict.fromkeys(offer.held)
        if kind == "restore":
            return self._returned(of)
        return {}

    def _returned(self, of: str) -> dict[str, bytes | File | None]:
        undone = self.landed[of]
        if undone.said.kind == "yank":
            return {f"releases/{undone.said.of}/yanked.toml": None}
        return dict(undone.held)


__all__ = ["BASE", "BEGUN", "CASES", "ROWS", "Offered", "Stock", "Town", "spell"]
