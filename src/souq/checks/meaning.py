"""Rewordings of the exam: rows that say what an eval case says, in other words. A heuristic, so people look.

A row is near a case when it holds most of the case's own words, those that few other cases and rows have, and the two
sentences are near each other by all-MiniLM-L6-v2. Sentences alone will not do: two dates to be written in ISO 8601
are as near as a date and its rewording. Thresholds are measured; decisions/texts.md says on what.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from souq.checks.cases import Answer, Case
from souq.errors import Missing
from souq.evals.eval import EvalCase, with_answers
from souq.files import replacing
from souq.optional import needs
from souq.records import spelled_out
from souq.text import words

LONG = 25  # words of a case, from where on even an honest rewording loses most of them
OWN, OWN_LONG = 0.9, 0.33  # the least share of a case's own words that a row must hold
NEAR = 0.65  # cosine
MOST = 2_000  # rows compared as sentences: about 8 ms each on one core; more that are near by words are near enough
SHOWN = 5
INSTALL = 'not compared by meaning: pip install "souq[embed]"'

Parts = tuple[str, ...]  # of a row: its turns, its prompt and its completion
Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Asked:
    """A case of an eval; of a hidden one, a verdict tells nothing but the eval's name."""

    eval: str
    case: EvalCase
    hidden: bool = False

    @property
    def text(self) -> str:
        return f"{self.case.text} {self.case.expected}".strip()


@dataclass(frozen=True)
class Pair:
    """A row that may reword a case: places in their lists, and the share of the case's own words it holds."""

    case: int
    row: int
    share: float


def reworded(case: Case, rows: Sequence[Parts], clean: str, evidence: dict[str, Any]) -> Answer:
    """Needs-eyes, with both texts, where a row rewords a case; a pass that says so where there is no embedder."""
    exam = [
        Asked(suite.name, eval_case, hidden)
        for suites, hidden in ((case.main.evals, False), (case.hidden, True))
        for suite in with_answers(suites).values()
        for eval_case in suite.cases
    ]
    pairs = by_words([asked.case for asked in exam], rows)
    if len({pair.row for pair in pairs}) > MOST:
        because = f"more than {MOST:,} rows hold the words of eval cases: somebody must compare them"
        return "needs-eyes", because, evidence
    try:
        near = _by_meaning(case, exam, rows, pairs)
    except Missing:
        return "pass", f"{clean}; {INSTALL}", {**evidence, "meaning": False}
    if not near:
        return "pass", f"{clean}, nor rewords one", {**evidence, "meaning": True}
    shown = [_shown(exam[pair.case], rows, pair, cosine) for pair, cosine in near[:SHOWN]]
    count = len({pair.row for pair, _ in near})
    because = f"{count:,} of {len(rows):,} rows may reword an eval case, first one of `{shown[0]['eval']}`"
    return "needs-eyes", because, {**evidence, "meaning": True, "near": shown}


def _shown(asked: Asked, rows: Sequence[Parts], pair: Pair, cosine: float) -> dict[str, Any]:
    if asked.hidden:
        return {"eval": asked.eval}
    texts = {"case": spelled_out(asked.text[:300]), "text": spelled_out(" ".join(rows[pair.row])[:300])}
    return {"eval": asked.eval, "row": pair.row + 1, "cosine": round(cosine, 3), **texts}


def by_words(exam: Sequence[EvalCase], rows: Sequence[Parts]) -> list[Pair]:
    """Pairs where the row holds enough of the case's own words, weighed by how few others have them."""
    cases = [marks(case.text, case.expected) for case in exam]
    texts = [marks(*row) for row in rows]
    holders: dict[str, list[int]] = {}
    for number, row in enumerate(texts):
        for mark in row:
            holders.setdefault(mark, []).append(number)
    of_cases = Counter(mark for own in cases for mark in own)
    total = len(cases) + len(texts) + 1
    weight = {mark: math.log(total / (n + len(holders.get(mark, ())) + 0.5)) for mark, n in of_cases.items()}
    return [pair for number, own in enumerate(cases) for pair in _held(number, own, weight, holders)]


def _held(
    number: int, own: frozenset[str], weight: Mapping[str, float], holders: Mapping[str, list[int]]
) -> Iterator[Pair]:
    whole = sum(weight[mark] for mark in own)
    least = OWN_LONG if len(own) >= LONG else OWN
    shares: dict[int, float] = {}
    spare = whole * (1 - least)
    for mark in sorted(own, key=weight.__getitem__, reverse=True):
        # Rarest first: a row that lacks more than may be lacking is never begun, so that common words cost nothing.
        for row in holders.get(mark, ()) if spare >= 0 else [row for row in holders.get(mark, ()) if row in shares]:
            shares[row] = shares.get(row, 0.0) + weight[mark]
        spare -= weight[mark]
    yield from (Pair(number, row, share / whole) for row, share in shares.items() if share >= least * whole)


def marks(*parts: str) -> frozenset[str]:
    """The words of a text; a number counts as often as one part says it, since 9:09 is not 9:03."""
    most: Counter[str] = Counter()
    for part in parts:
        most |= Counter(words(part))
    numbers = {f"{word} {n}" for word, count in most.items() if any(map(str.isdigit, word)) for n in range(1, count)}
    return frozenset(most) | numbers


def _by_meaning(
    case: Case, exam: Sequence[Asked], rows: Sequence[Parts], pairs: Sequence[Pair]
) -> list[tuple[Pair, float]]:
    if not pairs:
        return []
    cases, texts = sorted({pair.case for pair in pairs}), sorted({pair.row for pair in pairs})
    of_case = dict(zip(cases, _known(case, [exam[i].text for i in cases]), strict=True))
    of_row = dict(zip(texts, _embed([" ".join(rows[i]) for i in texts], case), strict=True))
    cosines = [(pair, float(of_case[pair.case] @ of_row[pair.row])) for pair in pairs]
    return sorted((match for match in cosines if match[1] >= NEAR), key=lambda match: -match[1])


def _embed(texts: Sequence[str], case: Case) -> Vectors:
    with needs("torch", "embed"):
        from souq.lab import embed
    return embed.embed(texts, case.progress)


def _known(case: Case, texts: Sequence[str]) -> Vectors:
    """The vectors of eval cases, kept by digest of what was embedded."""
    name = hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    path = case.main.repo.cache / "meaning" / f"minilm-{name}.npy"
    if path.is_file():
        kept: Vectors = np.load(path, allow_pickle=False)
        return kept
    vectors = _embed(texts, case)
    with replacing(path) as partial:
        np.save(partial, vectors)
    return vectors
