"""What somebody reported on a hub, by its address: read strictly, shown, and filed only as it was read.

Whoever files it signs for it, so nothing is filed whose digest they do not name; the hub's page of it has the command.

    case = read_report(repo, "http://hub/atlas/smol/bugs/drafts/3", "b3:…")
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from souq.cli.console import done
from souq.cli.drafts import asked
from souq.errors import Hostile, Refused, UsageError
from souq.pulls.bugs import Reported
from souq.records import Record, canonical, read_json, refuse_control
from souq.repo.remote import Repo

ADDRESS = re.compile(r"(https?://[^/\s@]+)/([\w.\-]+(?:/[\w.\-]+)?)/bugs/drafts/([1-9]\d{0,8})")
MAX_ANSWER, MAX_NAME = 64 << 10, 80


class Answer(Record, frozen=True, forbid_unknown_fields=True):
    """What a hub says of a report."""

    root: str  # the first commit of the model that it is about
    by: str
    made: str
    case: Reported


def read_report(repo: Repo, address: str, digest: str | None) -> dict[str, Any]:
    """The case in a report, and who reported it as its source.

    Raises:
        UsageError: that is no address of a report, or the digest of what was read is not named.
        Refused: it is about another model, or something else than was read.
        Hostile: what the hub answers is no report.
    """
    if (match := ADDRESS.fullmatch(address)) is None:
        hint = "as the hub shows it: http://hub.example/atlas/smol/bugs/drafts/3"
        raise UsageError("no address of a report", hint=hint)
    with asked(f"{address}.json", by_name=False) as reply:
        answer = _read(reply.read(MAX_ANSWER + 1))
    if answer.root != repo.history(repo.tip())[0]:
        raise Refused("that report is about another model", hint="type it in a clone of that one")
    _show(answer)
    if digest is None:
        raise UsageError("nothing was filed", hint=f"if that is a bug, add --digest {answer.case.digest}")
    if digest != answer.case.digest:
        raise Refused(f"it is {answer.case.digest} now, which is not what you read", hint="read it again on the hub")
    return answer.case.values | {"source": _source(answer, match[1])}


def _read(data: bytes) -> Answer:
    try:
        if len(data) > MAX_ANSWER or canonical(read_json(data)) != data:
            raise Hostile("the hub's answer is no report")
        answer = msgspec.json.decode(data, type=Answer)
        refuse_control([answer.by, answer.made, answer.root], where="the report")
        answer.case.refuse_odd()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Hostile("the hub's answer is no report", hint="is this the address of one?") from error
    return answer


def _source(answer: Answer, hub: str) -> str:
    """Where the right answer is to be found, and who reported it: as the hub says, which nobody proved."""
    reported = f"reported by {answer.by[:MAX_NAME]} at {hub}, {answer.made[:10]}"
    return f"{answer.case.source}; {reported}" if answer.case.source else reported


def _show(answer: Answer) -> None:
    case = answer.case
    shown = {
        "reported by": f"{answer.by[:MAX_NAME]}, {answer.made[:20]}", "title": case.title, "asked": case.prompt,
        "should say": case.expected, "judged": case.checker or "exactly", "source": case.source,
    }  # fmt: skip
    for name, text in shown.items():
        if text:
            done(f"{name}: {text}")
    if case.unseen:
        done(f"note: {case.unseen} characters of it are seen by nobody")
