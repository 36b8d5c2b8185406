"""The guard chooses the same, keeps its floor, and lets nothing deeper than its cap in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.corpus.guard import Piece, choose, rare_words
from souq.errors import UsageError

letters = st.text("abcdefghij", min_size=1, max_size=2)
made = st.lists(st.builds(Piece, st.lists(letters, min_size=4, max_size=4).map(tuple), st.integers(0, 4)), max_size=40)
REAL = [Piece(tuple(f"w{i + j}" for j in range(4))) for i in range(20)]


@given(made, st.integers(1, 80), st.floats(0, 1), st.integers(0, 3), st.integers(0, 9))
def test_what_is_promised_of_every_choice(pool, size, floor, deepest, seed):
    """The floor of real words is there, nothing is too deep, nothing twice, and the seed alone decides."""
    pool = [*pool, *REAL]
    rare = rare_words(pool)

    chosen = choose(pool, size, rare=rare, floor=floor, deepest=deepest, seed=seed)

    assert sum(len(p.words) for p in chosen if p.depth == 0) >= round(floor * size)
    assert all(p.depth <= deepest for p in chosen)
    assert len({id(p) for p in chosen}) == len(chosen)
    assert chosen == choose(pool, size, rare=rare, floor=floor, deepest=deepest, seed=seed)


def test_the_floor_covers_the_rare():
    """Half of the real text is enough for every rare word where half of it holds them all."""
    common = [Piece(("the", "a", "of", "to")) for _ in range(20)]
    rare = rare_words([*REAL, *common], most=4)

    chosen = choose([*common, *REAL], 40, rare=rare, floor=1.0, seed=0)

    assert {word for piece in chosen for word in piece.words} >= rare
    assert len(chosen) <= 10


def test_a_verifier_has_the_last_word():
    """What it does not vouch for is not trained on, and real text is not asked."""
    wrong = [Piece(("x", "y", "z", str(i)), 1) for i in range(9)]

    chosen = choose(
        [*REAL, *wrong], 200, rare=rare_words(REAL), floor=0.1, seed=0, verify=lambda piece: piece.depth != 1
    )

    assert chosen
    assert all(piece.depth == 0 for piece in chosen)


def test_too_little_real_text_is_said():
    with pytest.raises(UsageError, match="4 words of real text, and the floor is 50"):
        choose(REAL[:1], 100, rare=set(), floor=0.5, seed=0)
