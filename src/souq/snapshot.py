"""A model repository as it stands at one commit, read as records; everything in it is somebody's input.

main = Snapshot(repo, repo.tip())
main.config.merge, main.base, main.offers, main.evals
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec

from souq.errors import Hostile, NotFound, UsageError
from souq.evals.eval import SEALED, Eval, Sealed, read_eval, read_sealed
from souq.governance import POLICY, Election, Policy, read_policy
from souq.merge import check_settings
from souq.merge.grow import Grown, grow
from souq.merge.methods import SUMS
from souq.records import Contribution, Digest, Recipe, Record, digest, digest_files, format_toml, parse_toml, read_json
from souq.repo import MAX_OFFER, Repo
from souq.weights.bucket import Shared, check_url
from souq.weights.delta import Delta, Lock, TensorRef
from souq.weights.lockfile import format_lock, lock_digest, parse_delta, parse_lock

MERGE, ELECTION, YANKED = "merge.toml", "election.toml", "yanked.toml"
MAX_WEIGHT = 16.0
RECORDS = "records/"  # inside a landed contribution: who signed what; not part of what was offered


class Brings(Record, frozen=True):
    """What a kind of contribution is made of, beside contribution.toml: files by how their paths begin."""

    must: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


BRINGS = {
    "weights": Brings(must=("delta.lock",), may=("data/", MERGE)),
    "data": Brings(must=("data/",)),
    "evals": Brings(must=("evals/",)),
    "governance": Brings(must=(POLICY,)),
    "election": Brings(must=(ELECTION,)),
    "release": Brings(must=("release/release.json", "release/README.md"), may=("release/",)),
    "revert": Brings(),
    "yank": Brings(),
    "ratify": Brings(),
    "restore": Brings(),
}
NAMED = ("release", "revert", "yank", "ratify", "restore")  # they are about something that `of` names
_NAME = r"|[0-9A-Za-z][0-9A-Za-z.\-]{0,63}"


class Limits(Record, frozen=True, forbid_unknown_fields=True):
    """`[checks]` in souq.toml: the bounds a machine holds."""

    max_norm: float = 0.5  # of a change, over the norm of the matrix it changes
    norm_mads: float = 6.0  # MADs above main's median, of log sizes, from where people are asked to look
    enough: int = 8  # accepted contributions, before main's own say what is usual
    max_rows: int = 20_000  # of training data in one contribution
    max_rows_per_author: int = 50_000  # on main, with this one
    max_rows_per_org: int = 200_000
    max_repeated: float = 0.1  # share of a contribution's rows that repeat others: more need eyes
    max_burst: int = 8  # rows that share a rare string and an answer: as many need eyes; far below the 250 that poison
    drift: float = 1.5  # margins: the most a protected eval may lose from one release to the next, all changes together
    keep_tail: float = 0.8  # of real text's rare words that a published corpus could hold at its size: less needs eyes
    tries: int = 20  # on hidden evals, of one author and of one organisation, while the same ones are sealed


class Config(Record, frozen=True, forbid_unknown_fields=True):
    """souq.toml. `merge` holds the method's name and its settings side by side."""

    name: str
    licence: str
    base: str
    origin: str = ""
    base_licence: str = ""  # where the base is under another licence than the model
    base_source: str = ""  # where the base's own data and training are to be had; without it the base is a binary
    merge: dict[str, Any] = msgspec.field(default_factory=lambda: {"method": "covariance"})
    checks: Limits = Limits()
    store: Shared = Shared()


@dataclass(frozen=True)
class Merging:
    """How contributions are merged: the method, its settings, and who counts more or less than 1, by contribution."""

    method: str
    settings: Mapping[str, Any]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Merging:
        """A `[merge]` table.

        Raises:
            UsageError: a method, a setting or a weight that cannot be.
        """
        table = dict(table)
        method, weights = table.pop("method", "covariance"), table.pop("weights", {})
        if not isinstance(method, str):
            raise UsageError("merge method is a word", hint='write method = "covariance"')
        check_settings(method, table)
        if not isinstance(weights, dict) or (weights and method not in SUMS):
            raise UsageError(f"weights belong to {', '.join(SUMS)}, a table of contribution = number")
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= MAX_WEIGHT:
                raise UsageError(
                    f"the weight of {name[:80]} is a number above 0 and at most {MAX_WEIGHT}, not {weight!r}"
                )
        return cls(method, table, {name: float(weight) for name, weight in weights.items()})


