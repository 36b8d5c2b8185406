"""Merge whole checkpoints from files to files, a block at a time: memory does not grow with the models.

Blocks are read with pread into buffers that are used again (mapped pages would count as memory), one tensor a thread,
the largest first; every result is rounded once, as it is written. The sum of a tensor is taken in the order of its
models' fingerprints, so the order in which a configuration lists them cannot show. Knows files and plans; has never
heard of git.

    merge_files(parse_config(text), text, Path("out"))
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from souq.errors import Hostile, UsageError
from souq.files import beside, refuse_full
from souq.merge import kernels
from souq.merge.elementwise import ELEMENTWISE, F32, Block, Keys, sampled, spread
from souq.merge.mergekit.config import MergeConfig, ModelRef
from souq.merge.mergekit.inputs import Model
from souq.merge.mergekit.layers import DEPTH, in_order
from souq.merge.mergekit.plan import Output, Plan, plan
from souq.merge.mergekit.vocabulary import align, check_same
from souq.merge.positional import POSITIONAL
from souq.model.chat_template import CHATML
from souq.model.settings import WriteOut, differing_settings, shown
from souq.model.tokenizer import STALE
from souq.progress import Progress, quiet
from souq.records import read_json
from souq.weights.delta import DTYPES, Array
from souq.weights.safetensors import Layout, layout_bytes

SHARD = 5 * 10**9  # bytes of one file of weights, mergekit's and transformers' long-time default
BLOCK = 1 << 17  # elements of one tensor read at a time
_HELD = 128 << 20  # bytes of inputs kept between passes, all threads together
_ALIGN = 64
MOST_SETTINGS = 6  # of another model's that are named
_RUN = 128  # elements of a sample that are read together
_FLOATS = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def merge_files(
    configs: Sequence[MergeConfig], text: str, out: Path, progress: Progress = quiet, *, shard: int = SHARD,
    write_out: WriteOut | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A mergekit configuration as a Hugging Face folder, which appears under its name only when it is whole.

    Weights of more than `shard` bytes are cut into files of at most that, with an index. `write_out` writes a config's
    defaults out, where layers change their order.

    Returns the method, the number of tensors, and the digest of their bytes.

    Raises:
        UsageError: the folder is not empty, or the plan asks for what cannot be made.
        Hostile: a model's files break their format, or hold NaN or Inf.
    """
    with beside(out.absolute()) as scratch:
        refuse_full(out)
        made: dict[str, Path] = {}
        for number, config in enumerate(configs):
            folder = made[config.name or ""] = scratch / str(number)
            folder.mkdir()
            report = _merge_one(config, made, folder, shard, progress, write_out)
        (folder / "mergekit_config.yml").write_text(text)
        folder.replace(out)
    return report


def _merge_one(
    config: MergeConfig, made: Mapping[str, Path], folder: Path, shard: int, progress: Progress,
    write_out: WriteOut | None,
) -> dict[str, Any]:  # fmt: skip
    models = {ref: Model(ref, made.get(ref.path)) for ref in config.models}
    planned = plan(config, lambda ref: models[ref].shapes, lambda ref: models[ref].layers)
    planned, notes = _write_files(planned, models, made, folder, write_out)
    digest = _write_weights(planned, models, folder, shard, progress)
    return {
        "method": planned.method,
        "tensors": len(planned.outputs),
        "digest": digest,
        "unused": planned.unused,
        "notes": [*planned.notes, *notes],
    }


class _Buffers(threading.local):
    """Memory for inputs, so much for each thread, that is used again for tensor after tensor: new memory is slow."""

    def __init__(self, size: int) -> None:
        self.own: Array = np.empty(size, np.uint8)


