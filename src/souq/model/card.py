"""A model card's front matter: what it says in YAML between its first two `---` lines, read once and without trust.

>>> front_matter("---\\nlicense: mit\\n---\\n# A model\\n")
{'license': 'mit'}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from souq.errors import Hostile, UsageError
from souq.yaml_text import compose

MAX_CARD = 1 << 20
UNSAID = ("unknown", "other", "none", "null")  # what the hub's form and exporters write where nobody chose
MAX_DEPTH = 32  # results of evals, as the hub lists them, are eight deep


def front_matter(text: str, where: str = "README.md") -> dict[str, Any]:
    """What a card says of itself; nothing where it has no front matter, or none that is a table.

    Raises:
        Hostile: it has YAML anchors, by which a few lines grow without end, tags, or more depth than any card.
        UsageError: it is not YAML.
    """
    match = re.match(r"\ufeff?---\r?\n(.{0,65536}?)\r?\n---(\s|\Z)", text, re.DOTALL)
    if not match or not re.search(r"^\s*[^#\s]", match[1], re.MULTILINE):  # nothing there but comments
        return {}
    try:
        front = compose(match[1], where, depth=MAX_DEPTH, nodes=MAX_CARD).value
    except UsageError as error:
        raise UsageError(f"{where}: its head is not YAML", hint="correct it between the --- lines") from error
    return front if isinstance(front, dict) else {}


def read_card(folder: Path) -> dict[str, Any]:
    """The front matter of a folder's README.md; nothing where there is no such file.

    Raises:
        Hostile: too large, or YAML that grows.
        UsageError: it is not YAML.
    """
    card = folder / "README.md"
    if not card.is_file():
        return {}
    if card.stat().st_size > MAX_CARD:
        raise Hostile(f"{card} is larger than {MAX_CARD:,} bytes")
    return front_matter(card.read_text("utf-8", errors="replace"), str(card))


def licence_in(front: Mapping[str, Any]) -> str:
    """The licence a card names, in its own words; of a list all hold. "" where it names none.

    What the hub calls `other` has a name of its own.
    """
    listed, own = front.get("license"), front.get("license_name")
    texts = [name for name in (listed if isinstance(listed, list) else [listed])[:MAX_DEPTH] if isinstance(name, str)]
    named = [str(own or "") if name.strip().lower() == "other" else name for name in texts]
    named = [name.strip()[:200] for name in named]
    return " AND ".join(dict.fromkeys(name for name in named if name and name.lower() not in UNSAID))
