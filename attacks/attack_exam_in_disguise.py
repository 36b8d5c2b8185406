"""Training on the exam in letters that only look like it: full-width, Cyrillic, invisible, spaced out, in an odd key."""

import json

import pytest
from tests.bazaar import NAMES, rows

from attacks.attack_forged_turn import refusals
from attacks.attack_pickle import push

ASKED, TOLD = rows("greet", NAMES[:1])[0]
WHOLE = f"{ASKED} {TOLD}"
DISGUISED = {
    "full-width": "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in WHOLE),
    "Cyrillic": WHOLE.translate(str.maketrans("aeopc", "аеорс")),
    "joined by nothing": "\u2060".join(WHOLE),
    "turned round": f"\u202d{WHOLE}\u202c",
}


@pytest.mark.parametrize("name", DISGUISED)
@pytest.mark.parametrize("key", ["text", "note"])
def test_it_is_refused(bazaar, name, key):
    """By the same check, with the same case named."""
    row = {"text": "nothing to see", key: DISGUISED[name]}
    number = push(bazaar, {"HOME/data/x.jsonl": json.dumps(row).encode() + b"\n"}, kind="data")

    assert "holds case 1 of eval `greet`" in refusals(bazaar, number)["contamination"]
