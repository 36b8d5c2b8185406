"""Evals: cases with a right answer, what a model scored on them, and whether one model is better than another.

Pure: no torch, no git, no disk but `read_folder`. How a model is asked is lab/evals.py.

    >>> before = Score.of("sums", "exact", {"a": 0.0, "b": 0.0, "c": 1.0})
    >>> compare(before, before, margin=0.05).gain
    0.0
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from souq.errors import Hostile, NotFound, UsageError
from souq.evals import checkers
from souq.evals.statistics import ONCE, Plan, cases_needed, clustered_mean, hopeless, losses, mcnemar, right_wrong
from souq.records import Digest, Record, digest_files, is_digest, parse_toml

Kind = Literal["exact", "choice", "loss", "answer"]
MAX_CASES = 20_000
SEALED = "sealed.toml"
MAX_TOKENS = 512  # of a generated answer: a gate waits for the longest
MAX_BYTES = 16 << 20
MAX_CASE = 256 << 10  # bytes of a line: what a model is asked costs with the square of its length
MAX_CHOICES = 1_000  # each is scored by the model
BUG = "bug-"  # how the name of an eval begins that somebody filed as a bug
Answer = Literal["non-inferior", "inferior", "undecided"]


class EvalCase(Record, frozen=True, forbid_unknown_fields=True):
    """One line of cases.jsonl.

    `cluster` names what cases share (a document), so that their errors are not counted as independent. `source`,
    `licence` (SPDX) and `checker` are this case's own where they differ from the eval's.
    """

    id: str
    prompt: str = ""
    messages: tuple[dict[str, str], ...] = ()
    expected: str = ""
    choices: tuple[str, ...] = ()
    cluster: str = ""
    source: str = ""
    licence: str = ""
    checker: str = ""

    @property
    def turns(self) -> list[dict[str, str]]:
        """As a conversation."""
        return list(self.messages) or [{"role": "user", "content": self.prompt}]

    @property
    def text(self) -> str:
        """What is asked, as plain text."""
        return " ".join(turn.get("content", "") for turn in self.turns)


def case_text(case: EvalCase) -> str:
    """A case with its answer: what training data must not hold."""
    return f"{case.text} {case.expected}"


class EvalSpec(Record, frozen=True, forbid_unknown_fields=True):
    """eval.toml.

    kind `exact`: the greedy answer is `expected`; `choice`: `expected` is the likeliest of `choices`; `loss`: mean
    nats a token of `expected` after `prompt`; `answer`: the greedy answer, cut at `max_tokens`, passes `checker`
    (checkers.py). `margin` is how much worse a change may make it: a share of cases, or nats. `protected` evals guard
    every change of weights.
    """

    title: str
    kind: Kind
    source: str
    licence: str
    margin: float = 0.05
    protected: bool = False
    checker: str = ""
    max_tokens: int = 64
    salt: str = ""  # of an eval that was hidden: what kept its digest from being guessed


@dataclass(frozen=True)
class Eval:
    """An eval's folder: what it asks, and how it is judged."""

    name: str
    spec: EvalSpec
    cases: tuple[EvalCase, ...]
    digest: Digest

    @property
    def margin(self) -> float:
        return self.spec.margin

    @property
    def protected(self) -> bool:
        return self.spec.protected

    @property
    def is_bug(self) -> bool:
        """Whether it is one or a few cases that failed: then each must pass, and chance has no part in it."""
        return self.name.startswith(BUG) and self.spec.kind != "loss"

    @cached_property
    def clusters(self) -> dict[str, str]:
        return {case.id: case.cluster or case.id for case in self.cases}

    def score(self, values: Mapping[str, float]) -> Score:
        """The score of its cases' values, by case, in the cases' order."""
        return Score.of(self.name, self.spec.kind, {case.id: values[case.id] for case in self.cases}, self.clusters)


