"""May I? Yes, no, or needs a lawyer, with the clauses that say so and what is owed. Not legal advice.

ask(Question("name", name="Samira"), [Input("teacher", "rows", "llama3.1")], "Apache-2.0").answer    # "no"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from souq.licences.compat import Assessment, Input, judge
from souq.licences.table import Licence, Limit, alternatives, begins, find
from souq.records import Record

Word = Literal["yes", "no", "needs a lawyer"]
Verb = Literal[
    "merge", "finetune", "train-on", "train-on-output", "release", "sell", "name", "ship-eu", "users", "revenue",
]  # fmt: skip
ORDER: dict[Word, int] = {"yes": 0, "needs a lawyer": 1, "no": 2}
AS: dict[str, Word] = {"ok": "yes", "oblige": "yes", "review": "needs a lawyer", "block": "no"}
ADVICE = "an engineering reading of the clauses, not legal advice; whether terms on weights bind is unsettled"


class Question(Record, frozen=True):
    """What is asked. `number` is of people a month or US dollars a year; `multimodal` is None where it is unsaid."""

    verb: Verb
    name: str = ""
    number: int = 0
    at_release: bool = False  # whether `number` was counted in the month before the licence's own date
    multimodal: bool | None = None
    selling: bool = True


class Reason(Record, frozen=True):
    """What one licence answers to a question, and by which clause."""

    answer: Word
    licence: str
    clause: str
    because: str


class Answer(Record, frozen=True):
    """The answer to a question over everything a model is made of: the worst reason decides."""

    answer: Word
    reasons: tuple[Reason, ...]
    duties: tuple[str, ...]
    limits: tuple[str, ...]
    advice: str


def ask(question: Question, inputs: Sequence[Input], outbound: str) -> Answer:
    """Answer a question about a model made of `inputs` and released under `outbound`."""
    whole = judge(inputs, outbound)
    if question.verb in RULES:
        reasons = [reason for item in inputs for reason in _best_way(question, item)]
    else:
        reasons = [Reason(AS[cell.verdict], item.licence, cell.clause, cell.because) for item, cell in whole.cells]
    worst: Word = max((reason.answer for reason in reasons), key=ORDER.__getitem__, default="needs a lawyer")
    limits = tuple(f"{licence.id} {limit.clause}: {limit.says}" for licence, limit in whole.limits)
    return Answer(worst, tuple(reasons), tuple(duties_in_words(whole)), limits, ADVICE)


def duties_in_words(assessment: Assessment) -> list[str]:
    """Every duty of an assessment as something to do, behind its licence and clause."""
    words = {
        "copy": "give a copy of it along", "notice": "keep its notices", "changes": "say which files were changed",
        "name": "begin the model's name with", "badge": "show prominently", "policy": "pass on",
        "documentation": "keep the documentation", "source": "offer the source", "same": "keep changed copies under it",
    }  # fmt: skip
    return [
        f"{licence.id} {duty.clause}: {words[duty.do]}{f' “{duty.text}”' if duty.text else ''}"
        for licence, duty in assessment.duties
    ]


def _best_way(question: Question, item: Input) -> list[Reason]:
    """What every licence of an input answers; where there is a choice, by the way that answers best."""
    ways = [[_asked(question, name, item) for name in way] for way in alternatives(item.licence)]
    return min(ways, key=lambda way: max(ORDER[reason.answer] for reason in way))


def _asked(question: Question, name: str, item: Input) -> Reason:
    known = find(name)
    if known is None:
        return Reason("needs a lawyer", name, "", f"nobody looked into {name!r}")
    word, clause, because = RULES[question.verb](question, known, item)
    if known.read == "report" and word == "yes":
        word, because = "needs a lawyer", "its text was not read here"
    return Reason(word, known.id, clause, because)


def _sell(_: Question, licence: Licence, by: Input) -> tuple[Word, str, str]:
    if limit := next(iter(licence.limited("sale")), None):
        word: Word = "needs a lawyer" if by.relation == "teacher" and licence.outputs == "unsaid" else "no"
        return word, limit.clause, limit.says
    if limit := next((limit for limit in licence.limits if limit.on in ("users", "revenue")), None):
        return ("needs a lawyer" if limit.on == "revenue" else "yes"), limit.clause, f"but for {limit.says}"
    return "yes", licence.onward, "selling is not forbidden"


def _name(question: Question, licence: Licence, by: Input) -> tuple[Word, str, str]:
    for duty in licence.duties:
        if duty.do == "name" and (by.relation != "teacher" or duty.of == "both"):
            fits = begins(question.name, duty.text)
            return ("yes" if fits else "no"), duty.clause, f"the name begins with “{duty.text}”"
    marks = next(iter(licence.limited("marks")), None)
    if marks and licence.family and licence.family.lower() in question.name.lower():
        return "needs a lawyer", marks.clause, f"{licence.family} is a mark: {marks.says}"
    return "yes", "", f"{licence.id} asks for no name"


def _europe(question: Question, licence: Licence, by: Input) -> tuple[Word, str, str]:
    limit = next(iter(licence.limited("region")), None)
    if limit is None or by.relation == "teacher":
        return "yes", "", f"{licence.id} leaves no region out"
    if limit.always or question.multimodal:
        return "no", limit.clause, limit.says
    if question.multimodal is None:
        return "needs a lawyer", limit.clause, f"{limit.says}: say --multimodal or --text-only"
    return "yes", limit.clause, "the limit is on multimodal models"


def _users(question: Question, licence: Licence, by: Input) -> tuple[Word, str, str]:
    limit = next(iter(licence.limited("users")), None)
    if limit is None or by.relation == "teacher":
        return "yes", "", f"{licence.id} counts nobody"
    return _counted(question, limit)


def _counted(question: Question, limit: Limit) -> tuple[Word, str, str]:
    if question.number <= limit.number or (limit.commercial and not question.selling):
        return "yes", limit.clause, limit.says
    if bool(limit.at) == question.at_release:
        return "no", limit.clause, limit.says
    when = f"the month before {limit.at}" if limit.at else "every month"
    return "needs a lawyer", limit.clause, f"{limit.says}; what counts is {when}, and you gave another"


def _revenue(question: Question, licence: Licence, _: Input) -> tuple[Word, str, str]:
    limit = next(iter(licence.limited("revenue")), None)
    if limit is None:
        return "yes", "", f"{licence.id} asks for no revenue"
    return ("no" if question.number >= limit.number else "yes"), limit.clause, limit.says


RULES = {"sell": _sell, "name": _name, "ship-eu": _europe, "users": _users, "revenue": _revenue}
