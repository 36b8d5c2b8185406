"""A hub's repositories as Hugging Face's own client reads them: what is there, and what a hub answers when it says no.

It asks the hub of HF_ENDPOINT with the token of HF_TOKEN.

    api = client()
    listed(api, Target("atlas/smol", "model"), head_of(api, Target("atlas/smol", "model")))
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from souq.errors import NotFound, Refused, SouqError
from souq.model.origin import DEFAULT, without_secrets
from souq.optional import needs
from souq.records import spelled_out

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Target:
    """A repository of a hub."""

    repo: str
    kind: Kind


def client() -> Any:
    """Hugging Face's client for the hub of HF_ENDPOINT; where that is another than theirs, it sends plainly.

    Clients with hf_xet send large files by Xet alone, which other hubs do not speak.
    """
    if not speaks_xet():
        os.environ["HF_HUB_DISABLE_XET"] = "1"
    with needs("huggingface_hub", "lab"):
        from huggingface_hub import HfApi, constants
    if not speaks_xet():
        constants.HF_HUB_DISABLE_XET = True  # where it was read before
    return HfApi(library_name="souq")


def speaks_xet() -> bool:
    """Whether the hub is the one that speaks Xet."""
    return endpoint() == DEFAULT


def endpoint() -> str:
    """The hub's address, with no password in it."""
    return without_secrets(os.environ.get("HF_ENDPOINT", "") or DEFAULT)


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Around what asks the hub: what it answers is said in its own words.

    Raises:
        Refused: it does not let us.
        NotFound: there is no such thing, or no way to it.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        kind = Refused if status in (401, 403) else NotFound if status == 404 else SouqError
        hint = "HF_TOKEN holds your token, with the right to write there" if status in (401, 403, 404) else None
        raise kind(f"the hub does not let us {what}: {_line(error)}", hint=hint) from error
    except HFValidationError as error:
        raise SouqError(f"no name for a repository: {_line(error)}", hint="org/name") from error
    except OSError as error:
        raise NotFound(f"cannot {what}: {_line(error)}", hint="HF_ENDPOINT names the hub; try again") from error


def _line(error: Exception) -> str:
    return spelled_out(" ".join(str(error).split()))[:600]


def head_of(api: Any, target: Target) -> str:
    """The commit that main is at; "" where there is no such repository."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with asking(f"read {target.repo}"):
        try:
            return str(api.repo_info(target.repo, repo_type=target.kind).sha)
        except RepositoryNotFoundError:
            return ""


def read(api: Any, target: Target, head: str, path: str, most: int = 64 << 20) -> bytes:
    """A small file that is there; b"" where there is none, or a larger one."""
    with asking(f"read {target.repo}"):
        rows = api.get_paths_info(target.repo, path, repo_type=target.kind, revision=head) if head else []
        if not rows or getattr(rows[0], "size", most) >= most:
            return b""
        return Path(api.hf_hub_download(target.repo, path, repo_type=target.kind, revision=head)).read_bytes()


def listed(api: Any, target: Target, head: str = "main") -> dict[str, Any]:
    """The files that are there, as the hub describes them; none where there is no such repository."""
    from huggingface_hub.hf_api import RepoFile

    if not head or not head_of(api, target):
        return {}
    with asking(f"read {target.repo}"):
        rows = api.list_repo_tree(target.repo, recursive=True, revision=head, repo_type=target.kind)
        return {row.path: row for row in rows if isinstance(row, RepoFile)}
