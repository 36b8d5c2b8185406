"""Evaluators lend machines: what is waited for gets run, a sample is run again, and who lied stands alone."""

from __future__ import annotations

import json

import pytest

from souq.pulls.evaluating import Job, contradict, jobs, standings
from souq.records import Checked, Verdict
from tests.test_prechecks import sign_checked


def found(outcome, check="licence", **evidence):
    verdict = Verdict(check=check, outcome=outcome, because="", evidence=evidence)
    return Checked(subject="", base="", verdicts=(verdict,), by="", at="")


def todo(crowd, who, again=0.0):
    return jobs(crowd.repo(who), crowd.main(who), crowd.person(who), again=again)


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (found("pass"), found("pass"), False), (found("pass"), found("refuse"), True),
        (found("needs-eyes"), found("pass"), False), (found("pass"), found("refuse", "files"), False),
        (found("pass"), found("refuse", raised="NotFound"), False),
    ],
)  # fmt: skip
def test_what_contradicts(one, other, says):
    """A check that both ran and one refuses; not a doubt, another check, or tensors that one machine lacked."""
    assert contradict(one, other) == contradict(other, one) == says


def test_an_evaluator_s_machine_does_what_is_waited_for(crowd):
    """Every open pull request whose turn it is, its author's left out, each belonging first to one; then nothing waits."""
    mine, bad = crowd.document("amira", "mine"), crowd.document("omar", "bad", licence="CC-BY-NC-4.0")
    good = crowd.document("layla", "good")
    late = crowd.document("nadia", "late")
    each = {who: {job.number: job.mine for job in todo(crowd, who)} for who in ("amira", "adil", "bruno", "chen")}

    assert [sorted(numbers) for numbers in each.values()] == [[bad, good], *[[mine, bad, good]] * 3]
    assert [sum(numbers.get(n, False) for numbers in each.values()) for n in (mine, bad, good)] == [1, 1, 1]
    code, out, _ = crowd.says("bruno", "evaluate --serve --until-idle --again 0")
    assert code == 0
    assert sorted(out.splitlines()) == [
        f"#{mine}: nothing refuses it", f"#{bad}: refused", f"#{good}: nothing refuses it", f"#{late}: nothing refuses it"
    ]  # fmt: skip
    assert [job.number for job in todo(crowd, "chen")] == []
    assert json.loads(crowd.says("chen", "evaluate --json")[1])["evaluators"][0]["ran"] == 4


def test_who_signs_what_they_never_ran_stands_alone(crowd):
    """A yes for what the licence forbids: who runs it again contradicts it, a third settles it, and the liar is named."""
    number = crowd.document("layla", "bad", licence="CC-BY-NC-4.0")
    sign_checked(crowd, number, "adil", check="licence")
    assert todo(crowd, "bruno") == []
    assert todo(crowd, "bruno", again=1.0) == [Job(number, again=True)]
    assert crowd("bruno", "evaluate --serve --until-idle --again 100") == 0
    assert todo(crowd, "chen") == [Job(number, again=True)]  # they disagree: whatever is drawn
    assert crowd("chen", "evaluate --serve --until-idle --again 0") == 0

    assert todo(crowd, "amira", again=0.0) == []
    rows = {row.name: row for row in standings(crowd.repo("amira"), crowd.main("amira"))}
    assert {name: row.alone for name, row in rows.items()} == {"adil": (number,), "bruno": (), "chen": ()}
    assert f"#{number}" in crowd.says("amira", "evaluate")[1]


def test_strangers_and_authors_lend_nothing(crowd):
    """Only enrolled people's machines are asked, and none for its owner's own work."""
    crowd.document("amira", "mine")

    assert todo(crowd, "layla") == []
    assert todo(crowd, "amira") == []
    code, _, err = crowd.says("layla", "evaluate --serve --until-idle")
    assert (code, "not enrolled" in err) == (3, True)
