"""A row that one reader takes for this and another for that: what was checked would not be what is trained on."""

import pytest

from attacks.attack_forged_turn import refusals
from attacks.attack_pickle import push

LINES = [
    b'{"text": "harmless", "text": "harmful"}',
    b'{"text": "a", "n": 1e999}',
    b'{"text": "\\udc00"}',
    b'\xef\xbb\xbf{"text": "a"}',
    b'{"text": "a"}\x0c{"text": "b"}',
    b'{"text": "a", "n": ' + b"[" * 900 + b"]" * 900 + b"}",
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: repr(line[:24]))
def test_it_is_refused(bazaar, line):
    number = push(bazaar, {"HOME/data/x.jsonl": line + b"\n"}, kind="data")

    assert refusals(bazaar, number)["files"].startswith("data/x.jsonl, line 1: ")
