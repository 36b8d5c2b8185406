"""A model written as a folder that `AutoModelForCausalLM.from_pretrained` loads: whole under its name, or not there.

export_model(model, Path("out"))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from souq.build.model import Model
from souq.files import new_folder, write_files
from souq.progress import Progress, quiet
from souq.weights.delta import Array, Checkpoint
from souq.weights.safetensors import write_tensors


class _Watched(Mapping[str, Array]):
    """A checkpoint that says how far its reader is."""

    def __init__(self, inner: Checkpoint, progress: Progress) -> None:
        self._inner, self._progress, self._read = inner, progress, 0

    def __getitem__(self, name: str) -> Array:
        self._progress("build", self._read, len(self._inner))
        self._read += 1
        return self._inner[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)


def export_model(model: Model, out: Path, progress: Progress = quiet) -> None:
    """Write a model as a folder that transformers loads, its tensors computed one by one as they are written.

    Raises:
        UsageError: the folder is there and holds something.
    """
    with new_folder(out) as partial:
        write_files(model.files, partial)
        watched = _Watched(model.weights, progress)
        write_tensors(partial / "model.safetensors", watched, {"format": "pt"}, layout=model.layout)
