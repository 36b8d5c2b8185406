"""The `.delta` file a change of weights travels in, and the recipe that says how it was made.

A `.delta` is a safetensors file: its tensors are named by digest, its metadata key `souq` is delta.lock, and `recipe`,
where it is there, is how it was made, in TOML. It comes from outside, so reading it is strict, and what it holds is
written again in our own form before anybody else sees it.

    write_delta(Path("dates.delta"), delta, tensors)
    delta, tensors = read_delta(Path("dates.delta"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from souq.build.delta_distance import stands_beside
from souq.errors import Hostile, NotFound, UsageError
from souq.progress import Progress, quiet
from souq.records import read_toml
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Dense, TensorRef, Tensors
from souq.weights.lockfile import format_delta, parse_delta
from souq.weights.safetensors import TensorFile, open_tensors, write_tensors
from souq.weights.store import Store

RECIPE = "recipe.toml"  # beside an adapter: how `souq train` made it
MAX_RECIPE = 1 << 16  # characters


def write_delta(path: Path, delta: Delta, tensors: Tensors, recipe: Mapping[str, Any] | None = None) -> None:
    """One file to hand to somebody."""
    named = {ref.digest.removeprefix("b3:"): tensors[ref.digest] for ref in delta.refs()}
    metadata = {"recipe": tomli_w.dumps(dict(recipe))} if recipe else {}
    write_tensors(path, named, {"souq": format_delta(delta)} | metadata)


def recipe_beside(folder: Path) -> dict[str, Any]:
    """The recipe that `souq train` left beside an adapter, or nothing.

    Raises:
        Hostile: too long, not UTF-8, or not TOML.
    """
    path = folder / RECIPE
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        data = file.read(4 * MAX_RECIPE + 1)
    try:
        return _recipe(data.decode(), path.name)
    except UnicodeDecodeError as error:
        raise Hostile(f"{path.name} is not UTF-8 text") from error


def read_recipe(path: Path) -> dict[str, Any]:
    """How a `.delta` was made, as its author says; empty where they said nothing.

    Raises:
        Hostile: too long, or not TOML.
    """
    return _recipe(_open(path).metadata.get("recipe", ""), path.name)


def _recipe(text: str, where: str) -> dict[str, Any]:
    if len(text) > MAX_RECIPE:
        raise Hostile(f"{where}: a recipe of more than {MAX_RECIPE:,} characters")
    try:
        return read_toml(text, where=f"{where}, its recipe")
    except UsageError as error:
        raise Hostile(str(error)) from error


def read_delta(path: Path) -> tuple[Delta, Tensors]:
    """A `.delta` from outside, strictly; its tensors stay on disk until asked for.

    Raises:
        NotFound: no such file.
        Hostile: not a `.delta`, or a tensor that is not what its name says.
    """
    held = _open(path)
    text = held.metadata.get("souq")
    if text is None:
        raise Hostile(f"{path.name} is safetensors but not a .delta", hint="give its folder to `souq delta make`")
    delta = parse_delta(text)
    wanted = {ref.digest.removeprefix("b3:"): ref for ref in delta.refs()}
    if held.keys() != wanted.keys():
        raise Hostile(f"{path.name} does not hold exactly the tensors its delta.lock names")
    tensors = {ref.digest: held[name] for name, ref in wanted.items()}
    for ref in wanted.values():
        if TensorRef.of(tensors[ref.digest]) != ref:
            raise Hostile(f"{path.name}: tensor {ref.digest[:15]}… is not what its name says")
    return delta, tensors


def _open(path: Path) -> TensorFile:
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="make one with `souq delta make --from FOLDER --out FILE.delta`")
    try:
        return open_tensors(path)
    except Hostile as error:
        raise Hostile(f"{path.name} is not a .delta: {error}", hint="make one with `souq delta make`") from error


def keep(delta: Delta, tensors: Tensors, main: Snapshot, progress: Progress = quiet) -> None:
    """Write a delta's tensors into the store in our own form; whole tensors as differences from the base."""
    store: Store = main.repo.store
    bases = {
        part.value.digest: main.base[name].digest
        for name, part in delta.parts.items()
        if isinstance(part, Dense) and name in main.base
    }
    for title, new in delta.new.items():
        if (like := main.base.get(stands_beside(title))) is not None:
            bases[new.value.digest] = like.digest
    for done, (name, array) in enumerate(tensors.items()):
        progress("store", done, len(tensors))
        store.put(array, base=bases.get(name))
    progress("store", len(tensors), len(tensors))
