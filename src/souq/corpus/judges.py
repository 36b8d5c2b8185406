"""A judge: a model that says yes or no to a row, and how often it was wrong where people had said so before.

It knows a prompt, the verdicts allowed, and gold labels. Without them it is refused: a model's opinion of unknown error
is no filter. Rows that a checker decides (evals/checkers.py) are never shown to it.

    judge = read_judge(Path("judge.toml"))
    report = measure(judge, writer("transformers", folder))
    report.error, report.beats_majority
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from souq.corpus.journal import Journal, answered
from souq.corpus.row import Passed
from souq.errors import Hostile, NotFound, UsageError
from souq.evals import checkers
from souq.evals.statistics import ALPHA, mcnemar, wilson
from souq.lab.chat import ChatRequest, Message, Sampling, Scorer
from souq.progress import Progress, quiet
from souq.records import Digest, Record, digest, digest_of, parse_toml
from souq.text import decoded, plain_utf8

MAX_GOLD, MAX_LINE, MAX_BYTES = 20_000, 256 << 10, 16 << 20
_HOLES = re.compile(r"\{(question|answer)\}")


class Spec(Record, frozen=True, forbid_unknown_fields=True):
    """judge.toml. `prompt` holds {question} and {answer}; a row is kept on the verdict `keep`.

    `threshold` is the least share of the verdicts' probability that `keep` must have, where the engine tells it.
    """

    name: str
    prompt: str
    verdicts: tuple[str, ...]
    keep: str
    gold: str = ""  # JSONL beside it: {question, answer, verdict}
    threshold: float = 0.5


class Labelled(Record, frozen=True, forbid_unknown_fields=True):
    """A line of gold: what a person said of an answer."""

    question: str
    answer: str
    verdict: str


class Judge(Record, frozen=True):
    spec: Spec
    gold: tuple[Labelled, ...]
    digest: Digest  # of the specification and the gold labels


class Asked(Record, frozen=True):
    """What a judge may be asked about, and the checker that comes before it."""

    question: str
    answer: str
    checker: str = ""
    expected: str = ""


class Report(Record, frozen=True):
    """What a judge is worth on its gold labels. `positive` is the verdict that keeps a row."""

    judge: Digest
    model: Digest
    engine: str
    by: str  # "likelihood" or "text"
    n: int
    wrong: int
    error: float
    low: float  # of the error, Wilson 95%
    high: float
    precision: float | None  # of what it keeps; None where it keeps nothing
    recall: float | None
    kappa: float
    majority_error: float  # of always saying what most gold labels say
    p: float  # of beating that by chance (McNemar, exact, one-sided)
    undecided: int  # answers that named no verdict; each counts as not kept

    @property
    def beats_majority(self) -> bool:
        return self.error < self.majority_error and self.p < ALPHA

    @property
    def line(self) -> str:
        """For the card."""
        wrong = f"wrong on {self.wrong} of {self.n} ({self.low:.1%} to {self.high:.1%})"
        return f"judge {digest_of(self)[:15]} by {self.engine}: {wrong}, kappa {self.kappa:.2f}"


def read_judge(path: Path) -> Judge:
    """A judge and its gold labels, strictly.

    Raises:
        NotFound: no such file.
        UsageError: a wrong key or value, no gold labels, a line that is none.
        Hostile: too large, or a gold file elsewhere.
    """
    try:
        spec = parse_toml(decoded(_bytes(path), path.name), Spec, where=path.name)
    except UnicodeError as error:
        raise Hostile(f"{path} is not UTF-8 text") from error
    _vet(spec, path.name)
    gold = path.parent / spec.gold
    if Path(spec.gold).name != spec.gold or gold.is_symlink():
        raise Hostile(f"{path.name}: gold is {spec.gold[:80]!r}", hint="name a file beside the judge's")
    data = _bytes(gold)
    return Judge(spec=spec, gold=tuple(_gold(data, spec)), digest=digest_of([spec, digest(data)]))


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="a judge is a TOML file, and its gold labels beside it")
    if path.stat().st_size > MAX_BYTES:
        raise Hostile(f"{path.name} is larger than {MAX_BYTES:,} bytes")
    return plain_utf8(path.read_bytes(), path.name)


def _vet(spec: Spec, where: str) -> None:
    plain = {checkers.normalise(verdict) for verdict in spec.verdicts}
    if len(plain) < max(2, len(spec.verdicts)) or "" in plain:
        raise UsageError(f"{where}: `verdicts` are two or more words that differ", hint='for example ["yes", "no"]')
    if spec.keep not in spec.verdicts:
        raise UsageError(f"{where}: keep {spec.keep!r} is none of the verdicts")
    if not 0 < spec.threshold < 1:
        raise UsageError(f"{where}: threshold is between 0 and 1, not {spec.threshold}")
    if "answer" not in _HOLES.findall(spec.prompt):
        raise UsageError(f"{where}: the prompt never shows the {{answer}}")
    if not spec.gold:
        hint = 'label some rows by hand, and name the file: gold = "gold.jsonl"'
        raise UsageError(f"{where}: no gold labels", hint=hint)


def _gold(data: bytes, spec: Spec) -> Iterator[Labelled]:
    lines = data.splitlines()
    if len(lines) > MAX_GOLD:
        raise Hostile(f"{spec.gold}: {len(lines):,} lines; the most is {MAX_GOLD:,}")
    seen, keeps = set(), set()
    for number, line in enumerate(lines, 1):
        where = f"{spec.gold}, line {number}"
        if len(line) > MAX_LINE:
            raise Hostile(f"{where}: more than {MAX_LINE:,} bytes")
        try:
            label = msgspec.json.decode(line, type=Labelled)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: {error}", hint='a line is {"question", "answer", "verdict"}') from error
        if label.verdict not in spec.verdicts:
            raise UsageError(f"{where}: {label.verdict[:40]!r} is none of {', '.join(spec.verdicts)}")
        if (pair := (label.question, label.answer)) in seen:
            raise UsageError(f"{where}: said before; a label counts once")
        seen.add(pair)
        keeps.add(label.verdict == spec.keep)
        yield label
    if len(keeps) < 2:
        raise UsageError(f"{spec.gold}: needs labels that keep and labels that do not", hint="label more rows by hand")


# -- judging -----------------------------------------------------------------------------------------------------------


def _request(spec: Spec, question: str, answer: str) -> ChatRequest:
    """In one pass: what an answer says of {question} stays what it says."""
    holes = {"question": question, "answer": answer}
    content = _HOLES.sub(lambda hole: holes[hole[1]], spec.prompt)
    return ChatRequest(messages=(Message(role="user", content=content),))


def _shares_of_keep(
    judge: Judge, writer: Scorer, pairs: Sequence[tuple[str, str]], progress: Progress, journal: Journal | None
) -> list[float | None]:
    """The share of `keep` of every (question, answer) pair; what the journal holds is not asked again."""
    keys = [digest_of([judge.digest, writer.model, writer.name, *pair]) for pair in pairs]

    def ask(left: list[tuple[str, str]]) -> Iterator[list[tuple[int, float | None]]]:
        return shares(judge.spec, writer, left, progress)

    known = answered(dict(zip(keys, pairs, strict=True)), ask, journal)
    return [known[key] for key in keys]


def shares(
    spec: Spec, writer: Scorer, pairs: Sequence[tuple[str, str]], progress: Progress = quiet
) -> Iterator[list[tuple[int, float | None]]]:
    """(number, share of `keep`) of (question, answer) pairs; None where no verdict was named. By text it is 0 or 1."""
    requests = [_request(spec, *pair) for pair in pairs]
    if writer.logprobs:
        for scored in writer.score(requests, spec.verdicts, progress):
            yield [(number, _share(log_p, spec.keep)) for number, log_p in scored]
        return
    room = Sampling(max_tokens=max(len(verdict.encode()) for verdict in spec.verdicts) + 8)
    for batch in writer.generate(requests, room, progress):
        yield [(number, _named(spec, completion.text)) for number, completion in batch]


def _share(log_p: Mapping[str, float], keep: str) -> float:
    most = max(log_p.values())
    return math.exp(log_p[keep] - most) / math.fsum(math.exp(p - most) for p in log_p.values())


def _named(spec: Spec, text: str) -> float | None:
    named = [verdict for verdict in spec.verdicts if checkers.right("one-of", verdict, text, spec.verdicts)]
    return float(named[0] == spec.keep) if named else None


def measure(judge: Judge, writer: Scorer, progress: Progress = quiet, journal: Journal | None = None) -> Report:
    """A judge against its gold labels: whether it keeps what people keep."""
    spec = judge.spec
    keeps = _shares_of_keep(judge, writer, [(label.question, label.answer) for label in judge.gold], progress, journal)
    kept = [share is not None and share >= spec.threshold for share in keeps]
    true = [label.verdict == spec.keep for label in judge.gold]
    n, most = len(true), Counter(true).most_common(1)[0][0]
    right = [guess == label for guess, label in zip(kept, true, strict=True)]
    wrong, both = right.count(False), sum(guess and label for guess, label in zip(kept, true, strict=True))
    low, high = wilson(wrong, n)
    return Report(
        judge=judge.digest, model=writer.model, engine=writer.name, by="likelihood" if writer.logprobs else "text",
        n=n, wrong=wrong, error=wrong / n, low=low, high=high,
        precision=both / sum(kept) if any(kept) else None, recall=both / sum(true) if any(true) else None,
        kappa=kappa(kept, true), majority_error=true.count(not most) / n,
        p=mcnemar({str(i): float(right[i]) - float(most == label) for i, label in enumerate(true)}),
        undecided=keeps.count(None),
    )  # fmt: skip


def kappa(guesses: Sequence[bool], labels: Sequence[bool]) -> float:
    """Agreement beyond chance (Cohen 1960): 1 is all, 0 what two who guess at their own rates would have."""
    n = len(guesses)
    agreed = sum(a == b for a, b in zip(guesses, labels, strict=True)) / n
    chance = sum(list(guesses).count(v) * list(labels).count(v) for v in (True, False)) / n**2
    return (agreed - chance) / (1 - chance) if chance < 1 else 0.0


def judged(
    judge: Judge, report: Report, writer: Scorer, rows: Sequence[Asked], progress: Progress = quiet,
    journal: Journal | None = None,
) -> dict[int, Passed]:  # fmt: skip
    """What is said of each row, by its number: its checker first, and the judge only where there is none.

    Raises:
        UsageError: the report is of another judge, model or engine, or no better than always saying the same.
    """
    if (report.judge, report.model, report.engine) != (judge.digest, writer.model, writer.name):
        raise UsageError("this judge was not measured on this model and engine", hint="run `souq corpus judge-test`")
    if not report.beats_majority:
        hint = "mend its prompt, or label more rows"
        raise UsageError(f"judge {judge.spec.name} is no better than always saying the same", hint=hint)
    checked = {i: _checked(row) for i, row in enumerate(rows) if row.checker}
    rest = [i for i, row in enumerate(rows) if not row.checker]
    keeps = _shares_of_keep(judge, writer, [(rows[i].question, rows[i].answer) for i in rest], progress, journal)
    return checked | {i: _judged(judge, report, share) for i, share in zip(rest, keeps, strict=True)}


def _checked(row: Asked) -> Passed:
    right = checkers.right(row.checker, row.expected, row.answer)
    because = "" if right else f"wrong by checker {row.checker}"
    return Passed(name=row.checker, version="checker", kept=right, because=because)


def _judged(judge: Judge, report: Report, share: float | None) -> Passed:
    kept = share is not None and share >= judge.spec.threshold
    because = "" if kept else f"judge {judge.spec.name}" + (" named no verdict" if share is None else "")
    return Passed(name=judge.spec.name, version=digest_of(report), kept=kept, score=share, because=because)
