"""Scores that somebody says of a release once it is out: a file that a hub shows, and the signature that it stands on.

A hub reads `.eval_results/*.yaml` (https://huggingface.co/docs/hub/eval-results) and believes them. Here each has a
signed record of the same name beside it, and is exactly what that record says, or it is a stranger's file.

    files = claimed(scores, release, person)
    read(files, policy, release)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from souq import signing
from souq.errors import Forged, SouqError
from souq.governance import Policy
from souq.records import Record, Release, canonical, spelled_out
from souq.signing import Person

FOLDER, FACE, PROOF = ".eval_results/", ".yaml", ".intoto.json"
NAMESPACE, KIND = "souq.scores.v1", "urn:souq:scores:1"
MAX_SCORES = 10_000
_DATASET = re.compile(r"[\w.\-]{1,96}/[\w.\-]{1,96}", re.ASCII)
_SOURCE = re.compile(r"https?://[!-~]{1,500}")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_NAME = re.compile(rf"{re.escape(FOLDER)}([a-z0-9][a-z0-9.\-]{{0,63}}){re.escape(FACE)}")


class Scores(Record, frozen=True, forbid_unknown_fields=True):
    """What a release scored: `dataset` is the hub's name of the evals, `source` a page about them."""

    version: str
    scores: dict[str, float]
    dataset: str
    by: str
    at: str
    source: str = ""


@dataclass(frozen=True)
class Claim:
    """A file that somebody who stands in the policy put there later, and signed."""

    file: str
    because: str


def claimed(scores: Scores, release: Release, person: Person, name: str = "souq") -> dict[str, bytes]:
    """The file for the hub and the signed record beside it.

    Raises:
        Forged: not what could be read again.
    """
    _refuse_odd(scores, release)
    predicate = msgspec.to_builtins(scores)
    statement = signing.statement(KIND, f"releases/{release.version}", release.model, predicate)
    sealed = canonical(signing.sign(statement, person.key, namespace=NAMESPACE))
    return {f"{FOLDER}{name}{FACE}": face(scores), f"{FOLDER}{name}{PROOF}": sealed}


def face(scores: Scores) -> bytes:
    """As a hub reads it: YAML in which every text is quoted."""
    return "".join(line + "\n" for line in _lines(scores)).encode()


def _lines(scores: Scores) -> Iterator[str]:
    for name in sorted(scores.scores):
        yield f"- dataset:\n    id: {json.dumps(scores.dataset)}\n    task_id: {json.dumps(name)}"
        yield f"  value: {scores.scores[name]:.4f}\n  date: {json.dumps(scores.at)}"
        if scores.source:
            yield f"  source:\n    url: {json.dumps(scores.source)}\n    name: {json.dumps(scores.by)}"
        yield f"  notes: {json.dumps(f'souq release {scores.version}, signed by {scores.by}')}"


def read(files: Mapping[str, bytes], policy: Policy, release: Release) -> list[Claim]:
    """The files among these that verify; whatever else is there is a stranger's."""
    claims = []
    for path, data in sorted(files.items()):
        if (match := _NAME.fullmatch(path)) is None or (proof := f"{FOLDER}{match[1]}{PROOF}") not in files:
            continue
        try:
            because = _judged(data, files[proof], policy, release)
        except (SouqError, msgspec.MsgspecError):
            continue
        claims += [Claim(path, because), Claim(proof, "the signature of the file beside it")]
    return claims


def _judged(data: bytes, envelope: bytes, policy: Policy, release: Release) -> str:
    signed = signing.verify(envelope, keys=policy.keys, namespace=NAMESPACE)
    scores = msgspec.convert(signed.predicate, Scores)
    _refuse_odd(scores, release)
    about = (KIND, f"releases/{release.version}", release.model)
    if (signed.kind, signed.name, signed.subject) != about or face(scores) != data:
        raise Forged("the file is not what was signed")
    person = policy.person_of(signed.key, scores.at)
    if person is None:
        raise Forged("signed with a key that did not hold then")
    same = "as the release says" if scores.scores == release.scores else "measured later"
    return f"{len(scores.scores)} scores, {same}, signed by {person.name} of {person.org} ({spelled_out(scores.at)})"


def _refuse_odd(scores: Scores, release: Release) -> None:
    """What a hub would read otherwise than people do, or what is about another release."""
    if scores.version != release.version or not 0 < len(scores.scores) <= MAX_SCORES:
        raise Forged("not about this release, or no scores")
    if not all(math.isfinite(value) and abs(value) < 1e9 for value in scores.scores.values()):
        raise Forged("a score that is no number")
    if not _DATE.fullmatch(scores.at):
        raise Forged("not a date")
    if not _DATASET.fullmatch(scores.dataset) or (scores.source and not _SOURCE.fullmatch(scores.source)):
        raise Forged("not the name of a data set, or not an address")
