"""A private key or a token among the rows, where everybody would have it for ever: refused, and never printed."""

import json

import pytest

from attacks.attack_forged_turn import refusals
from attacks.attack_pickle import push

LEAKS = {  # in pieces, so that no scanner of this repository takes them for real
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEA",
    "a token": "ghp" + "_" + "a1B2c3D4e5" * 3 + "f6G7h8",
    "a token with joiners in it": "ghp" + "_" + "\u200b".join("a1B2c3D4e5" * 3 + "f6G7h8"),
}


@pytest.mark.parametrize("name", LEAKS)
def test_it_is_refused(bazaar, name):
    row = {"messages": [{"role": "user", "content": "the key?"}, {"role": "assistant", "content": LEAKS[name]}]}
    number = push(bazaar, {"HOME/data/x.jsonl": json.dumps(row).encode() + b"\n"}, kind="data")

    assert refusals(bazaar, number)["secrets"].startswith("data/x.jsonl, line 1: ")
    code, out, err = bazaar.says("amira", f"pr checks {number}")
    assert code == 3
    assert LEAKS[name][-12:] not in out + err
