"""A contribution's folder: what contribution.toml says, the files beside it, and which files each kind may bring.

It knows the folder alone; what its landing does to a main is landing.py.

    offer = main.offers["0003-iso-dates"]
    offer.contribution.title, offer.delta, offer.evals
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from souq.errors import Hostile
from souq.evals.eval import SEALED, Eval, Sealed, read_eval, read_sealed
from souq.governance import POLICY, Election, Policy, read_policy
from souq.records import Contribution, Digest, Record, digest, digest_files, parse_toml
from souq.repo.config import Merging
from souq.text import plain_letters
from souq.weights.delta import Delta, TensorRef
from souq.weights.lockfile import parse_delta

MERGE, ELECTION, YANKED = "merge.toml", "election.toml", "yanked.toml"
SKETCHES = "sketches/"  # each a delta.lock that changes nothing, by the slug of the contribution it is of
DOCUMENTS = "documents/"  # each lands at main's top, or in its docs/
RECORDS = "records/"  # inside a landed contribution: who signed what; not part of what was offered
MAX_RECORDS = 1_000  # of one contribution
MAX_RECORD = 1 << 20  # bytes of one
MAX_HELD = 16 << 20  # and of all; what was offered has bounds of its own, MAX_FILES and MAX_OFFER


class Brings(Record, frozen=True):
    """What a kind of contribution is made of, beside contribution.toml: files by their names, folders by a last `/`."""

    must: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


BRINGS = {
    "weights": Brings(must=("delta.lock",), may=("data/", MERGE)),
    "sketches": Brings(must=(SKETCHES,)),
    "data": Brings(must=("data/",)),
    "evals": Brings(must=("evals/",)),
    "documents": Brings(must=(DOCUMENTS,)),
    "governance": Brings(must=(POLICY,)),
    "election": Brings(must=(ELECTION,)),
    "release": Brings(must=("release/release.json", "release/README.md"), may=("release/",)),
    "revert": Brings(),
    "yank": Brings(),
    "ratify": Brings(),
    "restore": Brings(),
}
CLAIMING = ("weights", "data", "evals")  # they may say what they fix, which is guarded from then on
NAMED = ("release", "revert", "yank", "ratify", "restore")  # they are about something that `of` names


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
        return parse_toml(
            utf8_of(self.files, "contribution.toml"), Contribution, where=f"{self.slug}/contribution.toml"
        )

    @cached_property
    def delta(self) -> Delta | None:
        return parse_delta(utf8_of(self.files, "delta.lock")) if "delta.lock" in self.files else None

    @cached_property
    def sketches(self) -> dict[str, Delta]:
        """The sketches it renews, by the slug of the landed contribution whose they are: deltas that change nothing.

        Raises:
            Hostile: one that cannot be read.
        """
        return {_sketched(path): parse_delta(utf8_of(self.files, path)) for path in sorted(self._sketch_files)}

    @property
    def _sketch_files(self) -> dict[str, bytes]:
        return {path: data for path, data in self.files.items() if path.startswith(SKETCHES)}

    @property
    def moves_weights(self) -> bool:
        """Whether it changes tensors, or the sketches by which changes of tensors are merged."""
        return self.delta is not None or bool(self._sketch_files)

    def refs(self) -> Iterator[TensorRef]:
        """Every tensor it brings."""
        for delta in ([self.delta] if self.delta is not None else []) + [*self.sketches.values()]:
            yield from delta.refs()

    @cached_property
    def evals(self) -> list[Eval]:
        """The evals it brings, in `evals/<name>/`."""
        return evals_in(
            {path.removeprefix("evals/"): data for path, data in self.files.items() if path.startswith("evals/")}
        )

    @cached_property
    def sealed(self) -> dict[str, Sealed]:
        """The hidden evals it brings, of which it shows the digest."""
        return sealed_in(self.files, "evals/")

    @property
    def data(self) -> dict[str, bytes]:
        """The training rows it brings, by file."""
        return {path: data for path, data in self.files.items() if path.startswith("data/")}

    @cached_property
    def merge(self) -> dict[str, Any] | None:
        """The `[merge]` table main is to have from its landing on, where it asks for one: merge.toml."""
        if MERGE not in self.files:
            return None
        table = parse_toml(utf8_of(self.files, MERGE), dict[str, Any], where=f"{self.slug}/{MERGE}")
        Merging.of(table)
        return table

    @cached_property
    def documents(self) -> dict[str, bytes]:
        """The documents it brings, by where they stand on main."""
        return {path.removeprefix(DOCUMENTS): data for path, data in self.files.items() if path.startswith(DOCUMENTS)}

    @property
    def home(self) -> str:
        return f"contributions/{self.slug}/"

    @cached_property
    def amends(self) -> Policy | None:
        """The policy it offers."""
        return read_policy(utf8_of(self.files, POLICY)) if POLICY in self.files else None

    @cached_property
    def election(self) -> Election | None:
        if ELECTION not in self.files:
            return None
        return parse_toml(utf8_of(self.files, ELECTION), Election, where=f"{self.slug}/{ELECTION}")


class Landing(Record, frozen=True):
    """A landed contribution in a few words."""

    digest: Digest
    kind: str
    about: str = ""
    moves: str = ""  # "weights"; "grows" where it makes the model larger; "" for neither
    sketches: dict[str, Digest] = msgspec.field(default_factory=dict)  # that it renews: of whom, and the file's digest

    @classmethod
    def of(cls, offer: Offer) -> Landing:
        c = offer.contribution
        sketches = {_sketched(path): digest(data) for path, data in sorted(offer._sketch_files.items())}
        return cls(digest=offer.digest, kind=c.kind, about=c.of, moves=_kind(offer.delta), sketches=sketches)


_DOCUMENT = re.compile(
    r"LICENSE(\.base)?|NOTICE|CITATION\.cff|[A-Z][A-Z0-9_]{1,39}\.(md|txt)|docs/[A-Za-z0-9][A-Za-z0-9_\-]{0,63}\.(md|txt|tex)"
)


def is_document(path: str) -> bool:
    """Whether a file of main is a text for people, that nothing reads as a rule: what may be offered as a document."""
    return _DOCUMENT.fullmatch(path) is not None


def is_slug(name: str) -> bool:
    """Whether this can be a contribution's folder, on every file system and every terminal: `0003-iso-dates`."""
    return re.fullmatch(r"[a-z0-9][a-z0-9\-]{0,79}", name) is not None