def read_config(text: str) -> Config:
    """souq.toml, strictly: a wrong key is answered with the nearest right one, in [merge] too."""
    config = parse_toml(text, Config, where="souq.toml")
    Merging.of(config.merge)
    if not 0 < config.checks.drift < math.inf:
        raise UsageError(f"souq.toml: drift is a number of margins above 0, not {config.checks.drift}")
    if config.store.url:
        check_url(config.store.url, local=True)
    return config


@dataclass(frozen=True)
class Offer:
    """A contribution's folder: what contribution.toml says, and the files beside it."""

    slug: str
    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> Digest:
        """What votes bind to: every byte that was offered, whatever commit carries it."""
        return digest_files(dict(self.files))

    @cached_property
    def contribution(self) -> Contribution:
        return parse_toml(_text(self.files, "contribution.toml"), Contribution, where=f"{self.slug}/contribution.toml")

    @cached_property
    def delta(self) -> Delta | None:
        return parse_delta(_text(self.files, "delta.lock")) if "delta.lock" in self.files else None

    @cached_property
    def evals(self) -> list[Eval]:
        """The evals it brings, in `evals/<name>/`."""
        return _evals(
            {path.removeprefix("evals/"): data for path, data in self.files.items() if path.startswith("evals/")}
        )

    @cached_property
    def sealed(self) -> dict[str, Sealed]:
        """The hidden evals it brings, of which it shows the digest."""
        return _sealed(self.files, "evals/")

    @property
    def data(self) -> dict[str, bytes]:
        """The training rows it brings, by file."""
        return {path: data for path, data in self.files.items() if path.startswith("data/")}

    @cached_property
    def merge(self) -> dict[str, Any] | None:
        """The `[merge]` table main is to have from its landing on, where it asks for one: merge.toml."""
        if MERGE not in self.files:
            return None
        table = parse_toml(_text(self.files, MERGE), dict[str, Any], where=f"{self.slug}/{MERGE}")
        Merging.of(table)
        return table

    @property
    def home(self) -> str:
        return f"contributions/{self.slug}/"

    @cached_property
    def amends(self) -> Policy | None:
        """The policy it offers."""
        return read_policy(_text(self.files, POLICY)) if POLICY in self.files else None

    @cached_property
    def election(self) -> Election | None:
        if ELECTION not in self.files:
            return None
        return parse_toml(_text(self.files, ELECTION), Election, where=f"{self.slug}/{ELECTION}")

    def odd(self) -> str:
        """What is wrong with its files for the kind it says it is; "" where nothing is."""
        kind, wanted = self.contribution.kind, BRINGS[self.contribution.kind]
        if absent := next((path for path in wanted.must if not any(p.startswith(path) for p in self.files)), None):
            return f"a contribution of {kind} without {absent}"
        allowed = (*wanted.must, *wanted.may)
        if odd := next((p for p in sorted(self.files) if p != "contribution.toml" and not p.startswith(allowed)), None):
            return f"a contribution of {kind} brings no {odd[:80]}"
        if bool(self.contribution.of) != (kind in NAMED) or not re.fullmatch(_NAME, self.contribution.of):
            return f"a contribution of {kind} {'does not say' if kind in NAMED else 'says'} what it is about"
        return ""

    def landing(self) -> dict[str, bytes]:
        """The files main gains when it lands: its own folder, and what lives elsewhere, where that lives."""
        own = {f"{self.home}{path}": data for path, data in self.files.items()}
        own |= {path: data for path, data in self.files.items() if path.startswith("evals/") or path == POLICY}
        if self.contribution.kind == "release":
            release = {path: data for path, data in self.files.items() if path.startswith("release/")}
            own |= {
                f"releases/{self.contribution.of}/{path.removeprefix('release/')}": d for path, d in release.items()
            }
        if self.contribution.kind == "yank":
            told = {"by": self.slug, "reason": self.contribution.title}
            own[f"releases/{self.contribution.of}/{YANKED}"] = format_toml(told).encode()
        return own

    def takes(self, base: Snapshot) -> dict[str, bytes]:
        """The files main loses when it lands on `base`."""
        kind, of = self.contribution.kind, self.contribution.of
        if kind == "evals":  # what is revealed is sealed no more
            return {
                f"evals/{name}/{SEALED}": base.repo.read(base.commit, f"evals/{name}/{SEALED}")
                for name in self._shown(base)
            }
        if kind == "revert":
            home = f"contributions/{of}/"
            return {f"{home}{path}": data for path, data in base.below(home).items()}
        undone = base.offers.get(of) if kind == "restore" else None
        if undone is not None and undone.contribution.kind == "yank":
            path = f"releases/{undone.contribution.of}/{YANKED}"
            return {path: base.repo.read(base.commit, path)}
        return {}

    def _shown(self, base: Snapshot) -> list[str]:
        brought = {path.split("/")[1] for path in self.files if re.fullmatch(r"evals/[^/]+/eval\.toml", path)}
        return sorted(brought & base.sealed.keys()) if brought else []

    def returns(self, base: Snapshot) -> dict[str, bytes]:
        """The files main gets back when it lands on `base`: what a revert took, as it was."""
        undone = base.offers.get(self.contribution.of) if self.contribution.kind == "restore" else None
        there = undone is None or undone.contribution.of in base.offers
        return {} if undone is None or there else _taken(undone, base)

    def moves(self, base: Snapshot) -> Delta | None:
        """The change of weights it brings, takes back or restores."""
        if self.contribution.kind == "revert" and self.contribution.of in base.offers:
            return base.offers[self.contribution.of].delta
        if self.contribution.kind == "restore" and (returned := self.returns(base)):
            return _delta_in(returned)
        return self.delta

    def touches(self, base: Snapshot) -> list[str]:
        """Every path and every tensor this changes on `base`: what the policy's scopes are asked about.

        Who ratifies settles for good what was taken, so all of that is asked about again.
        """
        moved = self.moves(base)
        paths = {*self.landing(), *self.takes(base), *self.returns(base)}
        if self.contribution.kind == "ratify" and (undone := base.offers.get(self.contribution.of)) is not None:
            paths |= {*undone.landing()} if undone.contribution.kind == "yank" else {*_taken(undone, base)}
            moved = _delta_in(_taken(undone, base))
        paths |= {"souq.toml"} if self.merge is not None else set()
        return sorted(paths) + (moved.touches() if moved else [])

    def wrong(self, base: Snapshot) -> str:
        """Why what it is about cannot be done on `base`; "" where it can."""
        kind, of = self.contribution.kind, self.contribution.of
        if kind == "revert" and (of not in base.offers or base.offers[of].contribution.kind not in ("weights", "data")):
            return f"{of} is no contribution of weights or data here, so it cannot be taken back"
        if kind == "yank" and (of not in base.releases or f"releases/{of}/{YANKED}" in base.paths(f"releases/{of}")):
            return f"there is no release {of} here that could be yanked"
        if kind == "release" and of in base.releases:
            return f"{of} is released already"
        if kind in ("ratify", "restore"):
            undone = base.offers.get(of)
            if undone is None or undone.contribution.kind not in ("revert", "yank"):
                return f"{of} took nothing back here"
        if kind == "restore" and not (self.takes(base) or self.returns(base)):
            return f"what {of} took back is there again"
        return ""


