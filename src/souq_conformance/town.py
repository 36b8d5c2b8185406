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
    """A time as records write it."""
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

    def person(self, name: str, *keys: Any, **more: Any) -> Who:
        """`[[person]]`, with their first key where none is given."""
        org = more.pop("org", PEOPLE[name])
        return Who(name=name, org=org, keys=keys or (self.keys[name].public,), **more)


@dataclass
class Offered:
    """A contribution and the records about it."""

    town: Town
    slug: str
    files: dict[str, bytes]
    contribution: Contribution
    records: dict[str, bytes] = field(default_factory=dict)
    policy: str | None = None  # what GOVERNANCE.toml becomes, where that is computed
    held: dict[str, File] = field(default_factory=dict)  # what it takes, once it has landed
    exam: dict[str, tuple[File | None, File | None]] = field(default_factory=dict)  # evals' files before it and after

    @property
    def digest(self) -> str:
        return digest_files(self.files)

    @property
    def home(self) -> str:
        return f"contributions/{self.slug}/"

    def record(
        self, kind: str, signer: str, predicate: Mapping[str, Any], *, namespace: str = "", name: str = "",
        subject: str = "", as_: str = "", about: str = "", version: int = 1, more: Sequence[signing.Signature] = (),
        first: Sequence[signing.Signature] = (), payload: bytes | None = None,
    ) -> bytes:  # fmt: skip
        """Sign something about it; each keyword is a way of getting it wrong."""
        whole = {"by": signer.partition("-")[0], "at": spell(self.town.tick()), "after": self.tips(), **predicate}
        if self.town.bound and kind in ("signoff", "vote", "ballot"):
            whole.setdefault("main", self.town.main)
        whole = {key: value for key, value in whole.items() if value is not None}
        if payload is None:
            urn, home = as_ or f"urn:souq:{kind}:1", about or self.home[:-1]
            payload = signing.statement(urn, home, subject or self.digest, whole)
        made = self.town.keys[signer].sign(payload, namespace or f"souq.{kind}.v1", version=version)
        data = seal(payload, [*first, made, *more])
        self.put(name or (kind if kind in ("signoff", "merge") else f"{kind}-{len(self.records):04d}"), data)
        return data

    def put(self, name: str, data: bytes) -> None:
        """A record as it is."""
        self.records[f"{name}.json"] = data

    def tips(self) -> list[str]:
        named = {name for data in self.records.values() for name in signing.peek(data).get("after", [])}
        return sorted({digest(data) for data in self.records.values()} - named)

    def checks(self, signer: str = "amira", outcome: str = "pass", *, check: str = "files", **fields: Any) -> Offered:
        """Checked by somebody's machine."""
        verdicts = [{"check": check, "outcome": outcome, "because": "looked"}]
        checked = {"subject": self.digest, "base": self.town.main, "verdicts": verdicts, **fields}
        self.record("checked", signer, checked)
        return self

    def vote(self, signer: str, choice: str = "approve", reason: str = "read it", **wrong: Any) -> bytes:
        """A yes, unless told otherwise; keywords are fields of the vote, or ways of getting its record wrong."""
        fields: dict[str, Any] = {
            key: wrong.pop(key) for key in ("at", "by", "after", "invented", "main") if key in wrong
        }
        subject = wrong.get("subject") or self.digest
        return self.record("vote", signer, {"subject": subject, "choice": choice, "reason": reason, **fields}, **wrong)

    def votes(self, *people: str, choice: str = "approve") -> Offered:
        """Approved by all of these, or rejected."""
        for name in people:
            self.vote(name, choice)
        return self

    def no(self, signer: str, reason: str = "it is wrong", **wrong: Any) -> bytes:
        """A no."""
        return self.vote(signer, "reject", reason, **wrong)

    def ballot(self, signer: str, *choices: str, **fields: Any) -> Offered:
        """A ballot for these."""
        self.record("ballot", signer, {"subject": self.digest, "choices": list(choices), **fields})
        return self

    def agreed(self, *people: str, by: str = "") -> Offered:
        """Checked by the first, or `by`, and approved by all."""
        return self.checks(by or people[0]).votes(*people)


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
    bound: bool = True  # what people sign here names the main they saw; older tools did not

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

    def person(self, name: str, *keys: Any, **more: Any) -> Who:
        """`[[person]]`, with their first key where none is given."""
        return self.stock.person(name, *keys, **more)

    def people(self, **other: Who) -> tuple[Who, ...]:
        """Those of the policy, with these in the place of who has their name, or added."""
        return tuple(({person.name: person for person in self.policy().person} | other).values())

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
        names = ("amira", "adil", "bruno", "chen")
        parts: dict[str, Any] = {
            "person": tuple(self.person(name) for name in names),
            "role": (Role(name="maintainer", members=names), Role(name="security", members=("amira", "bruno", "chen"))),
            "scope": self.scopes(),
            "emergency": Emergency(requires=(Needs(role="security", n=2),)),
        }
        return Policy(**(parts | other))

    def scopes(self, **work: Any) -> tuple[Scope, ...]:
        """All scopes, that of contributions with other parts."""
        return (self.work(**work), *self.rules())

    def work(self, n: int = 2, **other: Any) -> Scope:
        """The scope of contributions."""
        parts: dict[str, Any] = {
            "name": "work",
            "match": ("contributions/**", "model.*", "souq.toml"),
            "max_per_org": 1,
            "checks": ("files",),
            "requires": (Needs(role="maintainer", n=n),),
        }
        return Scope(**(parts | other))

    def rules(self) -> tuple[Scope, ...]:
        """The scopes of evals, releases and the policy itself."""
        asked, harder = (Needs(role="maintainer", n=2),), (Needs(role="maintainer", n=3),)
        most = (Needs(role="maintainer", share="2/3"),)
        return (
            Scope(name="evals", match=("evals/**",), requires=harder, max_per_org=1, checks=("files",)),
            Scope(name="releases", match=("releases/**",), requires=asked, max_per_org=1, majority=True),
            Scope(name="policy", match=("GOVERNANCE.toml",), requires=most, min_orgs=3, window_h=336),
        )

    # -- history -------------------------------------------------------------------------------------------------------

    def begin(self, policy: Policy | str | None = None, files: Mapping[str, bytes | None] | None = None) -> None:
        """The root commit, with files more, or less where one is None."""
        rules = policy if isinstance(policy, str) else format_policy(policy or self.policy())
        lock = format_lock({name: TensorRef.of(array) for name, array in BASE.items()}).encode()
        settings = 'name = "town"\nlicence = "Apache-2.0"\nbase = "tiny"\n\n[merge]\nmethod = "mean"\n'
        whole: dict[str, bytes | None] = {
            "README.md": b"# town\n",
            "souq.toml": settings.encode(),
            "GOVERNANCE.toml": rules.encode(),
            "base.lock": lock,
            "model.lock": lock,
            "model/config.json": b'{"model_type": "llama"}',
            "evals/sums/eval.toml": EVAL.encode(),
            "evals/sums/cases.jsonl": CASES,
            **(files or {}),
        }
        self.commit({path: data for path, data in whole.items() if data is not None}, "begin")

    def commit(
        self, changes: Mapping[str, bytes | File | None], message: str = "by hand", *,
        parents: Sequence[str] | None = None, tree: str = "", more: str = "",
    ) -> str:  # fmt: skip
        """Main one commit further, however it comes there."""
        self._write(changes)
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
        author = Author(name=name, email=mail, key=self.keys[by].public, org=org)
        fields: dict[str, Any] = {"title": title, "kind": kind, "of": of, "author": author, **more}
        contribution = Contribution(**{"licence": "Apache-2.0", "signoff": f"{name} <{mail}>"} | fields)
        whole = {"contribution.toml": format_toml(contribution).encode(), **(files or {})}
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in title.lower())
        made = Offered(self, slug or f"{self.number:04d}-{plain}", whole, contribution)
        if signed:
            promise = {"signoff": contribution.signoff, "licence": contribution.licence}
            made.record("signoff", by, {"certificate": "DCO-1.1", **promise})
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
        fields: dict[str, Any] = {
            "version": version, "commit": main.commit, "recipe": main.recipe(), "model": lock_digest(main.model),
            "scores": {"sums": 1.0}, "at": spell(self.clock), **other,
        }  # fmt: skip
        release = Release(**fields)
        predicate = msgspec.to_builtins(release)
        payload = signing.statement("urn:souq:release:1", f"releases/{version}", release.model, predicate)
        sealed = seal(payload, [self.keys[signer or by].sign(payload, "souq.release.v1")])
        files = {"release/release.json": sealed, "release/README.md": b"# 1.0\n"}
        return self.offer("release", f"Release {version}", by, files, of=of or version)

    def revert(self, of: Offered, by: str = "amira", title: str = "take back") -> Offered:
        return self.offer("revert", title, by, of=of.slug)

    def election(
        self, by: str = "mallory", candidates: Sequence[str] = ("amira", "bruno", "chen"), **when: float
    ) -> Offered:
        election = {"role": "council", "candidates": list(candidates), "closes": self.at(**(when or {"days": 7}))}
        return self.offer("election", "council", by, {"election.toml": format_toml(election).encode()})

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
        if offer.contribution.kind in ("weights", "sketches", "revert", "restore"):
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
        kind, of = offer.contribution.kind, offer.contribution.of
        if kind == "evals":
            brought = {path: self.git.file(data) for path, data in offer.files.items() if path.startswith("evals/")}
            seals = {f"{path.rpartition('/')[0]}/sealed.toml" for path in brought} & self.files.keys() - brought.keys()
            after: dict[str, File | None] = {**brought, **dict.fromkeys(seals)}
            offer.exam = {path: (self.files.get(path), file) for path, file in after.items()}
            return dict(after)
        if kind == "documents":
            documents = {path.removeprefix("documents/"): data for path, data in offer.files.items()}
            documents.pop("contribution.toml", None)
            stand = {path: self.git.file(data) for path, data in documents.items()}
            offer.exam = {path: (self.files.get(path), file) for path, file in stand.items()}
            return {**stand}
        if kind == "governance":
            return {"GOVERNANCE.toml": offer.files["GOVERNANCE.toml"]}
        if kind == "election" and offer.policy is not None:
            return {"GOVERNANCE.toml": offer.policy.encode()}
        if kind == "release":
            files = {path: data for path, data in offer.files.items() if path.startswith("release/")}
            return {f"releases/{of}/{path.removeprefix('release/')}": data for path, data in files.items()}
        if kind == "yank":
            yanked = format_toml({"by": offer.slug, "reason": offer.contribution.title})
            return {f"releases/{of}/yanked.toml": yanked.encode()}
        if kind == "revert":
            offer.held = {path: file for path, file in self.files.items() if path.startswith(f"contributions/{of}/")}
            return {**dict.fromkeys(offer.held), **self._exam(of, 0)}
        if kind == "restore":
            return self._returned(of)
        return {}

    def _returned(self, of: str) -> dict[str, bytes | File | None]:
        undone = self.landed[of]
        if undone.contribution.kind == "yank":
            return {f"releases/{undone.contribution.of}/yanked.toml": None}
        return {**undone.held, **self._exam(undone.contribution.of, 1)}

    def _exam(self, of: str, side: int) -> dict[str, bytes | File | None]:
        """The evals and documents that a contribution changed, as they were before it (0) or after (1)."""
        return {path: files[side] for path, files in self.landed[of].exam.items()} if of in self.landed else {}


__all__ = ["BASE", "BEGUN", "CASES", "ROWS", "Offered", "Stock", "Town", "spell"]
