"""Many sequences as one row: shared beginnings are computed once, and nothing is padding.

Sequences form a tree of tokens. Each node is one position; it attends to its ancestors and itself, and its position
id is its depth. Losses and log-probabilities are those of the sequences one by one, and the thirty tokens of system
prompt that a chat template puts before every example are paid for once a row.

A network for which that is not so (one that carries a state from token to token, counts positions itself, or looks
back only so far) reads each sequence alone. Which it is, is found out by trying. Odds are always those of the
network's own forward, whatever it does around its head: scales, caps.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from souq.errors import UsageError
from souq.lab.lm import LM, Tokens
from souq.repo.rows import answered

ALIKE = 1e-3  # how far a logit may be off, in deviations, and a row still counts as read right
ROUGHLY = 0.1  # how far all of them, in 16 bits, whose rounding alone is 0.03 for SmolLM2 in bf16
_WINDOW = re.compile(r"sliding_window|window_size|attention_chunk_size")
_PACKS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

log = logging.getLogger(__name__)
MASKED = 4_096  # nodes: a longer row that is one sequence is read without a mask, which is as large as their square
SLICE = 256  # positions whose odds are computed at once
ROW = 384  # nodes in a row: long enough to fill the processor, short enough that attention does not dominate


@dataclass(frozen=True)
class TokenSequence:
    """Tokens, and from which position on they are scored (the answer)."""

    tokens: Tokens
    start: int
    tag: Any = None


@dataclass
class PackedRow:
    """A tree of sequences laid out as one row."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    paths: list[tuple[TokenSequence, list[int]]] = field(default_factory=list)  # each sequence, and its nodes
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, sequence: TokenSequence) -> None:
        """Hang a sequence into the tree. Its last token is only ever a target, so it needs no node."""
        node, path = -1, []
        for token in sequence.tokens[:-1]:
            child = self._children.get((node, token))
            if child is None:
                child = self._children[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(0 if node < 0 else self.depths[node] + 1)
            node = child
            path.append(node)
        self.paths.append((sequence, path))

    def mask(self) -> Any:
        """(1, 1, n, n) float32, additive: 0 where a node may look, the least float32 elsewhere."""
        n = len(self.tokens)
        seen = np.zeros((n, n), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, node] = True
        return torch.from_numpy(np.where(seen, 0.0, np.finfo(np.float32).min).astype(np.float32))[None, None]

    def targets(self) -> tuple[list[int], list[int], list[int]]:
        """Positions whose next token is scored, that token, and the sequence it belongs to."""
        where, what, whose = [], [], []
        for number, (sequence, path) in enumerate(self.paths):
            for i in range(max(sequence.start, 1), len(sequence.tokens)):
                where.append(path[i - 1])
                what.append(sequence.tokens[i])
                whose.append(number)
        return where, what, whose


def packed_alike(net: Any, sequences: Sequence[TokenSequence]) -> list[PackedRow]:
    """Rows of sequences in the order of their tokens, so that those which begin alike share their beginnings."""
    return rows_for(net, sorted(sequences, key=lambda sequence: sequence.tokens))


def rows_for(net: Any, sequences: Sequence[TokenSequence]) -> list[PackedRow]:
    """Rows that a network reads in one pass each; of one sequence each, where it cannot read several as one."""
    if packs(net):
        return pack(sequences, min(ROW, _reach(net)))
    rows = [PackedRow() for _ in sequences]
    for row, sequence in zip(rows, sequences, strict=True):
        row.add(sequence)
    return rows


def pack(sequences: Sequence[TokenSequence], most: int = ROW) -> list[PackedRow]:
    """Rows of at most about `most` nodes, neighbours together: sort before, if neighbours should share."""
    rows = [PackedRow()]
    for sequence in sequences:
        if rows[-1].tokens and len(rows[-1].tokens) + len(sequence.tokens) - _shared(rows[-1], sequence) > most:
            rows.append(PackedRow())
        rows[-1].add(sequence)
    return rows


def _shared(row: PackedRow, sequence: TokenSequence) -> int:
    node, count = -1, 0
    for token in sequence.tokens[:-1]:
        child = row._children.get((node, token))
        if child is None:
            break
        node, count = child, count + 1
    return count


def logits(net: Any, row: PackedRow) -> tuple[Any, Any, list[int]]:
    """Logits (t, V) in float32 where a next token is scored, that token (t,), and the number of its sequence.

    `net` is the causal LM, or PEFT's around it. The head runs only there.

    Raises:
        UsageError: a sequence is longer than the network has positions for.
    """
    net = _bare(net)
    where, what, whose = row.targets()
    single = len(row.paths) == 1 and len(row.tokens) > MASKED and not torch.is_grad_enabled()
    together = not single and len(row.tokens) <= _reach(net) and packs(net)
    with in_its_tables(net):
        if together or len(row.paths) == 1:
            logits_tV = _forward(net, row, where, together=together)
        else:
            alone = rows_alone(row)
            logits_tV = torch.cat([_forward(net, own, own.targets()[0], together=False) for own in alone])
    return logits_tV, torch.tensor(what, device=logits_tV.device), whose


@contextmanager
def in_its_tables(net: Any) -> Iterator[None]:
    """A token or a position that a network has no row for is said; GPT-2 has a row for each position.

    Raises:
        UsageError: there was one.
    """
    try:
        yield
    except IndexError as error:
        config = net.config.get_text_config()
        tables = f"{config.vocab_size:,} tokens, {getattr(config, 'max_position_embeddings', 0) or 0:,} positions"
        raise UsageError(
            f"a text has a token or a position that this {config.model_type} has not: it knows {tables}",
            hint="shorten or cut the longest texts; is the tokenizer this model's own?",
        ) from error


def rows_alone(row: PackedRow) -> list[PackedRow]:
    """Each of a row's sequences as a row of its own."""
    alone = [PackedRow() for _ in row.paths]
    for own, (sequence, _) in zip(alone, row.paths, strict=True):
        own.add(sequence)
    return alone


def _bare(net: Any) -> Any:
    return net.get_base_model() if hasattr(net, "get_base_model") else net


def _forward(net: Any, row: PackedRow, where: Sequence[int], *, together: bool) -> Any:
    """Logits (t, V) float32 at some positions."""
    inputs = inputs_of(net, row, together=together)
    places = torch.tensor(where, dtype=torch.long)
    if "logits_to_keep" in inspect.signature(net.forward).parameters:
        return net(**inputs, logits_to_keep=places).logits[0].float()
    return net(**inputs).logits[0][places].float()


def inputs_of(net: Any, row: PackedRow, *, together: bool) -> dict[str, Any]:
    """What a network is given to read a row; a sequence that is read alone needs neither mask nor positions."""
    device = next(net.parameters()).device
    inputs: dict[str, Any] = {"input_ids": torch.tensor([row.tokens], device=device), "use_cache": False}
    if together:
        inputs["attention_mask"] = row.mask().to(device=device, dtype=next(net.parameters()).dtype)
        inputs["position_ids"] = torch.tensor([row.depths], device=device)
    return inputs


def packs(net: Any) -> bool:
    """Whether this network gives each sequence of a row what it gives it alone: tried once, with a few tokens."""
    net = _bare(net)
    if net not in _PACKS:
        _PACKS[net] = _attends(net) and _tried(net)
    return _PACKS[net]


def packs_alike(net: Any, other: Any) -> None:
    """What `packs` says of a network holds for another that is made as it is."""
    _PACKS[other] = packs(net)


def _attends(net: Any) -> bool:
    """Whether tokens meet in attention alone: a state or a convolution goes over what a mask hides."""
    if getattr(net, "_is_stateful", False) or any(isinstance(m, torch.nn.Conv1d) for m in net.modules()):
        return False
    return "position_ids" in inspect.signature(net.forward).parameters


def _tried(net: Any) -> bool:
    size = int(net.get_input_embeddings().weight.shape[0])
    tokens = [(7 * i + 3) % size for i in range(40)]
    shared = tokens[:4]
    asked = [TokenSequence([*shared, *tokens[4:16]], 1), TokenSequence([*shared, *tokens[20:32]], 1)]
    row = PackedRow()
    for sequence in (*asked, TokenSequence(tokens[32:], 1)):
        row.add(sequence)
    learns = net.training
    net.eval()
    try:
        with torch.no_grad(), torch.autocast(next(net.parameters()).device.type, enabled=False):
            alone = [_forward(net, own, own.targets()[0], together=False) for own in rows_alone(row)]
            together = _forward(net, row, row.targets()[0], together=True)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False  # it takes no such mask
    finally:
        net.train(learns)
    expected = torch.cat(alone)
    off, spread = together - expected, expected.std()
    if next(net.parameters()).dtype is torch.float32:
        return bool(off.abs().max() <= ALIKE * spread)
    return bool(off.square().mean().sqrt() <= ROUGHLY * spread)


def _reach(net: Any) -> int:
    """How many positions back every layer sees: rows are no longer, or a layer with a window would see too far."""
    config = _bare(net).config.get_text_config().to_dict()
    windows = [value for key, value in config.items() if _WINDOW.fullmatch(key) and isinstance(value, int)]
    return min((window for window in windows if window > 0), default=1 << 62)


def log_probabilities(net: Any, row: PackedRow) -> tuple[Any, Any, list[int]]:
    """log p (t,) float32 of each target, whether it is the greedy choice (t,), and the number of its sequence."""
    logits_tV, targets, whose = logits(net, row)
    log_p, greedy = torch.empty_like(targets, dtype=torch.float32), torch.empty_like(targets, dtype=torch.bool)
    for start in range(0, len(targets), SLICE):  # each slice's odds are as many numbers again
        part, wanted = logits_tV[start : start + SLICE], targets[start : start + SLICE]
        log_p[start : start + SLICE] = torch.log_softmax(part, -1).gather(1, wanted[:, None])[:, 0]
        greedy[start : start + SLICE] = part.argmax(-1) == wanted
    return log_p, greedy, whose


def sequence_of(lm: LM, row: Mapping[str, Any], tag: Any = None) -> TokenSequence:
    """A training row in any of TRL's formats: what comes before the answer is read, the answer is learned."""
    if "messages" in row:
        *before, last = answered(row["messages"])
        prompt = lm.chat_tokens(before)
        return TokenSequence([*prompt, *lm.encode(last["content"]), lm.eos_id], len(prompt), tag)
    if "prompt" in row and "completion" in row:
        prompt = lm.encode(row["prompt"])
        return TokenSequence([*prompt, *lm.encode(row["completion"]), lm.eos_id], len(prompt), tag)
    return TokenSequence(lm.encode(row["text"]), 1, tag)


def sequences_of(lm: LM, rows: Sequence[Mapping[str, Any]]) -> list[TokenSequence]:
    """Rows as sequences, tagged by their place; what cannot be learned from is left out, and that is said.

    Raises:
        UsageError: nothing is left, or a row that the model's chat template does not take.
    """
    sequences = [sequence_of(lm, row, number) for number, row in enumerate(rows)]
    if not (left := learnable(lm, sequences)):
        longest = max((len(sequence.tokens) for sequence in sequences), default=0)
        beyond = f"the longest has {longest:,} tokens, the model's context {lm.context:,}"
        why = beyond if longest > 1 else "all are empty"
        raise UsageError(f"nothing to learn from in {len(rows):,} rows: {why}", hint="shorten rows, or add some")
    empty = [s.tag for s in sequences if _empty(s)]
    long = [s.tag for s in sequences if not _fits(lm, s)]
    unheard = [n for n, row in enumerate(rows) if "messages" in row and answered(row["messages"]) != row["messages"]]
    _say(long, f"longer than the model's context of {lm.context:,} tokens, left out: shorten them to learn from them")
    _say(empty, "without a word to learn, left out")
    _say(unheard, "read up to the last answer: what the user says after it nobody answers, so it is not learned")
    return left


def learnable(lm: LM, sequences: Sequence[TokenSequence]) -> list[TokenSequence]:
    """The sequences that have something to learn and stand within the model's context."""
    return [sequence for sequence in sequences if _fits(lm, sequence) and not _empty(sequence)]


def _fits(lm: LM, sequence: TokenSequence) -> bool:
    """The last token is only ever a target: it takes no position."""
    return not lm.context or len(sequence.tokens) - 1 <= lm.context


def _empty(sequence: TokenSequence) -> bool:
    return len(sequence.tokens) <= max(sequence.start, 1)


def _say(places: Sequence[int], what: str) -> None:
    """One line about rows by their numbers, the first from 1."""
    if places:
        shown = ", ".join(f"{place + 1:,}" for place in places[:8]) + (" …" if len(places) > 8 else "")
        log.warning("%s of the rows (%s): %s", f"{len(places):,}", shown, what)
