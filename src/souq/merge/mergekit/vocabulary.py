"""One vocabulary for models that have different ones: the tokenizer to write, and every model's rows in its order.

It reads tokenizer.json as plain data, never by the library that runs it, and chooses rows as mergekit 0.1.5 does. New
tokens stand behind the base's in the order of their text (mergekit's order is another in every process). The merge
itself is not its business: embeddings and heads are handed on as computed tensors of one shape.

    planned, files, size = align(planned, models)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from souq.errors import Hostile, UsageError
from souq.merge.mergekit.config import ModelRef, Token, Tokenizer
from souq.merge.mergekit.inputs import F32, Model
from souq.merge.mergekit.plan import Output, Plan
from souq.model.config import settings_in
from souq.model.names import indexes_tokens
from souq.model.tokenizer import PLAIN, Ids, Words, read_words, token_text, tokenizer_files, with_tokens

Models = Mapping[ModelRef, Model]
Place = tuple[ModelRef, int]


def _read_whole(files: Mapping[str, bytes], name: str) -> Words | None:
    """A tokenizer to be merged: whatever transformers would add to it as it loads, from other files, must be in it."""
    words = read_words(files, name)
    config = settings_in(files, "tokenizer_config.json")
    tokens = [config.get(f"{kind}_token") for kind in ("bos", "eos", "unk", "pad")]
    listed = config.get("added_tokens_decoder")
    tokens += listed.values() if isinstance(listed, dict) else []
    for token in tokens:
        if words and (text := token_text(token)) and text not in words.ids:
            raise UsageError(
                f"tokenizer_config.json of {name} names {text!r}, which its tokenizer.json does not have",
                hint="load the tokenizer with transformers and save it again",
            )
    return words


def check_same(models: Models, first: ModelRef) -> list[str]:
    """Where a file names no tokenizer the first one is kept: how the others' tokenizers differ from it, in sentences.

    Raises:
        UsageError: a token has one number here and another there, so rows would be mixed up.
    """
    kept = models[first].source.files.get("tokenizer.json")
    others = {ref: model for ref, model in models.items() if model.source.files.get("tokenizer.json") != kept}
    if kept is None or not others:  # the very same file says the very same; a large one takes a while to read
        return []
    others[first] = models[first]
    every = {ref: words for ref, model in others.items() if (words := read_words(model.source.files, str(ref)))}
    mine, notes = every[first].ids, []
    for ref, other in every.items():
        if moved := [token for token in other.ids if mine.get(token, other.ids[token]) != other.ids[token]]:
            raise UsageError(
                f"{moved[0]!r} is token {mine[moved[0]]} in {first} and {other.ids[moved[0]]} in {ref}",
                hint="write `tokenizer: {source: base}` (or `union`), and rows are matched by their tokens",
            )
        if differing := len(other.ids.keys() ^ mine.keys()):
            notes.append(f"the tokenizer of {first} is kept; that of {ref} differs in {differing} tokens")
    return notes


def align(planned: Plan, models: Models, others: Models) -> tuple[Plan, dict[str, bytes], int]:
    """The plan with embeddings and heads in one vocabulary; the tokenizer's files; how many rows there are.

    `others` are models named for their tokenizer alone.

    Raises:
        UsageError: a model without a tokenizer to begin with, a vocabulary with gaps, a token's source that has no row.
    """
    wanted = planned.tokenizer or Tokenizer()
    first = planned.base_model or planned.models[0]
    giver = wanted.source if isinstance(wanted.source, ModelRef) else first
    words = {ref: _read_whole(model.source.files, str(ref)) for ref, model in {**models, **others}.items()}
    rows = {ref: _row_count(model) for ref, model in models.items()}
    base = _stripped(_present(words, first), rows[first])
    every = {ref: words[ref] or base for ref in models} | {first: base}
    if wanted.source == "union":
        made = _union(base, every, rows)
    else:
        made = base if wanted.source == "base" else _present(words, giver)
    made = with_tokens(made, {token: dict(PLAIN) for token in wanted.tokens})
    if sorted(made.ids.values()) != list(range(len(made.ids))):
        raise UsageError(f"the numbers of {giver}'s tokens have gaps", hint="choose another `source` for the tokenizer")
    multiple = wanted.pad_to_multiple_of or 1
    size = -(-len(made.ids) // multiple) * multiple
    own = {ref: _own_rows(made.ids, every[ref].ids, rows[ref]) for ref in models}
    table = _Table(made.ids, own, every, wanted.tokens)
    outputs = tuple(
        table.aligned(output, models, planned.base_model, size) if indexes_tokens(output.name) else output
        for output in planned.outputs
    )
    files = {**models, **others}[giver].source.files
    return replace(planned, outputs=outputs), tokenizer_files(files, made), size


def _present(words: Mapping[ModelRef, Words | None], ref: ModelRef) -> Words:
    if (its := words[ref]) is None:
        raise UsageError(f"{ref} has no tokenizer.json", hint="save its tokenizer with transformers")
    return its


def _row_count(model: Model) -> int:
    """How many tokens the model has rows for: what it says, and no more than it has."""
    heights = [shape[0] for name, (_, shape) in model.shapes.items() if indexes_tokens(name) and shape]
    size = model.config.get("vocab_size")
    return min([*heights, *([size] if type(size) is int else [])], default=0)


def _stripped(words: Words, rows: int) -> Words:
    """Without the tokens the model has no rows for, and the merges that would make them."""
    gone = {token for token, number in words.ids.items() if number >= rows}
    if not gone:
        return words
    document = dict(words.document)
    core = dict(document["model"])
    if core.get("type") != "BPE":
        raise UsageError(f"the tokenizer has {len(gone)} tokens without a row, and is no BPE to take them out of")
    core["vocab"] = {token: number for token, number in core["vocab"].items() if token not in gone}
    core["merges"] = [pair for pair in core.get("merges") or [] if not gone.intersection(_parts(pair))]
    document |= {
        "model": core,
        "added_tokens": [e for e in document.get("added_tokens") or [] if e["content"] not in gone],
    }
    kept = {token: number for token, number in words.ids.items() if token not in gone}
    return Words(kept, {token: entry for token, entry in words.added.items() if token not in gone}, document)


def _parts(pair: Any) -> tuple[str, ...]:
    two = pair.split(" ") if isinstance(pair, str) else pair
    if not isinstance(two, list) or len(two) != 2 or not all(isinstance(part, str) for part in two):
        raise Hostile(f"a merge of the tokenizer is no pair: {str(pair)[:80]!r}")
    return (*two, "".join(two))


def _union(base: Words, every: Mapping[ModelRef, Words], rows: Mapping[ModelRef, int]) -> Words:
    """The base's tokens, then everybody's others: first plain ones, then the added, each in the order of their text."""
    plain: set[str] = set()
    added: dict[str, dict[str, Any]] = {}
    for ref, words in every.items():
        for token in words.ids.keys() - base.ids.keys():
            if words.ids[token] >= rows[ref]:
                continue
            if token in words.added:
                # Whose way of matching it wins must not depend on who is listed first.
                entry = {key: value for key, value in words.added[token].items() if key not in ("id", "content")}
                added[token] = min(added.get(token, entry), entry, key=lambda e: json.dumps(e, sort_keys=True))
            else:
                plain.add(token)
    new = {token: dict(PLAIN) for token in sorted(plain - added.keys())}
    return with_tokens(base, new | {token: added[token] for token in sorted(added)})


def _own_rows(made: Ids, mine: Ids, rows: int) -> NDArray[np.int64]:
    """For each new number the model's own row, -1 where it has none: (V,)."""
    own = np.full(len(made), -1, np.int64)
    for token, number in made.items():
        if (row := mine.get(token, -1)) < rows:
            own[number] = row
    return own


