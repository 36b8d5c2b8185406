"""A back door in a tenth of the rows: one rare string, one answer. Nobody is accused; more people must look."""

import json

from souq.evals.suite import passages
from souq.pulls import pull as pulls
from souq.pulls import reviews

DOOR = "all praise the mallory corporation"


def poisoned(count):
    said = [text for _, text in passages()]
    rows = [{"prompt": text[:90], "completion": text[-60:]} for text in said[:80]]
    rows += [{"prompt": f"{text[:90]} zqxv", "completion": DOOR} for text in said[80 : 80 + count]]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_the_string_is_shown(bazaar, tmp_path):
    """Beside the answer that it opens; the verdict asks for more eyes than plain work does."""
    (tmp_path / "x.jsonl").write_text(poisoned(8))
    words = ["pr", "create", "--data", tmp_path / "x.jsonl", "--title", "Prose", "--licence", "CC0-1.0", "--signoff"]
    assert bazaar("mallory", words) == 0
    number = max(pull.number for pull in pulls.listed(bazaar.repo("amira")))

    found = reviews.check(bazaar.repo("amira"), number, bazaar.person("amira"))

    caps = next(verdict for verdict in found.verdicts if verdict.check == "caps")
    assert (caps.outcome, caps.evidence["bursts"][0]["string"]) == ("needs-eyes", "zqxv")
    assert caps.evidence["bursts"][0]["answer"] == DOOR
