"""`souq may`: whether licences let you, by which clause, and what you then owe."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import click
import msgspec

from souq.cli.console import answer, done, json_option, out
from souq.errors import UsageError
from souq.licences import lineage
from souq.licences.compat import Input, Relation
from souq.licences.questions import Answer, Question, Verb, ask
from souq.licences.table import find, refuse_unknown
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

RELATION: dict[str, Relation] = {"merge": "merge", "train-on": "data", "train-on-output": "teacher"}
NEEDS = {"name": "NAME", "users": "N", "revenue": "N"}


@click.command()
@click.argument("verb", type=click.Choice(get_args(Verb)))
@click.argument("what", required=False, metavar="[NAME|N]")
@click.option(
    "--of", "of", multiple=True, required=True,
    help="A licence, a souq repository, or a model's folder; more than one where several go in.",
)  # fmt: skip
@click.option("--as", "outbound", help="The licence you release under; the same one where it is left out.")
@click.option("--student", is_flag=True, help="Only its outputs were used.")
@click.option("--at-release", is_flag=True, help="N was counted in the month before the licence's own date.")
@click.option("--multimodal/--text-only", default=None, help="What the model takes, for ship-eu.")
@click.option("--noncommercial", is_flag=True, help="Nothing is sold.")
@json_option
def may(
    verb: str, what: str | None, of: tuple[str, ...], outbound: str | None, student: bool, at_release: bool,
    multimodal: bool | None, noncommercial: bool, as_json: bool,
) -> None:  # fmt: skip
    """May I VERB this? Yes, no (exit 3) or needs a lawyer (exit 3), with clauses and duties. Not legal advice."""
    if (verb in NEEDS) != (what is not None):
        further = NEEDS.get(verb, "")
        hint = f"souq may {verb} {further} --of LICENCE"
        raise UsageError(f"{verb} takes {further or 'no further word'}", hint=hint)
    relation: Relation = "teacher" if student else RELATION.get(verb, "base")
    inputs, own = zip(*(_of(word, relation) for word in of), strict=True)
    for word in (*of, outbound or ""):
        _note_unknown(word)
    number = _number(what) if NEEDS.get(verb) == "N" else 0
    question = Question(cast(Verb, verb), what or "", number, at_release, multimodal, not noncommercial)
    reply = ask(question, [item for items in inputs for item in items], outbound or " AND ".join(dict.fromkeys(own)))
    answer(reply, as_json, lambda: _show(reply))
    if reply.answer != "yes":
        raise click.exceptions.Exit(3)


def _note_unknown(word: str) -> None:
    """A licence that nobody knows is judged as such, and a mistyped one is told the nearest name."""
    if not Path(word).is_dir():
        try:
            refuse_unknown(word)
        except UsageError as error:
            done(f"{error}: {error.hint}")


def _of(word: str, relation: Relation) -> tuple[tuple[Input, ...], str]:
    """What a word names, and its own licence."""
    path = Path(word)
    if find(word) or not path.is_dir():
        return (Input(relation, word[:200], word),), word
    if (path / "README.md").is_file() and not (path / ".git").exists():
        inputs, own = lineage.of_folder(path)
        return _by(relation, inputs), own
    repo = Repo.find(path)
    main = Snapshot(repo, repo.tip())
    return _by(relation, lineage.of_main(main)), main.config.licence


def _by(relation: Relation, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
    """What a whole model is made of, where that model is itself a teacher, a parent or data."""
    if relation == "base":
        return inputs
    return tuple(msgspec.structs.replace(item, relation=relation) for item in inputs)


def _number(text: str | None) -> int:
    digits = (text or "").replace("_", "").replace(",", "")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        raise UsageError(f"not a number: {(text or '')[:40]!r}", hint="write it in digits, like 700000001")
    return int(digits)


def _show(reply: Answer) -> None:
    out.print(reply.answer)
    for reason in reply.reasons:
        out.print(f"  {reason.answer}: {reason.licence or 'no licence'} {reason.clause}: {reason.because}")
    for line in reply.duties:
        out.print(f"  owed: {line}")
    for line in reply.limits:
        out.print(f"  limit: {line}")
    done(reply.advice)
