"""Let a teacher answer, keep what is right and new, and say of every row where it came from.

A finished batch is one line of a journal, written before the next begins, each answer under a digest of everything that
shaped it (teacher, engine, question, sampling, edition, sample): after kill -9 the same command goes on where it was, and
a changed setting never reuses a stale answer. Every answer is drawn by a seed of its own, from edition, question and sample.

    made = make(recipe, base, writer, Path("corpus"), licence="Apache-2.0", evals=main.evals)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from souq.corpus import dump
from souq.corpus.filters import Said, passed
from souq.corpus.guard import Piece, choose, rare_words
from souq.corpus.journal import Journal
from souq.corpus.judges import Asked, Judge, Report, measure, read_judge
from souq.corpus.judges import passed as passed_by
from souq.corpus.near import clusters
from souq.corpus.ngrams import Exam
from souq.corpus.recipe import Making, Prompt
from souq.corpus.row import Row, joint, row_id
from souq.corpus.seeds import Seed, filled, published, read_seeds
from souq.errors import UsageError
from souq.evals.checkers import CHECKERS
from souq.evals.eval import Eval, case_text
from souq.lab.chat import ChatRequest, Completion, Finish, Message, Scorer, TextGenerator, dollars
from souq.progress import Progress, quiet
from souq.records import Digest, digest_of
from souq.text import words

LONG = 40  # words: only texts of so many are compared for nearness; the short ones of one template are all near


Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Kept = tuple[str, Finish, Count, Count]  # an answer in the journal: text, finish, tokens of it and of the question


@dataclass(frozen=True)
class Job:
    """One answer to be had."""

    seed: Seed
    prompt: Prompt
    domain: str
    sample: int
    ask: ChatRequest
    key: Digest


def make(
    recipe: Making, base: Path, writer: Scorer, out: Path, *, licence: str, tokenizer: str = "",
    evals: Mapping[str, Eval] | None = None, progress: Progress = quiet, price: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:  # fmt: skip
    """Generate, filter and publish one edition in `out`; returns what its manifest says. Run again, it goes on.

    `licence` is the teacher's; paths of the recipe are seen from `base`; no row holds a case of `evals`. `price` is dollars
    a million tokens asked and answered: with it `progress` is told the cents spent so far, and how many it will be.
    """
    for found in recipe.seeds:
        if found.kind == "corpus" and found.dump in ("", recipe.dump) and (base / Path(found.path).expanduser()).resolve() == out.resolve():  # fmt: skip
            raise UsageError(f"edition {recipe.dump} would be its own seeds", hint='name the one it builds on in its [[seeds]]: dump = "2026-48", say')  # fmt: skip
    judges = [read_judge(base / name) for name in recipe.judges]
    names = [judge.spec.name for judge in judges]
    if same := [name for i, name in enumerate(names) if name in CHECKERS or name in names[:i]]:
        raise UsageError(f"a judge is called {same[0]!r}, as a checker or another judge is", hint="give each a name of its own: rows are filed under it")  # fmt: skip
    seeds = [seed for found in recipe.seeds if found.kind != "corpus" for seed in read_seeds(found, base)]
    inherited = [row for found in recipe.seeds if found.kind == "corpus" for row in published(found, base)]
    jobs = sorted(_jobs(recipe, seeds, writer), key=lambda job: (_length(job), job.key))
    out.mkdir(parents=True, exist_ok=True)
    with Journal(out / "journal.jsonl", Kept) as journal, Journal(out / "judged.jsonl", float | None) as judged:
        told = _answered(jobs, writer, recipe, journal, progress, price)
        facts = _Facts(recipe, writer, licence, tokenizer)
        rows = [
            *inherited,
            *(_real(seed) for seed in seeds if seed.answer),
            *(facts.row(job, told[job.key]) for job in jobs),
        ]
        rows = _unseen(_unlike(_new(rows, len(inherited)), recipe, len(inherited)), recipe, evals or {})
        lines: dict[str, str] = {}
        for judge in judges:
            report = measure(judge, writer, progress, judged)
            rows = _judged(rows, judge, report, writer, progress, judged)
            lines[judge.spec.name] = report.line
        rows = _guarded(rows, recipe)
        spent = {"asked": sum(each.prompt_tokens for each in told.values()), "answered": sum(each.completion_tokens for each in told.values())}  # fmt: skip
        return dump.publish(
            rows, out, recipe, teacher=writer.model, engine=writer.name, licence=licence, judges=lines, spent=spent
        )


def _jobs(recipe: Making, seeds: Sequence[Seed], writer: TextGenerator) -> Iterator[Job]:
    """Every prompt with every seed that has its fields; what people answered is not asked."""
    for seed in seeds:
        for prompt in recipe.prompts if not seed.answer else ():
            turns: tuple[Message, ...] = (Message(role="user", content=filled(prompt.template, seed, prompt.name)),)
            if prompt.system:
                turns = (Message(role="system", content=prompt.system), *turns)
            domain = filled(prompt.domain, seed, prompt.name)
            asked = [[turn.role, turn.content] for turn in turns]
            for sample in range(recipe.samples):
                chance = int(digest_of([recipe.dump, asked, sample])[3:18], 16)
                shaped = [writer.model, writer.name, recipe.dump, asked, sample, msgspec.to_builtins(recipe.sampling)]
                yield Job(seed, prompt, domain, sample, ChatRequest(messages=turns, seed=chance), digest_of(shaped))


def _length(job: Job) -> int:
    return sum(len(turn.content) for turn in job.ask.messages)


def _answered(
    jobs: Sequence[Job],
    writer: TextGenerator,
    recipe: Making,
    journal: Journal,
    progress: Progress,
    price: tuple[float, float],
) -> dict[Digest, Completion]:
    """Every job's answer, those of like length together; what the journal holds is not asked again.

    A writer hands over whole groups, each a line of the journal, so what a crash left is cut into the same groups as
    before: the last bits of an answer's odds depend on what it is padded to.
    """
    wanted = {job.key: job for job in jobs}
    told = {key: _told(journal.held[key]) for key in wanted if key in journal.held}
    left = [job for key, job in wanted.items() if key not in told]
    spent = _Meter(len(wanted), price, progress)
    spent.add(told.values())
    for part in writer.generate([job.ask for job in left], recipe.sampling):
        found = {left[i].key: said for i, said in part}
        journal.keep({key: [t.text, t.finish, t.completion_tokens, t.prompt_tokens] for key, t in found.items()})
        told |= found
        spent.add(found.values())
    return told


def _told(kept: Kept) -> Completion:
    text, finish, tokens, asked = kept
    return Completion(text=text, finish=finish, completion_tokens=tokens, prompt_tokens=asked)


class _Meter:
    """How far the answers are: rows, tokens, and cents where there is a price."""

    def __init__(self, rows: int, price: tuple[float, float], progress: Progress) -> None:
        self.rows, self.price, self.progress = rows, price, progress
        self.done = self.asked = self.tokens = 0

    def add(self, told: Collection[Completion]) -> None:
        self.done += len(told)
        self.asked += sum(each.prompt_tokens for each in told)
        self.tokens += sum(each.completion_tokens for each in told)
        cents = 100 * dollars(self.asked, self.tokens, self.price)
        if self.done:
            whole = self.rows / self.done
            self.progress("corpus tokens", self.tokens, round(self.tokens * whole))
            if any(self.price):
                self.progress("corpus cents", round(cents), round(cents * whole))
        self.progress("corpus rows", self.done, self.rows)


# -- rows --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    recipe: Making
    writer: TextGenerator
    licence: str
    tokenizer: str

    def row(self, job: Job, told: Completion) -> Row:
        """One row with its provenance."""
        messages = (*job.ask.messages, Message(role="assistant", content=told.text))
        seen = tuple(passed(Said(job.ask.messages[-1].content, told, job.seed, job.prompt), self.recipe.filters))
        sampling = self.recipe.sampling
        return Row(
            id=row_id(messages), messages=messages, licence=joint((self.licence, job.seed.licence)), origin="synthetic",
            depth=1 + self.recipe.ancestry, real_fraction=0.0, domain=job.domain, source=job.seed.source, source_licence=job.seed.licence,
            document=job.seed.digest, teacher=self.writer.model, tokenizer=self.tokenizer, engine=self.writer.name,
            prompt=job.prompt.name, prompt_digest=digest_of([job.prompt.system, job.prompt.template]),
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, min_p=sampling.min_p,
            max_tokens=sampling.max_tokens, sample=job.sample, seed=str(job.ask.seed), finish=told.finish, tokens=told.completion_tokens,
            filters=seen, rejected=next((found.because for found in seen if not found.kept), ""),
        )  # fmt: skip


def _real(seed: Seed) -> Row:
    messages = (Message(role="user", content=seed.fields["prompt"]), Message(role="assistant", content=seed.answer))
    return Row(
        id=row_id(messages), messages=messages, licence=seed.licence, origin="real", depth=0, real_fraction=1.0,
        source=seed.source, source_licence=seed.licence, document=seed.digest,
    )  # fmt: skip


def _new(rows: list[Row], inherited: int) -> list[Row]:
    """The same words twice are one row; people's stay, then what stood in the corpora this one builds on."""
    seen: dict[Digest, Row] = {}
    ranks = [(bool(row.rejected), row.depth, i >= inherited, row.sample, row.seed) for i, row in enumerate(rows)]
    for i in sorted(range(len(rows)), key=ranks.__getitem__):
        seen.setdefault(rows[i].id, rows[i])
    return [row if row.rejected or seen[row.id] is row else _because(row, "duplicate", row.id) for row in rows]


