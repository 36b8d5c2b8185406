"""Adapters, read strictly from a folder or a hub id, and fitted to a base: what each of its tensors becomes.

It knows the files of PEFT and MLX and what is in them, and nothing of deltas or repositories. What is B A alone is
kept as its author trained it; everything else is a change that can be computed from the base's tensor. What cannot be
followed exactly is refused by name, with what to do instead.

    fitted = fit(open_adapter(Path("adapter")), shapes, config)
    fitted.low["model.layers.0.self_attn.q_proj.weight"]  # a (r, n), b (m, r), scale
    fitted.changed["lm_head.weight"](weight)              # the new tensor, in float32
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from souq.errors import Hostile, NotFound, UsageError
from souq.model.mlx import is_mlx, read_mlx
from souq.model.peft_config import MERGED, AdapterConfig, bounded_patterns, read_config
from souq.model.peft_experts import EXPERTS, Together, one_by_one
from souq.model.peft_module import Module
from souq.model.source import download, inside, is_hub_id
from souq.weights.delta import Array, Checkpoint
from souq.weights.safetensors import open_tensors

Pair = tuple[Array, Array, float]
"""a (r, n), b (m, r) and the scale of b @ a."""
Shapes = Mapping[str, tuple[int, ...]]
"""A base's tensors: name -> shape."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_SHOWN = 4  # names in one message
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PREFIX = re.compile(r"(?:module\.)*(?:base_model\.model\.)?(?:module\.)*")
_FACTOR = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)((?:\.[^.]+){0,2})")
_ROWS = re.compile(r"(.+?)(?:\.token_adapter)?\.trainable_tokens_delta((?:\.[^.]+)?)")
_WHOLE = re.compile(r"(.+?)(?:\.base_layer|\.modules_to_save(?:\.[^.]+)?)?\.([^.]+)")
_LEAVES = {"lora_A": ("weight",), "lora_B": ("weight", "bias"), "lora_magnitude_vector": ("weight", "")}
_CONV1D = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}  # kinds whose linear maps are stored (in, out)
_HEADS = ("lm_head", "embed_out", "output")
_TABLES = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings")


class NeedsPeft(UsageError):
    """PEFT alone can put these numbers together."""


@dataclass(frozen=True)
class Adapter:
    """An adapter as it was saved: modules by the names they had when it was trained."""

    config: AdapterConfig
    modules: Mapping[str, Module]
    folder: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """How a tensor is computed anew from the base's, in PEFT's order: replaced, then added to, then scaled.

    PEFT computes in float32; here sums are float64 and rounded once to float32, so that every machine gets one result.
    """

    whole: Array | None = None
    rows: tuple[tuple[int, ...], Array] | None = None
    pair: Pair | None = None
    magnitude: Array | None = None
    along: int = 1  # the axis over which DoRA takes norms
    shift: Array | None = None

    def __call__(self, base: Array) -> Array:
        """The new tensor (float32) for the base's."""
        new = np.array(base if self.whole is None else self.whole, dtype=np.float64)
        if self.rows is not None:
            new[list(self.rows[0])] = self.rows[1].astype(np.float64)
        if self.pair is not None:
            a, b, scale = self.pair
            new += b.astype(np.float64) @ a.astype(np.float64) * scale
        if self.magnitude is not None:
            norms = np.sqrt(np.square(new).sum(axis=self.along))
            with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused by who keeps it
                factor = self.magnitude.astype(np.float64).reshape(-1) / norms
            new *= np.expand_dims(factor, self.along)
        if self.shift is not None:
            new += self.shift.astype(np.float64)
        return new.astype(np.float32)

    @property
    def alone(self) -> Pair | None:
        """The pair, where this is B A and nothing else."""
        others = (self.whole, self.rows, self.magnitude, self.shift)
        return self.pair if all(other is None for other in others) else None


@dataclass(frozen=True)
class Fitted:
    """An adapter on one base, by the base's names of its tensors."""

    low: dict[str, Pair]
    changed: dict[str, Change]
    notes: tuple[str, ...] = ()


# -- reading -----------------------------------------------------------------------------------------------------------


