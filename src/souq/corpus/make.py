"""Let a teacher answer, keep what is right and new, and say of every row where it came from.

A finished batch is one line of a journal, written before the next begins, each answer under a digest of everything that
shaped it (teacher, engine, question, sampling, edition, sample): after kill -9 the same command goes on where it was,
and a changed setting never reuses a stale answer. Every answer is drawn by a seed of its own, from edition, question
and sample.

    edition = make(recipe, base, Teacher(writer, licence="Apache-2.0"), Path("corpus"), evals=main.evals)
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from souq.corpus.dump import publish
from souq.corpus.edition import EditionInfo
from souq.corpus.filters import Answer, filtered
from souq.corpus.guard import Piece, choose, rare_words
from souq.corpus.journal import Journal, answered
from souq.corpus.judges import Asked, Judge, Report, judged, measure, read_judge
from souq.corpus.near import clusters
from souq.corpus.ngrams import Exam
from souq.corpus.recipe import CorpusRecipe, Guard, Prompt
from souq.corpus.row import Row, joint, row_id
from souq.corpus.seeds import Seed, filled, published, read_seeds
from souq.errors import UsageError
from souq.evals.checkers import CHECKERS
from souq.evals.eval import Eval, case_text, with_answers
from souq.lab.chat import ChatRequest, Completion, Finish, Message, Scorer, dollars
from souq.progress import Progress, quiet
from souq.records import Digest, digest_of
from souq.text import words

SHOWN = 5  # refused questions that are named
LONG = 40  # words: only texts of so many are compared for nearness; the short ones of one template are all near
log = logging.getLogger(__name__)

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Kept = tuple[str, Finish, Count, Count]  # in the journal: text (or why it was refused), finish, tokens of both


@dataclass(frozen=True)
class Teacher:
    """Who answers, and what provenance says of it."""

    writer: Scorer
    licence: str
    tokenizer: Digest = ""


@dataclass(frozen=True)
class Job:
    """One answer to be had."""

    seed: Seed
    prompt: Prompt
    domain: str
    sample: int
    request: ChatRequest
    key: Digest


def make(
    recipe: CorpusRecipe, base: Path, teacher: Teacher, out: Path, *, evals: Mapping[str, Eval] | None = None,
    progress: Progress = quiet, price: tuple[float, float] = (0.0, 0.0),
) -> EditionInfo:  # fmt: skip
    """Generate, filter and publish one edition in `out`; run again, it goes on.

    Paths of the recipe are seen from `base`; no row holds a case of `evals`. `price` is dollars a million tokens asked
    and answered: with it `progress` is told the cents spent so far, and how many it will be.

    Raises:
        UsageError: seeds or judges that will not do.
        NotFound: what the recipe names is not there.
    """
    _refuse_own_seeds(recipe, base, out)
    judges = _read_judges(recipe, base)
    seeds = [seed for source in recipe.seeds if source.kind != "corpus" for seed in read_seeds(source, base)]
    inherited = [row for source in recipe.seeds if source.kind == "corpus" for row in published(source, base)]
    # In an order that hangs on no writer: who is padded beside whom shows in the last bits of the odds.
    jobs = sorted(_jobs(recipe, seeds, teacher), key=lambda job: (_length(job), job.request.seed, job.key))
    out.mkdir(parents=True, exist_ok=True)
    with Journal(out / "journal.jsonl", Kept) as journal, Journal(out / "judged.jsonl", float | None) as opinions:
        completions = _completions(jobs, recipe, teacher, journal, progress, price)
        people = [_of_people(seed) for seed in seeds if seed.answer]
        written = [_of_teacher(job, completions[job.key], recipe, teacher) for job in jobs]
        rows = _logged("checked and filtered", [*inherited, *people, *written])
        rows = _logged("copies", drop_copies(rows, len(inherited)))
        if recipe.dedup:
            rows = _logged("near copies", drop_near(rows, recipe.dedup, len(inherited)))
        if recipe.decontaminate and evals:
            rows = _logged("the exam", drop_exam(rows, evals))
        reports = {}
        for judge in judges:
            report = reports[judge.spec.name] = measure(judge, teacher.writer, progress, opinions)
            rows = _logged(judge.spec.name, drop_judged(rows, judge, report, teacher, progress, opinions))
        if recipe.guard is not None:
            rows = _logged("the guard", drop_unguarded(rows, recipe.guard))
        return publish(
            rows, out, recipe, teacher=teacher.writer.model, engine=teacher.writer.name, licence=teacher.licence,
            judges={name: report.line for name, report in reports.items()},
            spent={
                "asked": sum(completion.prompt_tokens for completion in completions.values()),
                "answered": sum(completion.completion_tokens for completion in completions.values()),
            },
        )  # fmt: skip


def _refuse_own_seeds(recipe: CorpusRecipe, base: Path, out: Path) -> None:
    for source in recipe.seeds:
        same_edition = source.kind == "corpus" and source.dump in ("", recipe.dump)
        if same_edition and (base / Path(source.path).expanduser()).resolve() == out.resolve():
            hint = 'name the one it builds on in its [[seeds]]: dump = "2026-48", say'
            raise UsageError(f"edition {recipe.dump} would be its own seeds", hint=hint)


def _read_judges(recipe: CorpusRecipe, base: Path) -> list[Judge]:
    judges = [read_judge(base / path) for path in recipe.judges]
    names = [judge.spec.name for judge in judges]
    for i, name in enumerate(names):
        if name in CHECKERS or name in names[:i]:
            hint = "give each a name of its own: rows are filed under it"
            raise UsageError(f"a judge is called {name!r}, as a checker or another judge is", hint=hint)
    return judges


def _logged(stage: str, rows: list[Row]) -> list[Row]:
    log.info("%s: %d of %d rows left", stage, sum(not row.rejected for row in rows), len(rows))
    return rows


# -- answers -----------------------------------------------------------------------------------------------------------


def _jobs(recipe: CorpusRecipe, seeds: Sequence[Seed], teacher: Teacher) -> Iterator[Job]:
    """Every prompt with every seed that has its fields; what people answered is not asked."""
    sampling = msgspec.to_builtins(recipe.sampling)
    for seed in seeds:
        for prompt in recipe.prompts if not seed.answer else ():
            messages: tuple[Message, ...] = (Message(role="user", content=filled(prompt.template, seed, prompt.name)),)
            if prompt.system:
                messages = (Message(role="system", content=prompt.system), *messages)
            domain = filled(prompt.domain, seed, prompt.name)
            turns = [[message.role, message.content] for message in messages]
            for sample in range(recipe.samples):
                chance = int(digest_of([recipe.dump, turns, sample])[3:18], 16)
                key = digest_of([teacher.writer.model, teacher.writer.name, recipe.dump, turns, sample, sampling])
                yield Job(seed, prompt, domain, sample, ChatRequest(messages=messages, seed=chance), key)


def _length(job: Job) -> int:
    return sum(len(message.content) for message in job.request.messages)


def _completions(
    jobs: Sequence[Job], recipe: CorpusRecipe, teacher: Teacher, journal: Journal, progress: Progress,
    price: tuple[float, float],
) -> dict[Digest, Completion]:  # fmt: skip
    """Every job's answer, those of like length together; what the journal holds is not asked again.

    A writer hands over whole groups, each a line of the journal, so what a crash left is cut into the same groups as
    before: the last bits of an answer's odds depend on what it is padded to.
    """
    requests = {job.key: job.request for job in jobs}
    meter = _Meter(len(requests), price, progress)
    meter.add([_completion(journal.held[key]) for key in requests if key in journal.held])

    def ask(left: list[ChatRequest]) -> Iterator[list[tuple[int, Kept]]]:
        for batch in teacher.writer.generate(left, recipe.sampling):
            yield [(i, (c.because or c.text, c.finish, c.completion_tokens, c.prompt_tokens)) for i, c in batch]
            meter.add([completion for _, completion in batch])

    completions = {key: _completion(kept) for key, kept in answered(requests, ask, journal).items()}
    _say_refused([(requests[key], c) for key, c in completions.items() if c.finish == "refused"])
    return completions


def _say_refused(refused: Sequence[tuple[ChatRequest, Completion]]) -> None:
    for request, completion in refused[:SHOWN]:
        log.warning("refused for good: %r: %s", request.messages[-1].content[:60], completion.because)
    if len(refused) > SHOWN:
        log.warning("and %s more: all are among the rejected rows", f"{len(refused) - SHOWN:,}")


def _completion(kept: Kept) -> Completion:
    text, finish, answer_tokens, prompt_tokens = kept
    refused = finish == "refused"
    return Completion(
        text="" if refused else text, finish=finish, completion_tokens=answer_tokens, prompt_tokens=prompt_tokens,
        because=text if refused else "",
    )  # fmt: skip


class _Meter:
    """How far the answers are: rows, tokens, and cents where there is a price."""

    def __init__(self, rows: int, price: tuple[float, float], progress: Progress) -> None:
        self.rows, self.price, self.progress = rows, price, progress
        self.done = self.asked = self.tokens = 0

    def add(self, completions: Collection[Completion]) -> None:
        self.done += len(completions)
        self.asked += sum(completion.prompt_tokens for completion in completions)
        self.tokens += sum(completion.completion_tokens for completion in completions)
        if self.done:
            whole = self.rows / self.done
            self.progress("corpus tokens", self.tokens, round(self.tokens * whole))
            if any(self.price):
                cents = 100 * dollars(self.asked, self.tokens, self.price)
                self.progress("corpus cents", round(cents), round(cents * whole))
        self.progress("corpus rows", self.done, self.rows)


# -- rows --------------------------------------------------------------------------------------------------------------


def _of_teacher(job: Job, completion: Completion, recipe: CorpusRecipe, teacher: Teacher) -> Row:
    """One row with its provenance."""
    messages = (*job.request.messages, Message(role="assistant", content=completion.text))
    answer = Answer(job.request.messages[-1].content, completion, job.seed, job.prompt)
    passed = tuple(filtered(answer, recipe.filters))
    sampling = recipe.sampling
    return Row(
        id=row_id(messages), messages=messages, licence=joint((teacher.licence, job.seed.licence)), origin="synthetic",
        depth=1 + recipe.ancestry, real_fraction=0.0, domain=job.domain, source=job.seed.source,
        source_licence=job.seed.licence, document=job.seed.digest,
        teacher=teacher.writer.model, tokenizer=teacher.tokenizer, engine=teacher.writer.name,
        prompt=job.prompt.name, prompt_digest=digest_of([job.prompt.system, job.prompt.template]),
        temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, min_p=sampling.min_p,
        max_tokens=sampling.max_tokens, sample=job.sample, seed=str(job.request.seed),
        finish=completion.finish, tokens=completion.completion_tokens,
        filters=passed, rejected=next((rule.because for rule in passed if not rule.kept), ""),
    )  # fmt: skip


def _of_people(seed: Seed) -> Row:
    messages = (Message(role="user", content=seed.fields["prompt"]), Message(role="assistant", content=seed.answer))
    return Row(
        id=row_id(messages), messages=messages, licence=seed.licence, origin="real", depth=0, real_fraction=1.0,
        source=seed.source, source_licence=seed.licence, document=seed.digest,
    )  # fmt: skip


# -- what is dropped: rows stay in their places, and say why they are not kept -----------------------------------------


def drop_copies(rows: Sequence[Row], inherited: int) -> list[Row]:
    """The same words twice are one row; people's stays, else one of the first `inherited`, of other corpora."""
    ranks = [(bool(row.rejected), row.depth, i >= inherited, row.sample, row.seed) for i, row in enumerate(rows)]
    first: dict[Digest, Row] = {}
    for i in sorted(range(len(rows)), key=ranks.__getitem__):
        first.setdefault(rows[i].id, rows[i])
    return [
        row if row.rejected or first[row.id] is row else _rejected(row, "duplicate", duplicate_of=row.id)
        for row in rows
    ]


