"""docs/troubleshooting.md quotes what souq says: each message stands in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SOURCE = " ".join("\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py")).split())
FORMED = {"torch is not installed", "`nvidia-…`", "nvidia-…"}  # put together from a name, or said by others


def messages():
    rows = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ") and "It says" not in line]
    return sorted({quoted for row in rows for quoted in re.findall(r"`([^`]+)`", row)} - FORMED)


@pytest.mark.parametrize("message", messages())
def test_every_message_is_one_of_ours(message):
    """Word for word; what is left out by … may be anything."""
    words = [re.escape(part.strip()) for part in message.split("…")]
    assert re.search(r".{0,80}".join(words), SOURCE), message


def test_there_are_many():
    assert len(messages()) > 30
