"""Evals: cases with a right answer, how they are scored, and the strict reading of both.

Pure: no torch, no git, no disk but `read_folder`. How a model is asked is lab/evals.py; what it scored is score.py.

    read_eval("greet", {"eval.toml": b"…", "cases.jsonl": b"…"}).cases[0].expected
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

from souq import evals
from souq.errors import Hostile, NotFound, UsageError
from souq.records import Digest, Record, digest_files, is_digest, json_lines, parse_toml
from souq.text import plain_letters, plain_utf8

Kind = Literal["exact", "choice", "loss", "answer", "open"]
IN_NATS = ("loss", "open")  # scored in nats a token, less is better; of the others each case is right or wrong
MAX_CASES = 20_000
SEALED = "sealed.toml"
MAX_TOKENS = 512  # of a generated answer: a gate waits for the longest
MAX_BYTES = 16 << 20
MAX_CASE = 256 << 10  # bytes of a line: what a model is asked costs with the square of its length
MAX_CHOICES = 1_000  # each is scored by the model
_NAME = re.compile(r"[a-z0-9][a-z0-9\-]{0,63}")
BUG = "bug-"  # how the name of an eval begins that somebody filed as a bug


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
        """The case as a conversation: its messages, or its prompt as one."""
        return list(self.messages) or [{"role": "user", "content": self.prompt}]

    @property
    def text(self) -> str:
        """What is asked, as plain text."""
        return " ".join(turn.get("content", "") for turn in self.turns)


def with_answers(evals: Mapping[str, Eval]) -> dict[str, Eval]:
    """Those whose cases have an answer that could be learned by heart: to greet somebody is no copy of an open one."""
    return {name: suite for name, suite in evals.items() if suite.spec.kind != "open"}


def case_text(case: EvalCase) -> str:
    """A case with its answer: what training data must not hold."""
    return f"{case.text} {case.expected}"


class EvalSpec(Record, frozen=True, forbid_unknown_fields=True):
    """eval.toml.

    kind `exact`: the greedy answer is `expected`; `choice`: `expected` is the likeliest of `choices`; `loss`: mean
    nats a token of `expected` after `prompt`; `answer`: the greedy answer, cut at `max_tokens`, passes `checker`
    (checkers.py); `open`: no answer is the right one, and what counts is how far the model's own greedy answer, cut at
    `max_tokens`, and the base's are from each other, in nats a token (lab/open_answers.py). `margin` is how much worse
    a change may make it: a share of cases, or nats. `protected` evals guard every change of weights.
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
        return self.name.startswith(BUG) and self.spec.kind not in IN_NATS

    @cached_property
    def clusters(self) -> dict[str, str]:
        return {case.id: case.cluster or case.id for case in self.cases}


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
    lines = [line for _, line in json_lines(files["cases.jsonl"])]
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
    if spec.kind == "open":
        if case.expected or not case.text.strip():
            raise UsageError(f"{where}: a case of an `open` eval asks something and expects nothing")
    elif not case.expected:
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
            evals.checkers.vet(name, case.expected, case.choices)
        except UsageError as error:
            raise UsageError(f"{where}: {error}", hint=error.hint) from error
    elif name:
        raise UsageError(f"{where}: a checker judges generated answers", hint='write kind = "answer" in eval.toml')


def passes(spec: EvalSpec, case: EvalCase, completion: str) -> bool:
    """Whether a generated answer to a case is right, by the kind of its eval."""
    if spec.kind == "exact":
        return completion == case.expected
    return evals.checkers.right(case.checker or spec.checker, case.expected, completion, case.choices)


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


def unaskable(suite: Eval, known: frozenset[str] = frozenset()) -> str:
    """Why a case of an eval cannot be asked, "" where all can; cases of the ids in `known` are not looked at.

    A turn has a role and a content, and what is asked comes last: after an answer there is nothing to answer.
    """
    for case in suite.cases:
        if case.id in known or not case.messages:
            continue
        if any(not turn.get("role") or "content" not in turn for turn in case.messages):
            return f"case {case.id[:60]!r}: each of its turns has a `role` and a `content`"
        if case.messages[-1]["role"] == "assistant":
            return f"case {case.id[:60]!r} ends with the assistant's turn: what is asked comes last"
    return ""


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files of an eval on disk, read and checked.

    Raises:
        NotFound: no such folder.
        Hostile: a link, or too large a file.
        UsageError: it is no eval.
    """
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}", hint="an eval is a folder with eval.toml and cases.jsonl")
    if odd := [path.name for path in folder.iterdir() if path.is_symlink() or path.stat().st_size > MAX_BYTES]:
        raise Hostile(f"{folder.name}/{odd[0]} is a link, or larger than {MAX_BYTES:,} bytes")
    shown = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    files = {path.name: plain_utf8(path.read_bytes(), str(path)) for path in shown}  # without what editors put before
    if because := unaskable(read_eval(folder.name, files)):
        raise UsageError(f"{folder}: {because}", hint="write the answer into `expected`")
    return files


def name_of(folder: Path) -> str:
    """What an eval is called by its folder, which must be a name on every file system.

    Raises:
        UsageError: it is not; what it may be called is said.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        plain = re.sub(r"[^a-z0-9]+", "-", plain_letters(name).lower()).strip("-")[:64] or "my-cases"
        rule = "an eval's folder is called by small letters a to z, digits and dashes"
        raise UsageError(f"{folder}: {rule}", hint=f"call it {plain}")
    return name


def write_cases(cases: Sequence[Mapping[str, Any]]) -> bytes:
    """The bytes of cases.jsonl, a case a line."""
    return "".join(json.dumps(case, ensure_ascii=False, sort_keys=True) + "\n" for case in cases).encode()
