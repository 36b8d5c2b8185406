"""What an account or an organisation may be called: what stands in an address, and no name that looks like another's.

>>> key_of("Ada-Love.lace") == key_of("adalovelace")
True
"""

from __future__ import annotations

import re

from souq.errors import UsageError
from souq.hub.catalog import is_name

MAX_NAME = 40
_DRESS = re.compile("[-_.]+")
_ALIKE = str.maketrans("01", "ol")  # 0 and o, 1 and l


def key_of(name: str) -> str:
    """What two names share that nobody tells apart: capitals, dashes and digits that look like letters aside."""
    return _DRESS.sub("", name.lower()).translate(_ALIKE)


def refuse_odd(name: str) -> str:
    """The name, where it may be one: plain ASCII letters and digits, so that no other alphabet has its double.

    Raises:
        UsageError: it is none.
    """
    if "/" in name or len(name) > MAX_NAME or not is_name(name) or not key_of(name) or name.isdigit():
        hint = f"letters, digits, `-`, `_` and `.`, at most {MAX_NAME} of them"
        raise UsageError(f"{name[:MAX_NAME]!r} is no name for an account", hint=hint)
    return name
