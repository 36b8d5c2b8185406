"""Real text on this machine: Debian's long package descriptions, through apt. Four million words, licences per package: to measure with, not to publish."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "build" / "debian"


def descriptions(least: int = 30) -> list[str]:
    """Descriptions of at least so many words, in the order of the package list; an empty list where apt cannot reach one."""
    found = _lists()
    if not found:
        (FOLDER / "partial").mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "-o", "Acquire::Languages=en", "-o", f"Dir::State::lists={FOLDER}", "update"], check=False, capture_output=True)  # fmt: skip
        found = _lists()
    if not found:
        return []
    text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(found[0])], check=True, capture_output=True).stdout.decode()  # fmt: skip
    told = dict.fromkeys(_said(block) for block in text.split("\n\n"))
    return [said for said in told if len(said.split()) >= least]


def _lists() -> list[Path]:
    return sorted(FOLDER.glob("*_main_i18n_Translation-en*"), key=lambda path: -path.stat().st_size)


def _said(block: str) -> str:
    """A description's paragraphs, without the field's name and Debian's leading blanks and dots."""
    _, _, told = block.partition("Description-en: ")
    return re.sub(r"\s+", " ", re.sub(r"(?m)^ \.?$", "", told)).strip()