def _taken(revert: Offer, base: Snapshot) -> dict[str, bytes]:
    """The files that a revert on `base` took, from the main it landed on."""
    if revert.contribution.kind != "revert":
        return {}
    try:
        told = read_json(base.below(revert.home)[f"{RECORDS}merge.json"])
        before = str(read_json(base64.b64decode(told["payload"]))["predicate"]["base"])
    except (KeyError, TypeError, ValueError) as error:
        raise Hostile(f"{revert.slug} does not say what main it landed on") from error
    if not re.fullmatch(r"[0-9a-f]{40}", before) or not base.repo.contains(base.commit, before):
        raise Hostile(f"{revert.slug} names a commit that is not in this history")
    home = f"contributions/{revert.contribution.of}/"
    return {f"{home}{path}": data for path, data in Snapshot(base.repo, before).below(home).items()}


def _delta_in(files: Mapping[str, bytes]) -> Delta | None:
    lock = next((data for path, data in files.items() if path.endswith("/delta.lock")), None)
    return parse_delta(_text({"delta.lock": lock}, "delta.lock")) if lock is not None else None


class Landing(Record, frozen=True):
    """A landed contribution in a few words."""

    digest: Digest
    kind: str
    about: str = ""
    moves: str = ""  # "weights"; "grows" where it makes the model larger; "" for neither

    @classmethod
    def of(cls, offer: Offer) -> Landing:
        c = offer.contribution
        return cls(digest=offer.digest, kind=c.kind, about=c.of, moves=_kind(offer.delta))