def _unlike(rows: list[Row], recipe: Making, inherited: int) -> list[Row]:
    """Of long rows that say nearly the same, one, chosen likewise."""
    left = [i for i, row in enumerate(rows) if not row.rejected and len(words(_text(row))) >= LONG]
    if not recipe.dedup or len(left) < 2:
        return rows
    ranks = [2 * rows[i].depth + (i >= inherited) for i in left]
    kept = clusters([_text(rows[i]) for i in left], threshold=recipe.dedup, priorities=ranks)
    for place, i in enumerate(left):
        if kept[place] != place:
            rows[i] = _because(rows[i], "near duplicate", rows[left[kept[place]]].id)
    return rows


def _unseen(rows: list[Row], recipe: Making, evals: Mapping[str, Eval]) -> list[Row]:
    """No row holds a case of an eval, whether people wrote it or not."""
    if not recipe.decontaminate or not evals:
        return rows
    exam = Exam({f"{name}/{case.id}": case_text(case) for name, found in evals.items() for case in found.cases})
    held = exam.held([_text(row) for row in rows])
    return [
        _because(row, f"holds a case of eval {found.split('/')[0]}") if found and not row.rejected else row
        for row, found in zip(rows, held, strict=True)
    ]


def _guarded(rows: list[Row], recipe: Making) -> list[Row]:
    """What the guard does not choose is not published; the rare is what is rare in people's own rows."""
    if recipe.guard is None:
        return rows
    left = sorted((i for i, row in enumerate(rows) if not row.rejected), key=lambda i: rows[i].id)
    pool = {i: Piece(tuple(words(_text(rows[i]))), rows[i].depth) for i in left}
    rare = rare_words([piece for piece in pool.values() if piece.depth == 0])
    rules = recipe.guard
    chosen = choose(list(pool.values()), rules.size, rare=rare, floor=rules.floor, deepest=rules.deepest, rarity=rules.rarity, seed=0)  # fmt: skip
    stays = {id(piece) for piece in chosen}
    return [row if i not in pool or id(pool[i]) in stays else _because(row, "not chosen by the guard") for i, row in enumerate(rows)]  # fmt: skip


