"""The docs are true: their policies are read, their commands exist and run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from souq.governance import explain, read_policy
from tests.test_readme import missing_words

DOCS = Path(__file__).parent.parent / "docs"


def blocks(kind):
    return [(path.name, text) for path in sorted(DOCS.glob("*.md")) for text in re.findall(rf"```{kind}\n(.*?)```", path.read_text(), re.S)]  # fmt: skip


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_policy_in_the_docs_can_work(page, text):
    if "[[person]]" in text:
        assert explain(read_policy(text))


def commands():
    return sorted({line.split("#")[0].strip() for _, text in blocks("sh") for line in text.splitlines() if line.startswith("souq ")})  # fmt: skip


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_docs_exists(line):
    assert missing_words(line) == []


def test_a_record_is_verified_by_hand(bazaar, tmp_path):
    """docs/verifying.md's commands for jq, base64 and ssh-keygen, word for word but for the record's name."""
    script = next(text for page, text in blocks("sh") if page == "verifying.md" and "payload.sig" in text)
    clone = bazaar.actors["amira"].clone
    assert bazaar("amira", "fetch") == 0
    record = next((clone / "contributions").glob("*/records/merge.json"))
    script = re.sub(r"record=\S+", f"record={record}", script)

    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=clone, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert 'Good "souq.merge.v1" signature' in done.stdout