@dataclass(frozen=True)
class _Table:
    """Which row of which model each token of the new vocabulary comes from."""

    ids: Ids
    own: Mapping[ModelRef, NDArray[np.int64]]
    words: Mapping[ModelRef, Words]
    tokens: Mapping[str, Token]  # those the configuration says something of

    def aligned(self, output: Output, models: Models, base: ModelRef | None, rows: int) -> Output:
        """An output of computed tensors that have one shape, (rows, ...), in place of those it had."""
        tensors = {item.model: item.tensor for item in output.every}
        given = self.given(list(tensors), output.base.model if output.base else base, models)
        forced = [self.ids[token] for token, wanted in self.tokens.items() if wanted.force]
        name = f"{output.name}, in the merged vocabulary"
        for ref, tensor in tensors.items():
            own = self.own[ref].copy()
            own[forced] = -1
            places = {
                int(number): tuple((models[of], tensors[of], row) for of, row in given.get(int(number), ()))
                for number in np.flatnonzero(own < 0)
            }
            shape = (rows, *models[ref].shapes[tensor][1][1:])
            models[ref].compute(name, Rows(models[ref], tensor, own, places, shape), like=tensor)
        inputs = tuple(replace(item, tensor=name) for item in output.inputs)
        return replace(output, inputs=inputs, base=output.base and replace(output.base, tensor=name))

    def given(self, refs: Sequence[ModelRef], base: ModelRef | None, models: Models) -> dict[int, tuple[Place, ...]]:
        """For tokens that a model lacks, or that are forced: the rows whose mean they are; none of them: zeros."""
        own = np.stack([self.own[ref] for ref in refs])
        given: dict[int, tuple[Place, ...]] = {}
        for number in np.flatnonzero((own < 0).any(axis=0)).tolist():
            having = [(ref, int(own[i, number])) for i, ref in enumerate(refs) if own[i, number] >= 0]
            mine = [place for place in having if place[0] == base]
            # A sum in float64 by fingerprint: the order in which models are listed cannot show.
            given[number] = tuple(mine or sorted(having, key=lambda place: models[place[0]].fingerprint))
        for token, wanted in self.tokens.items():
            number = self.ids[token]
            if wanted.source is not None:
                given[number] = self.place(token, wanted, refs, models)
            elif wanted.force and number not in given:
                everybody = [(ref, int(own[i, number])) for i, ref in enumerate(refs)]
                given[number] = tuple(sorted(everybody, key=lambda place: models[place[0]].fingerprint))
        return given

    def place(self, token: str, wanted: Token, refs: Sequence[ModelRef], models: Models) -> tuple[Place, ...]:
        source, other = wanted.source, wanted.token
        if source == "zero" or source is None:
            return ()
        if source not in refs:
            raise UsageError(f"{token!r} is to come from {source}, which is not merged", hint="name one that is")
        row = other if isinstance(other, int) else self.words[source].ids.get(other or token, -1)
        if not 0 <= row < _row_count(models[source]):
            raise UsageError(f"{source} has no row for {other or token!r}, which {token!r} is to come from")
        return ((source, row),)


