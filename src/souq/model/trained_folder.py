"""Where a fine-tune's weights are in what its trainer left behind, or the command that puts them there.

place = trained_folder("runs/sft/model.safetensors")      # runs/sft
trained_folder("runs/sft")                                # UsageError: … name runs/sft/checkpoint-1200
"""

from __future__ import annotations

import re
from pathlib import Path

from souq.errors import NotFound, UsageError
from souq.model.source import download, is_hub_id


def trained_folder(path: str, revision: str | None = None) -> Path:
    """The folder of a model or an adapter that somebody means by a folder, a file in it, or a hub id; a GGUF is itself.

    Raises:
        NotFound: nothing there, or neither a model nor an adapter.
        UsageError: what is there has to be put together first; the hint is the command.
    """
    place = Path(path)
    if place.is_file() and place.suffix == ".gguf":
        return place
    if place.is_file() and place.suffix == ".safetensors":
        place = place.parent
    elif place.is_file():
        raise UsageError(f"{place} is a file", hint="name the folder it is in, with config.json and *.safetensors")
    if not place.exists() and is_hub_id(path):
        return download(path, revision)
    if not place.is_dir():
        raise NotFound(f"no folder {place}", hint="name a folder with adapter_config.json or config.json, or a hub id")
    if not (place / "adapter_config.json").is_file():
        _refuse_pieces(place)
    return place


def _refuse_pieces(folder: Path) -> None:
    """A folder without a whole model in it is answered with how to make it one."""
    if any(folder.glob("*.safetensors")):
        return
    if newest := _newest_checkpoint(folder):
        raise UsageError(f"{folder} holds checkpoints and no model", hint=f"name the newest: --from {newest}")
    if zero := next((p for p in (folder, *sorted(folder.glob("global_step*"))) if _is_deepspeed(p)), None):
        run = zero.parent if zero.name.startswith("global_step") else zero
        raise UsageError(
            f"{run} holds DeepSpeed's pieces of a model",
            hint=f"put them together: python {run}/zero_to_fp32.py {run} {run}/whole --safe_serialization; then copy "
            f"config.json and the tokenizer into {run}/whole, and name that",
        )
    pieces = next((p for p in (folder, *sorted(folder.iterdir())) if p.is_dir() and any(p.glob("*.distcp"))), None)
    if pieces is not None:
        raise UsageError(
            f"{pieces} holds pieces of a distributed checkpoint (FSDP)",
            hint=f"put them together: accelerate merge-weights {pieces} {folder}/whole; then copy config.json and the "
            f"tokenizer into {folder}/whole, and name that",
        )


def _newest_checkpoint(folder: Path) -> Path | None:
    numbered = [(int(m[1]), path) for path in folder.iterdir() if (m := re.fullmatch(r"checkpoint-(\d+)", path.name))]
    return max(numbered)[1] if numbered else None


def _is_deepspeed(folder: Path) -> bool:
    return any(folder.glob("*_optim_states.pt")) or (folder / "zero_to_fp32.py").is_file()