def evals_in(files: Mapping[str, bytes]) -> list[Eval]:
    """The evals in some files, by paths `<name>/…`; a folder that holds only a seal is none.

    Raises:
        Hostile: an eval that cannot be read.
    """
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in files.items():
        name, _, inside = path.partition("/")
        folders.setdefault(name, {})[inside] = data
    return [read_eval(name, folder) for name, folder in sorted(folders.items()) if folder.keys() != {SEALED}]


def sealed_in(files: Mapping[str, bytes], below: str) -> dict[str, Sealed]:
    """The hidden evals among some files, by name; their paths begin with `below`."""
    seals = {
        path.removeprefix(below).removesuffix(f"/{SEALED}"): data
        for path, data in sorted(files.items())
        if path.startswith(below) and path.endswith(f"/{SEALED}")
    }
    return {name: read_sealed(name, data) for name, data in seals.items()}


def utf8_of(files: Mapping[str, bytes], path: str) -> str:
    """One of some files as text.

    Raises:
        Hostile: it is not there, or not UTF-8.
    """
    if path not in files:
        raise Hostile(f"there is no {path}")
    try:
        return files[path].decode()
    except UnicodeDecodeError as error:
        raise Hostile(f"{path} is not UTF-8 text") from error


def _sketched(path: str) -> str:
    """`sketches/0003-iso-dates.lock` -> `0003-iso-dates`."""
    return path.removeprefix(SKETCHES).removesuffix(".lock")


def number_of(slug: str) -> tuple[int, str]:
    """What contributions are ordered by: their pull request's number, then their name."""
    digits = re.match(r"[0-9]*", slug)
    return int(digits[0]) if digits and digits[0] else -1, slug


def _kind(delta: Delta | None) -> str:
    return "" if delta is None else "grows" if delta.new else "weights"


def slug(title: str) -> str:
    """`ISO dates, please!` -> `iso-dates-please`."""
    return re.sub(r"[^a-z0-9]+", "-", plain_letters(title).lower()).strip("-")[:48].rstrip("-") or "contribution"
