"""Where a base came from, as souq.toml says it in a line: a folder, a GGUF file, or a commit of a hub's repository.

What a hub is asked for may move, its commits do not: what was downloaded is named by 40 digits.

    >>> Origin.of("hub org/smol@" + 40 * "a").purl
    'pkg:huggingface/org/smol@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

DEFAULT = "https://huggingface.co"  # the hub that a package URL means where it names none
_PART = r"[A-Za-z0-9_][\w.\-]{0,95}"
_HUB = re.compile(rf"hub ({_PART}/{_PART})(?:@([0-9a-f]{{40}})(?: of (https?://[\w.\-:\[\]/]{{1,200}}))?)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Origin:
    """A repository of a hub, at a commit where that is known."""

    repo: str
    commit: str = ""
    endpoint: str = DEFAULT

    @classmethod
    def of(cls, line: str) -> Origin | None:
        """What a line of souq.toml says; None where the base is of no hub."""
        match = _HUB.fullmatch(line)
        return cls(match[1], match[2] or "", match[3] or DEFAULT) if match else None

    def __str__(self) -> str:
        pinned = f"@{self.commit}" if self.commit else ""
        return f"hub {self.repo}{pinned}" + (f" of {self.endpoint}" if pinned and self.endpoint != DEFAULT else "")

    @property
    def purl(self) -> str:
        """Its package URL, as https://packageurl.org/types/huggingface-definition.json has them."""
        version = f"@{self.commit}" if self.commit else ""
        elsewhere = f"?repository_url={quote(self.endpoint, safe='')}" if self.endpoint != DEFAULT else ""
        return f"pkg:huggingface/{self.repo}{version}{elsewhere}"


def without_secrets(endpoint: str) -> str:
    """A hub's address as it may be written down: no user, no password, no query."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
