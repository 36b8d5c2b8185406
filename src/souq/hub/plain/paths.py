"""Which paths a file of a plain repository may have: those that are one file on every disk and in every reader's eyes.

>>> wrong_with("weights/../../etc/passwd")
"'..' is no name of a file or a folder"
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_PATH, MAX_PART = 1_024, 255  # bytes
MAX_DEPTH = 64
_ODD = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # steers a terminal, turns writing around, or is seen by nobody
# Another name of .git: Windows gives out the second, and leaves dots and spaces at the end away.
_GIT = {".git", "git~1"}


def wrong_with(path: str) -> str:
    """Why a path is none for a file; "" where nothing is wrong with it."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not Unicode"
    if not 0 < size <= MAX_PATH:
        return f"it has {size:,} bytes; from 1 to {MAX_PATH:,} are a path"
    if path.startswith("/"):
        return "it begins at the root of a disk"
    if path.count("/") >= MAX_DEPTH:
        return f"it is more than {MAX_DEPTH} folders deep"
    return next(filter(None, map(_wrong_part, path.split("/"))), "")


def _wrong_part(part: str) -> str:
    if part in ("", ".", ".."):
        return f"{part!r} is no name of a file or a folder"
    if len(part.encode()) > MAX_PART:
        return f"a name in it has more than {MAX_PART} bytes"
    if odd := next((sign for sign in part if unicodedata.category(sign) in _ODD or sign == "\\"), ""):
        return f"it holds U+{ord(odd):04X}, which is in no name"
    if unicodedata.normalize("NFC", part) != part:
        return "it is not in Unicode's normal form NFC: two readers would see two names"
    if unicodedata.normalize("NFKC", part).casefold().split(":")[0].rstrip(". ") in _GIT:
        return "'.git' is git's own"
    return ""


def clashing(paths: Iterable[str]) -> list[str]:
    """What is wrong with paths together: two that some disk takes for one, or a file that is a folder of another."""
    wrong, seen = [], dict[str, str]()
    for path in sorted(paths):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if (other := seen.setdefault(f"{folder}/".casefold(), f"{folder}/")) != f"{folder}/":
                wrong.append(f"{folder[:200]!r} and {other[:200]!r} are one folder on some disks")
            if folder.casefold() in seen:
                wrong.append(f"{folder[:200]!r} is a file and a folder")
        if (other := seen.setdefault(path.casefold(), path)) != path:
            wrong.append(f"{path[:200]!r} and {other[:200]!r} are one file on some disks")
        if f"{path}/".casefold() in seen:
            wrong.append(f"{path[:200]!r} is a file and a folder")
    return list(dict.fromkeys(wrong))
