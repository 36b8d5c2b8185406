"""An adapter made into a delta: read here where its numbers can be kept as they are, else merged by PEFT."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from souq.build import adapter_base, deltas
from souq.build.delta_file import recipe_beside
from souq.build.tuned import from_model
from souq.cli.console import starting_lab
from souq.errors import UsageError
from souq.model.adapter.config import AdapterConfig, needs_svd, read_config
from souq.model.adapter.mlx import is_mlx
from souq.model.adapter.modules import Adapter, NeedsPeft
from souq.model.adapter.peft import CONFIG, adapters_below, gguf_adapters, locate, open_adapter
from souq.model.source import Source, inside
from souq.optional import installed_version
from souq.progress import Progress, quiet
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Delta, Tensors

SEEN, LARGE = 5e-4, 0.1  # a share that shows as 0.1%; one that is worth another way


@dataclass(frozen=True)
class Made:
    """An adapter's delta, the recipe that travels with it, and what its owner should know."""

    delta: Delta
    tensors: Tensors
    recipe: dict[str, Any]
    notes: tuple[str, ...]


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, or folders of adapters, and no model of its own."""
    if (folder / "config.json").is_file() or (folder / CONFIG).is_file():
        return (folder / CONFIG).is_file()
    return bool(adapters_below(folder) or gguf_adapters(folder))


@dataclass(frozen=True)
class How:
    """What the owner of an adapter asks for."""

    merged: bool = False  # by PEFT, whole
    rank: int | None = None  # by PEFT, as the nearest LoRA
    for_this_base: bool = False


def make_adapter(source: Path, main: Snapshot, how: How, progress: Progress = quiet) -> Made:
    """The delta of an adapter's folder.

    Raises:
        UsageError: it names another base and is not said to be for this one, or is asked for what it is not.
    """
    folder, place_notes = locate(source)
    mlx = is_mlx(folder)
    config = open_adapter(folder).config if mlx else read_config(inside(folder, CONFIG))
    if mlx and (how.merged or how.rank):
        raise UsageError("PEFT does not read MLX's adapters", hint="leave --merged and --rank out")
    if how.rank is not None:
        if how.merged or not config.needs_peft:
            hint = "leave it out; the rank of a sketch is --sketch-rank"
            raise UsageError("--rank is for what is no LoRA, and this is one", hint=hint)
        return _as_lora(folder, config, main, place_notes, how, progress)
    if how.merged or config.needs_peft:
        return _by_peft(folder, config, main, place_notes, how, progress)
    try:
        adapter = open_adapter(folder)
        fitting = deltas.fitted(adapter, main)
    except NeedsPeft as error:
        return _by_peft(folder, replace(config, needs_peft=(str(error),)), main, place_notes, how, progress)
    notes = (
        *place_notes,
        *fitting.fitted.notes,
        *_asked(folder, config, main, fitting.touched, how, whole=bool(fitting.fitted.changed)),
    )
    rounding = deltas.Rounding()
    made, tensors = deltas.from_adapter(fitting, main, rounding)
    notes = (*notes, *_lost(rounding))
    return Made(made, tensors, _recipe(folder, adapter, made, notes), notes)


def _by_peft(
    folder: Path, config: AdapterConfig, main: Snapshot, place_notes: tuple[str, ...], how: How, progress: Progress
) -> Made:
    notes = (*place_notes, *_asked(folder, config, main, list(main.base), how))
    with starting_lab(progress):
        from souq.lab.merged import merge_adapter

    with merge_adapter(main, folder, config, progress) as merged:
        source = Source(merged.weights, base_files(main), folder.name, None, "")
        made, tensors = from_model(source, main, progress)
    why = ", ".join(config.needs_peft) or "asked to"
    way = f"merged by {_peft()} ({why}), in float32 rounded once to the base's dtype"
    notes = (*notes, *_lost(merged.rounding, FACTORS))
    if merged.landed > 2 * merged.error:
        notes = (*notes, f"in the base's dtype, as it lands, it is {merged.landed:.1e} of the logits' spread away")
    return _measured(folder, config, made, tensors, notes, way, merged.error, merged.moved)


def _as_lora(
    folder: Path, config: AdapterConfig, main: Snapshot, place_notes: tuple[str, ...], how: How, progress: Progress
) -> Made:
    notes = (*place_notes, *_asked(folder, config, main, list(main.base), how))
    with starting_lab(progress):
        from souq.lab.merged import convert_adapter

    assert how.rank is not None
    with tempfile.TemporaryDirectory() as scratch:
        error, moved = convert_adapter(main, folder, config, how.rank, Path(scratch), progress)
        made, tensors = deltas.from_adapter(open_adapter(Path(scratch)), main)
    way = f"made a LoRA of rank {how.rank} by {_peft()}: an approximation"
    return _measured(folder, config, made, tensors, notes, way, error, moved)


def _measured(
    folder: Path, config: AdapterConfig, made: Delta, tensors: Tensors, notes: tuple[str, ...],
    way: str, error: float, moved: float,
) -> Made:  # fmt: skip
    """With what was done and what it cost, for its owner and for the pull request."""
    cost = f"measured: {error:.1e} of the logits' spread from the adapter, which moves the base by {moved:.1e}"
    notes = (*notes, cost)
    if needs_svd(config):
        notes = (*notes, "a part of it is not in its file: PEFT computed it anew from the base's singular vectors here")
    table = {"kind": config.tuner, "taken": way, "error": error, "moved": moved, **_named(config, notes)}
    return Made(made, tensors, recipe_beside(folder) | {"adapter": table}, (way, *notes))


def _peft() -> str:
    return f"PEFT {installed_version('peft')}"


FACTORS = "; `--rank` keeps factors, which nothing rounds, where PEFT can make them"


def _lost(rounding: deltas.Rounding, otherwise: str = "") -> tuple[str, ...]:
    """What rounding to the base's dtype costs, where it is to be seen."""
    if rounding.share < SEEN:
        return ()
    loses = f"rounding to the base's dtype loses {rounding.share:.1%} of the norm of what is kept as whole tensors"
    return (loses + (otherwise if rounding.share > LARGE else ""),)


