"""The gate about effects: three answers, cases read until they decide, many small losses added up, bugs without chance."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from souq.checks.evals import Course, Trial, judge, released, trials
from souq.errors import UsageError
from souq.evals.eval import EvalSpec, read_eval, write_cases
from souq.evals.score import Score, back, compare, fixed
from souq.progress import quiet
from souq.pulls import pull, reviews
from souq.records import format_toml
from souq.repo.config import read_config
from tests.bazaar import NAMES, write_eval
from tests.test_hidden import limit, push

SEED = "b3:" + "0" * 64


def suite(name, n=40, *, margin=0.1, protected=True, kind="exact", clusters=1):
    spec = EvalSpec(title=name, kind=kind, source="x", licence="MIT", margin=margin, protected=protected)
    cases = [{"id": f"c{i:03}", "prompt": "q", "expected": "a", "cluster": f"d{i // clusters}"} for i in range(n)]
    return read_eval(name, {"eval.toml": format_toml(spec).encode(), "cases.jsonl": write_cases(cases)})


def trial(name, before, after, *, margin=0.1, since=None):
    """Lists of what each case scored."""
    found = suite(name, len(before), margin=margin)
    old, new, *past = (
        Score.of(name, "exact", {f"c{i:03}": float(v) for i, v in enumerate(values)})
        for values in (before, after, *([since] if since else []))
    )
    drifted = compare(past[0], new, margin=1.5 * margin) if past else None
    return Trial(found, old, new, compare(old, new, margin=margin), drifted)


def says(*guards, claim=([0] * 20, [1] * 20)):
    mended = trial("claim", *claim)
    return judge({one.suite.name: one for one in (*guards, mended)}, ("claim",))[:2]


@pytest.mark.parametrize(
    ("n", "lost", "outcome"), [(200, 0, "pass"), (200, 60, "refuse"), (20, 0, "needs-eyes"), (20, 1, "needs-eyes"), (20, 3, "refuse")]
)  # fmt: skip
def test_shown_refuted_or_neither(n, lost, outcome):
    """No harm shown passes; harm shown is refused; what is neither goes to people within the margin, and is refused beyond."""
    answer, because = says(trial("guard", [1] * n, [0] * lost + [1] * (n - lost)))

    assert answer == outcome
    assert ("more cases would decide" in because) == (n == 20)
    assert because.startswith("makes worse what main protects: `guard` -") == (outcome == "refuse")


def test_which_eval_got_worse_is_said_with_what_chance_allows():
    """Among several guarded evals, the p beside the worse one is Holm's."""
    others = [trial(f"other-{i}", [1] * 200, [1] * 200) for i in range(3)]
    worse = trial("guard", [1] * 100, [0] * 20 + [1] * 80)
    _, alone = says(worse)
    answer, among = says(worse, *others)

    def p(text):
        return float(text.partition("(p = ")[2].split(")")[0].split(" ")[0])

    assert answer == "refuse"
    assert p(among) == pytest.approx(4 * p(alone), rel=0.06)
    assert "among 4)" in among


def test_every_claim_must_hold_among_the_others():
    """What is proof for one claim is not for one of three: five mended of five."""
    claims = {f"claim-{i}": trial(f"claim-{i}", [0] * 20, [1] * 5 + [0] * 15) for i in range(3)}

    assert judge({"claim-0": claims["claim-0"]}, ("claim-0",))[0] == "pass"
    outcome, because, _ = judge(claims, tuple(claims))
    assert (outcome, because.startswith("does not fix what it claims: `claim-0`")) == ("refuse", True)


def test_bit_by_bit_is_too_much():
    """A loss too small to refuse is refused where those before it, since the last release, made it large."""
    small = ([1] * 360 + [0] * 40, [0] * 8 + [1] * 352 + [0] * 40)
    fresh = trial("guard", *small, margin=0.05, since=small[0])
    spent = trial("guard", *small, margin=0.05, since=[1] * 400)
    worn = trial("guard", *small, margin=0.05, since=[1] * 380 + [0] * 20)

    assert says(fresh)[0] == "pass"
    outcome, because = says(spent)
    assert (outcome, because.startswith("too much is lost since the last release, bit by bit: `guard`")) == (
        "refuse",
        True,
    )
    outcome, because = says(worn)
    assert (outcome, "`guard` since the last release" in because) == ("needs-eyes", True)


