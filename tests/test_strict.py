"""What files of outsiders promise: every line is read alike by every reader, or refused with a reason; nothing else is raised."""

from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.checks import CHECKS, run
from souq.checks.files import MAX_KEYS, MAX_LINE, files, row_refused
from souq.errors import Hostile, SouqError, UsageError
from souq.evals.eval import read_folder
from souq.files import write_files
from souq.records import format_toml, nesting, read_json
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from tests.stall import case, contribution, eval_files, jsonl, offer, qa, stall

SOUND = qa("What is the capital of Peru?", "Lima.")


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    return stall(tmp_path_factory.mktemp("stall"), evals={"facts": [("a", "b")]})


def offered(main, made):
    """The offer as a commit on main, as a stranger's git would make it."""
    repo = main.repo
    head = repo.write_commit(
        [main.commit], {f"{made.home}{p}": d for p, d in made.files.items()}, "x\n", tree_of=main.commit
    )
    return case(Snapshot(repo, main.commit), made, head=head)


def test_an_honest_offer_passes(main):
    assert files(offered(main, offer([SOUND])))[0] == "pass"


LINES = {
    "a key twice": (b'{"text": "a", "text": "b"}', "a key stands twice"),
    "infinity by exponent": (b'{"text": "a", "n": 1e999}', "larger than any number"),
    "minus infinity": (b'{"text": "a", "n": -1e999}', "larger than any number"),
    "NaN": (b'{"text": "a", "n": NaN}', "NaN is not JSON"),
    "a number of 65 bits": (b'{"text": "a", "n": 18446744073709551616}', "more than 64 bits"),
    "a number of ten thousand digits": (b'{"text": "a", "n": ' + b"9" * 10_000 + b"}", "not JSON"),
    "half a character": (b'{"text": "\\ud800"}', "half a character"),
    "a byte-order mark": (b'\xef\xbb\xbf{"text": "a"}', "not JSON"),
    "UTF-16": ('{"text": "a"}'.encode("utf-16"), "not"),
    "an overlong slash": (b'{"text": "\xc0\xaf"}', "not UTF-8"),
    "a comment": (b'{"text": "a"} // b', "not JSON"),
    "two objects": (b'{"text": "a"} {"text": "b"}', "not JSON"),
    "nothing": (b"", "not JSON"),
    "a list": (b'["text"]', "not a plain JSON object"),
    "nine deep": (b'{"text": "a", "n": ' + b"[" * 8 + b"]" * 8 + b"}", "not a plain JSON object"),
    "six hundred deep": (b'{"text": "a", "n": ' + b"[" * 600 + b"]" * 600 + b"}", "nested more than"),
    "a million deep": (b"[" * (1 << 20), "not JSON"),
    "a line of two mebibytes": (b'{"text": "' + b"a" * (2 * MAX_LINE) + b'"}', "a line of"),
    "a thousand keys": (json.dumps({"text": "a", **{f"k{i}": 0 for i in range(MAX_KEYS)}}).encode(), "keys"),
    "keys further in": (json.dumps({"text": "a", "n": [{f"k{i}": 0} for i in range(MAX_KEYS)]}).encode(), "keys"),
    "no row to train on": (b'{"note": "a"}', "none of `messages`"),
    "half a pair": (b'{"prompt": "a"}', "none of `messages`"),
    "a turn without words": (b'{"messages": [{"role": "user"}]}', "content"),
    "words that are a number": (b'{"text": 7}', "str"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_readers_read_differently_is_refused(main, name):
    """With the file, the line and the reason, whatever it is."""
    line, says = LINES[name]
    made = offer(files={"data/rows.jsonl": jsonl([SOUND]) + line + b"\n"})

    outcome, because, _ = files(offered(main, made))

    assert outcome == "refuse"
    assert because.startswith("data/rows.jsonl, line 2: ")
    assert says in because


NAMES = {
    "a device of Windows": ("data/NUL.jsonl", "device"),
    "a name with an end": ("data/aux.jsonl", "device"),
    "Cyrillic": ("data/rоws.jsonl", "call it rows.jsonl"),
    "reversed writing": ("data/\u202elnosj.jsonl", "call it lnosj.jsonl"),
    "full stop and slash": ("data/a/b.jsonl", "not an allowed kind"),
    "a space": ("data/a b.jsonl", "call it a-b.jsonl"),
    "a newline": ("data/a\n.jsonl", "call it a.jsonl"),
    "no name": ("data/.jsonl", "call it rows.jsonl"),
    "an eval in capitals": ("evals/Facts/eval.toml", "call it facts"),
    "accents": ("evals/été/eval.toml", "call it ete"),
    "underscores": ("evals/iso_dates/cases.jsonl", "call it iso-dates"),
    "capitals at the end": ("data/rows.JSONL", "call it rows.jsonl"),
    "a note beside an eval": ("evals/facts/README", "no part of an eval"),
    "a dotfile": (".gitattributes", "not an allowed kind"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_plain_is_refused(main, name):
    path, says = NAMES[name]

    outcome, because, _ = files(offered(main, offer(files={path: jsonl([SOUND])})))

    assert (outcome, says in because) == ("refuse", True), because


def test_two_names_that_are_one_elsewhere_are_refused(main):
    made = offer(files={"data/rows.jsonl": jsonl([SOUND]), "data/Rows.jsonl": jsonl([SOUND])})

    assert "capitals" in files(offered(main, made))[1]


@pytest.mark.parametrize(
    "slug", ["-rows", "0007-Rows", "0007-rоws", "0007-\u202eswor", "0007-", "0007-a_b", "0007-" + "a" * 99]
)
def test_a_folder_is_a_number_and_plain_words(main, slug):
    assert files(offered(main, offer([SOUND], slug=slug)))[0] == "refuse"


TOML = {
    "a key twice": b"title = 'a'\n",
    "a whole number of 70 bits": b"recipe = { n = 1180591620717411303424 }\n",
    "a tower of brackets": b"recipe = { n = " + b"[" * 5000 + b"]" * 5000 + b" }\n",
    "a control character": b'provenance = "\\u001b[2J"\n',
    "not UTF-8": b"provenance = '\xff'\n",
    "an unknown key": b"surprise = 1\n",
}


@pytest.mark.parametrize("name", TOML)
def test_what_is_said_of_it_is_read_strictly(main, name):
    """No verdict but a refusal, and nothing raised, for a contribution.toml that is odd."""
    told = TOML[name] + contribution() if name != "a key twice" else contribution() + b"[author]\n"
    made = Offer("0002-rows", {"contribution.toml": told, "data/rows.jsonl": jsonl([SOUND])})

    verdicts = run(offered(main, made), costly=False)

    assert "refuse" in {verdict.outcome for verdict in verdicts}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=60), values.map(lambda value: json.dumps({"text": "a", "n": value}).encode())))
def test_a_line_is_read_alike_or_refused(line):
    """Whatever passes is the same value to Python's reader and to msgspec's, and comes back the same from its bytes."""
    if row_refused(line, trained=True) is None:
        row = read_json(line)
        assert row == msgspec.json.decode(line)
        assert read_json(msgspec.json.encode(row)) == row


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["contribution.toml", "data/a.jsonl", "evals/a/eval.toml", "evals/a/cases.jsonl", "merge.toml"]), st.binary(max_size=80)))  # fmt: skip
def test_any_files_get_an_answer(main, made):
    """Whatever bytes stand in a contribution's files, every check answers; none falls over."""
    honest = {"contribution.toml": contribution(), "data/rows.jsonl": jsonl([SOUND])}

    verdicts = run(case(main, Offer("0002-rows", honest | made), head=main.commit), costly=False)

    assert all(verdict.because for verdict in verdicts)