def open_adapter(folder: Path) -> Adapter:
    """A PEFT or MLX adapter from a folder, its tensors still on disk.

    Raises:
        NotFound: not an adapter folder; the message says what is there instead.
        Hostile: not an adapter souq can keep exactly; the reason says what it is.
        NeedsPeft: PEFT has to merge it first.
    """
    folder, notes = locate(folder)
    tensors: Checkpoint
    if is_mlx(folder):
        config, tensors = read_mlx(folder)
    else:
        config, tensors = read_config(inside(folder, CONFIG)), _tensors(folder)
        if config.needs_peft:
            raise NeedsPeft(
                f"{folder.name}: {', '.join(config.needs_peft)}, and PEFT has to merge it", hint=_IN_A_REPOSITORY
            )
    modules, more = _modules(tensors)
    bounded_patterns(config, len(modules))
    _judge(modules, config)
    return Adapter(config, modules, folder, (*notes, *more))


_IN_A_REPOSITORY = (
    "in a repository of its base, `souq delta make --from ADAPTER --out x.delta` and `souq delta apply x.delta --out "
    "FOLDER`; then name that folder"
)


def read_adapter(path: str, revision: str | None = None) -> Adapter:
    """An adapter by folder or hub id.

    Raises:
        NotFound: nothing there, or no adapter.
        Hostile: not one that can be applied exactly.
    """
    place = Path(path)
    return open_adapter(download(path, revision) if not place.exists() and is_hub_id(path) else place)


