"""Who somebody is to a remote behind http, as git knows it: from the remote's URL, or from git's credential helpers.

remote = Credentials.of(repo.git_dir, "https://ada:TOKEN@hub.example/atlas/smol")
remote.url                 # without a user
remote.authorization()     # "Basic …", for that host alone
"""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from souq.repo.git import run_git


@dataclass(frozen=True)
class Credentials:
    """An address, and what git would say there of who asks."""

    url: str
    git_dir: Path
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, git_dir: Path, url: str) -> Credentials | None:
        """Of a remote's URL; None where it is not behind http."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
            return None
        host = parts.netloc.rpartition("@")[2]
        plain = f"{parts.scheme}://{host}{parts.path}"
        return cls(plain, git_dir, unquote(parts.username or ""), unquote(parts.password or ""))

    def authorization(self) -> str:
        """The header that says who asks; "" where git does not know."""
        user, password = (self.user, self.password) if self.password else self._from_git
        return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if password else ""

    def reject(self) -> None:
        """Have git forget what a helper said: it was wrong."""
        if not self.password and (known := self._from_git)[1]:
            self._helper("reject", f"username={known[0]}\npassword={known[1]}\n")

    def _helper(self, verb: str, more: str) -> subprocess.CompletedProcess[bytes]:
        asked = f"url={self.url}\n{more}\n"
        return run_git(self.git_dir, "credential", verb, stdin=asked.encode(), check=False)

    @cached_property
    def _from_git(self) -> tuple[str, str]:
        """What git's helpers say; they are asked once."""
        filled = self._helper("fill", f"username={self.user}\n" if self.user else "")
        rows = dict(row.split("=", 1) for row in filled.stdout.decode("utf-8", "replace").splitlines() if "=" in row)
        return (rows.get("username", ""), rows.get("password", "")) if not filled.returncode else ("", "")