def _judged(rows: list[Row], judge: Judge, report: Report, writer: Scorer, progress: Progress, journal: Journal) -> list[Row]:  # fmt: skip
    """What no checker decided, a judge does, whose error on gold labels stands beside it; what it judged for an edition before stays."""
    version = digest_of(report)
    left = [
        i
        for i, row in enumerate(rows)
        if not row.rejected
        and row.depth
        and not _was_checked(row)
        and version not in {found.version for found in row.filters}
    ]
    asked = [Asked(question=rows[i].messages[-2].content, answer=rows[i].messages[-1].content) for i in left]
    for place, said in passed_by(judge, report, writer, asked, progress, journal).items():
        row = rows[left[place]]
        rows[left[place]] = msgspec.structs.replace(row, filters=(*row.filters, said), judge=version, rejected=said.because)  # fmt: skip
    return rows


def _was_checked(row: Row) -> bool:
    return any(found.name in CHECKERS for found in row.filters)


def _because(row: Row, why: str, other: str = "") -> Row:
    return msgspec.structs.replace(row, rejected=why, duplicate_of=other)


def _text(row: Row) -> str:
    return "\n".join(turn.content for turn in row.messages if turn.role != "system")


def none_left(made: Mapping[str, Any]) -> UsageError | None:
    """Why nothing was kept, by filter; None where something was."""
    if made["rows"]["kept"]:
        return None
    told = ", ".join(f"{count:,} {why}" for why, count in sorted(made["rejected"].items(), key=lambda pair: -pair[1]))
    return UsageError(f"no row is left: {told}", hint="look at subset=rejected, and at the recipe's filters")
