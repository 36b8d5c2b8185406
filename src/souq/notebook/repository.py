"""A model repository as a notebook sees it: main, and what was offered to it.

Tables are lists of rows, each a dictionary, so `pandas.DataFrame(rows)` is one. It reads; who offers, votes or merges
types the verbs.

    repo = souq.open("smol")        # a clone, a bare repository, or a URL
    repo.main.scores()              # [{"eval": "capitals", "cases": 100, "score": 0.91, …}, …]
    repo.pulls()[4].votes
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from souq.build import reproducible
from souq.build.lock import differing
from souq.build.model import Built, build
from souq.checks.evals import scores
from souq.errors import NotFound, nearest
from souq.notebook.pictures import listing
from souq.notebook.pull_request import PullRequest
from souq.progress import Progress, quiet
from souq.pulls import pull as pulls
from souq.records import digest
from souq.repo.contribution import number_of
from souq.repo.remote import Repo, is_url
from souq.repo.snapshot import Snapshot, base_files
from souq.repo.travel import absolute, bring_main, clone
from souq.weights.delta import Lock

Row = dict[str, Any]


def open_repository(place: str | os.PathLike[str]) -> Repository:
    """A model repository by its folder or its URL; one by URL is cloned once, below the user's cache, and then fetched.

    Raises:
        NotFound: there is none.
    """
    text = os.fspath(place)
    if not is_url(text):
        return Repository(Repo.find(Path(text)))
    name = digest(absolute(text).encode()).removeprefix("b3:")[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "souq" / "clones" / name
    if folder.is_dir():
        repo = Repo.find(folder)
        repo.fetch()
        repo.forward(repo.tip())
        return Repository(repo)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Repository(clone(text, folder, tensors=False))


class Repository:
    """A model repository: `main`, the pull requests, the releases."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo

    def fetch(self) -> Repository:
        """This repository with what others have sent since."""
        self.repo.fetch()
        return Repository(self.repo)

    @property
    def name(self) -> str:
        """What souq.toml calls it."""
        return self.main.name

    @cached_property
    def main(self) -> Main:
        """Main as everybody has it."""
        return Main(self.repo, Snapshot(self.repo, self.repo.tip()))

    def pulls(self, state: str = "") -> Pulls:
        """The pull requests by number: all of them, or the `open`, `merged`, `closed` or `taken back` ones."""
        return Pulls(self.repo, self.main.snapshot, state)

    @property
    def releases(self) -> list[str]:
        """The versions that were released."""
        return self.main.snapshot.releases

    def __repr__(self) -> str:
        main = self.main
        return f"<{main.name} at {main.commit[:12]}: {len(main.contributions())} contributions>"

    def _repr_html_(self) -> str:
        return self.main._repr_html_()


class Main:
    """The model that everybody has: its contributions, its evals, and the model itself."""

    def __init__(self, repo: Repo, snapshot: Snapshot) -> None:
        self._repo, self.snapshot = repo, snapshot

    @property
    def name(self) -> str:
        """What souq.toml calls the repository."""
        return self.snapshot.config.name

    @property
    def commit(self) -> str:
        """The commit it stands at."""
        return self.snapshot.commit

    def contributions(self) -> list[Row]:
        """What has landed, oldest first: number, title, kind, author, licence, and what it fixes."""
        rows = []
        for slug in sorted(self.snapshot.offers, key=number_of):
            offer = self.snapshot.offers[slug]
            c = offer.contribution
            facts = {"title": c.title, "kind": c.kind, "author": c.author.name, "licence": c.licence}
            rows.append(
                {"number": number_of(slug)[0], **facts, "fixes": [*c.fixes], "source": reproducible.word(offer)}
            )
        return rows

    def evals(self) -> list[Row]:
        """What main is examined by: its name, kind, number of cases, and whether a change may make it worse."""
        guarded = self.snapshot.guarded
        return [
            {"eval": name, "kind": suite.spec.kind, "cases": len(suite.cases), "guarded": name in guarded}
            for name, suite in self.snapshot.evals.items()
        ]

    def scores(self, *names: str, progress: Progress = quiet) -> list[Row]:
        """The model's score on each eval, or on those named; what was scored before is read, the rest takes minutes.

        Raises:
            NotFound: no eval of that name.
            Missing: nothing here runs models.
        """
        evals = self.snapshot.evals
        for name in names:
            if name not in evals:
                raise NotFound(f"no eval {name!r}{nearest(name, evals)}", hint=f"one of {', '.join(evals)}")
        asked = {name: evals[name] for name in names or evals}
        scored = scores(self.snapshot, self.build(progress), asked, progress)
        return [
            {"eval": name, "kind": score.kind, "cases": score.n, "score": score.value, "stderr": score.stderr}
            for name, score in scored.items()
        ]

    def build(self, progress: Progress = quiet) -> Built:
        """The model as files: folded from the contributions the first time, read after that."""
        bring_main(self._repo, progress)
        return build(self.snapshot, progress=progress)

    def model(self) -> Any:
        """The model as a transformers network in float32, on a GPU where there is one.

        Raises:
            Missing: torch or transformers is not installed.
        """
        return self._lm.net

    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers has it.

        Raises:
            Missing: torch or transformers is not installed.
        """
        return self._lm.tokenizer

    @cached_property
    def _lm(self) -> Any:
        from souq.lab import lm

        built = self.build()
        return lm.load(built.files, built.weights, measure=base_files(self.snapshot))

    def diff(self, since: str = "") -> list[Row]:
        """Which tensors differ from those of an earlier commit, or of the base: each by its digest before and after."""
        before = Snapshot(self._repo, since).model if since else self.snapshot.base
        after = self.snapshot.model
        return [
            {"tensor": name, "before": digest_in(before, name), "after": digest_in(after, name)}
            for name in differing(before, after)
        ]

    def __repr__(self) -> str:
        config = self.snapshot.config
        return f"<main of {config.name} at {self.commit[:12]}, from {config.base} ({config.licence})>"

    def _repr_html_(self) -> str:
        return listing(repr(self), self.contributions())


def digest_in(lock: Lock, name: str) -> str:
    """A tensor's digest; "" where a lock has none of that name."""
    return lock[name].digest if name in lock else ""


class Pulls(Mapping[int, PullRequest]):
    """Pull requests by number."""

    def __init__(self, repo: Repo, main: Snapshot, state: str = "") -> None:
        listed = {pull.number: PullRequest(repo, main, pull) for pull in pulls.listed(repo)}
        self._pulls = {number: pull for number, pull in listed.items() if state in ("", pull.state)}

    def rows(self) -> list[Row]:
        """Number, state, kind, title, author and digest of each."""
        return [pull.row() for pull in self._pulls.values()]

    def __getitem__(self, number: int) -> PullRequest:
        return self._pulls[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._pulls)

    def __len__(self) -> int:
        return len(self._pulls)

    def __repr__(self) -> str:
        return f"<{len(self)} pull requests>" if len(self) != 1 else "<1 pull request>"

    def _repr_html_(self) -> str:
        return listing(repr(self), self.rows())
