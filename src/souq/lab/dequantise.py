"""A checkpoint whose weights were packed into fewer bits, written as one in 16 bits: transformers unpacks it.

What it reads on this machine it reads (MXFP4 and fp8 need no other library); what needs a library or hardware that is
not here is refused with the command that does it elsewhere.

    dequantise(Path("gpt-oss-20b"), Path("gpt-oss-20b-16bit"))    # ()
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from souq.errors import UsageError
from souq.model.config import QUANTISED, look_over, quantisation, without_packing
from souq.model.source import in_16_bits, inside
from souq.optional import needs

with needs("torch", "lab"):
    import safetensors
    import torch
with needs("transformers", "lab"):
    import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

UNPACKS = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}  # as it loads; others are unpacked once loaded


_PACKING = re.compile(
    r"(?:\.weight)?[._](?:\w*scale_inv|\w*scales?|blocks|qweight|qzeros|g_idx|absmax|quant_map|quant_state[\w.]*)$"
)


def dequantise(folder: Path, out: Path) -> tuple[str, ...]:
    """Write the weights in `folder` in bfloat16 to `out`; the names of those that transformers did not read.

    Raises:
        UsageError: transformers cannot unpack it here.
        Hostile: a configuration that asks for code.
    """
    data = (folder / "config.json").read_bytes()
    how, judged = quantisation({"config.json": data}), look_over({"config.json": without_packing(data)}).files
    try:
        with tempfile.TemporaryDirectory() as place:
            _load(_beside(folder, json.loads(judged["config.json"]), Path(place)), how).save_pretrained(out)
    except Exception as error:  # each of twenty quantisers fails in a way of its own
        short = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the weights in {folder} are quantised ({how}), and transformers does not unpack them here: {short}",
            hint=in_16_bits(folder),
        ) from error
    written = _names(out)
    stems = {name.rpartition(".")[0] for name in written} | written
    return tuple(sorted(name for name in _names(folder) - written if _PACKING.sub("", name) not in stems))


def _names(folder: Path) -> set[str]:
    names = set[str]()
    for path in folder.glob("*.safetensors"):
        with safetensors.safe_open(path, "np") as file:
            names |= set(file.keys())
    return names


def _beside(folder: Path, judged: dict[str, Any], place: Path) -> Path:
    """`folder`'s weights beside its configuration as it is once judged: transformers heeds whatever it reads."""
    config = json.loads((folder / "config.json").read_bytes())
    packed = {key: config[key] for key in QUANTISED if key in config}
    (place / "config.json").write_text(json.dumps(judged | packed))
    for path in [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]:
        (place / path.name).symlink_to(inside(folder, path.name).resolve())
    return place


def _load(folder: Path, how: str) -> Any:
    ways = {"trust_remote_code": False, "local_files_only": True, "dtype": torch.bfloat16}
    if (made := UNPACKS.get(how)) is not None:
        settings = getattr(transformers, made)(dequantize=True)
        return transformers.AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, **ways)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **ways).dequantize()
