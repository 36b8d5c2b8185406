"""Where a checkpoint keeps what a network calls otherwise: transformers builds a model that sees as
`model.language_model.layers.0`, and its file says `language_model.model.layers.0`, or `model.layers.0`.

Names are compared by their words: what follows a layer's number is the same in both, and of the words before it the one
has the other's, in any order. It knows names only, no list of kinds.

    >>> places(["model.language_model.layers.0.q"], ["language_model.model.layers.0.q", "vision_tower.layers.0.q"])
    {'model.language_model.layers.0.q': 'language_model.model.layers.0.q'}
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


def places(names: Iterable[str], base: Collection[str]) -> dict[str, str]:
    """Each name as the base spells it; left out where no one name of the base is the nearest."""
    ends: dict[tuple[str, ...], list[str]] = {}
    for name in base:
        ends.setdefault(_end(name), []).append(name)
    known = set(base)
    spelled = {name: name if name in known else _nearest(name, ends.get(_end(name), [])) for name in names}
    return {name: place for name, place in spelled.items() if place}


def _end(name: str) -> tuple[str, ...]:
    """From the word before the first number on; without a number the last two words, or the only one."""
    words = name.split(".")
    first = next((i for i, word in enumerate(words) if word.isdigit()), len(words) - 1)
    return tuple(words[max(first - 1, 0) :])


def _nearest(name: str, others: list[str]) -> str:
    """The one whose words before the end are most alike, all of the one's among the other's; none where two are."""
    own = _start(name)
    near = {other: len(own ^ _start(other)) for other in others if own <= _start(other) or _start(other) <= own}
    best = [other for other, apart in near.items() if apart == min(near.values())]
    return best[0] if len(best) == 1 else ""


def _start(name: str) -> set[str]:
    return set(name.split(".")[: -len(_end(name))])
