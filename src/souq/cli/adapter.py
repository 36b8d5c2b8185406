"""An adapter made into a delta: read here where its numbers can be kept as they are, else merged by PEFT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from souq.build import adapter_base, deltas
from souq.build.delta_file import recipe_beside
from souq.errors import UsageError
from souq.model.mlx import is_mlx
from souq.model.peft import CONFIG, Adapter, adapters_below, locate, open_adapter
from souq.model.peft_config import AdapterConfig, needs_svd, read_config
from souq.model.source import Source, inside
from souq.progress import Progress
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Delta, Tensors


@dataclass(frozen=True)
class Made:
    """An adapter's delta, the recipe that travels with it, and what its owner should know."""

    delta: Delta
    tensors: Tensors
    recipe: dict[str, Any]
    notes: tuple[str, ...]


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, or folders of adapters, and no model of its own."""
    return (folder / CONFIG).is_file() or (not (folder / "config.json").is_file() and bool(adapters_below(folder)))


def make_adapter(source: Path, main: Snapshot, *, merged: bool, for_this_base: bool, progress: Progress) -> Made:
    """The delta of an adapter's folder.

    Raises:
        UsageError: it names another base, and `for_this_base` does not say that it is this one.
    """
    folder, found = locate(source)
    mlx = is_mlx(folder)
    config = open_adapter(folder).config if mlx else read_config(inside(folder, CONFIG))
    if merged and mlx:
        raise UsageError("PEFT does not read MLX's adapters", hint="leave --merged out")
    if merged or config.needs_peft:
        return _by_peft(folder, config, main, found, for_this_base, progress)
    adapter = open_adapter(folder)
    fitting = deltas.fitted(adapter, main)
    notes = (*found, *fitting.notes, *_asked(config, main, [*fitting.low, *fitting.changed], for_this_base))
    made, tensors = deltas.from_adapter(fitting, main)
    return Made(made, tensors, _recipe(folder, adapter, made, notes), notes)


def _by_peft(
    folder: Path, config: AdapterConfig, main: Snapshot, found: tuple[str, ...], for_this_base: bool, progress: Progress
) -> Made:
    notes = (*found, *_asked(config, main, list(main.base), for_this_base))
    from souq.lab.merged import merge_adapter

    with merge_adapter(main, folder, config, progress) as merged:
        source = Source(merged.weights, base_files(main), folder.name, None, "")
        made, tensors = deltas.from_model(source, main, progress)
    why = ", ".join(config.needs_peft) or "asked to"
    measured = (
        f"measured: the merged model's logits are {merged.error:.1e} of their spread from the adapter's, "
        f"which moves the base's by {merged.moved:.1e}"
    )
    notes = (*notes, f"merged by {merged.by} ({why}), in float32 rounded once to the base's dtype; {measured}")
    if needs_svd(config):
        notes = (*notes, "a part of it is not in its file: PEFT computed it anew from the base's singular vectors here")
    table = {"kind": config.tuner, "taken": f"merged by {merged.by}", "error": merged.error, "moved": merged.moved}
    return Made(made, tensors, _with_table(folder, {**table, **_named(config, notes)}), notes)


def _recipe(folder: Path, adapter: Adapter, made: Delta, notes: tuple[str, ...]) -> dict[str, Any]:
    """What came beside it, and how it was taken; one that `souq train` wrote says all there is to say."""
    kinds = {part.kind for part in made.parts.values()}
    if recipe := recipe_beside(folder):
        return recipe
    how = "as it was trained" if kinds == {"lora"} else "as PEFT merges it, in float32 rounded once"
    return {"adapter": {"kind": adapter.config.tuner, "taken": how, **_named(adapter.config, notes)}}


def _with_table(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    return recipe_beside(folder) | {"adapter": table}


def _named(config: AdapterConfig, notes: tuple[str, ...]) -> dict[str, Any]:
    """The base by name, never by a path of its owner's machine."""
    base = config.base if config.base.count("/") == 1 and not config.base.startswith(("/", ".", "~")) else ""
    return {key: value for key, value in {"base": base, "notes": list(notes)}.items() if value}


def _asked(config: AdapterConfig, main: Snapshot, touched: list[str], for_this_base: bool) -> tuple[str, ...]:
    origin = adapter_base.origin_of(config.base, main, touched)
    if not origin.question:
        return origin.notes
    if not for_this_base:
        raise UsageError(origin.question, hint="if it belongs to this base all the same, add --for-this-base")
    return (*origin.notes, f"{origin.question}; taken for this base by its owner's word")
