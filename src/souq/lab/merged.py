"""Any adapter PEFT can merge, merged by PEFT into the base: the merged model, and how far it is from the adapter.

The base is loaded in float32 and the adapter put beside it from the files souq has read; the two are asked the same
tokens before and after, through the files of the merged model, so that what is stated was measured. Only the owner of
an adapter runs this, on their own machine; who checks a pull request never loads one.

    done = merge_adapter(main, Path("adapter"))
    done.weights["model.layers.0.self_attn.q_proj.weight"], done.error
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from souq.build.deltas import Rounding, rounded
from souq.build.folder import export_model
from souq.build.model import applied
from souq.errors import Hostile, NotFound, Refused, SouqError, UsageError
from souq.model.adapter.config import AdapterConfig, explicit
from souq.model.adapter.peft import WEIGHTS, plain_names
from souq.model.source import inside, weights_of
from souq.optional import needs
from souq.progress import Progress, quiet
from souq.repo.snapshot import Snapshot
from souq.weights.computed import Computed
from souq.weights.delta import Array, Checkpoint, Delta
from souq.weights.safetensors import open_tensors, write_tensors
from souq.weights.store import Stored

with needs("torch", "lab"):
    import torch
with needs("transformers", "lab"):
    import transformers
with needs("peft", "lab"):
    import peft

TOLERANCE = 1e-3  # of the logits' spread: what float32 may lose on the way; more is another model
TOKENS, SEQUENCES = 32, 2


@dataclass(frozen=True)
class MergedAdapter:
    """The base with an adapter in it, by the base's names and dtypes, and what was measured."""

    weights: Checkpoint
    error: float  # largest difference of a logit, over the logits' spread, of merged model and adapter in float32
    landed: float  # the same of what lands: the merged model in the base's dtype
    moved: float  # how far the adapter moves the base's logits, likewise
    rounding: Rounding  # of the tensors that were read


@contextmanager
def merge_adapter(
    main: Snapshot, folder: Path, config: AdapterConfig, progress: Progress = quiet
) -> Iterator[MergedAdapter]:
    """The base with an adapter merged into it by PEFT; its tensors stay on disk until the context is left.

    Raises:
        Missing: the lab is not installed.
        Refused: PEFT cannot merge it, or what it merges is not what the adapter computes.
        UsageError: PEFT finds it does not fit the base.
        Hostile: its configuration says what PEFT's does not know.
    """
    with _beside_base(main, folder, config, progress) as (place, net):
        dtypes = {_TORCH.get(ref.dtype, torch.float32) for ref in main.base.values()}
        errors = _merge(place, net, config, dtypes.pop() if len(dtypes) == 1 else torch.float32, progress)
        rounding, base, merged = Rounding(), Stored(main.base, main.repo.store), weights_of(place / "merged")
        weights = Computed({name: partial(_rounded, merged, base, rounding, name) for name in merged})
        yield MergedAdapter(weights, *errors, rounding)


@contextmanager
def _beside_base(main: Snapshot, folder: Path, config: AdapterConfig, progress: Progress) -> Iterator[tuple[Path, Any]]:
    """A folder with the base and the adapter, each as PEFT wants it, and the base loaded; what breaks is an answer."""
    with tempfile.TemporaryDirectory() as scratch, _quietly():
        place = Path(scratch)
        export_model(applied(main, Delta(main.base_digest, {}), main.repo.store.get), place / "base", progress)
        try:
            net = _network(place / "base")
            _write_adapter(folder, config, place / "adapter", [name for name, _ in net.named_modules()])
            yield place, net
        except SouqError:
            raise
        except Exception as problem:  # peft, transformers and torch each break their own way
            reason = " ".join(str(problem).split())[:300]
            raise Refused(f"PEFT does not do it: {type(problem).__name__}: {reason}", hint=ELSEWHERE) from problem


def convert_adapter(
    main: Snapshot, folder: Path, config: AdapterConfig, rank: int, target: Path, progress: Progress = quiet
) -> tuple[float, float]:
    """Write PEFT's nearest LoRA of a rank to `target`: how far it is from the adapter, and that from the base.

    Raises:
        Missing: the lab is not installed.
        Refused: PEFT does not convert this kind, or not to that rank.
        UsageError: PEFT finds it does not fit the base.
        Hostile: its configuration says what PEFT's does not know.
    """
    with _beside_base(main, folder, config, progress) as (place, net):
        tokens = _tokens(net)
        before = _logits(net, tokens)
        model = _adapted(net, place / "adapter", 0)
        wanted = _logits(model, tokens)
        if not hasattr(peft, "save_as_lora"):
            raise Refused("this PEFT does not make LoRAs of other adapters", hint="`pip install --upgrade peft`")
        with torch.no_grad():
            peft.save_as_lora(str(target), model, rank)
        error = _apart(wanted, _logits(_adapted(_network(place / "base"), target, 0), tokens))
    return error, _apart(wanted, before)


ELSEWHERE = "merge it where it was trained and give that folder to --from, or train a LoRA on the same rows"


def _rounded(weights: Checkpoint, base: Checkpoint, rounding: Rounding, name: str) -> Array:
    """A tensor computed in float32, rounded once to the dtype of the base's."""
    exact = weights[name]
    if name not in base:
        return exact
    old = base[name]
    made = rounded(exact, old.dtype, name)
    if old.shape == made.shape:
        rounding.add(exact, made, old)
    return made


# How a training began: what it left is in the file, and some of these name files to open.
_BEFORE_TRAINING = ("init_lora_weights", "eva_config", "corda_config", "lora_ga_config", "loftq_config")