def test_a_bug_has_no_chance_in_it():
    """One case mended is fixed, and one that fails again is refused, whatever the margin."""
    right, wrong = (Score.of("bug-7", "exact", {"a": v}) for v in (1.0, 0.0))
    found = judge({"bug-7": trial("bug-7", [0], [1])}, ("bug-7",))
    outcome, because = says(trial("bug-7", [1, 1], [0, 1], margin=1.0))

    assert (fixed(wrong, right), fixed(right, right), fixed(wrong, wrong)) == (True, False, False)
    assert (back(right, wrong), back(wrong, wrong)) == (["a"], [])
    assert found[0] == "pass"
    assert (outcome, "`bug-7` fails again: c000" in because) == ("refuse", True)
    assert says(trial("bug-7", [1], [1]))[0] == "pass"


def test_the_order_follows_from_what_is_merged():
    """Another contribution, another order; the same one, the same; documents stay whole; all are read in the end."""
    found = suite("wide", 120, clusters=3)
    one, again, other = (Course.of(found, seed, 0.05) for seed in (SEED, SEED, "b3:" + "1" * 64))
    parts = [one.until(look).cases for look in range(one.looks)]

    assert one.order == again.order != other.order
    assert [len(part) for part in parts] == [24, 48, 72, 96, 120]
    assert {case.id for case in parts[-1]} == {case.id for case in found.cases}
    for shorter, longer in pairwise(parts):
        assert longer[: len(shorter)] == shorter
        assert {c.cluster for c in shorter}.isdisjoint({c.cluster for c in longer[len(shorter) :]})


@pytest.fixture
def wide(bazaar):
    """A town that guards an eval of 120 cases."""
    pairs = [(f"{word} {name}", "nothing") for word in ("spell", "praise", "find") for name in NAMES[:40]]
    folder = write_eval(bazaar.folder / "wide", pairs, margin=0.3, protected=True)
    push(bazaar.main(), {f"evals/wide/{path.name}": path.read_bytes() for path in folder.iterdir()})
    return bazaar


def kept(main):
    return {path.name: path.read_bytes() for path in (main.repo.cache / "scores").iterdir()}


def test_cases_are_read_until_they_decide(wide):
    """A change that touches nothing is known after a part of the cases; asked again, none is scored again."""
    number = wide.offer("mallory", wide.delta("greet"))
    main, offer = wide.main("mallory"), pull.get(wide.repo("mallory"), number).offer

    found = trials(main, main, ("greet",), quiet, offer)
    before = kept(main)
    again = trials(main, main, ("greet",), quiet, offer)

    assert found["wide"].before.n < 120 == found["wide"].now.total
    assert found["greet"].before.n == 14
    assert (again, kept(main)) == (found, before)
    outcome, _, shown = judge(found, ("greet",))
    assert (outcome, shown["wide"]["answer"], shown["wide"]["of"]) == ("pass", "non-inferior", 120)


def test_drift_is_counted_from_the_last_release(bazaar):
    """From the beginning until something is released; then from there, unless it was yanked."""
    root = bazaar.main().repo.history(bazaar.main().commit)[0]
    assert released(bazaar.main()).commit == root

    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    landed = bazaar.main().commit
    bazaar.release("amira", "1.0")
    assert released(bazaar.main()).commit == landed

    push(bazaar.main(), {"releases/1.0/yanked.toml": b'reason = "x"\nby = "y"\n'})
    assert released(bazaar.main()).commit == root


def test_a_budget_of_next_to_nothing_is_soon_spent(bazaar):
    """`[checks] drift` in souq.toml is what a protected eval may lose: with none to spend, harm not ruled out is for people."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    limit(bazaar, drift=1e-9)
    found = reviews.check(bazaar.repo("amira"), number, bazaar.person("amira")).verdicts
    verdict = next(one for one in found if one.check == "evals")

    assert verdict.outcome != "pass"
    assert "since the last release" in verdict.because


@pytest.mark.parametrize("drift", ["0.0", "-1.0", "nan", "inf"])
def test_a_budget_is_a_number_of_margins(bazaar, drift):
    config = bazaar.main().config
    text = format_toml(msgspec.structs.replace(config, checks=msgspec.structs.replace(config.checks, drift=1.25)))

    assert read_config(text).checks.drift == 1.25
    with pytest.raises(UsageError, match="drift is a number of margins above 0"):
        read_config(text.replace("1.25", drift))
