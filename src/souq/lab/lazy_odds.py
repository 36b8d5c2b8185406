"""The odds that decide a case, and no others.

A network's head is as wide as its vocabulary: a quarter of a small model's work for each place where odds are asked.
Which of some options is likeliest does not hang on what all of them begin with, and no longer on an option that the
others have overtaken: odds only fall with each token. An answer that begins with a wrong token is wrong. So the layers
run once over packed rows, and the head where a value still hangs on it; values are those of all odds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import isfinite
from typing import Any

import torch

from souq.lab.halves import Halves
from souq.lab.lower_states import LowerStates
from souq.lab.packing import SLICE, PackedRow, TokenSequence, in_its_tables, rows_for

CHUNK = 6_144  # tokens of cases whose states are held at once

Asked = tuple[str, Sequence[TokenSequence]]  # a case, and what may come after it, one text an option


@dataclass(frozen=True)
class Path:
    """What is scored of a text: the tokens, and which of a chunk's states each follows."""

    targets: Sequence[int]
    places: Sequence[int]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(state, token that follows it)."""
        return list(zip(self.places, self.targets, strict=True))


@dataclass(frozen=True)
class States:
    """What flows into the head at each node of some rows, and the paths of their texts by case."""

    parts: Halves
    states: Any  # (N, D)
    paths: Mapping[str, Sequence[Path]]

    def odds(self, asked: Sequence[tuple[int, int]], *, first: bool = False) -> list[float]:
        """log p of a token after a state, for (state, token) pairs; with `first`, 1.0 where it is the first choice."""
        places = sorted({place for place, _ in asked})
        at = {place: i for i, place in enumerate(places)}
        values = [0.0] * len(asked)
        for start in range(0, len(places), SLICE):
            here = [i for i, (place, _) in enumerate(asked) if start <= at[place] < start + SLICE]
            logits = self.parts.head(self.states[places[start : start + SLICE]])
            rows = torch.tensor([at[asked[i][0]] - start for i in here])
            tokens = torch.tensor([asked[i][1] for i in here])
            given = logits.argmax(-1)[rows] == tokens if first else torch.log_softmax(logits, -1)[rows, tokens]
            for i, value in zip(here, given.tolist(), strict=True):
                values[i] = float(value)
        return values


def chunks(
    parts: Halves,
    cases: Sequence[Asked],
    below: LowerStates | None = None,
    read: Callable[[PackedRow], object] = lambda row: None,
) -> Iterator[States]:
    """The cases' texts through the layers, some cases at a time; `read` is shown each row before it is read."""
    ordered = sorted(cases, key=lambda case: (case[1][0].start, case[1][0].tokens))
    part, size = list[Asked](), 0
    for name, texts in ordered:
        length = len(texts[0].tokens) + sum(len(text.tokens) - text.start for text in texts[1:])
        if part and size + length > CHUNK:
            yield _states(parts, part, below, read)
            part, size = [], 0
        part, size = [*part, (name, texts)], size + length
    if part:
        yield _states(parts, part, below, read)


def _states(
    parts: Halves, cases: Sequence[Asked], below: LowerStates | None, read: Callable[[PackedRow], object]
) -> States:
    numbered = [(name, i, text) for name, texts in cases for i, text in enumerate(texts)]
    tagged = [TokenSequence(text.tokens, text.start, (name, i)) for name, i, text in numbered]
    tagged.sort(key=lambda text: (text.start, text.tokens))
    known = [text for text in tagged if below is not None and below.knows(text.tokens[:-1])]
    new = tagged if below is None else [text for text in tagged if not below.knows(text.tokens[:-1])]
    held, at, paths = list[Any](), 0, dict[tuple[str, int], Path]()
    for row in [row for some in (known, new) if some for row in rows_for(parts.net, some)]:
        read(row)
        held.append(_through(parts, row, below))
        paths |= {text.tag: _path(text, nodes, at) for text, nodes in row.paths}
        at += len(row.tokens)
    if below is not None:
        below.flush()
    by_case = {name: [paths[name, i] for i in range(len(texts))] for name, texts in cases}
    return States(parts, torch.cat(held), by_case)


def _path(text: TokenSequence, nodes: Sequence[int], at: int) -> Path:
    begin = max(text.start, 1)
    return Path(text.tokens[begin:], [at + nodes[i - 1] for i in range(begin, len(text.tokens))])


@torch.inference_mode()
def _through(parts: Halves, row: PackedRow, below: LowerStates | None) -> Any:
    """(n, D): a row through the layers; only the upper ones where what flows into them is known."""
    with in_its_tables(parts.net):
        if below is None or not parts.depth:
            return parts.upper(row)
        kept = below.of(row)
        if kept is None:
            states = parts.lower(row)
            below.add(row, states.cpu().numpy())
        else:
            states = torch.from_numpy(kept).to(parts.net.device)
        return parts.upper(row, states)


