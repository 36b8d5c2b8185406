"""A checkpoint whose weights were packed into fewer bits, written as one in 16 bits: transformers unpacks it.

What it reads on this machine it reads (MXFP4 and fp8 need no other library); what needs a library or hardware that is
not here is refused with the command that does it elsewhere.

    dequantise(Path("gpt-oss-20b"), Path("gpt-oss-20b-16bit"))
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from souq.errors import UsageError
from souq.model.config import QUANTISED, look_over, quantisation
from souq.model.source import in_16_bits
from souq.optional import needs

with needs("torch", "lab"):
    import torch
with needs("transformers", "lab"):
    import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

UNPACKS = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}  # as it loads; others are unpacked once loaded


def dequantise(folder: Path, out: Path) -> Path:
    """The model in `folder` in bfloat16, config.json and weights alone, written to `out`.

    Raises:
        UsageError: transformers cannot unpack it here.
        Hostile: a configuration that asks for code.
    """
    files = {"config.json": (folder / "config.json").read_bytes()}
    how = quantisation(files)
    config = json.loads(files["config.json"])
    look_over({"config.json": json.dumps({k: v for k, v in config.items() if k not in QUANTISED}).encode()})
    try:
        net = _load(folder, how)
        net.save_pretrained(out)
    except Exception as error:  # each of twenty quantisers fails in a way of its own
        short = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the weights in {folder} are quantised ({how}), and transformers does not unpack them here: {short}",
            hint=in_16_bits(folder),
        ) from error
    written = json.loads((out / "config.json").read_text())
    kept = {key: value for key, value in written.items() if key not in QUANTISED}
    (out / "config.json").write_text(json.dumps(kept, indent=2) + "\n")
    return out


def _load(folder: Path, how: str) -> Any:
    ways = {"trust_remote_code": False, "local_files_only": True, "dtype": torch.bfloat16}
    if (made := UNPACKS.get(how)) is not None:
        settings = getattr(transformers, made)(dequantize=True)
        return transformers.AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, **ways)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **ways).dequantize()
