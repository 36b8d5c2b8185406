"""A souq repository as a model on a hub.

Downloads are not counted, so no answer says how often a model was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from souq.errors import SouqError
from souq.hub.huggingface.exporting import write
from souq.hub.huggingface.revisions import Line, Previews, Revision, find, summary
from souq.hub.huggingface.sources import Row, commit_row, named_row, owned, utc
from souq.hub.listing import Listing
from souq.pulls import pull as pulls
from souq.releases.card import head
from souq.repo.config import Config
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person
from souq.weights.lockfile import parse_lock


class Model:
    """A repository whose main stands at `tip`."""

    def __init__(self, repo: Repo, tip: str) -> None:
        self.line = Line(repo, tip)

    def find(self, name: str, previews: Previews) -> Revision:
        """The revision that a client names."""
        return find(self.line, name, previews)

    def write(self, revision: Revision, folder: Path, person: Person | None) -> None:
        """Write what souq exports."""
        write(self.line, revision, folder, person)

    def commits(self, revision: Revision, most: int) -> list[Row]:
        """The landings of main up to a revision."""
        summaries = self.line.repo.summaries(revision.main, most)
        rows = [commit_row(oid, at, by, subject) for oid, at, by, subject in summaries]
        return [self._preview(revision), *rows][:most] if revision.preview is not None else rows

    def _preview(self, revision: Revision) -> Row:
        """A pull request as if it were a commit."""
        assert revision.preview is not None
        number, offered = revision.preview.number, revision.preview.head
        _, at, by, subject = summary(self.line.repo, offered)
        with suppress(SouqError):  # the commit's own words, where nobody can read what is offered
            subject = pulls.get(self.line.repo, number).offer.contribution.title
        return commit_row(revision.id, at, by, f"Pull request {number}: {subject}")

    def refs(self, previews: Previews, *, with_pulls: bool) -> Row:
        """Main, the releases as tags, and on demand the pull requests that are open."""
        line = self.line
        tags = [named_row(version, f"refs/tags/{version}", commit) for version, commit in line.releases.items()]
        known = {"branches": [named_row("main", "refs/heads/main", line.tip)], "converts": [], "tags": tags[::-1]}
        if with_pulls:
            rows = known["pullRequests"] = []
            for pull in line.open_pulls():
                previews.remember(preview := line.preview(pull))
                rows.append(named_row(ref := f"refs/pr/{pull.number}", ref, preview.id))
        return known

    def warning(self, revision: Revision) -> str:
        """That nobody has decided on it, or that nobody should use it."""
        if revision.preview is not None:
            text = f"pull request {revision.preview.number} is not merged: nobody has decided on this model"
            return f"Not main; {text}"
        if self.line.yanked(revision.id):
            return f"Yanked; release {self.line.released_at(revision.id)} is not to be used"
        return ""

    def facts(self, name: str, revision: Revision, listing: Listing, read: Callable[[str], bytes]) -> Row:
        """What its card, its configuration and its lock say."""
        counts = Counter[str]()
        for ref in parse_lock(read("model.lock").decode()).values():
            counts[ref.dtype] += ref.size
        config = json.loads(read("config.json"))
        first = summary(self.line.repo, self.line.commits[0])
        return described(name, Snapshot(self.line.repo, revision.main).config) | {
            "lastModified": self.commits(revision, 1)[0]["date"], "createdAt": utc(first[1]),
            "safetensors": {"parameters": counts, "total": counts.total()},
            "config": {key: config[key] for key in ("architectures", "model_type") if key in config},
        }  # fmt: skip


def described(name: str, config: Config) -> Row:
    """What main's souq.toml says of a model."""
    card = head(config.licence, config.origin)
    tags = ["transformers", "safetensors", *card["tags"], "text-generation", f"license:{card['license']}"]
    tags += [f"base_model:{card['base_model']}"] if "base_model" in card else []
    library, task = card["library_name"], card["pipeline_tag"]
    return owned(name) | {
        "modelId": name, "library_name": library, "pipeline_tag": task, "tags": tags, "cardData": card,
    }  # fmt: skip


def listed(repo: Repo, name: str) -> Row:
    """A model as a list has it."""
    tip = repo.tip()
    first, last = summary(repo, repo.history(tip)[0]), summary(repo, tip)
    dates = {"createdAt": utc(first[1]), "lastModified": utc(last[1])}
    return described(name, Snapshot(repo, tip).config) | {"sha": tip, **dates}