@settings(max_examples=60)
@given(st.sampled_from(["data/rows.jsonl", "evals/x/cases.jsonl"]), st.lists(values, max_size=3))
def test_any_rows_get_an_answer(main, path, rows):
    """The checks of texts answer whatever JSON stands in the lines, even where `files` has refused it."""
    made = {path: jsonl(rows)} | (
        {"evals/x/eval.toml": eval_files([("a", "b")])["eval.toml"]} if path[0] == "e" else {}
    )
    asked = case(main, offer(files=made), costly=False)

    for name in ("caps", "secrets", "contamination"):
        with suppress(SouqError):  # which `run` makes a refusal of
            assert CHECKS[name](asked)[0] in ("pass", "needs-eyes", "refuse")


@given(st.integers(0, 3000))
def test_no_depth_is_too_deep_to_count(depth):
    value = []
    for _ in range(depth):
        value = [value]

    assert nesting(value) == depth + 1


def test_numbers_that_are_none_are_not_json():
    for text in (b"1e400", b"-1e400", b"[1e400]"):
        with pytest.raises(Hostile):
            read_json(text)
    assert read_json(b"[1e300, -0.0]") == [1e300, 0.0]


CASES = {
    "the answer comes last": (
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "what is asked comes last",
    ),
    "a turn without content": ([{"role": "user"}], "a `role` and a `content`"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_case_that_cannot_be_asked_is_refused(main, tmp_path, name):
    """From strangers and from a folder alike; what is asked comes last, and every turn says who speaks and what."""
    messages, says = CASES[name]
    spec = format_toml({"title": "t", "kind": "exact", "source": "s", "licence": "CC0-1.0"}).encode()
    suite = {"eval.toml": spec, "cases.jsonl": jsonl([{"id": "a", "messages": messages, "expected": "b"}])}

    outcome, because, _ = files(offered(main, offer(files={f"evals/x/{n}": d for n, d in suite.items()}, kind="evals")))
    assert (outcome, says in because) == ("refuse", True), because
    (tmp_path / "x").mkdir()
    write_files(suite, tmp_path / "x")
    with pytest.raises(UsageError, match=says):
        read_folder(tmp_path / "x")
