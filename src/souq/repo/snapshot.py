"""A model repository as it stands at one commit, read as records; everything in it is somebody's input.

main = Snapshot(repo, repo.tip())
main.config.merge, main.base, main.offers, main.evals
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec

from souq.errors import Hostile, NotFound, UsageError
from souq.evals.eval import SEALED, Eval, Sealed
from souq.files import replacing
from souq.merge.grow import Grown, grow
from souq.progress import Progress, quiet
from souq.records import Digest, Recipe, digest, digest_of
from souq.repo.config import Config, Merging, read_config
from souq.repo.contribution import (
    MAX_RECORDS,
    RECORDS,
    Landing,
    Offer,
    evals_in,
    is_slug,
    number_of,
    sealed_in,
    utf8_of,
)
from souq.repo.git import MAX_EVALS, MAX_FILES, MAX_OFFER, MAX_READ, GitRepo
from souq.weights.delta import Delta, Lock, TensorRef
from souq.weights.lockfile import lock_digest, parse_delta, parse_lock

MOST_BELOW = MAX_FILES + MAX_RECORDS + 2  # what one offers, its records, the merge record and the folder of them


class Snapshot:
    """One commit of a model repository."""

    def __init__(
        self, repo: GitRepo, commit: str, *, fresh: bool = False, landed: Callable[[], dict[str, Landing]] | None = None
    ) -> None:
        self.repo, self.fresh, self._known_landings = repo, fresh, landed
        self.commit = commit if re.fullmatch(r"[0-9a-f]{40}", commit) else repo.resolve(commit)

    def below(self, folder: str) -> dict[str, bytes]:
        """The files below a folder, by their paths in it; as many as a contribution may have with its records."""
        return self.repo.files(self.commit, folder, count=MOST_BELOW)

    def paths(self, folder: str) -> list[str]:
        return [entry.path for entry in self.repo.entries(self.commit, folder)]

    @cached_property
    def releases(self) -> list[str]:
        """The versions that were released, yanked ones too."""
        return self.repo.folders(self.commit, "releases")

    def text(self, path: str) -> str:
        return utf8_of({path: self.repo.read(self.commit, path)}, path)

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
        """A landed contribution by its slug, records left out.

        Raises:
            NotFound: none of that name here.
            Hostile: no name of a contribution.
        """
        if not is_slug(slug):
            raise Hostile(f"{slug[:80]!r} is no name of a contribution: a number, then a-z, 0-9 and `-`")
        home = f"contributions/{slug}/"
        files = self.repo.files(
            self.commit, home, MAX_OFFER, MOST_BELOW, lambda path: not path.startswith(home + RECORDS)
        )
        if not files:
            raise NotFound(f"no contribution {slug} in {self.commit[:12]}", hint="see `souq pr list`")
        return Offer(slug, files)

    @cached_property
    def evals(self) -> dict[str, Eval]:
        return {eval_.name: eval_ for eval_ in evals_in(self._of_evals(lambda path: True))}

    def _of_evals(self, keep: Callable[[str], bool]) -> dict[str, bytes]:
        return self.repo.files(self.commit, "evals", MAX_READ, 3 * MAX_EVALS + 1, keep)  # a folder and two files each

    def exam_files(self, paths: Container[str]) -> dict[str, bytes]:
        """Those of some files below evals/ that are there."""
        return {f"evals/{path}": data for path, data in self._of_evals(paths.__contains__).items()} if paths else {}

    def documents(self, paths: Collection[str]) -> dict[str, bytes]:
        """Those of some documents that are there, by their paths."""
        there = dict[str, bytes]()
        for path in paths:
            with suppress(NotFound):
                there[path] = self.repo.read(self.commit, path)
        return there

    @cached_property
    def exam(self) -> list[str]:
        """The names of the evals and of those that are hidden; none of them is read."""
        return self.repo.folders(self.commit, "evals")

    @cached_property
    def sealed(self) -> dict[str, Sealed]:
        """The hidden evals, by name: what is known of them until they are revealed."""
        return sealed_in(self._of_evals(lambda path: path.endswith(f"/{SEALED}")), "")

    @cached_property
    def guarded(self) -> dict[str, Eval]:
        """What a change may not make worse: the protected suite, and what landed contributions have fixed."""
        fixed = {name for offer in self.offers.values() for name in offer.contribution.fixes}
        return {name: eval_ for name, eval_ in self.evals.items() if eval_.protected or name in fixed}

    @cached_property
    def landed(self) -> dict[str, Landing]:
        """Each landed contribution in a few words."""
        return self.read_landed()

    def read_landed(self, progress: Progress = quiet) -> dict[str, Landing]:
        """The same. What was read once is remembered by git's name of the folder; `fresh` believes no memory."""
        if self._known_landings is not None:
            return self._known_landings()
        note = self.repo.cache / "landed.json"
        known = dict[str, Landing]()
        with suppress(OSError, msgspec.MsgspecError):
            known = msgspec.json.decode(note.read_bytes(), type=dict[str, Landing]) if not self.fresh else {}
        trees, learned = self.repo.trees(self.commit, "contributions"), dict[str, Landing]()
        try:
            for done, (slug, tree) in enumerate(trees.items()):
                if tree not in known:
                    progress("read contributions", done, len(trees))
                    known[tree] = learned[tree] = Landing.of(self.offer(slug))
        finally:  # one that cannot be read must not have all before it read again
            if learned:
                with replacing(note) as partial:
                    partial.write_bytes(msgspec.json.encode(known))
        return {slug: known[tree] for slug, tree in trees.items()}

    @cached_property
    def taken_back(self) -> set[str]:
        """The contributions that were reverted and are not back."""
        reverts = {slug: landing.about for slug, landing in self.landed.items() if landing.kind == "revert"}
        return {slug for slug in reverts.values() if slug not in self.landed}

    def sketched(self, extra: Offer | None = None) -> dict[str, str]:
        """The contributions whose sketches were renewed, and by which: the one of the highest number."""
        landed = self._landed_with(extra)
        renewing = sorted((slug for slug, landing in landed.items() if landing.sketches), key=number_of)
        return {renewed: slug for slug in renewing for renewed in landed[slug].sketches}

    def members(self, extra: Offer | None = None) -> dict[Digest, str]:
        """What the model is folded from: each contribution that changes weights by its name in the fold, sorted.

        That name is its digest; once its sketches are renewed it is one of both, so to all that remembers sums another
        has come in its place. `extra` is a contribution that has not landed.
        """
        landed, renewed = self._landed_with(extra), self.sketched(extra)
        names = {slug: landing.digest for slug, landing in landed.items() if landing.moves}
        for slug in renewed.keys() & names.keys():
            names[slug] = digest_of([names[slug], landed[renewed[slug]].sketches[slug]])
        return {name: slug for slug, name in sorted(names.items(), key=lambda each: each[1])}

    def _landed_with(self, extra: Offer | None) -> dict[str, Landing]:
        return self.landed if extra is None else {**self.landed, extra.slug: Landing.of(extra)}

    def deltas(self, extra: Offer | None = None, only: Collection[Digest] | None = None) -> dict[Digest, Delta]:
        """Every landed change of weights by its name in the fold, and one more where asked; no other is read."""
        renewed, deltas = self.sketched(extra), dict[Digest, Delta]()

        def offered(slug: str) -> Offer:
            return extra if extra is not None and extra.slug == slug else self.offers[slug]

        for name, slug in self.members(extra).items():
            if (only is None or name in only) and (delta := offered(slug).delta) is not None:
                deltas[name] = delta.sketched(offered(renewed[slug]).sketches[slug]) if slug in renewed else delta
        return deltas

    def grown(self, extra: Offer | None = None) -> Grown:
        """The larger model that contributions make of the base by what they add; the base where nobody adds."""
        deltas = [self.offers[slug].delta for slug, landing in self.landed.items() if landing.moves == "grows"]
        deltas += [extra.delta] if extra is not None else []
        return grow(self.base, base_files(self), [delta for delta in deltas if delta is not None and delta.new])

    def config_with(self, offer: Offer) -> Config:
        """souq.toml as it is once an offer has landed."""
        return self.config if offer.merge is None else msgspec.structs.replace(self.config, merge=offer.merge)

    def merging(self, extra: Offer | None = None) -> Merging:
        """How contributions are merged here, weights by digest; as one more asks for, where it asks."""
        merging = Merging.of((self.config if extra is None else self.config_with(extra)).merge)
        names = {slug: landing.digest for slug, landing in self._landed_with(extra).items()}
        names |= {slug: name for name, slug in self.members(extra).items()}
        weights = {names[slug]: weight for slug, weight in merging.weights.items() if slug in names}
        return replace(merging, weights=dict(sorted(weights.items())))

    def recipe(self, extra: Offer | None = None) -> Recipe:
        """What the model of this commit is made of, with one more contribution where asked."""
        merging = self.merging(extra)
        settings: dict[str, Any] = dict(merging.settings)
        if merging.weights:
            settings["weights"] = dict(merging.weights)
        if self.sketch:
            settings["base_sketch"] = digest(self.text("base.sketch").encode())
        return Recipe(
            base=self.base_digest, contributions=tuple(self.members(extra)), method=merging.method, settings=settings
        )

    def tensors(self) -> list[TensorRef]:
        """Every stored tensor this commit points at."""
        moving = [slug for slug, landing in self.landed.items() if landing.moves or landing.sketches]
        landed = [ref for slug in moving for ref in self.offers[slug].refs()]
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


def model_files(snapshot: Snapshot, extra: Offer | None = None) -> dict[str, bytes]:
    """config.json, the tokenizer and its chat template, as contributions have made them."""
    return snapshot.grown(extra).files


def base_files(snapshot: Snapshot) -> dict[str, bytes]:
    """The base's config.json, tokenizer and chat template.

    Raises:
        UsageError: there is no config.json.
    """
    files = snapshot.repo.files(snapshot.commit, "model")
    if "config.json" not in files:
        raise UsageError("model/config.json is not there", hint="was this made by `souq init`?")
    return files


def needed(repo: GitRepo, commits: Mapping[str, str]) -> list[str]:
    """The tensors that these commits' locks point at, each once, bases before what is kept as a difference."""
    digests = {ref.digest: None for commit in commits.values() for ref in Snapshot(repo, commit).tensors()}
    return list(digests)
