"""The tail report sees what a mean does not, and says nothing is lost where nothing is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.cli import run
from souq.corpus.tails import compare, vendi, zipf
from souq.errors import UsageError
from souq.evals.suite import passages
from souq.pulls import reviews

REAL = [text for _, text in passages()]


def test_a_text_against_itself_loses_nothing():
    """All that is there is kept; a resample of the same size keeps less, so the share left is at least one."""
    found = compare(REAL, REAL)

    assert found.corpus.rare_kept == pytest.approx(1.0)
    assert found.corpus.cover == pytest.approx(1.0)
    assert found.kept > 1.0
    assert found.corpus.words == found.ceiling.words


def test_a_ceiling_is_as_large_as_what_it_stands_beside():
    """Where one text holds most words and the draws miss it, more is drawn: a smaller ceiling is a lower bar."""
    real = ["a b"] * 19 + [" ".join(f"w{i}" for i in range(1000))]

    found = compare(real, real, seed=23)

    assert found.ceiling.words == found.corpus.words == 1038


def test_a_seed_below_zero_is_a_wrong_option(tmp_path):
    (tmp_path / "real.txt").write_text("a b c\n")
    assert run(["corpus", "tail", str(tmp_path / "real.txt"), "--against", str(tmp_path / "real.txt"), "--seed", "-1"]) == 2  # fmt: skip


def test_without_the_rare_the_report_falls():
    """Real text with each rare word taken out: the mean word is as it was, and the report says zero."""
    from collections import Counter

    from souq.text import words

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


@pytest.mark.server
def test_mauve_falls_where_a_few_texts_stand_for_all(bazaar, tmp_path):
    """Real text beside real text has what two halves of it have; four texts again and again have next to nothing."""
    from pydoc_data.topics import topics

    told = [" ".join(part.split()) for text in topics.values() for part in text.split("\n\n")]
    real = [" ".join(text.split()[:12]) for text in told if len(text.split()) > 12][:200]
    for name, texts in (("real", real), ("like", real[::2]), ("few", real[:4] * 25)):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts))

    def mauve(name):
        code, out, err = bazaar.says("chen", f"corpus tail {tmp_path}/{name}.txt --against {tmp_path}/real.txt --mauve --json")  # fmt: skip
        assert code == 0, err
        return json.loads(out)["mauve"]

    like, few = mauve("like"), mauve("few")
    assert (like["texts"], few["texts"]) == (100, 100)
    assert like["corpus"] > 0.8 * like["ceiling"]
    assert few["corpus"] < 0.2 * few["ceiling"]
    code, _, err = bazaar.says("chen", f"corpus tail {tmp_path}/few.txt --against {tmp_path}/few.txt --mauve")
    assert code == 2
    assert "leave it out, or bring more" in err


def test_a_release_whose_corpus_lost_the_rare_needs_eyes(bazaar, tmp_path):
    """Published with a thin corpus, the release is shown to people; with main's limit lowered or a rich one it passes."""
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps({"prompt": f"tell me of {i}", "source": "t", "licence": "CC0-1.0"}) + "\n" for i in range(6)))  # fmt: skip
    (tmp_path / "real.txt").write_text("\n".join(text.replace("\n", " ") for text in REAL[:60]))
    assert bazaar("amira", f"corpus make {tmp_path}/seeds.jsonl --out {tmp_path}/corpus --max-tokens 6 --temperature 1") == 0  # fmt: skip
    words = f"release create 1.0 --no-scores --corpus {tmp_path}/corpus"

    assert bazaar("amira", words) == 2
    assert bazaar("amira", f"{words} --against {tmp_path}/real.txt") == 0
    found = {v.check: v for v in reviews.check(bazaar.repo("amira"), 2, bazaar.person("amira")).verdicts}

    assert found["caps"].outcome == "needs-eyes"
    assert "of the rare words" in found["caps"].because
    assert {name: v.outcome for name, v in found.items() if v.outcome == "refuse"} == {}


def test_a_corpus_of_another_model_is_not_published_with_this_one(bazaar, tmp_path):
    """What is said to be this release's is this release's."""
    (tmp_path / "seeds.jsonl").write_text(json.dumps({"prompt": "hello", "source": "t", "licence": "CC0-1.0"}) + "\n")
    (tmp_path / "real.txt").write_text(REAL[0].replace("\n", " "))
    assert bazaar("amira", f"corpus make {tmp_path}/seeds.jsonl --out {tmp_path}/corpus --max-tokens 6 --temperature 1") == 0  # fmt: skip
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    assert bazaar("amira", "fetch") == 0

    code, _, err = bazaar.says("amira", f"release create 1.0 --no-scores --corpus {tmp_path}/corpus --against {tmp_path}/real.txt")  # fmt: skip
    assert code == 3
    assert "another model" in err
