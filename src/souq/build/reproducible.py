"""Which contributions of weights anybody can train again, and how much of the model that is.

A contribution that brings its rows and a recipe that fits them and its own weights is *source*; one that brings only
weights is a *binary*. Here is judged what can be read; whether it is also true is found by training: lab/rebuild.py.

    judgement = judged(offer)      # truthy where it is source
    judgement.word, judgement.because
    sentence(share(main))          # a line for a card
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from souq.build.delta_distance import squared_length
from souq.errors import Corrupt, NotFound, SouqError, UsageError
from souq.progress import Progress, quiet
from souq.records import Digest, Record
from souq.repo.contribution import Offer
from souq.repo.notes import Notes
from souq.repo.rows import Rows, parse_rows, rows_digest
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Lora
from souq.weights.delta import Rows as NewRows

LEAST_ROW = 256  # bytes: what a row costs however short it is, for its template and its step
LONGEST_ROW = 32 << 10  # bytes: what attention looks at grows with the square
MAX_REASON = 300  # characters of a reason
MOST_WORK = 8  # megabytes of rows times epochs: about an hour for a model of 135M on two cores

Count = Annotated[int, Meta(ge=1, le=10_000)]
Places = Annotated[tuple[Annotated[int, Meta(ge=0, le=9_999)], ...], Meta(max_length=1_000)]


class Rebased(Record, frozen=True, kw_only=True):
    """That it was trained once more within a merge, on the same rows (decisions/rebase.md)."""

    onto: Annotated[str, Meta(pattern="^[0-9a-f]{40,64}$")]
    epochs: Count
    lr: Annotated[float, Meta(gt=0, le=1)]
    data: Digest
    through: Digest
    threads: Annotated[int, Meta(ge=1, le=1_024)]
    times: int


class Training(Record, frozen=True, kw_only=True):
    """A recipe that is whole: every setting a training depends on, within what is not absurd; no other key."""

    lr: Annotated[float, Meta(gt=0, le=1)]
    epochs: Count
    batch: Annotated[int, Meta(ge=1, le=100_000)]
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    data: Digest
    threads: Annotated[int, Meta(ge=1, le=1_024)]
    dtype: Literal["float32"]
    device: str
    processor: str
    python: str
    torch: str
    transformers: str
    tokenizers: str
    peft: str = ""
    rebase: Rebased | None = None


class OfLora(Training, frozen=True, kw_only=True, tag_field="method", tag="lora"):
    """How `souq train` makes a LoRA."""

    rank: Annotated[int, Meta(ge=1, le=4_096)]
    alpha: Annotated[float, Meta(gt=0, le=1e6)]
    targets: Annotated[tuple[Annotated[str, Meta(pattern=r"^\w{1,64}$")], ...], Meta(min_length=1, max_length=64)]
    layers: Literal["all"] | Places
    replay: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    replayed: Digest = ""

    def misfit(self, delta: Delta) -> str:
        """How these weights cannot be this recipe's; nothing where they may be."""
        if delta.new or not all(isinstance(part, Lora) for part in delta.parts.values()):
            return "its recipe trains a LoRA, and its weights are no LoRA"
        for name, part in delta.parts.items():
            assert isinstance(part, Lora)
            if part.a.shape[0] != self.rank:
                return f"its recipe says rank {self.rank}, its factors have {part.a.shape[0]}"
            if abs(part.scale - self.alpha / self.rank) > 1e-9 * part.scale:
                return f"its recipe says alpha {self.alpha:g}, its factors are scaled by {part.scale:g} x {self.rank}"
            match = re.fullmatch(r"model\.layers\.(\d+)\..*?(\w+)\.weight", name)
            trains = match is not None and match[2] in self.targets
            if match is None or not trains or (self.layers != "all" and int(match[1]) not in self.layers):
                return f"its recipe does not train {name}, and it changes that"
        return ""


