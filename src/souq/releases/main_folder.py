"""Main's model as a folder, with its lock and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from souq.build.model import Built, build
from souq.files import new_folder, refuse_full, write_files
from souq.progress import Progress, quiet
from souq.releases.card import Edition, card
from souq.repo.snapshot import Snapshot
from souq.weights.lockfile import format_lock


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
        write_files(built.files, partial)
        shutil.copyfile(built.path, partial / "model.safetensors")
        (partial / "model.lock").write_text(format_lock(built.lock))
        edition = Edition("", {}, shown=shown)
        (partial / "README.md").write_text(card(snapshot, built.digest, built.recipe, edition=edition))
        write_files(papers or {}, partial)
    return built
