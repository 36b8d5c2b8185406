"""What a newcomer reads whose pull request waits, was refused or was closed: why, and what they can do, in kind words.

The words are the project's own, `TURNED_AWAY.md` at the top of main, a document like others; where there is none they
are these. `{name}`, `{title}`, `{number}`, `{project}`, `{because}` and `{next}` stand for what is so.

    turned = turned_away(pull, main, line)
    turned and turned.text()
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from souq import signing
from souq.errors import SouqError
from souq.governance import read_policy
from souq.pulls.pull import PullRequest, read_all
from souq.pulls.waiting import Line, refusal
from souq.records import Record, spelled_out
from souq.repo.snapshot import Snapshot

TEMPLATE = "TURNED_AWAY.md"
MAX_TEMPLATE, MAX_VALUE = 4_000, 400  # characters
DEFAULT = """\
Thank you, {name}, for offering "{title}" to {project}.

It goes no further for now. {because}

{next}

This says nothing about you: it is what a machine or a person found of these bytes, and you are welcome to try again."""
NEXT = {
    "waits": "There is nothing you need to do: it is looked at when those are done. Somebody enrolled who knows you "
    "can vouch for you (`souq vouch`), and then it waits with theirs.",
    "refused": "You can mend it and offer it anew under the same number: `souq pr edit {number}` in your clone.",
    "closed": "You can ask about it in its thread, `souq pr comment {number}`, and offer something else at any time.",
}
_WORD = re.compile(r"\{(name|title|number|project|because|next)\}")


class TurnedAway(Record, frozen=True):
    """The project's words, and what stands for each of theirs."""

    template: str
    values: dict[str, str]

    def text(self, quote: Callable[[str], str] = spelled_out) -> str:
        """The words with what is so in them, each value quoted as where they are read asks for."""
        own = {"next": self.values.get("next", "")}  # souq's words, not a stranger's
        return _WORD.sub(lambda match: own.get(match[1]) or quote(self.values.get(match[1], "")), self.template)


def turned_away(pull: PullRequest, main: Snapshot, line: Line) -> TurnedAway | None:
    """What its author is to read; None where nothing stands in the way, or they are enrolled and know their way."""
    policy = read_policy(main.policy_text)
    try:
        offered = pull.summary
        if policy.person_of(signing.normal_key(offered.author.key)) is not None:
            return None
    except SouqError:  # nobody knows whose it is
        return None
    if (why := _why(pull, main, line)) is None:
        return None
    state, because = why
    values = {
        "name": offered.author.name, "title": offered.title, "number": str(pull.number), "project": main.config.name,
        "because": because, "next": NEXT[state].replace("{number}", str(pull.number)),
    }  # fmt: skip
    return TurnedAway(template_of(main), {key: " ".join(text.split())[:MAX_VALUE] for key, text in values.items()})


def _why(pull: PullRequest, main: Snapshot, line: Line) -> tuple[str, str] | None:
    """In which way it goes no further, and the sentence that says why."""
    policy, state = read_policy(main.policy_text), pull.state(main)
    if state == "closed":
        closed = read_all(pull, "closed", policy.keys, main, f"contributions/pr-{pull.number}")
        reasons = [f"{each.predicate.get('by')} closed it: {each.predicate.get('reason')}" for each in closed]
        return ("closed", reasons[-1]) if reasons else None
    if state != "open":
        return None
    if (verdict := refusal(pull, policy)) is not None:
        return "refused", f"The check `{verdict.check}` refuses it: {verdict.because}"
    if (sentence := line.waits.get(pull.number)) is not None:
        return "waits", f"It {sentence}."
    return None


def template_of(main: Snapshot) -> str:
    """The project's own words, where main has some that can be read."""
    with suppress(SouqError):
        return main.text(TEMPLATE)[:MAX_TEMPLATE].strip() or DEFAULT
    return DEFAULT
