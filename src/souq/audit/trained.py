"""What a model repository knows of the work that went into it: its base's size, and how much each contribution read.

Only a contribution that is source (build/reproducible.py) says what it was trained on, and its tokens are counted, not
believed. Of a binary nothing is known, and it is said so. A base's own tokens no repository knows.

    runs = contributions(main, inputs)
    runs[0].what, runs[0].flop, runs[0].because
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from souq.audit.cost import Run, merging, training
from souq.audit.prices import Inputs
from souq.build.lock import model_lock
from souq.build.reproducible import Judged, judged
from souq.progress import Progress, quiet
from souq.repo.contribution import Offer
from souq.repo.rows import Rows
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import TensorRef

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_ROUTED = re.compile(r"\.experts\.")


def active(lock: Mapping[str, TensorRef], config: Mapping[str, Any]) -> float:
    """The parameters at work on one token: of routed experts `num_experts_per_tok` of all, every other tensor whole."""
    chosen, there = config.get("num_experts_per_tok"), next((config[key] for key in _EXPERTS if config.get(key)), None)
    share = chosen / there if isinstance(chosen, int) and isinstance(there, int) and 0 < chosen <= there else 1.0
    return float(sum(ref.size * (share if _ROUTED.search(name) else 1.0) for name, ref in lock.items()))


def base(main: Snapshot, tokens: float | None, inputs: Inputs) -> Run:
    """The base, from scratch, where somebody says how many tokens it read."""
    because = "" if tokens else "no repository knows its base's tokens: --tokens"
    return training(f"base {main.config.base}", _size(main), tokens, inputs, because=because)


def contributions(main: Snapshot, inputs: Inputs) -> list[Run]:
    """Each contribution of weights on main. Their base's weights stay as they are and have no gradient: `frozen`."""
    size, reader = _size(main), _reader(main)
    runs = []
    for slug, offer in main.offers.items():
        if offer.delta is not None:
            tokens, because = _read(offer, reader)
            runs.append(training(slug, size, tokens, inputs, factor="frozen", because=because))
    return runs


def merged(main: Snapshot, inputs: Inputs, *, measure: bool, progress: Progress = quiet) -> Run:
    """Main's model computed once on this machine, every merged tensor anew, nothing written."""
    if not measure:
        return merging(None, inputs)
    begun = time.perf_counter()
    model_lock(main, progress)
    return merging(time.perf_counter() - begun, inputs)


def _size(main: Snapshot) -> float:
    return active(main.base, json.loads(base_files(main)["config.json"]))


def _read(offer: Offer, reader: Any) -> tuple[float | None, str]:
    """Tokens its training read, all epochs together; or why nobody knows."""
    source = judged(offer)
    if source is None or source.training is None or source.rows is None:
        return None, f"a binary: {source.because}" if source is not None else "it brings no weights"
    if reader is None:
        return None, "tokens are not counted without the library `tokenizers`"
    return float(_epochs(source) * _tokens(source.rows, reader)), ""


def _epochs(source: Judged) -> int:
    assert source.training is not None
    return source.training.epochs + (source.training.rebase.epochs if source.training.rebase is not None else 0)


def _tokens(rows: Rows, reader: Any) -> int:
    """The tokens of the rows' texts; the template's own tokens, which training shares between rows, are left out."""
    encodings = reader.encode_batch([_text(row) for row in rows], add_special_tokens=False)
    return sum(len(encoding.ids) for encoding in encodings)


def _text(row: Mapping[str, Any]) -> str:
    turns = [turn["content"] for turn in row.get("messages", ())]
    return "\n".join(turns) or row.get("text") or f"{row.get('prompt', '')}{row.get('completion', '')}"


def _reader(main: Snapshot) -> Any:
    """The base's tokenizer, or None where the library is not installed or the base has none."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    data = base_files(main).get("tokenizer.json")
    return Tokenizer.from_str(data.decode()) if data else None