class OfAdditions(Training, frozen=True, kw_only=True, tag_field="method", tag="additions"):
    """How `souq train` makes new tokens, layers and experts."""

    tokens: Annotated[tuple[str, ...], Meta(max_length=10_000)]
    layers: Places
    experts: Places
    texts: Digest = ""

    def misfit(self, delta: Delta) -> str:
        if delta.parts:
            return "its recipe only adds to the base, and it changes the base's own tensors"
        titles = {title for title, new in delta.new.items() if not isinstance(new, NewRows)}
        places = {tuple(title.replace(" ", ".").split(".")[:3]) for title in titles}
        wanted = {("layer", str(n), str(self.layers[:k].count(n))) for k, n in enumerate(self.layers)}
        wanted |= {(kind, str(n), "0") for kind in ("expert", "router") for n in self.experts}
        rows = [new for new in delta.new.values() if isinstance(new, NewRows)]
        tokens = {token for new in rows for token in new.tokens}  # the same in every table, says parse_delta
        if places != wanted or tokens != set(self.tokens):
            return "its recipe does not make the tokens, layers and experts that it adds"
        return ""


@dataclass(frozen=True)
class Judged:
    """Whether a contribution of weights is source, with what it takes to train it; or why it is a binary."""

    because: str = ""
    training: OfLora | OfAdditions | None = None
    rows: Rows | None = None

    def __bool__(self) -> bool:
        return self.training is not None

    @property
    def word(self) -> str:
        return "source" if self else "binary"

    @property
    def work(self) -> int:
        """Bytes of rows times epochs: what it costs to train again."""
        if self.training is None or self.rows is None:
            return 0
        rebase = self.training.rebase
        epochs = self.training.epochs + (rebase.epochs if rebase is not None else 0)
        return epochs * sum(max(len(msgspec.json.encode(row)), LEAST_ROW) for row in self.rows)

    @property
    def longest(self) -> int:
        """Bytes of the longest row."""
        return max((len(msgspec.json.encode(row)) for row in self.rows or ()), default=0)


def judged(offer: Offer) -> Judged | None:
    """Whether a contribution is source, by what it brings; None where it brings no weights."""
    try:
        judgement = None if offer.delta is None else _judged(offer, offer.delta)
    except (SouqError, ValueError) as error:  # what cannot be read cannot be trained again
        judgement = Judged(str(error))
    if judgement is None or judgement:
        return judgement
    quoted = judgement.because[:MAX_REASON]  # it may quote a stranger
    return Judged("".join(c if c.isprintable() else "?" for c in quoted))


def word(offer: Offer) -> str:
    """`source` or `binary`; nothing where it brings no weights."""
    return judgement.word if (judgement := judged(offer)) is not None else ""


def _judged(offer: Offer, delta: Delta) -> Judged:
    recipe = offer.contribution.recipe
    if not offer.data:
        return Judged("it brings no data")
    if not recipe:
        return Judged("it brings no recipe")
    try:
        training: OfLora | OfAdditions = msgspec.convert(recipe, OfLora | OfAdditions)
    except msgspec.ValidationError as error:
        return Judged(f"its recipe is not one that can be trained again: {error}")
    rows = _rows(offer.data, training.data)
    if rows is None:
        return Judged("the rows it brings are not those its recipe was trained on")
    if because := training.misfit(delta) or _once(training):
        return Judged(because)
    return Judged(training=training, rows=rows)


def _rows(data: Mapping[str, bytes], wanted: Digest) -> Rows | None:
    """The rows of that name: those of one file, or of all of them in the order of their names."""
    files = [parse_rows(data[path], where=path) for path in sorted(data)]
    choices = [*files, [row for rows in files for row in rows]]
    return next((rows for rows in choices if rows and rows_digest(rows) == wanted), None)


def _once(training: Training) -> str:
    """Why a rebase cannot be followed: the recipe tells of the last one only, and of rows it brings."""
    if (rebase := training.rebase) is None:
        return ""
    if rebase.times != 1:
        return f"it was rebased {rebase.times} times, and its recipe tells of the last alone"
    return "" if rebase.data == training.data else "it was rebased on other rows than it brings"