class Snapshot:
    """One commit of a model repository."""

    def __init__(
        self, repo: Repo, commit: str, *, fresh: bool = False, landed: Callable[[], dict[str, Landing]] | None = None
    ) -> None:
        self.repo, self.fresh, self._told = repo, fresh, landed
        self.commit = commit if re.fullmatch(r"[0-9a-f]{40}", commit) else repo.commit(commit)

    def below(self, folder: str) -> dict[str, bytes]:
        """The files below a folder, by their paths in it."""
        return self.repo.files(self.commit, folder)

    def paths(self, folder: str) -> list[str]:
        return [entry.path for entry in self.repo.entries(self.commit, folder)]

    @cached_property
    def releases(self) -> list[str]:
        """The versions that were released, yanked ones too."""
        return self.repo.folders(self.commit, "releases")

    def text(self, path: str) -> str:
        return _text({path: self.repo.read(self.commit, path)}, path)

    @cached_property
    def config(self) -> Config:
        return read_config(self.text("souq.toml"))

    @cached_property
    def policy_text(self) -> str:
        return self.text("GOVERNANCE.toml")

    @cached_property
    def base(self) -> Lock:
        return parse_lock(self.text("base.lock"))

    @cached_property
    def base_digest(self) -> Digest:
        return lock_digest(self.base)

    @cached_property
    def sketch(self) -> Delta | None:
        """What flows through the base on general text: its voice in the covariance merge."""
        try:
            return parse_delta(self.text("base.sketch"))
        except NotFound:
            return None

    @cached_property
    def model(self) -> Lock:
        """model.lock: what main says it builds to."""
        return parse_lock(self.text("model.lock"))

    @cached_property
    def offers(self) -> Mapping[str, Offer]:
        """The contributions that have landed, by slug, each read when it is asked for."""
        return _Offers(self)

    def offer(self, slug: str) -> Offer:
        if not is_slug(slug):
            raise Hostile(f"{slug[:80]!r} is no name of a contribution: a number, then a-z, 0-9 and `-`")
        files = self.repo.files(self.commit, f"contributions/{slug}", MAX_OFFER)
        if not files:
            raise NotFound(f"no contribution {slug} in {self.commit[:12]}", hint="see `souq pr list`")
        return Offer(slug, {path: data for path, data in files.items() if not path.startswith(RECORDS)})

    @cached_property
    def evals(self) -> dict[str, Eval]:
        return {found.name: found for found in _evals(self.repo.files(self.commit, "evals"))}

    @cached_property
    def sealed(self) -> dict[str, Sealed]:
        """The hidden evals, by name: what is known of them until they are revealed."""
        return _sealed(self.repo.files(self.commit, "evals"), "")

    @cached_property
    def guarded(self) -> dict[str, Eval]:
        """What a change may not make worse: the protected suite, and what landed contributions have fixed."""
        fixed = {name for offer in self.offers.values() for name in offer.contribution.fixes}
        return {name: found for name, found in self.evals.items() if found.protected or name in fixed}

    @cached_property
    def landed(self) -> dict[str, Landing]:
        """Each landed contribution in a few words.

        Reading a contribution to name it takes longer the more have landed, so what was read once is remembered by
        git's own name of the folder; `fresh` believes no memory.
        """
        if self._told is not None:
            return self._told()
        return {slug: self._landing(slug, tree) for slug, tree in self.repo.trees(self.commit, "contributions").items()}

    def _landing(self, slug: str, tree: str) -> Landing:
        note = self.repo.cache / "landed" / tree
        with suppress(OSError, msgspec.MsgspecError):
            if not self.fresh:
                return msgspec.json.decode(note.read_bytes(), type=Landing)
        found = Landing.of(self.offer(slug))
        note.parent.mkdir(exist_ok=True)
        partial = note.with_suffix(".part")
        partial.write_bytes(msgspec.json.encode(found))
        partial.replace(note)
        return found

    @property
    def taken_back(self) -> set[str]:
        """The contributions that were reverted and are not back."""
        reverts = {slug: told.about for slug, told in self.landed.items() if told.kind == "revert"}
        return {slug for slug in reverts.values() if slug not in self.landed}

    def changing(self, extra: Offer | None = None) -> list[Digest]:
        """The landed contributions that change weights, by digest, sorted, and one more where asked."""
        more = [extra.digest] if extra is not None and extra.delta is not None else []
        return sorted({*(told.digest for told in self.landed.values() if told.moves), *more})

    def deltas(self, extra: Offer | None = None, only: Collection[Digest] | None = None) -> dict[Digest, Delta]:
        """Every landed change of weights by its contribution's digest, and one more where asked; no other is read."""
        wanted = self.changing(extra) if only is None else only
        offers = [self.offers[slug] for slug, told in self.landed.items() if told.digest in wanted]
        offers += [extra] if extra is not None and extra.digest in wanted else []
        return {offer.digest: offer.delta for offer in offers if offer.delta is not None}

    def grown(self, extra: Offer | None = None) -> Grown:
        """The larger model that contributions make of the base by what they add; the base where nobody adds anything."""
        deltas = [self.offers[slug].delta for slug, told in self.landed.items() if told.moves == "grows"]
        deltas += [extra.delta] if extra is not None else []
        return grow(self.base, base_files(self), [delta for delta in deltas if delta is not None and delta.new])

    def config_with(self, offer: Offer) -> Config:
        """souq.toml as it is once an offer has landed."""
        return self.config if offer.merge is None else msgspec.structs.replace(self.config, merge=offer.merge)

    def merging(self, extra: Offer | None = None) -> Merging:
        """How contributions are merged here, weights by digest; as one more asks for, where it asks."""
        told = Merging.of((self.config if extra is None else self.config_with(extra)).merge)
        names = {slug: told.digest for slug, told in self.landed.items()}
        names |= {extra.slug: extra.digest} if extra is not None else {}
        weights = {names[slug]: weight for slug, weight in told.weights.items() if slug in names}
        return replace(told, weights=dict(sorted(weights.items())))

    def recipe(self, extra: Offer | None = None) -> Recipe:
        """What the model of this commit is made of, with one more contribution where asked."""
        told = self.merging(extra)
        settings: dict[str, Any] = dict(told.settings)
        if told.weights:
            settings["weights"] = dict(told.weights)
        if self.sketch:
            settings["base_sketch"] = digest(self.text("base.sketch").encode())
        return Recipe(
            base=self.base_digest, contributions=tuple(self.changing(extra)), method=told.method, settings=settings
        )

    def tensors(self) -> list[TensorRef]:
        """Every stored tensor this commit points at."""
        landed = [ref for delta in self.deltas().values() for ref in delta.refs()]
        return [*self.base.values(), *landed, *(self.sketch.refs() if self.sketch else ())]


