"""A kilobyte of git trees that names ten billion files, or folders without a file, or gigabytes of one blob."""

import pytest

from attacks.by_hand import blob, bomb, file, folder, offer, told, tree, turned_away


def leaf(bazaar, files=10):
    oid = blob(bazaar, b"x")
    return tree(bazaar, [file(b"f%d" % i, oid) for i in range(files)])


BOMBS = {
    "ten billion files in its data": lambda b: offer(b, [folder(b"data", bomb(b, leaf(b)))]),
    "a billion folders and no file": lambda b: offer(b, [folder(b"data", bomb(b, tree(b, [])))]),
    "ten billion files beside it": lambda b: offer(b, beside=[folder(b"zz", bomb(b, leaf(b)))]),
    "a billion empty folders beside it": lambda b: offer(b, beside=[folder(b"zz", bomb(b, tree(b, [])))]),
    "ten billion files for main's evals": lambda b: offer(b, beside=[folder(b"evals", bomb(b, leaf(b)))]),
    "five thousand files": lambda b: offer(b, [folder(b"data", leaf(b, 5_000))]),
    "three hundred folders deep": lambda b: offer(b, [folder(b"data", bomb(b, leaf(b), depth=300, width=1))]),
    "four gigabytes in sixty names of one blob": lambda b: offer(b, [folder(b"data", _alike(b))]),
    "a contribution.toml of sixty megabytes": lambda b: offer(b, text=told(b) + b"#" * (60 << 20)),
}


def _alike(bazaar):
    rows = blob(bazaar, b"\n" * (60 << 20))
    return tree(bazaar, [file(b"r%d.jsonl" % i, rows) for i in range(60)])


@pytest.mark.parametrize("name", BOMBS)
def test_it_stops_nobody(bazaar, name):
    """`pr list` hung for everybody who fetched it."""
    BOMBS[name](bazaar)

    turned_away(bazaar)
