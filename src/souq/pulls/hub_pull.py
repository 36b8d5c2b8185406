"""Pull requests of a Hugging Face hub: files under refs/pr/N, read as data, and the same pull request here.

`souq pr create --folder` writes what its author uploads: the contribution's folder, the sign-off and the tensors. Who
offers an adapter alone is told how to sign it off. What is taken is hashed, bounded and parsed strictly; nothing of it
is run, and nothing else of the repository is looked at.

    check(repo, client(), Target("atlas/smol", "model"), 12, person)
    post(client(), Target("atlas/smol", "model"), 12, render(answer))
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from souq import signing
from souq.errors import Corrupt, Forged, Hostile, NotFound, UsageError
from souq.model.adapter.peft import CONFIG
from souq.model.hub_client import Target, asking, endpoint, listed
from souq.progress import Progress, quiet
from souq.pulls import forge
from souq.pulls.forge import LUGGAGE, MAX_LUGGAGE, Answer, Sent
from souq.pulls.forge_comment import MARKER
from souq.pulls.pull import PullRequest
from souq.records import is_digest
from souq.repo import contribution
from souq.repo.contribution import MAX_RECORD, Offer
from souq.repo.git import MAX_BLOB, MAX_FILES, blob_name
from souq.repo.remote import Repo
from souq.signing import Person

_OURS = re.compile(
    rf"(?:contributions/[a-z0-9-]{{1,120}}|{LUGGAGE})/[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*"
)
_OBJECT = re.compile(rf"{LUGGAGE}/objects/([0-9a-f]{{2}})/([0-9a-f]+)")


# -- taken -------------------------------------------------------------------------------------------------------------


def check(
    repo: Repo, api: Any, target: Target, number: int, person: Person, progress: Progress = quiet
) -> Answer:  # fmt: skip
    """Adopt a hub's pull request and run main's checks on it; that nobody can use it is an answer too."""
    return forge.judged(repo, number, lambda: adopt(repo, api, target, number, person, progress), person, progress)


def adopt(
    repo: Repo, api: Any, target: Target, number: int, person: Person, progress: Progress = quiet
) -> PullRequest:  # fmt: skip
    """Make a hub's pull request one of souq's, or bring the one that it became up to date.

    Raises:
        NotFound: there is no such pull request.
        Hostile: its files are no contribution, or too much.
        Forged: its author has not signed off these very bytes.
    """
    repo.fetch()
    commit = _commit(api, target, number)
    files = _files(api, target, commit, _wanted(api, target, number, commit), progress)
    return forge.take(repo, f"hub/{number}", number, _sent(commit, files), person, progress)


def _commit(api: Any, target: Target, number: int) -> str:
    with asking(f"read pull request {number} of {target.repo}"):
        refs = api.list_repo_refs(target.repo, repo_type=target.kind, include_pull_requests=True).pull_requests or []
    commits = [ref.target_commit for ref in refs if ref.ref == f"refs/pr/{number}"]
    if len(commits) != 1 or not re.fullmatch(r"[0-9a-f]{40}", commits[0]):
        raise NotFound(f"{target.repo} has no open pull request {number}", hint="see its discussions")
    return str(commits[0])


def _wanted(api: Any, target: Target, number: int, commit: str) -> dict[str, Any]:
    """The files of a contribution that it has and main has not, by what the hub says of each."""
    main, there = listed(api, target), listed(api, target, commit)
    new = {path: row for path, row in there.items() if path not in main or main[path].blob_id != row.blob_id}
    wanted = {path: row for path, row in new.items() if path.startswith(("contributions/", f"{LUGGAGE}/"))}
    if not wanted:
        raise Forged(_unsigned(target, number) if CONFIG in new else "it holds no contribution: no contributions/NAME/")
    if odd := [path for path in wanted if not _OURS.fullmatch(path) or ".git" in path.split("/")]:
        raise Hostile(f"no file of a contribution: {odd[0][:120]!r}")
    total = sum(row.size for row in wanted.values())
    if len(wanted) > MAX_FILES or total > MAX_LUGGAGE or max(row.size for row in wanted.values()) > MAX_BLOB:
        raise Hostile(f"{len(wanted):,} files of {total:,} bytes; the most is {MAX_FILES:,} and {MAX_LUGGAGE:,}")
    return wanted


def _unsigned(target: Target, number: int) -> str:
    """What the author of an adapter types: only they can sign that it may be used."""
    address = f"{endpoint()}/{target.repo}/discussions/{number}"
    return (
        "it is an adapter that nobody signed off. Its author, in a clone of the model: souq pr create "
        f'{address} --title "…" --licence … --signoff'
    )


def _files(api: Any, target: Target, commit: str, wanted: Mapping[str, Any], progress: Progress) -> dict[str, bytes]:
    """The bytes of each, that are what the hub lists."""
    files = {}
    with tempfile.TemporaryDirectory(prefix="souq-") as scratch, asking(f"read {target.repo}"):
        progress("download", 0, len(wanted))
        folder = api.snapshot_download(
            target.repo, repo_type=target.kind, revision=commit, allow_patterns=list(wanted), cache_dir=scratch
        )  # fmt: skip
        for path, row in wanted.items():
            data = (Path(folder) / path).read_bytes()
            if not _is(data, row):
                raise Corrupt(f"{path} is not what the hub lists", hint="try again")
            files[path] = data
    progress("download", len(wanted), len(wanted))
    return files


def _is(data: bytes, row: Any) -> bool:
    """Whether bytes are those that the hub lists."""
    return bool(hashlib.sha256(data).hexdigest() == row.lfs.sha256 if row.lfs else blob_name(data) == row.blob_id)


def _sent(commit: str, files: Mapping[str, bytes]) -> Sent:
    """What the files are, signed off by the author that they name."""
    folders = {path.split("/")[1] for path in files if path.startswith("contributions/")}
    if len(folders) != 1:
        raise Hostile(f"holds {len(folders)} contribution folders; it must add one")
    below = f"contributions/{folders.pop()}/"
    offer = Offer("offered", {path.removeprefix(below): data for path, data in files.items() if path.startswith(below)})
    try:
        signing.normal_key(offer.contribution.author.key)
    except UsageError as error:
        raise Hostile(str(error)) from error
    offer = Offer(contribution.slug(offer.contribution.title), offer.files)
    signoff = files.get(f"{LUGGAGE}/signoff.json", b"")
    if len(signoff) > MAX_RECORD:
        raise Hostile("its sign-off is too large")
    signed = signing.verify(signoff, keys=[offer.contribution.author.key], namespace="souq.signoff.v1")
    if signed.subject != offer.digest:
        raise Forged(f"its author signed off {signed.subject[:19]}…, and it is {offer.digest[:19]}… now")
    refs = {ref.digest for ref in offer.refs()}
    objects = {f"b3:{match[1]}{match[2]}": files[path] for path in files if (match := _OBJECT.fullmatch(path))}
    return Sent(
        commit, offer, signoff, {name: data for name, data in objects.items() if is_digest(name) and name in refs}
    )


# -- answered ----------------------------------------------------------------------------------------------------------


def post(api: Any, target: Target, number: int, body: str) -> str:
    """Write our comment under a pull request, over the one we wrote before; says which of the two it did."""
    with asking(f"comment on {target.repo}"):
        login = api.whoami()["name"]
        events = api.get_discussion_details(target.repo, number, repo_type=target.kind).events
        ours = [event for event in events if event.type == "comment" and event.author == login and not event.hidden]
        mine = next((event for event in ours if event.content.startswith(MARKER)), None)
        if mine is None:
            api.comment_discussion(target.repo, number, body, repo_type=target.kind)
            return "commented"
        if mine.content.strip() == body.strip():
            return "nothing new"
        api.edit_discussion_comment(target.repo, number, mine.id, body, repo_type=target.kind)
        return "updated"