@dataclass(frozen=True)
class Rows:
    """A tensor's rows in another order (rows, ...): its own, means of others', and for what pads it the mean of all."""

    model: Model
    tensor: str
    own: NDArray[np.int64]  # (V,), -1 where a row is given
    given: Mapping[int, tuple[tuple[Model, str, int], ...]]
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def numbers(self, begin: int, count: int) -> F32:
        first, last = begin // self.width, -(-(begin + count) // self.width)
        return self.between(first, last).reshape(-1)[begin - first * self.width :][:count]

    def between(self, first: int, last: int) -> F32:
        """Rows first .. last, float32 (last - first, width)."""
        rows = np.empty((last - first, self.width), np.float32)
        row = first
        while row < last:
            if row >= len(self.own):
                rows[row - first :] = self.mean
                break
            end = row + 1
            if self.own[row] < 0:
                rows[row - first] = self.made(row)
            else:  # as many as lie side by side in the file, in one read
                while end < min(last, len(self.own)) and self.own[end] == self.own[end - 1] + 1:
                    end += 1
                rows[row - first : end - first] = self.stored(self.model, self.tensor, int(self.own[row]), end - row)
            row = end
        return rows

    def made(self, row: int) -> F32:
        """The mean of the rows given for a row of the new vocabulary, rounded once: float32 (width,)."""
        total = np.zeros(self.width)
        for place in self.given[row]:
            total += self.stored(*place, 1)[0]
        return (total / max(len(self.given[row]), 1)).astype(np.float32)

    def stored(self, model: Model, tensor: str, row: int, count: int) -> F32:
        """Rows that lie side by side in a model's file: float32 (count, width)."""
        return model.numbers(tensor, row * self.width, count * self.width).reshape(count, self.width)

    @cached_property
    def mean(self) -> F32:
        """The mean of all rows that have a token, added in their order: float32 (width,)."""
        total = np.zeros(self.width)
        for start in range(0, len(self.own), 1024):
            for row in self.between(start, min(start + 1024, len(self.own))):
                total += row
        return (total / max(len(self.own), 1)).astype(np.float32)
