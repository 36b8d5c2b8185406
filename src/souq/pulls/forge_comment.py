"""What a forge's pull request is told: one comment, written anew whenever the answer changes.

Everything a stranger wrote (titles, reasons, names) is shown as code: no markdown, no HTML, no mention, no link. The
forge's API is that of GitHub, which Forgejo and Gitea share: issues/<n>/comments.

    post(Forge(api, "smol/model", token, "github-actions[bot]"), 12, render(answer))
"""

from __future__ import annotations

import json
import re
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO, Any

from souq.budget import drained
from souq.errors import Hostile, SouqError, UsageError
from souq.pulls.forge import Answer
from souq.pulls.overview import vote_commands
from souq.records import Verdict, is_digest

MARKER = "<!-- souq -->"
MAX_SHOWN = 400  # characters of one text of a stranger's
MAX_ROWS = 40
MAX_PAGES = 30
MAX_REPLY = 16 << 20  # bytes
TIMEOUT = 60.0  # seconds
OUTCOMES = {"pass": "pass", "needs-eyes": "**needs eyes**", "refuse": "**refused**"}


# -- what it says ------------------------------------------------------------------------------------------------------


def render(answer: Answer) -> str:
    """The comment, in markdown: what the checks found, what is missing, and the words to type."""
    return "\n".join([MARKER, *_body(answer)]) + "\n"


def code(text: str) -> str:
    """A stranger's text as inline code, on one line: what would end the code, a cell or a line is not in it."""
    flat = " ".join(text.split())
    safe = "".join("\ufffd" if unicodedata.category(letter)[0] == "C" else letter for letter in flat)
    safe = safe.replace("`", "\u02cb").replace("|", "\u00a6").strip()
    if len(safe) > MAX_SHOWN:
        safe = safe[: MAX_SHOWN - 1].rstrip() + "…"
    return f"`{safe}`" if safe else "–"


def _body(answer: Answer) -> Iterator[str]:
    if answer.problem:
        yield f"**souq cannot take this pull request:** {code(answer.problem)}"
        yield from ("", "Its author can mend it and push again; this comment will follow.")
        return
    if not is_digest(answer.digest):
        raise Hostile(f"not a digest: {answer.digest[:80]!r}")
    yield f"**#{answer.number:d} in souq**: {code(answer.title)}"
    if answer.turned_away is not None:
        yield from ("", *map(_plain, answer.turned_away.text(code).splitlines()))
    if answer.checked is None and answer.missing:  # it waits, and no machine has looked
        return
    yield from ("", "| check | verdict | because |", "|---|---|---|")
    for verdict in answer.checked.verdicts[:MAX_ROWS] if answer.checked else ():
        yield _row(verdict)
    yield from ("", f"Contribution `{answer.digest}`", "")
    yield from _standing(answer)


_MARKS = re.compile(r"(?P<code>`[^`\n]*`)|[\\`*_{}\[\]<>#!|~&]")


def _plain(line: str) -> str:
    """A line of the project's own words: prose and code as they are; with a link or a mention, all of it is code."""
    bare = "".join(part for part in re.split(r"`[^`]*`", line))
    if "@" in bare or "://" in bare or "www." in bare:
        return code(line)
    return _MARKS.sub(lambda match: match[0] if match["code"] else f"\\{match[0]}", line)


def _row(verdict: Verdict) -> str:
    return f"| {code(verdict.check)} | {OUTCOMES[verdict.outcome]} | {code(verdict.because)} |"


def _standing(answer: Answer) -> Iterator[str]:
    for vote in answer.votes[:MAX_ROWS]:
        yield f"- {vote.choice} by {code(vote.by)}: {code(vote.reason)}"
    for line in answer.missing[:MAX_ROWS]:
        yield f"- missing: {code(line)}"
    yield from (
        "",
        "This forge's approve button is not a vote: it names no digest and carries no signature. "
        "Whoever may vote types, in a clone:",
        "",
        "```sh",
        *vote_commands(answer.number, answer.digest),
        "```",
        "",
        "A vote on this digest counts for nothing once something else is offered.",
    )


# -- how it gets there -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forge:
    """A repository on a forge, and who we are there."""

    api: str  # $GITHUB_API_URL
    repo: str  # owner/name
    token: str
    login: str  # a comment with our marker under another name is not ours

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\-]+(:\d+)?(/[A-Za-z0-9._~\-]+)*/?", self.api):
            raise UsageError(f"not the address of an API: {self.api[:120]!r}", hint="set GITHUB_API_URL")
        if not re.fullmatch(r"[A-Za-z0-9._\-]+/[A-Za-z0-9._\-]+", self.repo) or ".." in self.repo:
            raise UsageError(f"not owner/name: {self.repo[:120]!r}", hint="set GITHUB_REPOSITORY")
        if not self.token:
            raise UsageError("no token", hint="set GITHUB_TOKEN")


def post(forge: Forge, number: int, body: str) -> str:
    """Write our comment under a pull request, over the one we wrote before; says which of the two it did."""
    ours = (comment for comment in _comments(forge, number) if _by(comment) == forge.login)
    mine = next((comment for comment in ours if comment["body"].startswith(MARKER)), None)
    if mine is None:
        _ask(forge, "POST", f"issues/{number:d}/comments", {"body": body})
        return "commented"
    if mine["body"].strip() == body.strip():
        return "nothing new"
    _ask(forge, "PATCH", f"issues/comments/{int(mine['id']):d}", {"body": body})
    return "updated"


def _by(comment: dict[str, Any]) -> str:
    return str((comment.get("user") or {}).get("login", ""))


def _comments(forge: Forge, number: int) -> Iterator[dict[str, Any]]:
    """Every comment, page by page; Forgejo answers all of them to any page."""
    seen: set[int] = set()
    for page in range(1, MAX_PAGES + 1):
        answered = _ask(forge, "GET", f"issues/{number:d}/comments?per_page=100&page={page}")
        fresh = [comment for comment in answered if isinstance(comment, dict) and comment.get("id") not in seen]
        if not fresh:
            return
        seen |= {comment["id"] for comment in fresh}
        yield from ({**comment, "body": str(comment.get("body") or "")} for comment in fresh)


class _Straight(urllib.request.HTTPRedirectHandler):
    """No redirects: they would carry the token to wherever they point."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _ask(forge: Forge, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {forge.token}", "Accept": "application/json", "User-Agent": "souq"}
    request = urllib.request.Request(  # noqa: S310  Forge lets only http and https through
        f"{forge.api.rstrip('/')}/repos/{forge.repo}/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers=headers | ({"Content-Type": "application/json"} if body is not None else {}),
    )
    try:
        with urllib.request.build_opener(_Straight).open(request, timeout=TIMEOUT) as reply:
            return json.loads(drained(reply, MAX_REPLY, 2 * TIMEOUT) or b"null")
    except urllib.error.HTTPError as error:
        raise SouqError(
            f"the forge answered {error.code} to {method} {path.partition('?')[0]}",
            hint="may the token write comments? the workflow's `permissions` say so",
        ) from error
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise SouqError(f"the forge cannot be reached: {error}", hint="set GITHUB_API_URL") from error