def _write_adapter(folder: Path, config: AdapterConfig, target: Path, modules: list[str]) -> None:
    """The adapter in PEFT's own names, with nothing in its configuration that reaches out of the folder."""
    known = peft.PEFT_TYPE_TO_CONFIG_MAPPING.get(config.tuner)
    if known is None:
        kinds = ", ".join(sorted(str(kind.value) for kind in peft.PEFT_TYPE_TO_CONFIG_MAPPING))
        raise Hostile(f"an adapter of kind {config.tuner[:40]!r}, which PEFT does not know", hint=f"PEFT has {kinds}")
    keys = {item.name for item in fields(known) if item.init}
    unknown = [
        key for key, value in config.values.items() if key not in keys and value not in (None, False, "", [], {})
    ]
    if unknown:
        raise Hostile(
            f"adapter_config.json says {', '.join(unknown[:4])}, which this PEFT ({peft.__version__}) does not know",
            hint="was it trained with a newer one? `pip install --upgrade peft`",
        )
    values = explicit({key: value for key, value in config.values.items() if key in keys}, modules)
    values = {key: value for key, value in values.items() if key not in _BEFORE_TRAINING}
    values |= {"progressbar": False} if "progressbar" in keys else {}
    values |= {"base_model_name_or_path": None, "auto_mapping": None, "revision": None, "inference_mode": True}
    if not (folder / WEIGHTS).is_file():
        raise NotFound(f"no {WEIGHTS} in {folder}", hint="save it as safetensors: `model.save_pretrained(FOLDER)`")
    tensors = open_tensors(inside(folder, WEIGHTS))
    names, _ = plain_names(tensors)
    for key in names:
        if not np.isfinite(tensors[key].astype(np.float32)).all():
            raise Hostile(f"the adapter's {key[:80]} holds numbers that are not finite (NaN or infinity)")
    target.mkdir()
    (target / "adapter_config.json").write_text(json.dumps(values))
    held = {_peft_name(name): tensors[key] for key, name in names.items()}
    write_tensors(target / WEIGHTS, held, {"format": "pt"})


def _peft_name(name: str) -> str:
    """PEFT's key of a tensor; what all modules share, as VeRA's projections, stands outside the model."""
    return name if name.startswith("base_model.") else f"base_model.model.{name}"


_TORCH = {"BF16": torch.bfloat16, "F16": torch.float16}


def _merge(place: Path, net: Any, config: AdapterConfig, dtype: Any, progress: Progress) -> tuple[float, float, float]:
    """Write the merged model to `merged`: how far from the adapter, as it is and in `dtype`, and that from the base.

    Raises:
        Refused: PEFT has no merge for it, or it is not what the adapter computes.
    """
    tokens = _tokens(net)
    before = _logits(net, tokens)
    model = _adapted(net, place / "adapter", 0)
    wanted = _logits(model, tokens)
    progress("merge", 1, 3)
    if not hasattr(model, "merge_and_unload"):
        raise Refused(f"PEFT has no merge for an adapter of kind {config.tuner}", hint=ELSEWHERE)
    model.merge_and_unload(safe_merge=True).save_pretrained(place / "merged", safe_serialization=True)
    progress("merge", 2, 3)
    if config.tuner != "LORA":  # many draw what they do not save: it has to come out the same from another seed
        other = _logits(_adapted(_network(place / "base"), place / "adapter", 1), tokens)
        if not _apart(wanted, other) <= TOLERANCE:
            raise Refused(f"an adapter of kind {config.tuner} depends on chance that it did not save", hint=ELSEWHERE)
    merged = _network(place / "merged")
    error, moved = _apart(wanted, _logits(merged, tokens)), _apart(wanted, before)
    landed = _apart(wanted, _logits(merged.to(dtype).float(), tokens))
    progress("merge", 3, 3)
    if not error <= TOLERANCE:
        raise Refused(
            f"PEFT's merge of this {config.tuner} adapter is not what the adapter computes: its logits are "
            f"{error:.2g} of their spread away",
            hint=ELSEWHERE,
        )
    return error, landed, moved


def _network(folder: Path) -> Any:
    """The model of a folder in float32, of the class its configuration names."""
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, (config.architectures or [""])[0], transformers.AutoModelForCausalLM)
    net = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return net.eval().requires_grad_(False)


def _adapted(net: Any, folder: Path, seed: int) -> Any:
    torch.manual_seed(seed)
    model = peft.PeftModel.from_pretrained(net, folder)
    result = model.load_adapter(str(folder), adapter_name="default")
    strange, shared = list(result.unexpected_keys), _shared(open_tensors(folder / WEIGHTS))
    absent = [key for key in result.missing_keys if key.removesuffix(".default").rpartition(".")[2] not in shared]
    if strange or absent:
        kind = "holds" if strange else "lacks"
        names = (strange or absent)[:4]
        raise UsageError(
            f"the adapter {kind} what PEFT does not find a place for: {', '.join(name[:80] for name in names)}",
            hint="was it trained on this base?",
        )
    return model.eval()


def _shared(names: Iterable[str]) -> set[str]:
    """What all modules share stands once outside the model, and each module points there."""
    return {name.removeprefix("base_model.") for name in names if not name.startswith("base_model.model.")}


def _logits(net: Any, tokens: Any) -> Any:
    with torch.no_grad():
        return net(input_ids=tokens)[0].float()


def _apart(one: Any, other: Any) -> float:
    return float((one - other).abs().max() / one.std())


def _tokens(net: Any) -> Any:
    size = net.config.get_text_config().vocab_size
    return torch.randint(0, size, (SEQUENCES, TOKENS), generator=torch.Generator().manual_seed(0))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of libraries: what matters of them is checked, and what is checked is said."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    state = torch.random.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.random.set_rng_state(state)
        transformers.logging.set_verbosity(verbosity)