def locate(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that holds the adapter, and what is to be said about it; a named adapter stands one folder below.

    Raises:
        NotFound: no adapter there; the message names the checkpoints, or the other files, that are.
    """
    if (folder / CONFIG).is_file():
        return folder, ()
    named = adapters_below(folder)
    checkpoints = sorted((path for path in named if _step(path) is not None), key=lambda path: _step(path) or 0)
    if checkpoints:
        raise NotFound(
            f"{folder} holds {len(checkpoints)} checkpoints of a training, the newest {checkpoints[-1].name}",
            hint=f"`--from {shlex.quote(str(checkpoints[-1]))}`",
        )
    if len(named) == 1:
        return named[0], (f"read from its folder {named[0].name}",)
    if named:
        names = ", ".join(path.name for path in named[:MOST_SHOWN])
        raise NotFound(f"{folder} holds {len(named)} adapters: {names}", hint=f"name one: `--from {named[0]}`")
    if ggufs := gguf_adapters(folder):
        raise NotFound(
            f"{folder} holds {ggufs[0].name} and no {CONFIG}: llama.cpp's form of an adapter",
            hint="give the PEFT folder that it was made of (convert_lora_to_gguf.py reads one)",
        )
    raise NotFound(f"no {CONFIG} in {folder}", hint="name the folder PEFT's save_pretrained wrote")


def gguf_adapters(folder: Path) -> list[Path]:
    """llama.cpp's adapters in a folder, known by a key that their heads have and no model's has."""
    return [path for path in sorted(folder.glob("*.gguf")) if path.is_file() and _HEAD_KEY in _head(path)]


_HEAD_KEY = b"adapter.lora.alpha"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)


def adapters_below(folder: Path) -> list[Path]:
    """The folders in a folder that hold an adapter each."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_symlink() and (path / CONFIG).is_file())


def _step(path: Path) -> int | None:
    match = re.fullmatch(r"checkpoint-(\d{1,12})", path.name)
    return int(match[1]) if match else None


def _tensors(folder: Path) -> Checkpoint:
    path = folder / WEIGHTS
    if path.is_file():
        return open_tensors(inside(folder, WEIGHTS))
    pickles = [*folder.glob("adapter_model.bin"), *folder.glob("adapter_model.pt")]
    if pickles:
        raise Hostile(
            f"{pickles[0].name} is a pickle, which runs code when opened",
            hint=f"convert it where you trust it: `python -c {shlex.quote(_UNPICKLE)} "
            f"{shlex.quote(str(pickles[0]))} {shlex.quote(str(path))}`",
        )
    raise NotFound(f"no {WEIGHTS} in {folder}", hint="was the download whole?")


_UNPICKLE = (
    "import sys, torch; from safetensors.torch import save_file; "
    "save_file({k: v.contiguous() for k, v in torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])"
)


def plain_names(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Key -> the name without what PEFT, DDP, FSDP and torch.compile put before it; and which of those were there.

    Raises:
        Hostile: two keys that would be one.
    """
    plain = {key: _WRAPPERS.sub("", key) for key in names}
    plain = {key: name[match.end() :] if (match := _PREFIX.match(name)) else name for key, name in plain.items()}
    if len(set(plain.values())) < len(plain):
        raise Hostile("the adapter holds two tensors of one name", hint="save it again with PEFT's save_pretrained")
    odd = {word for key in plain for word in ("module", "_orig_mod", "_fsdp_wrapped_module") if word in key.split(".")}
    return plain, sorted(odd)


def _modules(tensors: Checkpoint) -> tuple[dict[str, Module], list[str]]:
    """A file's tensors by module, and what is to be said about their names."""
    modules: dict[str, Module] = {}
    unknown, called = list[str](), set[str]()
    plain, odd = plain_names(tensors)
    for key, name in plain.items():
        if name.endswith(".lora_velora_embed"):  # by which VeLoRA's backward pass compresses; it computes nothing
            continue
        if not _place(modules, name, tensors[key], called):
            unknown.append(key)
    if unknown:
        raise Hostile(f"the adapter holds {_shown(unknown)}, which souq does not know", hint=MERGED)
    if len(called) > 1:
        raise Hostile(f"the file holds {len(called)} adapters: {_shown(called)}", hint="save one of them alone")
    return modules, [f"read without `{prefix}.` in its names" for prefix in odd]


def _place(modules: dict[str, Module], name: str, array: Array, called: set[str]) -> bool:
    """Put a tensor where it belongs in its module; False where nothing is known of such a name."""
    if match := _FACTOR.fullmatch(name):
        return _place_factor(modules.setdefault(match[1], Module()), match[2], match[3], array, called)
    if match := _ROWS.fullmatch(name):
        modules.setdefault(match[1], Module()).rows = array
        called.update({match[2][1:]} - {"", "default"})
        return True
    match = _WHOLE.fullmatch(name)
    if match is None or "lora_" in name or "original_module" in name.split("."):
        return False
    modules.setdefault(match[1], Module()).whole[match[2]] = array
    return True


def _place_factor(module: Module, factor: str, tail: str, array: Array, called: set[str]) -> bool:
    words = tail.split(".")[1:]
    leaf = words.pop() if words and words[-1] in ("weight", "bias") else ""
    if leaf not in _LEAVES.get(factor, ("",)) or len(words) > 1:
        return False
    called.update(set(words) - {"default"})
    if factor == "lora_B" and leaf == "bias":
        module.shift = array
    elif factor == "lora_magnitude_vector":
        module.magnitude = array
    else:
        module.embedding |= "embedding" in factor
        setattr(module, factor[-1].lower(), array)
    return True


def _judge(modules: Mapping[str, Module], config: AdapterConfig) -> None:
    """That each module's tensors belong together, whatever the base."""
    if not modules:
        raise Hostile("the adapter is empty", hint="was it saved before its training ended?")
    wrong = [reason for name, module in modules.items() for reason in _misfits(name, module, config)]
    wrong += _absent(modules, config)
    if wrong:
        raise Hostile(_listed(wrong), hint="was it saved whole? sharded trainings gather their weights first")
    for name, module in modules.items():
        if module.a is not None and not EXPERTS.fullmatch(name):  # theirs is known when the base is
            config.scale(name, module.rank)


def _absent(modules: Mapping[str, Module], config: AdapterConfig) -> Iterator[str]:
    """What its configuration says was trained beside the factors, and the file does not hold."""
    if config.tokens and all(module.rows is None for module in modules.values()):
        yield "adapter_config.json names tokens it trained, and the file holds no rows of them"
    held = [name for name, module in modules.items() if module.whole]
    for saved in config.values.get("modules_to_save") or ():
        # PEFT writes both names of a classifier's head, of which a model has one.
        if saved not in ("classifier", "score") and not any(f".{saved}." in f".{name}." for name in held):
            yield f"adapter_config.json says that {saved[:80]!r} was trained and saved, and the file does not hold it"


def _misfits(name: str, module: Module, config: AdapterConfig) -> Iterator[str]:
    a, b = module.a, module.b
    if (a is None) != (b is None):
        yield f"{name} has one factor and not the other"
    elif a is not None and b is not None and (a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]):
        yield f"the factors of {name} do not fit each other"
    if module.magnitude is not None and not config.dora:
        yield f"{name} has a DoRA magnitude, and adapter_config.json says nothing of DoRA"
    if config.dora and a is not None and module.magnitude is None:
        yield f"{name} has no DoRA magnitude (use_dora)"
    if (module.magnitude is not None or module.shift is not None) and a is None:
        yield f"{name} has a magnitude or a bias beside no factors"
    if config.values.get("lora_bias") and a is not None and module.shift is None and not module.embedding:
        yield f"{name} has no bias beside B (lora_bias)"
    if module.rows is not None and not config.tokens:
        yield f"{name} has rows of tokens, and adapter_config.json does not say whose (trainable_token_indices)"
    arrays = (a, b, module.magnitude, module.shift, module.rows, *module.whole.values())
    if not all(np.isfinite(array.astype(np.float32)).all() for array in arrays if array is not None):
        yield f"the tensors of {name} hold numbers that are not finite (NaN or infinity)"


# -- fitting -----------------------------------------------------------------------------------------------------------


def fit(
    adapter: Adapter, shapes: Shapes, config: Mapping[str, Any], load: Callable[[str], Array], *, base: str = "the base"
) -> Fitted:
    """What each tensor of a base becomes under an adapter.

    `config` is the base's config.json, and `load` gives its tensors: those that an adapter only repeats are no change.

    Raises:
        UsageError: it was trained on another model: names or shapes that the base does not have; all are listed.
        NeedsPeft: PEFT has to put its numbers together.
    """
    modules = _apart(adapter, shapes)
    names, notes = _renamed(modules, shapes)
    table = next((name for name in shapes if _is_table(name)), "") if tied(shapes, config) else ""
    changes, wrong = dict[str, Change](), list[str]()
    for module, held in sorted(modules.items()):
        for name, change in _changes(adapter.config, module, held, names[module], config):
            own = table if table and name not in shapes and _is_head(name) else name
            if reason := _misfit(name, change, shapes.get(own), base):
                wrong.append(reason)
            elif (kept := _unlike(change, own, load)) is not None:
                changes[name] = kept
    if wrong:
        kind = NeedsPeft if adapter.config.values.get("target_parameters") else UsageError
        raise kind(f"the adapter {_listed(wrong)}", hint=_WAY_OUT)
    if table:
        changes = _one_table(changes, adapter, shapes, table)
    low = {name: pair for name, change in changes.items() if (pair := change.alone) is not None}
    rest = {name: change for name, change in changes.items() if name not in low}
    return Fitted(low, rest, (*adapter.notes, *notes))


def _apart(adapter: Adapter, shapes: Shapes) -> Mapping[str, Module]:
    """The modules, those of experts one by one."""
    if not any(EXPERTS.fullmatch(name) and module.a is not None for name, module in adapter.modules.items()):
        return adapter.modules
    try:
        return one_by_one(adapter.modules, adapter.config, shapes)
    except Together as error:
        where = "the base keeps its experts in tensors of their own kind, and PEFT has to merge the adapter"
        raise NeedsPeft(where, hint=_IN_A_REPOSITORY) from error


def _misfit(name: str, change: Change, shape: tuple[int, ...] | None, base: str) -> str:
    """Why a tensor cannot be changed so; nothing where it can."""
    if shape is None:
        return f"changes {name}, which {base} does not have"
    if (made := _shape(change, shape)) != shape:
        return f"changes {name} as if it were {made}; it is {shape}"
    if change.rows is not None and max(change.rows[0], default=0) >= shape[0]:
        return f"replaces the row of token {max(change.rows[0])} in {name}, which has {shape[0]}"
    return ""


def _unlike(change: Change, name: str, load: Callable[[str], Array]) -> Change | None:
    """A change without the whole tensor where that is the base's own, saved beside; None where nothing is left."""
    if change.whole is None:
        return change
    own = load(name)
    if not np.array_equal(change.whole.astype(own.dtype), own):
        return change
    rest = replace(change, whole=None)
    return rest if any(item is not None for item in (rest.pair, rest.rows, rest.shift)) else None


_WAY_OUT = (
    "was it trained on this base? if transformers only names its modules otherwise, `souq delta make --merged` has "
    "PEFT merge it; where it has more tokens, merge it with PEFT, save model and tokenizer, and give that to --from"
)


def _shape(change: Change, base: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a change makes of a tensor; rows alone keep the base's, where their width is its own."""
    if change.whole is not None and change.pair is None:
        return change.whole.shape
    if change.pair is not None:
        a, b, _ = change.pair
        shape = (b.shape[0], a.shape[1])
        length = shape[1 - change.along]
        odd = change.magnitude is not None and change.magnitude.size != length
        return shape if not odd and (change.whole is None or change.whole.shape == shape) else (-1, -1)
    if change.shift is not None:
        return change.shift.shape
    if change.rows is not None:
        numbers, values = change.rows
        return base if values.shape == (len(numbers), *base[1:]) else values.shape
    return base


def _changes(
    config: AdapterConfig, module: str, held: Module, name: str, base: Mapping[str, Any]
) -> Iterator[tuple[str, Change]]:
    """The tensors of the base that a module changes."""
    weight, bias = held.whole.get("weight"), held.whole.get("bias")
    rows = (_tokens(config, module), held.rows) if held.rows is not None else None
    pair, along = None, 1
    if held.a is not None and held.b is not None:
        scale = config.scale(held.known_as or module, held.rank)
        if held.embedding or _is_conv1d(name, base):
            pair, along = (np.ascontiguousarray(held.b.T), np.ascontiguousarray(held.a.T), scale), 0
        else:
            pair = (held.a, held.b, scale)
        if held.shift is not None:
            yield f"{name}.bias", Change(whole=bias, shift=held.shift.astype(np.float32) * np.float32(scale))
    if pair is not None or rows is not None or weight is not None:
        yield f"{name}.weight", Change(weight, rows, pair, held.magnitude, along)
    if bias is not None and held.shift is None:
        yield f"{name}.bias", Change(whole=bias)
    for leaf, array in held.whole.items():
        if leaf not in ("weight", "bias"):
            yield f"{name}.{leaf}", Change(whole=array)


def _tokens(config: AdapterConfig, module: str) -> tuple[int, ...]:
    lists = config.tokens
    mine = next((lists[key] for key in lists if key and (module == key or module.endswith(f".{key}"))), None)
    return tuple(mine if mine is not None else lists.get("", ()))


def _is_conv1d(name: str, base: Mapping[str, Any]) -> bool:
    """Whether the base keeps a map as (in, out); PEFT goes by the layer's type too, not by fan_in_fan_out."""
    return base.get("model_type") in _CONV1D and not name.endswith((*_HEADS, *_TABLES, "score", "classifier"))


def _renamed(modules: Mapping[str, Module], shapes: Shapes) -> tuple[dict[str, str], list[str]]:
    """Module -> its name in the base. One rule for all of them: as they are, or with another beginning."""
    own = {name.rpartition(".")[0] for name in shapes}
    heads = {name.partition(".")[0] for name in shapes}

    def fits(rename: Callable[[str], str]) -> bool:
        return all(rename(name) in own or _is_head(f"{name}.weight") for name in modules)

    rules: list[tuple[str, Callable[[str], str]]] = [("", lambda name: name)]
    rules += [(f"with `{head}.` before it", _adding(head)) for head in sorted(heads)]
    rules += [(f"without `{head}.` before it", lambda name: name.partition(".")[2]) for head in sorted(_heads(modules))]
    for theirs in ("model.language_model.", "language_model.model."):
        rules.append((f"`{theirs}` as `model.`", _replacing(theirs, "model.")))
        rules.append((f"`model.` as `{theirs}`", _replacing("model.", theirs)))
    note, rule = next(((note, rule) for note, rule in rules if fits(rule)), rules[0])
    return {name: rule(name) for name in modules}, [f"its names are read {note}"] if note else []


def _heads(modules: Iterable[str]) -> set[str]:
    heads = {name.partition(".")[0] for name in modules if not _is_head(f"{name}.weight")}
    return heads if len(heads) == 1 else set()


def _adding(head: str) -> Callable[[str], str]:
    return lambda name: name if _is_head(f"{name}.weight") else f"{head}.{name}"


def _replacing(theirs: str, ours: str) -> Callable[[str], str]:
    return lambda name: ours + name.removeprefix(theirs) if name.startswith(theirs) else name


# -- a head that is its embedding --------------------------------------------------------------------------------------


def _is_head(name: str) -> bool:
    return name.rpartition(".")[0].rpartition(".")[2] in _HEADS


def _is_table(name: str) -> bool:
    return name.endswith(".weight") and name.rpartition(".")[0].rpartition(".")[2] in _TABLES


def tied(shapes: Shapes, config: Mapping[str, Any]) -> bool:
    """Whether the base's output head is its embedding: its config says so, or it has no head of its own."""
    text = config.get("text_config")
    nested = text.get("tie_word_embeddings") if isinstance(text, dict) else None
    return bool(config.get("tie_word_embeddings", nested)) or not any(_is_head(name) for name in shapes)


def _one_table(changes: dict[str, Change], adapter: Adapter, shapes: Shapes, table: str) -> dict[str, Change]:
    """On a base whose head is its embedding, a change of one is a change of both; who trained them apart is told."""
    head = next((name for name in changes if _is_head(name)), "")
    mine, theirs = changes.get(table), changes.get(head)
    change = mine or theirs
    if change is None:
        return changes
    together = bool(adapter.config.values.get("ensure_weight_tying")) or change.rows is not None
    same = mine is not None and theirs is not None and _alike(mine, theirs)
    if not same and not (together and (mine is None or theirs is None)):
        which = "the two apart" if mine is not None and theirs is not None else f"{table if mine else head} alone"
        raise UsageError(
            f"the base's head is tied to its embedding, and the adapter trains {which}: one tensor cannot be both",
            hint="train it with ensure_weight_tying=True (PEFT 0.18), or begin a repository whose head is its own: "
            "merge it, set tie_word_embeddings=False, save the model, and `souq init NAME --from MERGED`",
        )
    rest = {name: held for name, held in changes.items() if name not in (head, table)}
    written = [name for name in shapes if _is_head(name) or name == table]  # a tied head may be written out
    return rest | dict.fromkeys(written, change)


def _alike(one: Change, other: Change) -> bool:
    """Whether two changes make the same of a tensor: they hold the same numbers."""
    if (one.whole is None) != (other.whole is None) or (one.pair is None) != (other.pair is None):
        return False
    pairs = [(one.whole, other.whole), (one.magnitude, other.magnitude)]
    if one.pair is not None and other.pair is not None:
        if one.pair[2] != other.pair[2]:
            return False
        pairs += [(one.pair[0], other.pair[0]), (one.pair[1], other.pair[1])]
    return all(x is y or (x is not None and y is not None and np.array_equal(x, y)) for x, y in pairs)


# -- words -------------------------------------------------------------------------------------------------------------


def _shown(names: Iterable[str]) -> str:
    listed = [repr(name[:80]) for name in names]
    more = f" and {len(listed) - MOST_SHOWN:,} more" if len(listed) > MOST_SHOWN else ""
    return ", ".join(listed[:MOST_SHOWN]) + more


def _listed(wrong: list[str]) -> str:
    more = f"; and {len(wrong) - MOST_SHOWN:,} more such" if len(wrong) > MOST_SHOWN else ""
    return "; ".join(wrong[:MOST_SHOWN]) + more
