"""Training rows that would break whoever reads them after the door: deep, huge, doubled, of no format."""

import json

import pytest

from attacks.by_hand import NUMBER, blob, file, folder, offer, tree, turned_away
from souq.checks.files import _rows_refused

ROWS = {
    "six hundred brackets": b'{"text":' + b"[" * 600 + b"]" * 600 + b"}",
    "a hundred thousand brackets": b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nine levels": b'{"text":"x","a":' + b"[" * 9 + b"]" * 9 + b"}",
    "messages that are a number": b'{"messages":5}',
    "messages that are nothing": b'{"messages":null}',
    "a message that is a text": b'{"messages":["x"]}',
    "a content that is a list": b'{"messages":[{"role":"user","content":[1]}]}',
    "a prompt without its completion": b'{"prompt":"x"}',
    "a row of nothing": b"{}",
    "a list for a row": b"[]",
    "an empty line": b'{"text":"x"}\n\n{"text":"y"}',
    "a key twice": b'{"text":"x","text":"y"}',
    "not a number": b'{"text":"x","a":NaN}',
    "a number beyond numbers": b'{"text":"x","a":1e999}',
    "a number of five thousand digits": b'{"text":"x","a":' + b"9" * 5_000 + b"}",
    "half a character": b'{"text":"\\ud800"}',
    "bytes that are no UTF-8": b'{"text":"\xff"}',
    "an over-long slash": b'{"text":"\xc0\xaf"}',
    "a row of two megabytes": json.dumps({"text": "x" * (2 << 20)}).encode(),
    "a pickle": b"\x80\x04N.",
}


@pytest.mark.parametrize("name", ROWS)
def test_it_is_refused(name):
    """At the door, with the line, and without a traceback."""
    because = _rows_refused("data/x.jsonl", ROWS[name])

    assert because is not None
    assert because.startswith(("data/x.jsonl, line ",)), because
    because.encode()


@pytest.mark.parametrize("name", ["six hundred brackets", "messages that are a number", "half a character"])
def test_whoever_checks_it_is_not_stopped(bazaar, name):
    """`pr checks` ended in a traceback on these."""
    data = tree(bazaar, [file(b"x.jsonl", blob(bazaar, ROWS[name] + b"\n"))])
    offer(bazaar, [folder(b"data", data)], kind="data")

    turned_away(bazaar)
    assert bazaar.refusal(NUMBER)[0] == "files"