class _Offers(Mapping[str, Offer]):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._read = snapshot, dict[str, Offer]()
        self._slugs = snapshot.repo.folders(snapshot.commit, "contributions")

    def __getitem__(self, slug: str) -> Offer:
        if slug not in self._read:
            if slug not in self._slugs:
                raise KeyError(slug)
            self._read[slug] = self._snapshot.offer(slug)
        return self._read[slug]

    def __iter__(self) -> Iterator[str]:
        return iter(self._slugs)

    def __len__(self) -> int:
        return len(self._slugs)


def is_slug(name: str) -> bool:
    """Whether this can be a contribution's folder, on every file system and every terminal: `0003-iso-dates`."""
    return re.fullmatch(r"[a-z0-9][a-z0-9\-]{0,79}", name) is not None


def _evals(files: Mapping[str, bytes]) -> list[Eval]:
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in files.items():
        name, _, inside = path.partition("/")
        folders.setdefault(name, {})[inside] = data
    return [read_eval(name, folder) for name, folder in sorted(folders.items()) if folder.keys() != {SEALED}]


def _sealed(files: Mapping[str, bytes], below: str) -> dict[str, Sealed]:
    found = {
        path.removeprefix(below).removesuffix(f"/{SEALED}"): data
        for path, data in sorted(files.items())
        if path.startswith(below) and path.endswith(f"/{SEALED}")
    }
    return {name: read_sealed(name, data) for name, data in found.items()}


def _text(files: Mapping[str, bytes], path: str) -> str:
    if path not in files:
        raise Hostile(f"there is no {path}")
    try:
        return files[path].decode()
    except UnicodeDecodeError as error:
        raise Hostile(f"{path} is not UTF-8 text") from error


def _kind(delta: Delta | None) -> str:
    return "" if delta is None else "grows" if delta.new else "weights"


def model_files(snapshot: Snapshot, extra: Offer | None = None) -> dict[str, bytes]:
    """config.json, the tokenizer and its chat template, as contributions have made them."""
    return snapshot.grown(extra).files


def base_files(snapshot: Snapshot) -> dict[str, bytes]:
    """The base's config.json, tokenizer and chat template."""
    files = snapshot.repo.files(snapshot.commit, "model")
    if "config.json" not in files:
        raise UsageError("model/config.json is not there", hint="was this made by `souq init`?")
    return files


__all__ = ["Config", "Limits", "Offer", "Snapshot", "base_files", "format_lock", "model_files", "read_config"]
