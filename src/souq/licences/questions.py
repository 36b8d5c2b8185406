"""May I? Yes, no, or needs a lawyer, with the clauses that say so and what is owed. Not legal advice.

ask(Question("name", name="Samira"), [Input("teacher", "rows", "llama3.1")], "Apache-2.0").answer    # "no"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from souq.licences.compat import Found, Input, judge
from souq.licences.table import Licence, Limit, alternatives, begins, find
from souq.records import Record

Said = Literal["yes", "no", "needs a lawyer"]
Verb = Literal["merge", "finetune", "train-on", "train-on-output", "release", "sell", "name", "ship-eu", "users", "revenue"]  # fmt: skip
ORDER: dict[Said, int] = {"yes": 0, "needs a lawyer": 1, "no": 2}
AS: dict[str, Said] = {"ok": "yes", "oblige": "yes", "review": "needs a lawyer", "block": "no"}
ADVICE = "an engineering reading of the clauses, not legal advice; whether terms on weights bind is unsettled"


class Question(Record, frozen=True):
    """What is asked. `number` is of people a month or US dollars a year; None of `multimodal` and `selling` is unsaid."""

    verb: Verb
    name: str = ""
    number: int = 0
    at_release: bool = False  # whether `number` was counted in the month before the licence's own date
    multimodal: bool | None = None
    selling: bool = True


class Reason(Record, frozen=True):
    """One licence's answer."""

    answer: Said
    licence: str
    clause: str
    because: str


class Answer(Record, frozen=True):
    """The worst reason decides."""

    answer: Said
    reasons: tuple[Reason, ...]
    duties: tuple[str, ...]
    limits: tuple[str, ...]
    advice: str


def ask(question: Question, inputs: Sequence[Input], outbound: str) -> Answer:
    """Of a model made of `inputs`, released under `outbound`."""
    found = judge(inputs, outbound)
    rule = RULES.get(question.verb)
    reasons = _cells(found) if rule is None else [said for one in inputs for said in _each(question, one)]
    verdicts: list[Said] = [reason.answer for reason in reasons] or ["needs a lawyer"]
    worst = max(verdicts, key=lambda said: ORDER[said])
    limits = tuple(f"{one.id} {limit.clause}: {limit.says}" for one, limit in found.limits)
    return Answer(worst, tuple(reasons), tuple(duties_in_words(found)), limits, ADVICE)


def duties_in_words(found: Found) -> list[str]:
    """Every duty as something to do."""
    words = {
        "copy": "give a copy of it along", "notice": "keep its notices", "changes": "say which files were changed",
        "name": "begin the model's name with", "badge": "show prominently", "policy": "pass on",
        "documentation": "keep the documentation", "source": "offer the source", "same": "keep changed copies under it",
    }  # fmt: skip
    return [
        f"{one.id} {duty.clause}: {words[duty.do]}{f' “{duty.text}”' if duty.text else ''}"
        for one, duty in found.duties
    ]


def _cells(found: Found) -> list[Reason]:
    return [Reason(AS[cell.verdict], one.licence, cell.clause, cell.because) for one, cell in found.cells]


def _each(question: Question, one: Input) -> list[Reason]:
    """The best way of a choice, every licence of it."""
    ways = [[_asked(question, name, one) for name in way] for way in alternatives(one.licence)]
    return min(ways, key=lambda way: max(ORDER[reason.answer] for reason in way))


def _asked(question: Question, name: str, one: Input) -> Reason:
    known = find(name)
    if known is None:
        return Reason("needs a lawyer", name, "", f"nobody looked into {name!r}")
    said, clause, because = RULES[question.verb](question, known, one)
    if known.read == "report" and said == "yes":
        said, because = "needs a lawyer", "its text was not read here"
    return Reason(said, known.id, clause, because)


def _sell(_: Question, one: Licence, by: Input) -> tuple[Said, str, str]:
    if limit := next(iter(one.limited("sale")), None):
        said: Said = "needs a lawyer" if by.relation == "teacher" and one.outputs == "unsaid" else "no"
        return said, limit.clause, limit.says
    if limit := next((limit for limit in one.limits if limit.on in ("users", "revenue")), None):
        return ("needs a lawyer" if limit.on == "revenue" else "yes"), limit.clause, f"but for {limit.says}"
    return "yes", one.onward, "selling is not forbidden"


def _name(question: Question, one: Licence, by: Input) -> tuple[Said, str, str]:
    for duty in one.duties:
        if duty.do == "name" and (by.relation != "teacher" or duty.of == "both"):
            fits = begins(question.name, duty.text)
            return ("yes" if fits else "no"), duty.clause, f"the name begins with “{duty.text}”"
    marks = next(iter(one.limited("marks")), None)
    if marks and one.family and one.family.lower() in question.name.lower():
        return "needs a lawyer", marks.clause, f"{one.family} is a mark: {marks.says}"
    return "yes", "", f"{one.id} asks for no name"


def _europe(question: Question, one: Licence, by: Input) -> tuple[Said, str, str]:
    limit = next(iter(one.limited("region")), None)
    if limit is None or by.relation == "teacher":
        return "yes", "", f"{one.id} leaves no region out"
    if limit.always or question.multimodal:
        return "no", limit.clause, limit.says
    if question.multimodal is None:
        return "needs a lawyer", limit.clause, f"{limit.says}: say --multimodal or --text-only"
    return "yes", limit.clause, "the limit is on multimodal models"


def _users(question: Question, one: Licence, by: Input) -> tuple[Said, str, str]:
    limit = next(iter(one.limited("users")), None)
    if limit is None or by.relation == "teacher":
        return "yes", "", f"{one.id} counts nobody"
    return _counted(question, limit)


def _counted(question: Question, limit: Limit) -> tuple[Said, str, str]:
    if question.number <= limit.number or (limit.commercial and not question.selling):
        return "yes", limit.clause, limit.says
    if bool(limit.at) == question.at_release:
        return "no", limit.clause, limit.says
    when = f"the month before {limit.at}" if limit.at else "every month"
    return "needs a lawyer", limit.clause, f"{limit.says}; what counts is {when}, and you gave another"


def _revenue(question: Question, one: Licence, _: Input) -> tuple[Said, str, str]:
    limit = next(iter(one.limited("revenue")), None)
    if limit is None:
        return "yes", "", f"{one.id} asks for no revenue"
    return ("no" if question.number >= limit.number else "yes"), limit.clause, limit.says


RULES = {"sell": _sell, "name": _name, "ship-eu": _europe, "users": _users, "revenue": _revenue}