def drop_near(rows: Sequence[Row], threshold: float, inherited: int) -> list[Row]:
    """Of long rows that say nearly the same one stays: people's, then one of the first `inherited`."""
    left = [i for i, row in enumerate(rows) if not row.rejected and len(words(_text(row))) >= LONG]
    if len(left) < 2:
        return list(rows)
    ranks = [2 * rows[i].depth + (i >= inherited) for i in left]
    kept = clusters([_text(rows[i]) for i in left], threshold=threshold, priorities=ranks)
    thinned = list(rows)
    for place, i in enumerate(left):
        if kept[place] != place:
            thinned[i] = _rejected(rows[i], "near duplicate", duplicate_of=rows[left[kept[place]]].id)
    return thinned


def drop_exam(rows: Sequence[Row], evals: Mapping[str, Eval]) -> list[Row]:
    """No row holds a case of an eval, whether people wrote it or not."""
    exam = Exam(
        {f"{name}/{case.id}": case_text(case) for name, suite in with_answers(evals).items() for case in suite.cases}
    )
    held = exam.held([_text(row) for row in rows])
    return [
        _rejected(row, f"holds a case of eval {case.split('/')[0]}") if case and not row.rejected else row
        for row, case in zip(rows, held, strict=True)
    ]


def drop_judged(
    rows: Sequence[Row], judge: Judge, report: Report, teacher: Teacher, progress: Progress, journal: Journal
) -> list[Row]:
    """What no checker decided, a judge does, whose error on gold labels stands beside it.

    What it judged for an edition before stays.
    """
    version = digest_of(report)
    left = [i for i, row in enumerate(rows) if not row.rejected and row.depth and not _decided(row, version)]
    asked = [Asked(question=rows[i].messages[-2].content, answer=rows[i].messages[-1].content) for i in left]
    thinned = list(rows)
    for place, verdict in judged(judge, report, teacher.writer, asked, progress, journal).items():
        row = rows[left[place]]
        filters = (*row.filters, verdict)
        thinned[left[place]] = msgspec.structs.replace(row, filters=filters, judge=version, rejected=verdict.because)
    return thinned


