"""Eight pull requests at once: four good ones, two that do not do what they say, and two that fail only together.

The last two are halves of one adapter, one layer each. Alone each leaves the model most of its habit to say "user";
together they take it, and an eval guards it.
"""

from __future__ import annotations

from msgspec.structs import replace

from souq.build.delta_file import read_delta, write_delta
from souq.pulls import pull as pulls
from souq.pulls import queue as queueing
from souq.pulls import reviews
from souq.weights.delta import Delta
from tests.bazaar import NAMES, rows, write_eval

GOOD, BAD, PAIR = ("first", "second", "third", "fourth"), ("backwards", "idle"), ("lower", "upper")
ORDER = ("first", "lower", "backwards", "second", "third", "idle", "fourth", "upper")


def part(bazaar, title, skill, keeps, scale=1.0):
    """An adapter's change to some tensors only."""
    delta, tensors = read_delta(bazaar.delta(skill))
    kept = {n: replace(p, scale=p.scale * scale) for i, (n, p) in enumerate(sorted(delta.parts.items())) if keeps(i, n)}
    cut = Delta(delta.base, kept)
    path = bazaar.folder / f"{title}.delta"
    write_delta(path, cut, {ref.digest: tensors[ref.digest] for ref in cut.refs()})
    return path


def parts(bazaar):
    """The eight, title -> (file, what it claims to fix)."""
    made = {
        title: (part(bazaar, title, "count", lambda i, n, k=k: i % 4 == k), "count") for k, title in enumerate(GOOD)
    }
    made["backwards"] = part(bazaar, "backwards", "count", lambda i, n: True, -1.0), "count"
    made["idle"] = part(bazaar, "idle", "count", lambda i, n: i % 4 == 1, -0.5), "greet"
    made["lower"] = part(bazaar, "lower", "greet", lambda i, n: "layers.0" in n), "count"
    made["upper"] = part(bazaar, "upper", "greet", lambda i, n: "layers.1" in n), "count"
    return made


def guard_habit(bazaar):
    """Land an eval that the pair spoils together."""
    cases = [{"id": f"c{i}", "prompt": q, "expected": "user", "choices": ["user", "hello"]} for i, (q, _) in enumerate(rows("greet", NAMES))]  # fmt: skip
    folder = write_eval(bazaar.folder / "evals" / "habit", cases, kind="choice", margin=0.7, protected=True)
    words = ["pr", "create", "--evals", folder, "--title", "Habit", "--licence", "CC0-1.0", "--signoff"]
    assert bazaar("chen", words) == 0
    bazaar.land(max(pull.number for pull in pulls.listed(bazaar.repo("chen"))))


def offer_eight(bazaar):
    """Offer, approve and queue them, in ORDER; title -> number."""
    guard_habit(bazaar)
    made, numbers = parts(bazaar), {}
    for title in ORDER:
        path, fixes = made[title]
        numbers[title] = bazaar.offer("mallory", path, title, fixes=fixes)
        for who in ("amira", "bruno", "chen"):  # one more than is asked: a small eval leaves doubts
            reviews.review(bazaar.repo(who), numbers[title], "approve", "fine", bazaar.person(who))
        queueing.enter(bazaar.repo("amira"), numbers[title], bazaar.person("amira"))
    return numbers
