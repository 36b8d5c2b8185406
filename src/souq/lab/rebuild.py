"""Train a contribution again from what it brings, and say how near that comes to the weights it offered.

    rebuilt = rebuild(main, offer, judged(offer), texts)
    rebuilt.near.exact, rebuilt.loss["offered"], rebuilt.loss["again"]

A rebased one is trained twice, as it was: alone, and then once more within the merge it was rebased onto.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from souq.build.delta_distance import Near, compare
from souq.build.delta_file import keep
from souq.build.deltas import from_adapter
from souq.build.model import applied
from souq.build.reproducible import Judged, OfAdditions, OfLora
from souq.build.tuned import Choices, from_tune
from souq.errors import Refused, SouqError
from souq.lab import additions
from souq.lab import lm as lab_model
from souq.lab.config_defaults import write_out
from souq.lab.packing import learnable, sequence_of
from souq.lab.rebase import merge_digest, rebased
from souq.lab.sketching import nats
from souq.lab.train import deterministic, machine, train_lora
from souq.model.adapter.peft import open_adapter
from souq.model.source import Source
from souq.progress import Progress, quiet
from souq.records import digest_of, format_toml
from souq.repo.contribution import Offer
from souq.repo.rows import Rows
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Array, Delta, Load, Lora, Tensors
from souq.weights.lockfile import format_delta
from souq.weights.store import Stored

MACHINE = ("device", "processor", "threads", "python", "torch", "transformers", "tokenizers", "peft")


@dataclass(frozen=True)
class Rebuilt:
    """What came out of training it again.

    `loss` is nats a token of its own answers, counted by the base's tokenizer: of the `base`, with the change as
    `offered`, and with the one trained `again`. `unlike` is what this machine has otherwise than the recipe says.
    """

    near: Near
    loss: Mapping[str, float]
    unlike: Mapping[str, tuple[str, str]]


def rebuild(
    main: Snapshot, offer: Offer, judged: Judged, texts: Sequence[str] = (), progress: Progress = quiet
) -> Rebuilt:
    """Train a source contribution again; `texts` are the general ones an expert's router is found by.

    Raises:
        Refused: it is a binary, or what it was trained beside is not here.
    """
    delta, training, rows = offer.delta, judged.training, judged.rows
    if delta is None or training is None or rows is None:
        raise Refused(f"{offer.slug} is a binary: {judged.because}", hint="its author can offer it anew with --data")
    if because := _misfit(main, delta):
        raise Refused(f"{offer.slug} {because}", hint="`souq pr checks` says what else is wrong with it")
    threads = _bearable(training.threads)
    try:
        with deterministic(threads):
            again, tensors = _trained(main, training, rows, texts, progress)
        if training.rebase is not None:
            again, tensors = _rebased(main, offer, judged, again, tensors, progress)
    except SouqError:
        raise
    except (
        Exception
    ) as error:  # a stranger's rows went through templates, tokenizers and torch: each breaks its own way
        raise Refused(f"its source cannot be trained: {type(error).__name__}: {str(error)[:200]!a}") from error

    def load(digest: str) -> Array:
        return tensors[digest] if digest in tensors else main.repo.store.get(digest)

    near = compare(delta, again, main.base, load, progress)
    here = {**machine(), "threads": threads}
    pairs = {key: (str(getattr(training, key)), str(here[key])) for key in MACHINE}
    unlike = {key: (theirs, ours) for key, (theirs, ours) in pairs.items() if theirs != ours}
    with deterministic(threads):
        loss = _losses(main, {"base": Delta(delta.base, {}), "offered": delta, "again": again}, rows, load, progress)
    return Rebuilt(near, loss, unlike)


def _misfit(main: Snapshot, delta: Delta) -> str:
    """Why its weights cannot be compared with others of this base; nothing where they can."""
    if delta.base != main.base_digest:
        return f"was made on another base, {delta.base[:15]}…"
    for name, part in delta.parts.items():
        if name not in main.base or (isinstance(part, Lora) and part.shape != main.base[name].shape):
            return f"changes {name}, which is not there or of another shape"
    return ""


def _bearable(threads: int) -> int:
    """As many threads as its author had, since the bits depend on it; as many as no machine near has are not tried."""
    return min(threads, max(64, os.cpu_count() or 1))


def _trained(
    main: Snapshot, training: OfLora | OfAdditions, rows: Rows, texts: Sequence[str], progress: Progress
) -> tuple[Delta, Tensors]:
    """As `souq train` and `souq delta make` do it."""
    settings: dict[str, Any] = {key: getattr(training, key) for key in ("lr", "epochs", "batch", "seed")}
    if isinstance(training, OfAdditions):
        if training.experts and digest_of(list(texts)) != training.texts:
            raise Refused(
                "its expert's router was found by other general texts than souq has here",
                hint=f"they come with Python's documentation: try Python {training.python}",
            )
        wanted = additions.Wanted(training.tokens, training.layers, training.experts)
        model, _ = additions.train_additions(main, rows, wanted, texts, progress=progress, **settings)
        source = Source(model.weights, dict(model.files), "again", None, "")
        made = from_tune(source, main, Choices(of="base", write_out=write_out), progress)
        return made.delta, made.tensors
    lm = lab_model.load(base_files(main), Stored(main.base, main.repo.store))
    layers = None if training.layers == "all" else training.layers
    with tempfile.TemporaryDirectory() as folder:
        train_lora(
            lm,
            rows,
            Path(folder),
            rank=training.rank,
            alpha=training.alpha,
            targets=training.targets,
            layers=layers,
            replay=training.replay,
            progress=progress,
            **settings,
        )
        return from_adapter(open_adapter(Path(folder)), main)


def _rebased(
    main: Snapshot, offer: Offer, judged: Judged, first: Delta, tensors: Tensors, progress: Progress
) -> tuple[Delta, Tensors]:
    """The second training: within the merge of the commit it was rebased onto, its sketches as they were."""
    mine, rebase = offer.delta, judged.training.rebase if judged.training is not None else None
    assert mine is not None
    assert rebase is not None
    if not main.repo.contains(main.commit, rebase.onto):
        raise Refused(f"it was rebased onto {rebase.onto[:12]}, which main has never been", hint="run `souq fetch`")
    onto = Snapshot(main.repo, rebase.onto)
    if merge_digest(onto, offer) != rebase.through:
        raise Refused(
            "it was rebased through another merge than it asks for now", hint="its author can rebase it again"
        )
    before = replace(first, grams=mine.grams, inputs=mine.inputs)
    keep(before, tensors, main, progress)
    recipe = {key: value for key, value in offer.contribution.recipe.items() if key != "rebase"}
    contribution = msgspec.structs.replace(offer.contribution, recipe=recipe)
    files = {
        **offer.files,
        "contribution.toml": format_toml(contribution).encode(),
        "delta.lock": format_delta(before).encode(),
    }
    with tempfile.TemporaryDirectory() as folder, deterministic(_bearable(rebase.threads)):
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in judged.rows or ()))
        made, held, _ = rebased(
            onto, Offer(offer.slug, files), path, epochs=rebase.epochs, lr=rebase.lr, progress=progress
        )
    return made, held


def _losses(
    main: Snapshot, changes: Mapping[str, Delta], rows: Rows, load: Load, progress: Progress
) -> dict[str, float]:
    """Nats a token of the rows' answers under each change; the same change is not read twice."""
    losses: dict[str, float] = {}
    count = 0
    for name, delta in changes.items():
        twin = next((other for other in losses if _same(changes[other], delta)), None)
        if twin is not None:
            losses[name] = losses[twin]
            continue
        model = applied(main, delta, load)
        lm = lab_model.load(model.files, model.weights)
        sequences = learnable(lm, [sequence_of(lm, row) for row in rows])
        tokens = sum(len(sequence.tokens) - max(sequence.start, 1) for sequence in sequences)
        count = count or tokens  # the base comes first: nats of two vocabularies do not compare
        losses[name] = nats(lm, sequences, f"read with {name}", progress) * tokens / max(count, 1)
    return {name: round(value, 6) for name, value in losses.items()}


def _same(a: Delta, b: Delta) -> bool:
    return a.parts == b.parts and a.new == b.new
