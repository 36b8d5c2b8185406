"""Many sequences as one row: shared beginnings are computed once, and nothing is padding.

Sequences form a tree of tokens. Each node is one position; it attends to its ancestors and itself, and its position
id is its depth. Losses and log-probabilities are those of the sequences one by one, and the thirty tokens of system
prompt that a chat template puts before every example are paid for once a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from souq.lab.lm import LM, Tokens

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


def packed_alike(sequences: Sequence[TokenSequence]) -> list[PackedRow]:
    """Rows of sequences in the order of their tokens, so that those which begin alike share their beginnings."""
    return pack(sorted(sequences, key=lambda sequence: sequence.tokens))


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


def hidden(net: Any, row: PackedRow) -> Any:
    """The last hidden states (n, d) of a row, in the network's dtype; `net` is the causal LM, or PEFT's around it."""
    body = net.get_base_model().model if hasattr(net, "get_base_model") else net.model
    device = next(net.parameters()).device
    mask = row.mask().to(device=device, dtype=next(net.parameters()).dtype)
    ids = torch.tensor([row.tokens], device=device)
    positions = torch.tensor([row.depths], device=device)
    return body(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)[0][0]


def logits(net: Any, row: PackedRow) -> tuple[Any, Any, list[int]]:
    """Logits (t, V) in float32 where a next token is scored, that token (t,), and the number of its sequence.

    The head runs only there.
    """
    where, what, whose = row.targets()
    head = net.get_base_model().lm_head if hasattr(net, "get_base_model") else net.lm_head
    logits_tV = head(hidden(net, row)[torch.tensor(where)]).float()
    return logits_tV, torch.tensor(what, device=logits_tV.device), whose


def log_probabilities(net: Any, row: PackedRow) -> tuple[Any, Any, list[int]]:
    """log p (t,) float32 of each target, whether it is the greedy choice (t,), and the number of its sequence."""
    logits_tV, targets, whose = logits(net, row)
    log_p = torch.log_softmax(logits_tV, -1).gather(1, targets[:, None])[:, 0]
    return log_p, logits_tV.argmax(-1) == targets, whose


def sequence_of(lm: LM, row: Mapping[str, Any], tag: Any = None) -> TokenSequence:
    """A training row in any of TRL's formats: what comes before the answer is read, the answer is learned."""
    if "messages" in row:
        *before, last = row["messages"]
        prompt = lm.chat_tokens(before)
        return TokenSequence([*prompt, *lm.encode(last["content"]), lm.eos_id], len(prompt), tag)
    if "prompt" in row and "completion" in row:
        prompt = lm.encode(row["prompt"])
        return TokenSequence([*prompt, *lm.encode(row["completion"]), lm.eos_id], len(prompt), tag)
    return TokenSequence(lm.encode(row["text"]), 1, tag)
