"""Texts that say the same are found; what is real stays; what holds an exam's case is named."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.corpus import near
from souq.corpus.near import clusters
from souq.corpus.ngrams import Exam
from souq.errors import UsageError
from souq.text import words

WORDS = ["a", "model", "repository", "is", "an", "ordinary", "git", "repository", "that", "anybody", "can", "send", "a", "pull", "request", "to", "and", "what", "is", "pulled", "is", "a", "change"]  # fmt: skip
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=12)


def sets_of(text):
    said = words(text)
    size = min(5, len(said))
    return {tuple(said[i : i + size]) for i in range(len(said) - size + 1)} if said else set()


def jaccard(a, b):
    a, b = sets_of(a), sets_of(b)
    return len(a & b) / len(a | b) if a | b else 1.0


@settings(deadline=None, max_examples=60)
@given(texts)
def test_who_is_kept_stands_for_itself_and_for_nobody_unlike_it(said):
    """Every text is its own or another's, the other is its own; and every change is linked by texts that are near."""
    found = clusters(said, threshold=0.6)

    assert all(found[found[i]] == found[i] for i in range(len(said)))
    for i, kept in enumerate(found):
        mates = [j for j in range(len(said)) if found[j] == kept and j != i]
        assert kept == i or any(jaccard(said[i], said[j]) >= 0.6 for j in mates)


@settings(deadline=None, max_examples=60)
@given(texts, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(said, chance):
    """Shuffled, the same texts are kept."""
    order = list(range(len(said)))
    chance.shuffle(order)
    again = [said[i] for i in order]

    assert sorted(said[i] for i in set(clusters(said))) == sorted(again[i] for i in set(clusters(again)))


def test_real_text_is_never_dropped_for_a_machine_s():
    """Priority decides before anything else does."""
    said = ["z z z the real text is here for all of us", "a real text", "Z, z, z: the real text is here for all of us"]

    assert clusters(said, priorities=[1, 0, 0]) == [2, 1, 2]
    assert clusters(said, priorities=[0, 0, 1]) == [0, 1, 0]


def test_edits_are_seen_through():
    """One word of fifty changed, capitals and punctuation lost: still the same text. Half of them: another."""
    chance = random.Random(1)
    text = [chance.choice(WORDS) + str(chance.randrange(90)) for _ in range(50)]
    other = [word if i % 2 else "else" for i, word in enumerate(text)]
    edited = [*text[:25], "changed", *text[26:]]

    assert clusters([" ".join(text), ", ".join(edited).upper(), " ".join(other)]) == [0, 0, 2]


def test_a_text_of_ten_megabytes_on_one_line_is_a_text():
    """It is compared like any other."""
    long = " ".join(f"w{i % 50_000}" for i in range(1_500_000))

    assert clusters([long, long + " end", "short"], threshold=0.9) in ([0, 0, 2], [1, 1, 2])


def test_texts_that_share_a_bucket_and_little_else_cost_what_their_number_does():
    """Twenty thousand made to be compared with each other are compared with a few each: a second, not minutes."""
    chance = np.random.default_rng(near.SEED)
    factors = chance.integers(0, 1 << 63, near.BANDS * near.ROWS, np.uint64) * np.uint64(2) + np.uint64(1)
    terms = chance.integers(0, 1 << 63, near.BANDS * near.ROWS, np.uint64)
    many = np.random.default_rng(1).integers(0, 1 << 63, (20_000, 60), np.uint64)
    for i in range(near.ROWS):  # each text has the run that all of them are filed under
        many[:, i] = many.flat[((many * factors[i] + terms[i]) >> np.uint64(32)).argmin()]
    runs = near.Runs(np.sort(many).ravel(), np.full(len(many), many.shape[1]))
    near.repeats(runs, near.runs_of([]), threshold=0.8)  # compiled once on a machine

    begun = time.process_time()
    assert near.repeats(runs, near.runs_of([]), threshold=0.8) == []
    assert time.process_time() - begun < 20


def test_words_are_as_elsewhere_in_souq():
    """Accents, full-width letters, Chinese characters and quotation marks are read as plain.py reads them."""
    for text in ("Crème brûlée, s’il vous plaît encore", "Ｆｕｌｌ width letters are letters", "中国人 说 的 话 和 日本語", "a_b c-d “e” f…g ¿h?"):  # fmt: skip
        spaced = " ".join(words(text))
        assert Exam({"it": spaced}, ngram=4).held([text]) == ["it"], text


def test_no_cluster_without_a_threshold():
    """0 would make everything one text."""
    with pytest.raises(UsageError):
        clusters(["a"], threshold=0)


EXAM = {"france": "What is the capital of France? Paris", "long": " ".join(WORDS[:20]), "hi": "Hello there"}


def test_a_case_is_found_wherever_it_stands():
    """Whole short ones, thirteen words of long ones; not twelve, and not what is too short to mean anything."""
    exam = Exam(EXAM)

    assert exam.held([f"so: {WORDS[0].upper()} {' '.join(WORDS[1:13])} x", " ".join(WORDS[:12]), "WHAT is the capital of France -- paris"]) == ["long", "", "france"]  # fmt: skip
    assert exam.held(["Hello there", ""]) == ["", ""]
    assert exam.short == ["hi"]


def test_an_empty_exam_holds_nothing():
    """Nothing to look for, nothing found."""
    assert Exam({}).held(["anything at all", ""]) == ["", ""]
    assert Exam(EXAM).held([]) == []
