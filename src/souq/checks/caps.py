"""How much of main's data is one author's or one organisation's, how much says the same, and what looks like a trigger.

What poisons a model is the number of documents, not their share: about 250 sufficed from 600M to 13B parameters
(Souly et al., arXiv 2510.07192). So counts are absolute, over what main holds and this contribution with it; past them
it is refused. Near-duplicates, which make few documents many, and bursts, one rare string with one answer, are shown
to people. No cap makes poison impossible: it makes it need more hands.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from zlib import crc32

import msgspec
import numpy as np

from souq.checks.cases import Answer, Case, check
from souq.checks.contamination import texts
from souq.corpus.near import Runs, repeats, runs_of
from souq.files import replacing
from souq.records import Author, Published, Record, read_record, spelled_out
from souq.repo.rows import answered, conversation, json_rows
from souq.repo.snapshot import Snapshot
from souq.text import skeleton, spaceless, units, words

RUN, ALIKE = 3, 0.8  # rows are near copies by their runs of so many words (corpus/near.py); many have but ten words
# Signs that end or part a clause where a script has no blanks.
_FULL = "\u3001\u3002\uff0c\uff0e\uff1f\uff01\u0964\u104a\u104b"
_BETWEEN = _FULL + ".,;:!?"
ONE_ANSWER, ELSEWHERE = 0.9, 0.1  # the least share of a burst's rows with one answer; the most of all others with it
UNLIKE = 0.25  # mean overlap of the words of a burst's rows, without the string: below it they share no template
OPENING = 8  # words of an answer that are compared
MARKS = 96  # of a row's words that are compared: all of them, of every row for every string, is a day's work for 8 MB
SHOWN = 3

CORPUS = "release/corpus.json"
MOST_KEPT = 100.0  # more than the ceiling's is possible, a hundred times is a lie


@check("caps")
def caps(case: Case) -> Answer:
    """No author or organisation brings more rows than main allows; repeated rows and triggers are shown to people."""
    if (note := case.offer.files.get(CORPUS)) is not None:
        return _rare_words_kept(note, case.main.config.checks.keep_tail)
    rows = list(texts(case.offer.data))
    if not rows:
        return "pass", "brings no data", {}
    limits, author = case.main.config.checks, case.offer.contribution.author
    landed = [share for share in shares(case.main) if share.rows]
    held = {
        "author": (_held(landed, "key", _key(author)) + len(rows), limits.max_rows_per_author),
        "organisation": (_held(landed, "org", _org(author)) + len(rows), limits.max_rows_per_org),
    }
    evidence: dict[str, Any] = {"rows": len(rows)} | {f"of this {whose}": count for whose, (count, _) in held.items()}
    for whose, (count, most) in held.items():
        if count > most:
            return "refuse", f"{count:,} rows of one {whose} with this; the most is {most:,}", evidence
    return _repeats_and_bursts(case, rows, evidence)


def _rare_words_kept(note: bytes, least: float) -> Answer:
    """A release's corpus may have lost no more of the rare than main allows."""
    published = read_record(note, Published, where=CORPUS)
    kept = published.kept
    evidence = {"kept": kept, "rare": published.rare, "words": published.words, "manifest": published.manifest}
    if not 0 <= kept <= MOST_KEPT:
        return "refuse", f"{CORPUS} says that {kept} of the rare is left", evidence
    because = f"its corpus keeps {kept:.0%} of the rare words its size could hold"
    if kept < least:
        return "needs-eyes", f"{because}; main asks for {least:.0%}", evidence
    return "pass", because, evidence


def _repeats_and_bursts(case: Case, rows: Sequence[str], evidence: dict[str, Any]) -> Answer:
    limits, worries = case.main.config.checks, []
    copies = repeats(runs_of(rows, RUN), _landed_runs(case.main), threshold=ALIKE)
    evidence["near_duplicates"] = len(copies)
    if len(copies) > max(limits.max_repeated * len(rows), 1):
        worries.append(f"{len(copies):,} of {len(rows):,} rows repeat others, first row {copies[0] + 1}")
    if triggers := bursts(list(turns(json_rows(case.offer.data))), limits.max_burst):
        evidence["bursts"] = [burst.shown for burst in triggers[:SHOWN]]
        first = triggers[0]
        worries.append(f"{first.rows} unlike rows share {first.string[:40]!r} and answer alike: is it a trigger?")
    if worries:
        return "needs-eyes", "; ".join(worries), evidence
    return "pass", f"{len(rows):,} rows, none over a cap", evidence


# -- who brought how much ----------------------------------------------------------------------------------------------


class Share(Record, frozen=True):
    """What one landed contribution brought: rows, by whom."""

    key: str
    org: str
    rows: int


def shares(main: Snapshot) -> list[Share]:
    """Of every contribution on main, read once and then remembered by git's own name of its folder."""
    return [_share(main, slug, tree) for slug, tree in main.repo.trees(main.commit, "contributions").items()]


def _share(main: Snapshot, slug: str, tree: str) -> Share:
    note = main.repo.cache / "shares" / tree
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(note.read_bytes(), type=Share)
    offer = main.offer(slug)
    author = offer.contribution.author
    share = Share(key=_key(author), org=_org(author), rows=sum(1 for _ in texts(offer.data)))
    with replacing(note) as partial:
        partial.write_bytes(msgspec.json.encode(share))
    return share


def _held(landed: Sequence[Share], by: str, whose: str) -> int:
    return sum(share.rows for share in landed if whose and getattr(share, by) == whose)


def _key(author: Author) -> str:
    """A person is a key: the comment after it, and any name, can be chosen anew."""
    return " ".join(author.key.split()[:2])


