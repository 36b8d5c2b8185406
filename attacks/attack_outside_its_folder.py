"""A contribution that changes files which are not its own: the policy, the exam, somebody else's record."""

import pytest

from attacks.attack_pickle import push

PATHS = ["GOVERNANCE.toml", "souq.toml", "evals/greet/cases.jsonl", "model/config.json", "model.lock", "contributions/0001-evals/contribution.toml", ".github/workflows/x.yml"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_it_is_refused(bazaar, path):
    number = push(bazaar, {path: b"x", "HOME/delta.lock": b"souq delta 1\n"})

    check, because = bazaar.refusal(number)

    assert check == "files"
    assert "outside its own folder" in because
