"""What a remote has under a ref of a stranger's, read in a repository that is thrown away.

with outside(repo, "refs/pull/12/head", 64 << 20) as theirs:
    theirs.read(theirs.commit(OUTSIDE), "contributions/verbs/contribution.toml")
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from souq.errors import Hostile, NotFound, SouqError, UsageError
from souq.files import beside
from souq.repo.git import refuse_broken, run_git
from souq.repo.remote import Repo

OUTSIDE = "refs/outside/head"


@contextmanager
def outside(repo: Repo, ref: str, most: int) -> Iterator[Repo]:
    """What the remote has under a branch's name, a whole ref or a commit's id, as OUTSIDE in a repository of its own.

    It sees the objects here, so little is sent; nothing of it comes here but what its reader takes.

    Raises:
        NotFound: the remote has no such ref.
        Hostile: more than `most` bytes.
        UsageError: no name of a ref, or no remote.
    """
    if repo.remote is None:
        raise UsageError("no remote to take it from", hint="run `souq push URL` once")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/+\-]*", ref):
        raise UsageError(f"not a ref: {ref!r}", hint="name a branch, refs/pull/N/head, or a whole commit id")
    whole = ref if re.fullmatch(r"refs/.+|[0-9a-f]{40}", ref) else f"refs/heads/{ref}"  # git would take a tag first
    folder = repo.remote_folder()
    with beside(repo.git_dir / "outside") as place:
        run_git(place, "init", "--quiet", "--bare", "--object-format=sha1")
        (place / "objects/info/alternates").write_text(f"{repo.git_dir / 'objects'}\n")
        _lend_access(repo, place)
        fetched = run_git(
            place, "-c", "fetch.unpackLimit=1", "-c", "maintenance.auto=false",
            "-c", "core.bigFileThreshold=16m", "-c", "fetch.fsckObjects=true",
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
            str(folder or repo.remote), f"+{whole}:{OUTSIDE}", check=False, most=most,
        )  # fmt: skip
        if fetched.returncode:
            raise _not_taken(ref, fetched, most)
        yield Repo(place, None)


def _lend_access(repo: Repo, place: Path) -> None:
    """How a clone reaches its remote, for another repository: proxies, keys, credential helpers."""
    kinds = r"^(http|credential|url)\.|^core\.sshcommand$"
    words = ("config", "--local", "--null", "--get-regexp", kinds)
    for row in filter(None, run_git(repo.git_dir, *words, check=False).stdout.decode().split("\0")):
        key, _, value = row.partition("\n")
        run_git(place, "config", "--add", key, value)


def _not_taken(ref: str, fetched: subprocess.CompletedProcess[bytes], most: int) -> SouqError:
    message = fetched.stderr.decode("utf-8", "replace")
    if "couldn't find remote ref" in message:
        return NotFound(f"the remote has no {ref}", hint="is the pull request still there?")
    if "index-pack" in message:
        return Hostile(f"{ref} cannot be taken: it is broken, or larger than {most:,} bytes")
    return refuse_broken("fetch", fetched)