# -- what is decided ---------------------------------------------------------------------------------------------------


@torch.inference_mode()
def sums(states: States) -> dict[str, list[float]]:
    """log p of each of each case's texts."""
    odds = iter(states.odds([pair for paths in states.paths.values() for path in paths for pair in path.pairs]))
    return {
        name: [sum((next(odds) for _ in path.pairs), 0.0) for path in paths] for name, paths in states.paths.items()
    }


@torch.inference_mode()
def greedy(states: States) -> dict[str, bool]:
    """Whether each case's text is what the model writes: the rest is asked where the first token is right."""
    right = dict.fromkeys(states.paths, True)
    for part in (slice(0, 1), slice(1, None)):
        asked = [(name, pair) for name, (path,) in states.paths.items() if right[name] for pair in path.pairs[part]]
        for (name, _), first in zip(asked, states.odds([pair for _, pair in asked], first=True), strict=True):
            right[name] = right[name] and first == 1.0
    return right


@torch.inference_mode()
def likeliest(states: States) -> dict[str, int]:
    """Which of each case's options is the likeliest; of equals, the first."""
    races = {name: _Race(paths) for name, paths in states.paths.items()}
    while asked := [(race, option, pair) for race in races.values() for option, pair in race.asks()]:
        for (race, option, _), log_p in zip(asked, states.odds([pair for *_, pair in asked]), strict=True):
            race.hears(option, log_p)
    return {name: race.leader for name, race in races.items()}


@torch.inference_mode()
def ahead(states: States, options: Mapping[str, Sequence[TokenSequence]], right: Mapping[str, int]) -> set[str]:
    """The cases whose right option is the likeliest, as far as its own text shows: the states are of that one alone.

    At the token where another option leaves it the other's odds are heard as well, and can only fall from there.
    """
    duels = {name: _Duel(path, options[name], right[name]) for name, (path,) in states.paths.items()}
    odds = iter(states.odds([pair for duel in duels.values() for pair in duel.asks]))
    return {name for name, duel in duels.items() if duel.won([next(odds) for _ in duel.asks])}


class _Duel:
    """One option against all others, of which no more is heard than where each leaves it."""

    def __init__(self, path: Path, options: Sequence[TokenSequence], right: int) -> None:
        targets = [option.tokens[max(option.start, 1) :] for option in options]
        self.right, self.length = right, len(path.targets)
        self.common = [
            sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(path.targets, each, strict=False)))
            for each in targets
        ]
        self.alike = min(self.common, default=0)
        self.leaving = [
            (path.places[n], each[n]) if n < min(len(each), self.length) else None
            for each, n in zip(targets, self.common, strict=True)
        ]
        self.asks = [*path.pairs[self.alike :], *(pair for pair in self.leaving if pair is not None)]

    def won(self, odds: Sequence[float]) -> bool:
        """Whether none can be likelier, and none before it as likely; not known of odds that are no numbers."""
        own, others = odds[: self.length - self.alike], iter(odds[self.length - self.alike :])
        total, bounds = sum(own, 0.0), list[float]()
        for n, leaves in zip(self.common, self.leaving, strict=True):
            bounds.append(sum(own[: n - self.alike], 0.0) + (next(others) if leaves is not None else 0.0))
        return all(map(isfinite, odds)) and all(
            bound < total or (bound == total and i > self.right) for i, bound in enumerate(bounds) if i != self.right
        )


class _Race:
    """Options whose odds are heard token by token, as far as it takes to know which is the likeliest."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths, self.sums = paths, [0.0] * len(paths)
        tokens = zip(*(path.targets for path in paths), strict=False)
        alike = sum(1 for _ in takewhile(lambda these: len(set(these)) == 1, tokens))
        self.heard = [alike] * len(paths)  # what all begin with sets none apart
        self.begun = False

    @property
    def leader(self) -> int:
        """The option of the largest sum, the first of equals."""
        return max(range(len(self.sums)), key=self.sums.__getitem__)

    def asks(self) -> list[tuple[int, tuple[int, int]]]:
        """What must be heard next: first a token of each option, then what the leader has left. Nothing, at the end."""
        if not self.begun:
            self.begun = True
            asked = [(option, 1) for option in range(len(self.paths))]
        elif not all(map(isfinite, self.sums)):  # a broken model's odds bound nothing
            asked = [(option, len(self.paths[option].targets)) for option in range(len(self.paths))]
        else:
            asked = [(self.leader, len(self.paths[self.leader].targets))]
        return [(option, pair) for option, count in asked for pair in self._left(option, count)]

    def _left(self, option: int, count: int) -> Iterator[tuple[int, int]]:
        start = self.heard[option]
        yield from self.paths[option].pairs[start : start + count]

    def hears(self, option: int, log_p: float) -> None:
        """One more token's odds."""
        self.sums[option] += log_p
        self.heard[option] += 1
