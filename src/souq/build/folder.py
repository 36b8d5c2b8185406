"""A model written as a folder that `AutoModelForCausalLM.from_pretrained` loads: whole under its name, or not there.

export_model(model, Path("out"))
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from souq.build.model import Model
from souq.errors import UsageError
from souq.progress import Progress, quiet
from souq.weights.delta import Array, Checkpoint, Lock, tensor_digest
from souq.weights.safetensors import open_tensors, write_tensors


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
    """Any model as such a folder."""
    refuse_full(out)
    with _whole_folder(out) as partial:
        _write_files(model.files, partial)
        watched = _Watched(model.weights, progress)
        write_tensors(partial / "model.safetensors", watched, {"format": "pt"}, layout=model.layout)


def refuse_full(out: Path) -> None:
    """A folder that holds something is never written into."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is already there and not empty", hint="choose another folder")


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder that appears under its real name only when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as partial:
        whole = Path(partial) / "out"
        whole.mkdir()
        yield whole
        if out.exists():
            out.rmdir()
        whole.replace(out)


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def check_export(folder: Path, lock: Lock) -> list[str]:
    """The tensors of an exported folder that are not what the lock says."""
    weights = open_tensors(folder / "model.safetensors")
    names = sorted(weights.keys() | lock.keys())
    return [n for n in names if n not in weights or n not in lock or tensor_digest(weights[n]) != lock[n].digest]
