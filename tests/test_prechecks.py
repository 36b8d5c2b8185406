"""An author's own word about their own work is believed as far as spot checks confirm it, and no further."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq import signing
from souq.governance import read_policy
from souq.pulls import pull as pulls
from souq.pulls.prechecks import PreChecks, Tried, chance, draw
from souq.records import Checked, Verdict, digest

FIGURES = {"greet": {"n": 6}}


def sign_checked(
    crowd, number, who, outcome="pass", *, evidence=FIGURES, subject=None, base=None, at=None, name=None, check="evals"
):
    """What `who` signs that their machine found of a pull request, true or not."""
    repo = crowd.repo(who)
    pull, about = pulls.get(repo, number), subject or pulls.get(repo, number).offer.digest
    verdict = Verdict(check=check, outcome=outcome, because="so they say", evidence=evidence)
    at = at or signing.now()
    made = Checked(subject=about, base=base or repo.tip(), verdicts=(verdict,), by=name or who, at=at)
    person = crowd.person(who)
    data = pulls.signed_record("checked", pull.offer.slug, about, msgspec.to_builtins(made), person)
    pulls.publish_record(pull, "checked", data)


def word(crowd, number, who="bruno"):
    repo, main = crowd.repo(who), crowd.main(who)
    return PreChecks(pulls.listed(repo), main, read_policy(main.policy_text)).word(
        pulls.get(repo, number), crowd.person(who)
    )


@given(st.lists(st.booleans(), max_size=40), st.floats(0.01, 1))
def test_the_chance_of_a_spot_check(record, least):
    """Never less than the policy's; certain for a first one and after a contradiction; less the more were confirmed."""
    tried = [Tried(f"{n:04}", confirmed) for n, confirmed in enumerate(record)]

    likely = chance(tried, least)
    assert least <= likely <= 1
    assert chance([*tried, Tried("9999", False)], least) == 1
    assert chance([*tried, Tried("9999", True)], least) <= likely
    assert chance(tried[::-1], least) == likely


def test_the_draw_is_one_number_for_one_checker(crowd):
    """Signed again it is the same; by another, of another main or another digest it is another, evenly spread."""
    bruno, subjects = crowd.person("bruno"), [digest(bytes([n])) for n in range(60)]
    drawn = [draw("0" * 40, subject, bruno) for subject in subjects]

    assert drawn[:3] == [draw("0" * 40, subject, bruno) for subject in subjects[:3]]
    assert draw("1" * 40, subjects[0], bruno) != drawn[0]
    assert draw("0" * 40, subjects[0], crowd.person("amira")) != drawn[0]
    assert len({*drawn}) == 60
    assert 4 <= sum(number < 0.2 for number in drawn) <= 24  # 60 times one in five; outside of this once in a million


def test_a_first_pre_check_is_always_run_again(crowd):
    """Nothing is believed of a key that nobody has confirmed; and a lie is found out by the first look."""
    number = crowd.weights("layla", 1)
    sign_checked(crowd, number, "layla")

    assert word(crowd, number) == ""
    assert crowd("bruno", f"pr checks {number}") == 3  # it taught nothing, whatever she signed
    assert "evals" in crowd.says("layla", f"pr view {number}")[1]


def test_what_was_confirmed_is_believed_as_the_draw_says(crowd):
    """Nine confirmed: each checker draws one in five, and who does not draw it leaves the evals to the queue."""
    number, proof = crowd.weights("layla", 1), crowd.weights("layla", 2)
    sign_checked(crowd, number, "layla")
    for n in range(9):  # as often confirmed as there are seconds in this list
        sign_checked(crowd, proof, "layla", at=f"2026-11-30T10:00:0{n}Z", subject=digest(bytes([n])))
        sign_checked(crowd, proof, "amira", at=f"2026-11-30T11:00:0{n}Z", subject=digest(bytes([n])))

    subject, tip = pulls.get(crowd.repo("bruno"), number).offer.digest, crowd.main().commit
    answers = {who: word(crowd, number, who) for who in ("adil", "amira", "bruno", "chen")}
    for who, answer in answers.items():
        assert (answer == "") == (draw(tip, subject, crowd.person(who)) < 0.2), who
    sign_checked(crowd, proof, "amira", "refuse", subject=digest(bytes([3])))
    assert {word(crowd, number, who) for who in answers} == {""}


def test_its_author_s_own_no_spares_an_evaluation(crowd):
    """Who says that their own work fails is believed at once: the cheap checks are signed, and no model is asked."""
    number = crowd.weights("layla", 1)
    sign_checked(crowd, number, "layla", "refuse")
    _, out, err = crowd.says("bruno", f"pr checks {number} --json")

    assert "its evals were not run: its author's own machine refuses it by `evals`" in err
    assert "evals" not in {verdict["check"] for verdict in json.loads(out)["verdicts"]}


@pytest.mark.parametrize("odd", [{"evidence": {}}, {"outcome": "needs-eyes"}, {"base": "0" * 40}])
def test_what_is_no_pre_check_spares_nothing(crowd, odd):
    """Without figures, in doubt, or made on a main that is none of ours."""
    number = crowd.weights("layla", 1)
    sign_checked(crowd, number, "layla", **odd)

    assert word(crowd, number) == ""