@dataclass
class _FileBlocks:
    """The tensors of one output, and their base, as blocks from files: read once where they are small enough."""

    parts: Sequence[tuple[Model, str]]
    base: tuple[Model, str] | None
    keys: Keys
    buffer: Array  # (bytes,) uint8: a thread's own, used again for tensor after tensor
    _held: list[Block] = field(default_factory=list)
    _used: int = 0

    def __post_init__(self) -> None:
        dtypes = {model.shapes[name][0] for model, name in self._all}
        self._kind: np.dtype[Any] = np.dtype(np.uint16 if dtypes == {"BF16"} else np.uint32)
        shape = self._all[0][0].shapes[self._all[0][1]][1]
        self.size, self.row = int(np.prod(shape, dtype=np.int64)), (shape[-1] if shape else 1)
        self._length = max(BLOCK // max(self.row, 1), 1) * self.row if self.row else 1
        self._fits = self._bytes(self.size) + _ALIGN * (self.size // self._length + 2) <= len(self.buffer)
        self._space = self._new(0 if self._fits else min(self._length, self.size))

    @property
    def _all(self) -> list[tuple[Model, str]]:
        return [*self.parts, *([self.base] if self.base else [])]

    @property
    def count(self) -> int:
        return len(self.parts)

    def sample(self, count: int) -> tuple[Array, Array]:
        if self._fits:
            some = [sampled(words, base, -(-count * len(base) // self.size)) for _, words, base in self]
            return np.concatenate([words for words, _ in some], axis=1), np.concatenate([base for _, base in some])
        places = spread(self.size, count, _RUN)
        words, base = self._new(len(places) * _RUN)
        for number, at in enumerate(places.tolist()):
            there = slice(number * _RUN, (number + 1) * _RUN)
            self._fill(at, words[:, there], base[there])
        return words, base

    def __iter__(self) -> Iterator[Block]:
        for number, at in enumerate(range(0, self.size, self._length)):
            if number < len(self._held):
                yield self._held[number]
                continue
            n = min(self._length, self.size - at)
            words, base = self._new(n) if self._fits or n < self._length else self._space
            self._fill(at, words, base)
            if self._fits:
                self._held.append((at, words, base))
            yield at, words, base

    def _bytes(self, n: int) -> int:
        return self._kind.itemsize * (self.count + 1) * n

    def _new(self, n: int) -> tuple[Array, Array]:
        """Space for n elements of every tensor and of the base, whose are zero where there is none."""
        begin, self._used = self._used, self._used + self._bytes(n) + _ALIGN - self._bytes(n) % _ALIGN
        fits = self._used <= len(self.buffer)
        space = self.buffer[begin : begin + self._bytes(n)] if fits else np.empty(self._bytes(n), np.uint8)
        words = space.view(self._kind).reshape(self.count + 1, n)
        words[-1] = 0
        return words[:-1], words[-1]

    def _fill(self, at: int, words: Array, base: Array) -> None:
        for (model, name), row in zip(self._all, [*words, base], strict=False):
            self._read(model, name, at, row)

    def _read(self, model: Model, name: str, at: int, into: Array) -> None:
        dtype = DTYPES[model.shapes[name][0]]
        if dtype.itemsize == into.dtype.itemsize:
            model.read_into(name, at * dtype.itemsize, into)
        else:
            narrow = np.empty(len(into), dtype)
            model.read_into(name, at * dtype.itemsize, narrow)
            into[:] = narrow.astype(np.float32).view(np.uint32)


@dataclass(frozen=True)
class _Place:
    """Where a tensor is written: an open file and the byte it begins at."""

    handle: int
    at: int


def _write_weights(
    planned: Plan, models: Mapping[ModelRef, Model], folder: Path, shard: int, progress: Progress
) -> str:
    """model.safetensors, or files of at most `shard` bytes with an index, named as transformers names them."""
    layout = {output.name: (_dtype(planned, output, models), _shape(output, models)) for output in planned.outputs}
    size = {name: int(np.prod(shape, dtype=np.int64)) for name, (_, shape) in layout.items()}
    work = sorted(planned.outputs, key=lambda output: (-size[output.name], output.name))
    named, done = {}, 0
    threads = os.cpu_count() or 1
    buffers = _Buffers(min(_HELD // threads, 32 << 20))
    with ExitStack() as files, ThreadPoolExecutor(threads) as pool:
        places = _places(layout, folder, shard, files)
        jobs = {
            pool.submit(_merge, output, models, layout[output.name][0], places[output.name], buffers): output
            for output in work
        }
        try:
            for job in as_completed(jobs):
                progress("merge numbers", done, sum(size.values()))
                named[jobs[job].name] = job.result()
                done += size[jobs[job].name]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    progress("merge numbers", done, done)
    return "b3:" + blake3("".join(f"{name} {named[name]}\n" for name in sorted(named)).encode()).hexdigest()


def _places(layout: Layout, folder: Path, shard: int, files: ExitStack) -> dict[str, _Place]:
    """Every file made and its room taken: a full disk says so here, before any work."""
    shards = _shards(layout, shard)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    names = names if len(shards) > 1 else ["model.safetensors"]
    places: dict[str, _Place] = {}
    total = 0
    for file, held in zip(names, shards, strict=True):
        head, begins = layout_bytes({name: layout[name] for name in held}, {"format": "pt"})
        handle = os.open(folder / file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        files.callback(os.close, handle)
        length = sum(_nbytes(*layout[name]) for name in held)
        os.posix_fallocate(handle, 0, len(head) + length)
        os.pwrite(handle, head, 0)
        places |= {name: _Place(handle, len(head) + begins[name]) for name in held}
        total += length
    if len(shards) > 1:
        where = {name: file for file, held in zip(names, shards, strict=True) for name in held}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return places


def _shards(layout: Layout, most: int) -> list[list[str]]:
    """Names in order, as many in a file as fit; a tensor larger than that has a file of its own."""
    shards: list[list[str]] = [[]]
    length = 0
    for name in sorted(layout):
        more = _nbytes(*layout[name])
        if shards[-1] and length + more > most:
            shards.append([])
            length = 0
        shards[-1].append(name)
        length += more
    return shards


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * DTYPES[dtype].itemsize


def _merge(output: Output, models: Mapping[ModelRef, Model], dtype: str, place: _Place, buffers: _Buffers) -> str:
    """One tensor, merged and written; returns the digest of its bytes."""
    inputs = sorted(
        output.inputs, key=lambda i: (models[i.model].fingerprint, i.tensor, json.dumps(i.parameters, sort_keys=True))
    )
    shared: dict[str, Any] = dict(output.parameters) | {
        "based": output.base is not None,
        "shape": _shape(output, models),
    }
    parts, each = [(models[i.model], i.tensor) for i in inputs], [i.parameters for i in inputs]
    base = (models[output.base.model], output.base.tensor) if output.base else None
    method = output.method
    if base and (method == "slerp" or not parts):  # slerp's way begins at its base; into nothing else a base is copied
        method = method if parts else "passthrough"
        parts, each, base = [base, *parts], [{}, *each], None
    blocks = _FileBlocks(parts, base, _keys(output, parts), buffers.own)
    hasher, at = blake3(), place.at

    def write(block: F32) -> None:
        nonlocal at
        data = _rounded(block, dtype, output.name).view(np.uint8)
        hasher.update(data.data)
        at += os.pwrite(place.handle, data.data, at)

    try:
        {**ELEMENTWISE, **POSITIONAL}[method](blocks, each, shared, write)
    except (Hostile, UsageError) as error:
        raise type(error)(f"{output.name}: {str(error).removeprefix(f'{output.name}: ')}", hint=error.hint) from error
    return hasher.hexdigest()


def _keys(output: Output, parts: Sequence[tuple[Model, str]]) -> Keys:
    """Two words a tensor, from what its model is and the output's name: chance that is the same for everybody."""
    seen: dict[bytes, int] = {}
    keys = []
    for model, name in parts:
        again = seen[model.fingerprint] = seen.get(model.fingerprint, -1) + 1
        text = f"souq chance 1\n{output.name}\n{name}\n{again}\n".encode()
        keys.append(np.frombuffer(blake3(model.fingerprint + text).digest(8), "<u4"))
    return np.array(keys, np.uint32).reshape(-1, 2)


def _rounded(block: F32, dtype: str, name: str) -> Array:
    if dtype == "BF16":
        words = np.empty(len(block), np.uint16)
        finite = bool(kernels.to_bf16(block, words))
        return _finite(words, finite, name)
    narrow = block.astype(DTYPES[dtype])
    return _finite(narrow, bool(np.isfinite(narrow).all()), name)


def _finite(array: Array, finite: bool, name: str) -> Array:
    if not finite:
        raise Hostile(f"{name}: the merge is NaN or infinite", hint="one of the models holds NaN, Inf or huge numbers")
    return array


def _dtype(planned: Plan, output: Output, models: Mapping[ModelRef, Model]) -> str:
    dtypes = {models[i.model].stored(i.tensor) for i in output.every}
    if not dtypes <= {*_FLOATS.values(), "F64"}:
        raise UsageError(f"{output.name} is {', '.join(sorted(dtypes))}, which is no float to merge")
    if wanted := planned.out_dtype or planned.dtype:
        if wanted not in _FLOATS:
            raise UsageError(f"out_dtype {wanted} is not written", hint=f"one of: {', '.join(_FLOATS)}")
        return _FLOATS[wanted]
    return dtypes.pop() if len(dtypes) == 1 and "F64" not in dtypes else "F32"


def _shape(output: Output, models: Mapping[ModelRef, Model]) -> tuple[int, ...]:
    shapes = {models[i.model].shapes[i.tensor][1] for i in output.every}
    if len(shapes) > 1:
        raise UsageError(
            f"{output.name} has {' and '.join(map(str, sorted(shapes)))}: the vocabularies differ",
            hint="write `tokenizer: {source: base}` (or `union`), and rows are matched by their tokens",
        )
    return shapes.pop()


def _write_files(
    planned: Plan, models: Mapping[ModelRef, Model], made: Mapping[str, Path], folder: Path, write_out: WriteOut | None
) -> tuple[Plan, list[str]]:
    """Config and tokenizer; the plan in the tokenizer's vocabulary, and what a person should know of it."""
    first = planned.base_model or planned.models[0]
    files, notes = dict(models[first].source.files), list(models[first].source.notes)
    config = in_order({ref: model.config for ref, model in models.items()}, first, planned.places, write_out)
    if planned.tokenizer:
        source, others = planned.tokenizer.source, dict[ModelRef, Model]()
        if isinstance(source, ModelRef) and source not in models:
            others[source] = Model(source, made.get(source.path))
        planned, tokens, config["vocab_size"] = align(planned, models, others)
        files = {name: data for name, data in files.items() if name not in STALE} | tokens
    else:
        notes += check_same(models, first)
    if planned.chat_template and (template := _template(planned.chat_template, models)):
        files["chat_template.jinja"] = template.encode()
    if dtype := planned.out_dtype or planned.dtype:
        config["dtype" if "dtype" in config else "torch_dtype"] = dtype
    files["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return planned, [*notes, *_other_settings(first, models, write_out)]


def _other_settings(first: ModelRef, models: Mapping[ModelRef, Model], write_out: WriteOut | None) -> list[str]:
    """By which settings the others compute otherwise than the model whose config is kept: a merge has one."""
    notes = []
    for ref, model in models.items():
        configs = [
            {key: value for key, value in of.config.items() if of.layers == models[first].layers or key not in DEPTH}
            for of in (models[first], model)
        ]
        differing, _ = differing_settings(configs[0], configs[1], write_out)
        for key, kept, other in differing[:MOST_SETTINGS]:
            notes.append(f"{ref} computes with {key} {shown(other)}; {shown(kept)} is kept, as in {first}")
        if len(differing) > MOST_SETTINGS:
            notes.append(f"{ref} computes with {len(differing) - MOST_SETTINGS} other settings that differ")
    return notes


def _template(wanted: str, models: Mapping[ModelRef, Model]) -> str | None:
    """A chat template by its text; `auto`: the one most models have; `chatml` by its name."""
    if wanted == "auto":
        templates = [text.strip() for model in models.values() if (text := _own_template(model.source.files))]
        return max(templates, key=lambda text: (templates.count(text), text), default=None)
    if wanted == "chatml":
        return CHATML
    if len(wanted) < 20 or "{" not in wanted:
        raise UsageError(
            f"no chat template {wanted!r} is kept here",
            hint="write `auto` (that of most of these models), `chatml`, or the text itself: `chat_template: |`, and "
            "below it the chat_template.jinja of a model that has the one you mean",
        )
    return wanted


def _own_template(files: Mapping[str, bytes]) -> str | None:
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].decode("utf-8", "replace")
    config = read_json(files.get("tokenizer_config.json", b"{}"))
    template = config.get("chat_template") if isinstance(config, dict) else None
    return template if isinstance(template, str) else None