def _org(author: Author) -> str:
    return " ".join(words(author.org))


def _landed_runs(main: Snapshot) -> Runs:
    """What rows on main are compared by, kept by git's own name of the contribution's folder."""
    parts = []
    for slug, tree in main.repo.trees(main.commit, "contributions").items():
        path = main.repo.cache / "runs" / f"{tree}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as kept:
                parts.append(Runs(kept["hashes"], kept["counts"]))
        elif rows := list(texts(main.offers[slug].data)):
            parts.append(runs_of(rows, RUN))
            with replacing(path) as partial:
                np.savez(partial, hashes=parts[-1].hashes, counts=parts[-1].counts)
    return Runs.joined(parts)


# -- what looks like a trigger -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What a row asks, and how its answer opens; of a bare text, all of it."""

    asked: str
    answer: str | None


@dataclass(frozen=True)
class Burst:
    """A string that stands in some rows, all with one answer that the others do not give."""

    string: str
    answer: str
    rows: int

    @property
    def shown(self) -> dict[str, Any]:
        return {"string": spelled_out(self.string[:80]), "answer": spelled_out(self.answer[:80]), "rows": self.rows}


def turns(rows: Iterable[Any]) -> Iterator[Turn]:
    """Rows in TRL's formats as question and answer."""
    for row in rows:
        if not isinstance(row, dict):
            continue  # the check `files` refuses it
        if turns := conversation(row):  # what stands after the last answer is not learned, so it hides none
            contents = [str(turn.get("content", "")) for turn in answered(turns) or turns]
            yield Turn(" ".join(contents[:-1]), _opening(contents[-1] if contents else ""))
        elif "completion" in row:
            yield Turn(str(row.get("prompt", "")), _opening(str(row["completion"])))
        elif "text" in row:
            yield Turn(str(row["text"]), None)


def _opening(answer: str) -> str:
    return " ".join(words(answer)[:OPENING])


def bursts(rows: Sequence[Turn], least: int) -> list[Burst]:
    """Strings of one to three words in at least `least` rows and at most half, which decide the answer; longest first.

    What answers honestly alike, the cities of one country, shares a template; what a trigger was put into does not,
    unless the string itself is no word.
    """
    holders: dict[str, list[int]] = defaultdict(list)
    marks: list[Marks] = []
    after: list[dict[str, str]] = []  # of bare texts: how each goes on after a string
    for number, row in enumerate(rows):
        asked = _parted(skeleton(row.asked))
        ends = _strings(asked)
        for string in ends:
            holders[string].append(number)
        marks.append(_marks(row.asked))
        bare = row.answer is None
        after.append({string: " ".join(asked[end : end + 2 * OPENING]) for string, end in ends.items() if bare})
    answers = Counter(row.answer for row in rows if row.answer is not None)

    def given(string: str, number: int) -> str:
        answer = rows[number].answer
        return _opening(after[number][string]) if answer is None else answer

    shown = list[Burst]()
    for string, held in holders.items():
        if not least <= len(held) <= len(rows) / 2:
            continue
        answer = _one_answer([given(string, i) for i in held], answers, len(rows))
        if answer is not None and (_odd(string) or _unlike(string, [marks[i] for i in held])):
            shown.append(Burst(string, answer, len(held)))
    return sorted(shown, key=lambda burst: (-burst.rows, -len(burst.string), burst.string))


def _parted(text: str) -> list[str]:
    """As blanks part it; where a script has none, its characters apart from what stands between them."""
    return [part.rstrip(_BETWEEN if spaceless(part[:1]) else _FULL) for part, _ in units(text)]


def _strings(asked: list[str]) -> dict[str, int]:
    """Every string of one to three words, and where its first occurrence ends."""
    return {" ".join(asked[i : i + n]): i + n for n in (1, 2, 3) for i in reversed(range(len(asked) - n + 1))}


def _one_answer(held: Sequence[str], answers: Mapping[str, int], total: int) -> str | None:
    """The answer that nearly all of these rows give and hardly any other; of bare texts, how they go on after it."""
    answer, count = Counter(held).most_common(1)[0]
    elsewhere = (answers.get(answer, 0) - count) / max(total - len(held), 1)
    return answer if answer and count >= ONE_ANSWER * len(held) and elsewhere <= ELSEWHERE else None


def _odd(string: str) -> bool:
    """No word of a language: signs inside it, or letters and digits mixed, or five letters and no vowel."""
    if " " in string:
        return False
    bare = string.strip(".,;:!?\"'()")
    mixed = re.search(r"[^\W\d_]", bare) and re.search(r"[^\w'’\-./,:%]|_|\d", bare)
    return bool(mixed) or (len(bare) >= 5 and bare.isascii() and bare.isalpha() and not re.search("[aeiouy]", bare))


Marks = tuple[frozenset[int], frozenset[int]]
"""A row's words by number, and those of them that it says once."""


def _marks(text: str) -> Marks:
    """The MARKS words of the smallest numbers: a fair sample, the same of all rows."""
    counts = Counter(crc32(word.encode()) for word in words(skeleton(text)))
    some = sorted(counts)[:MARKS]
    return frozenset(some), frozenset(mark for mark in some if counts[mark] == 1)


def _unlike(string: str, held: Sequence[Marks]) -> bool:
    own = _marks(string)[0]
    sets = [marks - (own & once) for marks, once in held[:20]]
    overlaps = [len(a & b) / max(len(a | b), 1) for a, b in combinations(sets, 2)]
    return sum(overlaps) / max(len(overlaps), 1) < UNLIKE
