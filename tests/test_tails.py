"""The tail report sees what a mean does not, and says nothing is lost where nothing is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.corpus.tails import compare, vendi, zipf
from souq.errors import UsageError
from souq.suite import passages

REAL = [text for _, text in passages()]


def test_a_text_against_itself_loses_nothing():
    """All that is there is kept; a resample of the same size keeps less, so the share left is at least one."""
    found = compare(REAL, REAL)

    assert found.corpus.rare_kept == pytest.approx(1.0)
    assert found.corpus.cover == pytest.approx(1.0)
    assert found.kept > 1.0
    assert found.corpus.words == found.ceiling.words


def test_without_the_rare_the_report_falls():
    """Real text with each rare word taken out: the mean word is as it was, and the report says zero."""
    from collections import Counter

    from souq.plain import words

    counts = Counter(w for text in REAL for w in words(text))
    common = [" ".join(w for w in words(text) if counts[w] > 5) for text in REAL]

    found = compare(common, REAL)

    assert found.rare == sum(count <= 5 for count in counts.values())
    assert (found.corpus.rare_kept, found.kept) == (0.0, 0.0)
    assert found.ceiling.rare_kept > 0.3
    assert found.corpus.types < found.ceiling.types


def test_one_sentence_over_and_over():
    """A teacher that repeats itself is one text in effect, whatever its size."""
    found = compare([REAL[0]] * len(REAL), REAL)

    assert found.corpus.vendi == pytest.approx(1.0, abs=0.01)
    assert found.ceiling.vendi > 20
    assert found.corpus.distinct_3 < 0.1 < found.ceiling.distinct_3


@given(st.integers(1, 12), st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_vendi_counts(unlike, times):
    """n texts without a word in common, each as often as the others, count as n (arXiv 2210.02410)."""
    texts = [[f"w{i}"] for i in range(unlike)] * times

    assert vendi(texts) == pytest.approx(unlike, rel=1e-4)


@pytest.mark.parametrize("slope", [-0.7, -1.0, -1.5])
def test_zipf_s_slope(slope):
    """Frequencies drawn by the law come back with its exponent."""
    counts = 1e9 * np.arange(1, 2001, dtype=float) ** slope

    assert zipf(counts.tolist()) == pytest.approx(slope, abs=0.02)


def test_the_seed_alone_decides():
    assert compare(REAL[:40], REAL, seed=3) == compare(REAL[:40], REAL, seed=3)


@pytest.mark.parametrize(("said", "real"), [([], ["a"]), (["..."], ["a"]), (["a"], [])])
def test_nothing_to_compare(said, real):
    with pytest.raises(UsageError, match="no words"):
        compare(said, real)


def test_the_command_says_no(bazaar, tmp_path):
    """`--keep` is the policy's floor: below it the answer is no, and the table says by how much."""
    (tmp_path / "real.txt").write_text("\n".join(text.replace("\n", " ") for text in REAL))
    rows = [{"messages": [{"role": "user", "content": REAL[9]}, {"role": "assistant", "content": REAL[0]}]}] * 50
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = f"corpus tail {tmp_path}/said.jsonl --against {tmp_path}/real.txt"

    assert bazaar("chen", f"{words} --keep 0.8") == 3
    code, told, _ = bazaar.says("chen", f"{words} --json")

    assert code == 0
    assert json.loads(told)["kept"] < 0.5
    assert bazaar("chen", f"corpus tail {tmp_path}/real.txt --against {tmp_path}/real.txt --keep 0.9") == 0
