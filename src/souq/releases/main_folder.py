"""Main's model as a folder, with its lock and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from souq.build.model import Built, build
from souq.errors import UsageError
from souq.files import new_folder, refuse_full, write_files
from souq.model.gguf.writer import own_kind, vet, write_model
from souq.progress import Progress, quiet
from souq.releases.card import Edition, card
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.lockfile import format_lock
from souq.weights.safetensors import open_tensors


def export(
    snapshot: Snapshot,
    out: Path,
    progress: Progress = quiet,
    *,
    papers: Mapping[str, bytes] | None = None,
    shown: Sequence[str] = (),
) -> Built:
    """Write main's model, its lock and a model card as a folder that `AutoModelForCausalLM.from_pretrained` loads.

    Raises:
        UsageError: the folder is already there and holds something.
    """
    refuse_full(out)  # before minutes of building
    built = build(snapshot, progress=progress)
    with new_folder(out) as partial:
        write_folder(built, snapshot, partial, shown=shown)
        write_files(papers or {}, partial)
    return built


def write_folder(built: Built, snapshot: Snapshot, folder: Path, *, shown: Sequence[str] = ()) -> None:
    """Write a model that is built, its lock and a card of what it is built on, into a folder that is there."""
    write_files(built.files, folder)
    shutil.copyfile(built.path, folder / "model.safetensors")
    (folder / "model.lock").write_text(format_lock(built.lock))
    (folder / "README.md").write_text(card(snapshot, built.digest, built.recipe, Edition("", {}, shown=shown)))


def export_gguf(snapshot: Snapshot, file: Path, kind: str = "", progress: Progress = quiet) -> tuple[Built, str]:
    """Write main's model as one file for llama.cpp, by default with the base's own kind of numbers; and which that is.

    Raises:
        UsageError: the file is already there; no such kind.
        Hostile: a model that llama.cpp does not run, or not as transformers does.
    """
    if file.exists():
        raise UsageError(f"{file} is already there", hint="name another file")
    kind = kind or own_kind(ref.dtype for ref in snapshot.base.values())
    vet(kind, base_files(snapshot), snapshot.config.name)  # before minutes of building
    built = build(snapshot, progress=progress)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_built(built, snapshot, file, kind, progress)
    return built, kind


def write_built(built: Built, snapshot: Snapshot, file: Path, kind: str, progress: Progress = quiet) -> None:
    """A model that is built as a file for llama.cpp.

    Raises:
        Hostile: a model that llama.cpp does not run, or not as transformers does.
    """
    config = snapshot.config
    write_model(
        built.files, open_tensors(built.path), file, kind, name=config.name, licence=config.licence, progress=progress
    )