def read_eval(name: str, files: Mapping[str, bytes]) -> Eval:
    """An eval from its two files, strictly.

    Raises:
        UsageError: a wrong key, a missing answer, two cases of one id.
        Hostile: too large, or not text.
    """
    where = f"evals/{name}"
    if set(files) != {"eval.toml", "cases.jsonl"}:
        raise UsageError(f"{where} holds {', '.join(sorted(files))}", hint="an eval is eval.toml and cases.jsonl")
    if sum(map(len, files.values())) > MAX_BYTES:
        raise Hostile(f"{where} is larger than {MAX_BYTES:,} bytes")
    try:
        spec = parse_toml(files["eval.toml"].decode(), EvalSpec, where=f"{where}/eval.toml")
    except UnicodeDecodeError as error:
        raise Hostile(f"{where}/eval.toml is not UTF-8 text") from error
    if not 0 <= spec.margin < math.inf:
        raise UsageError(f"{where}: margin is a number from 0 up, not {spec.margin}")
    if not 1 <= spec.max_tokens <= MAX_TOKENS:
        raise UsageError(f"{where}: max_tokens is from 1 to {MAX_TOKENS}, not {spec.max_tokens}")
    lines = [line for line in files["cases.jsonl"].splitlines() if line.strip()]
    if not 0 < len(lines) <= MAX_CASES:
        raise UsageError(f"{where} has {len(lines):,} cases; between 1 and {MAX_CASES:,} are taken")
    cases = tuple(_case(line, f"{where}/cases.jsonl, line {n}", spec) for n, line in enumerate(lines, 1))
    if len({case.id for case in cases}) != len(cases):
        raise UsageError(f"{where}: two cases have one id")
    return Eval(name, spec, cases, digest_files(dict(files)))


def _case(line: bytes, where: str, spec: EvalSpec) -> EvalCase:
    try:
        case = msgspec.json.decode(line, type=EvalCase)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: {error}") from error
    if not case.expected:
        raise UsageError(f"{where}: no `expected`")
    if len(line) > MAX_CASE or len(case.choices) > MAX_CHOICES:
        raise Hostile(f"{where}: a case has at most {MAX_CASE:,} bytes and {MAX_CHOICES} choices")
    if spec.kind == "choice" and not (
        case.expected in case.choices and len(set(case.choices)) == len(case.choices) > 1
    ):
        raise UsageError(f"{where}: `expected` is not one of at least two different `choices`")
    if case.licence and not _LICENCE.fullmatch(case.licence):
        raise UsageError(f"{where}: not a licence: {case.licence[:60]!r}", hint="write its SPDX name, such as CC0-1.0")
    _checked(case, where, spec)
    return case


_LICENCE = re.compile(r"[A-Za-z0-9.+\-]{1,60}( (AND|OR|WITH) [A-Za-z0-9.+\-]{1,60}){0,5}")  # the form; names are many


def _checked(case: EvalCase, where: str, spec: EvalSpec) -> None:
    """Generated answers have a checker that can look for `expected`; nothing else has one."""
    name = case.checker or spec.checker
    if spec.kind == "answer":
        try:
            checkers.vet(name, case.expected, case.choices)
        except UsageError as error:
            raise UsageError(f"{where}: {error}", hint=error.hint) from error
    elif name:
        raise UsageError(f"{where}: a checker judges generated answers", hint='write kind = "answer" in eval.toml')


def passes(spec: EvalSpec, case: EvalCase, completion: str) -> bool:
    """Whether a generated answer is right."""
    if spec.kind == "exact":
        return completion == case.expected
    return checkers.right(case.checker or spec.checker, case.expected, completion, case.choices)


class Sealed(Record, frozen=True, forbid_unknown_fields=True):
    """sealed.toml: an eval whose cases are not shown yet; `digest` is the one it will have when they are."""

    title: str
    digest: Digest
    cases: int
    kind: Kind
    licence: str

    @classmethod
    def of(cls, suite: Eval) -> Sealed:
        spec = suite.spec
        return cls(title=spec.title, digest=suite.digest, cases=len(suite.cases), kind=spec.kind, licence=spec.licence)