def _decided(row: Row, version: Digest) -> bool:
    """Whether a checker decided it, or this judge did before."""
    return any(rule.name in CHECKERS or rule.version == version for rule in row.filters)


def drop_unguarded(rows: Sequence[Row], guard: Guard) -> list[Row]:
    """What the guard does not choose is not published; the rare is what is rare in people's own rows."""
    left = sorted((i for i, row in enumerate(rows) if not row.rejected), key=lambda i: rows[i].id)
    pool = {i: Piece(tuple(words(_text(rows[i]))), rows[i].depth) for i in left}
    chosen = choose(
        list(pool.values()), guard.size, rare=rare_words([piece for piece in pool.values() if piece.depth == 0]),
        floor=guard.floor, deepest=guard.deepest, rarity=guard.rarity, seed=0,
    )  # fmt: skip
    stays = {id(piece) for piece in chosen}
    return [
        row if i not in pool or id(pool[i]) in stays else _rejected(row, "not chosen by the guard")
        for i, row in enumerate(rows)
    ]


def _rejected(row: Row, why: str, duplicate_of: str = "") -> Row:
    return msgspec.structs.replace(row, rejected=why, duplicate_of=duplicate_of)


def _text(row: Row) -> str:
    return "\n".join(message.content for message in row.messages if message.role != "system")
