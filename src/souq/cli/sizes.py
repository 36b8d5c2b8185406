"""Sizes as people type and read them: 8GB, 500MB; and 8.0 GB.

>>> bytes_of("8GB", "--memory"), shown(12_345_678)
(8000000000, '12.3 MB')
"""

from __future__ import annotations

import re

from souq.errors import UsageError


def bytes_of(text: str, option: str) -> int:
    """`5GB`, `1.5GB`, `500MB` or a number of bytes.

    Raises:
        UsageError: it is none of them.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,3})?)(?:\s*([KMGT])B)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = round(float(match[1]) * 1000 ** " KMGT".index((match[2] or " ").upper())) if match else 0
    if not size:
        raise UsageError(f"{option} {text[:40]!r} is no size", hint="write 5GB or 500MB")
    return size


def shown(size: float) -> str:
    """Bytes in the largest unit that leaves a number before the point."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:,.{0 if units[0] == 'bytes' else 1}f} {units[0]}"
