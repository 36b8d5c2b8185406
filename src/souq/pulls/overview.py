"""One pull request as people look at it: what is offered, what was signed about it, what is missing, how to vote on it.

What `souq pr view` prints, a forge's comment repeats and a hub's page shows, so that all three say the same.

    shown = overview(repo, pull, main)
    shown.missing, [word.by for word in shown.words], trials(shown.checked[-1].verdicts)
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from souq.build import reproducible
from souq.governance import read_policy
from souq.pulls import land, reviews
from souq.pulls.comments import Comment, thread
from souq.pulls.pull import PullRequest, State, read_all, read_checked, read_votes
from souq.pulls.turned_away import TurnedAway, turned_away
from souq.pulls.waiting import Line
from souq.records import Checked, Contribution, Decision, Digest, Record, Verdict, Vote, spelled_out
from souq.repo.snapshot import Snapshot

MOST_NOTES, MOST_LETTERS = 20, 400  # of what an author or a verdict says: lines, and characters of each
MOST_TRIALS = 200  # evals of one verdict


@dataclass(frozen=True)
class Overview:
    """One pull request with all that was signed about it."""

    number: int
    state: State
    digest: Digest
    contribution: Contribution
    checked: list[Checked]
    votes: list[Vote]
    words: list[reviews.Word]  # the last of each, of which a vote before may say otherwise
    eyes: tuple[str, ...]
    comments: list[Comment]
    missing: tuple[str, ...]
    source: dict[str, str] | None  # `word` and `because`; None where it changes no weights
    rebuilt: list[dict[str, Any]]  # what people signed who trained it again
    turned_away: TurnedAway | None = None  # what its author reads, a newcomer whose pull request goes no further


def overview(pull: PullRequest, main: Snapshot) -> Overview:
    """What is known of a pull request on a main.

    Raises:
        Hostile: what it offers cannot be read.
    """
    policy, state, offer = read_policy(main.policy_text), pull.state(main), pull.offer
    decision = land.decision_on(pull, main) if state == "open" else Decision()
    source = reproducible.judged(offer)
    return Overview(
        pull.number,
        state,
        offer.digest,
        offer.contribution,
        checked=[signed.checked for signed in read_checked(pull, policy)],
        votes=[signed.vote for signed in read_votes(pull, policy)],
        words=reviews.words(pull, main),
        eyes=decision.eyes,
        comments=thread(pull, main),
        missing=decision.missing,
        source=None if source is None else {"word": source.word, "because": source.because},
        rebuilt=[signed.predicate for signed in read_all(pull, "rebuilt", policy.keys, main)],
        turned_away=turned_away(pull, main, Line(pull.repo, main)),
    )


# -- in words ----------------------------------------------------------------------------------------------------------


def making(recipe: Mapping[str, Any]) -> list[str]:
    """What `souq delta make` wrote down of its weights: what was left out, how near the factors are, the rest."""
    lines: list[str] = []
    for key, what in (("weights_only", "left out by its author"), ("notes", "note")):
        texts = [text for text in _list(recipe.get(key)) if isinstance(text, str)]
        lines += [f"{what}: {spelled_out(text[:MOST_LETTERS])}" for text in texts[:MOST_NOTES]]
        lines += [f"{what}: {len(texts) - MOST_NOTES} more"] if len(texts) > MOST_NOTES else []
    low_rank = recipe.get("low_rank")
    if isinstance(low_rank, dict) and isinstance(error := low_rank.get("error"), float):
        lines.append(f"factors of a full fine-tune: {error:.3f} of its change is left out, its author says")
    return lines


def adapter_lines(recipe: Mapping[str, Any]) -> list[str]:
    """What its author says of the adapter that it was made of, each remark on a line."""
    adapter = recipe.get("adapter")
    if not isinstance(adapter, dict):
        return []
    texts = [f"adapter: {adapter.get('kind')}, {adapter.get('taken')}"]
    texts += [f"  {note}" for note in _list(adapter.get("notes"))[:MOST_NOTES]]
    return [spelled_out(text.replace("\n", " "))[:MOST_LETTERS] for text in texts]


def rebuilt_lines(rebuilt: Iterable[Mapping[str, Any]]) -> list[str]:
    """What came of it where somebody trained it again."""
    lines = []
    for record in rebuilt:
        distance = f"{'near' if record.get('near') else 'NOT near'}, {record.get('distance')} of its norm away"
        result = "the same, bit for bit" if record.get("exact") else distance
        lines.append(f"trained again by {record.get('by')}: {result}")
    return lines


def spoken(evidence: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The open answers that a verdict quotes, on one line each; a stranger's verdict may hold anything."""
    for figures in evidence.values():
        for each in _list(figures.get("answers"))[:MOST_NOTES] if isinstance(figures, dict) else ():
            if isinstance(each, dict):
                texts = {key: each.get(key) for key in ("prompt", "before", "after")}
                yield {key: " ".join(spelled_out(str(text))[:MOST_LETTERS].split()) for key, text in texts.items()}


def vote_commands(number: int, digest: Digest) -> tuple[str, ...]:
    """What whoever may vote types, in a clone: a vote names the digest that was read."""
    return ("souq fetch", f"souq pr view {number:d}", f'souq vote {number:d} --approve --digest {digest} --reason "…"')


_NOT_RUN = re.compile(r"check `[^`]+` has not been run by (.*)")


def gathered(missing: Sequence[str], number: int) -> list[str]:
    """What is missing, with the checks that the same people are still to run in one line, where the first stood."""
    whose = {line: match[1] for line in missing if (match := _NOT_RUN.fullmatch(line))}
    counts, lines = Counter(whose.values()), dict[str, None]()
    for line in missing:
        people = whose.get(line, "")
        several = f"{counts[people]} checks have not been run by {people}: `souq pr checks {number}`"
        lines[several if counts[people] > 1 else line] = None
    return [*lines]


# -- in figures --------------------------------------------------------------------------------------------------------


class Trial(Record, frozen=True):
    """One eval as a verdict reports it: main's score, the score with the change, and how sure the gain is."""

    eval: str
    before: float
    after: float
    gain: float  # positive is better
    low: float
    high: float
    cases: int  # that were read, of so many:
    of: int
    answer: str  # what comparing them says: non-inferior, …
    since: tuple[float, float, float] | None = None  # gain and interval since the last release


def trials(verdicts: Iterable[Verdict]) -> list[Trial]:
    """The scores that verdicts report, by eval; what has not the shape of one is left out."""
    figures = [item for verdict in verdicts if verdict.check == "evals" for item in verdict.evidence.items()]
    return [trial for name, each in figures[:MOST_TRIALS] if (trial := _trial(name, each)) is not None]


def _trial(name: str, figures: Any) -> Trial | None:
    try:
        low, high = map(_number, figures["interval"])
        before, after, gain = (_number(figures[key]) for key in ("before", "after", "gain"))
        cases, since = int(figures["n"]), figures.get("since_release")
        return Trial(
            eval=name[:MOST_LETTERS], before=before, after=after, gain=gain, low=low, high=high, cases=cases,
            of=int(figures.get("of", cases)), answer=str(figures.get("answer", ""))[:80],
            since=None if since is None else _since(since["gain"], *since["interval"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None  # signed, but not in the shape of an eval's evidence


def _since(gain: Any, low: Any, high: Any) -> tuple[float, float, float]:
    return _number(gain), _number(low), _number(high)


def _number(value: Any) -> float:
    if isinstance(value, str) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