def bounded(judgement: Judged, most: float) -> None:
    """A stranger's recipe spends somebody else's time, so there is a limit to it.

    Raises:
        UsageError: more rows and epochs than `most` megabytes, or a row that is too long to look at.
    """
    longest = LONGEST_ROW * max(most / MOST_WORK, 1)
    if judgement.work > most * 1e6 or judgement.longest > longest:
        raise UsageError(
            f"its recipe asks for {judgement.work / 1e6:,.1f} MB of rows times epochs, "
            f"the longest row {judgement.longest:,} bytes; the most is {most:g} MB, and {longest:,.0f} bytes a row",
            hint="if it is worth that to you, raise --most",
        )


# -- how much of the model ---------------------------------------------------------------------------------------------


class Share(Record, frozen=True):
    """How much of what contributions brought has source; the base counts apart."""

    contributions: int  # of weights, landed
    source: int
    moved: float | None  # the share of the squared Frobenius norm of all changes, as offered; None: tensors not here
    base: str  # "binary", or where souq.toml says its source is
    binaries: dict[str, str]  # slug -> why


class _Note(Record, frozen=True):
    because: str
    moved: float | None  # None: a tensor is not here
    lacks: Digest = ""  # which


def share(main: Snapshot, progress: Progress = quiet) -> Share:
    """The share of a commit's model that has source; each contribution is read and measured once and remembered."""
    weights = [slug for slug, landing in main.landed.items() if landing.moves]
    trees = main.repo.trees(main.commit, "contributions")
    notes = Notes(main.repo.cache / f"source-{main.base_digest[3:19]}.jsonl", _Note)
    because, sizes = dict[str, str](), dict[str, float | None]()
    learned = dict[str, _Note]()
    try:
        for done, slug in enumerate(weights):
            note = None if main.fresh else notes.get(trees[slug])
            if note is None or (note.lacks and note.lacks in main.repo.store):
                progress("measure", done, len(weights))
                note = _measured(main, slug)
                learned |= {trees[slug]: note} if note.lacks or note.moved is not None else {}
            because[slug], sizes[slug] = note.because, note.moved
    finally:
        notes.add(learned)
    progress("measure", len(weights), len(weights))
    known = [size for size in sizes.values() if size is not None]
    mine = sum(size for slug, size in sizes.items() if size is not None and not because[slug])
    whole = len(known) == len(weights) and sum(known) > 0
    return Share(
        contributions=len(weights),
        source=sum(not reason for reason in because.values()),
        moved=mine / sum(known) if whole else None,
        base=main.config.base_source or "binary",
        binaries={slug: reason for slug, reason in because.items() if reason},
    )


def _measured(main: Snapshot, slug: str) -> _Note:
    """Why it is a binary (nothing: it is source), and what it moves, where its tensors are here."""
    offer = main.offers[slug]
    judgement = judged(offer)
    assert judgement is not None
    if (delta := offer.delta) is None:
        return _Note(because=judgement.because, moved=0.0)
    needed = [*delta.refs(), *(main.base[name] for name in delta.parts if name in main.base)]
    try:
        return _Note(because=judgement.because, moved=squared_length(delta, main.base, main.repo.store.get))
    except (NotFound, Corrupt):
        lacks = next((ref.digest for ref in needed if ref.digest not in main.repo.store), "")
        return _Note(because=judgement.because, moved=None, lacks=lacks)


def sentence(share: Share) -> str:
    """The share as a sentence; nothing where no contribution changed weights."""
    if not share.contributions:
        return ""
    part = "" if share.moved is None else f", {share.moved:.0%} of what they moved (squared norm, as offered)"
    base = "is a binary: souq cannot train it again"
    if share.base != "binary":
        base = f"has its source at {share.base}, says souq.toml; nothing here has tried it"
    count = f"{share.source} of {share.contributions} contributions of weights brought their source"
    return f"{count}{part}; the base {base}"