def read_sealed(name: str, data: bytes) -> Sealed:
    """sealed.toml, strictly.

    Raises:
        UsageError: a wrong key, or a digest that is none.
    """
    where = f"evals/{name}/{SEALED}"
    try:
        sealed = parse_toml(data.decode(), Sealed, where=where)
    except UnicodeDecodeError as error:
        raise Hostile(f"{where} is not UTF-8 text") from error
    if not is_digest(sealed.digest) or not 0 < sealed.cases <= MAX_CASES:
        raise UsageError(f"{where}: no digest, or no number of cases", hint="`souq hidden seal FOLDER` writes one")
    return sealed


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of an eval on disk, read and checked."""
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}", hint="an eval is a folder with eval.toml and cases.jsonl")
    if odd := [path.name for path in folder.iterdir() if path.is_symlink() or path.stat().st_size > MAX_BYTES]:
        raise Hostile(f"{folder.name}/{odd[0]} is a link, or larger than {MAX_BYTES:,} bytes")
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    read_eval(folder.name, files)
    return files


def write_cases(cases: Sequence[Mapping[str, Any]]) -> bytes:
    """cases.jsonl."""
    return "".join(json.dumps(case, ensure_ascii=False, sort_keys=True) + "\n" for case in cases).encode()


class Score(Record, frozen=True):
    """What a model scored: the mean over cases, and each case, so that two models can be compared in pairs.

    A case is 1 (right) or 0; for `loss` it is nats a token, lower is better.
    """

    eval: str
    kind: Kind
    n: int
    value: float
    stderr: float
    cases: dict[str, float]

    @classmethod
    def of(cls, name: str, kind: Kind, cases: Mapping[str, float], clusters: Mapping[str, str] | None = None) -> Score:
        mean, stderr, *_ = clustered_mean(cases, clusters)
        return cls(eval=name, kind=kind, n=len(cases), value=mean, stderr=stderr, cases=dict(cases))

    @property
    def sign(self) -> int:
        """What better means: up for right answers, down for loss."""
        return -1 if self.kind == "loss" else 1


@dataclass(frozen=True)
class Comparison:
    """One model against another on the same cases; `gain` is positive when the second is better."""

    gain: float
    low: float  # one-sided bounds, 95% each over all looks
    high: float
    improved: bool
    margin: float
    unit: str
    p_better: float = 1.0  # of so large a gain, were the models alike
    p_worse: float = 1.0  # of so large a loss, were the true one the margin
    n: int = 0
    total: int = 0  # cases there are, read or not
    needed: int | None = None  # how many more cases would decide; None where none would
    hopeless: bool = False  # more cases will hardly decide

    @property
    def answer(self) -> Answer:
        """Whether a loss above the margin is ruled out, shown, or neither."""
        return "non-inferior" if self.low > -self.margin else "inferior" if self.high < -self.margin else "undecided"

    @property
    def non_inferior(self) -> bool:
        return self.answer == "non-inferior"

    @property
    def inferior(self) -> bool:
        return self.answer == "inferior"

    @property
    def beyond(self) -> bool:
        """Whether it seems worse by more than the margin, shown or not."""
        return self.gain < -self.margin

    def __str__(self) -> str:
        if self.unit == "nats":
            figures = f"{self.gain:+.3f} nats [{self.low:+.3f}, {self.high:+.3f}], margin {self.margin:.2f}"
        else:
            gain, low, high, margin = (100 * share for share in (self.gain, self.low, self.high, self.margin))
            figures = f"{gain:+.1f} points [{low:+.1f}, {high:+.1f}], margin {margin:.0f}"
        read = f", {self.n:,} of {self.total:,} cases read" if self.n < self.total else ""
        return figures + read + (f", {self.wanting}" if self.answer == "undecided" else "")

    @property
    def wanting(self) -> str:
        """What would decide."""
        if self.needed is None:
            return "no number of cases like these would decide"
        return f"about {max(self.needed, 1):,} more cases would decide"


def compare(
    before: Score, after: Score, *, margin: float, clusters: Mapping[str, str] | None = None,
    plan: Plan = ONCE, look: int = 0, total: int = 0, hope: float | None = 0.0,
) -> Comparison:  # fmt: skip
    """Paired, case by case, at one look of a plan; the methods are in docs/statistics.md.

    Improvement of right answers is McNemar's exact test; of losses, Student's. `total` is how many cases the plan has.
    `hope` is the gain at which one would still like to show no harm; None asks for improvement, and hopes for the best
    that the cases so far allow.

    Raises:
        UsageError: the two were not scored on the same cases.
    """
    if before.cases.keys() != after.cases.keys():
        raise UsageError(f"eval {before.eval!r} was scored on other cases before than after")
    gains = {case: before.sign * (after.cases[case] - value) for case, value in before.cases.items()}
    loss, level = before.kind == "loss", plan.level(look)
    paired = losses(gains, clusters) if loss else right_wrong(gains, clusters)
    low, high = paired.bounds(level)
    better = paired.above(0.0) if loss else mcnemar(gains, clusters)
    null, hoped = (0.0, high) if hope is None else (-margin, hope)
    return Comparison(
        paired.gain, low, high, paired.gain > 0 and better <= level, margin, "nats" if loss else "points",
        plan.overall(look, better), plan.overall(look, paired.below(-margin)), len(gains), max(total, len(gains)),
        cases_needed(paired, len(gains), margin), hopeless(paired, plan, look, null, hoped),
    )  # fmt: skip


def fixed(before: Score, after: Score) -> bool:
    """Whether a bug is gone: not every case passed, and now each does. One case is enough; there is no chance in it."""
    return any(value < 1 for value in before.cases.values()) and all(value == 1 for value in after.cases.values())


def back(before: Score, after: Score) -> list[str]:
    """The cases of a bug that passed and fail again."""
    return sorted(case for case, value in before.cases.items() if value == 1 and after.cases[case] < 1)