def _recipe(folder: Path, adapter: Adapter, made: Delta, notes: tuple[str, ...]) -> dict[str, Any]:
    """What came beside it, and how it was taken; one that `souq train` wrote says all there is to say."""
    kinds = {part.kind for part in (*made.parts.values(), *made.new.values())}
    recipe = recipe_beside(folder)
    if recipe and kinds == {"lora"} and not notes:
        return recipe
    how = "as it was trained" if kinds == {"lora"} else "as PEFT merges it, in float32 rounded once"
    return recipe | {"adapter": {"kind": adapter.config.tuner, "taken": how, **_named(adapter.config, notes)}}


def _named(config: AdapterConfig, notes: tuple[str, ...]) -> dict[str, Any]:
    """The base by name, never by a path of its owner's machine."""
    name = adapter_base.shown_name(config.base)
    base = name if name.count("/") == 1 and not name.startswith(("/", ".", "~")) else ""
    return {key: value for key, value in {"base": base, "notes": list(notes)}.items() if value}


def _asked(
    folder: Path, config: AdapterConfig, main: Snapshot, touched: list[str], how: How, *, whole: bool = True
) -> tuple[str, ...]:
    """What is to be said of the base it names; `whole` where more than B A is computed from the base's tensors."""
    origin = adapter_base.origin_of(config.base, main, touched, folder)
    if origin.of_main and whole:
        raise UsageError(
            "the adapter was trained on main as it is now, and is more than B A: it cannot be moved to main's base",
            hint="merge it there, `model.merge_and_unload().save_pretrained(…)`, and give that folder to --from",
        )
    if not origin.question:
        return origin.notes
    if not how.for_this_base:
        raise UsageError(origin.question, hint="if it belongs to this base all the same, add --for-this-base")
    return (*origin.notes, f"{origin.question}; taken for this base by its owner's word")
