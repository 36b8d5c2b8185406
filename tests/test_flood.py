"""A gate that survives a flood: who is looked at, who waits for whom, who answers for a newcomer."""

from __future__ import annotations

import json

import pytest

from souq.errors import UsageError
from souq.governance import POLICY, read_policy
from souq.governance.limits import Evaluated, Junk, Offered, SignedVouch, Vouch, spent, vouched_for, waiting
from tests.bazaar import MAINTAINERS
from tests.flooding import LIMITS
from tests.stall import key

AT = "2026-11-20T10:00:00Z"
NOW = "2026-12-01T10:00:00Z"


def policy(limits=LIMITS, enrolled=(1, 2)):
    people = "".join(f'[[person]]\nname = "p{n}"\norg = "O{n}"\nkeys = ["{key(n)}"]\n' for n in enrolled)
    names = ", ".join(f'"p{n}"' for n in enrolled)
    role = f'[[role]]\nname = "maintainer"\nmembers = [{names}]\n'
    scope = f'[[scope]]\nname = "all"\nmatch = ["**"]\nrequires = [{{ role = "maintainer", n = 1 }}]\n'  # noqa: F541
    return read_policy(people + role + scope + limits)


def word(by, about, at=AT, **more):
    return SignedVouch(Vouch(key=key(about), by=f"p{by}", at=at, reason="known", main="", **more), key(by))


# -- the pure middle ---------------------------------------------------------------------------------------------------


def test_without_the_table_nobody_waits():
    """A policy of before limits means what it meant."""
    assert waiting(policy(limits=""), [Offered(n, key(9)) for n in range(1, 100)], {}) == {}


@pytest.mark.parametrize("line", ["open_per_key = -1", "open_strangers = 2.5", "vouches = 1e9", "open_per_kay = 3", "spot_checks = 0"])  # fmt: skip
def test_limits_are_read_strictly(line):
    """A key that is mistyped or absurd is refused with the file's name, and limits nothing by accident."""
    with pytest.raises(UsageError, match=POLICY):
        policy(limits=f"\n[limits]\n{line}\n")


def test_the_oldest_go_first_whatever_order_they_are_listed_in():
    """Two of one key, two of all strangers together; the same answer in any order, with a name for what is waited for."""
    offered = [Offered(1, key(9)), Offered(2, key(9)), Offered(3, key(9)), Offered(4, key(8)), Offered(5, key(1))]

    answer = waiting(policy(), offered, {})

    assert answer == waiting(policy(), reversed(offered), {})
    assert answer.keys() == {3, 4}
    assert answer[4] == "waits for one of #1, #2: at most 2 of everybody who is not enrolled are looked at at once"


def test_whom_somebody_vouches_for_counts_as_theirs():
    """Two of the voucher and of all their newcomers together; the strangers' limit is others'."""
    vouchers = {key(9): policy().named("p1"), key(8): policy().named("p1")}
    offered = [Offered(1, key(9)), Offered(2, key(8)), Offered(3, key(1)), Offered(4, key(7)), Offered(5, key(6))]

    assert waiting(policy(), offered, vouchers).keys() == {3}


def test_a_week_of_evaluations():
    """What is spent is said, and from when on there is one again; a week later there is."""
    used = [Evaluated(key(9), "2026-11-30T10:00:00Z")]

    assert "from 2026-12-07T10:00:00Z on" in spent(policy(), key(8), used, {}, now=NOW)
    assert spent(policy(), key(8), used, {}, now="2026-12-07T10:00:01Z") == ""
    assert spent(policy(), key(1), used, {}, now=NOW) == ""


def test_the_oldest_vouch_holds_and_the_last_word_counts():
    """One newcomer each: the second counts for nothing until the first is taken back."""
    words = [word(1, 9), word(1, 8, at="2026-11-21T10:00:00Z")]
    back = word(1, 9, at="2026-11-22T10:00:00Z", withdrawn=True)

    assert vouched_for(policy(), words, [], NOW).keys() == {key(9)}
    assert vouched_for(policy(), [back, *words], [], NOW).keys() == {key(8)}


def test_who_vouches_answers_for_it():
    """Junk of a newcomer takes a vouch for 90 days; what they offer after it was taken back takes none."""
    junk = [Junk(7, key(9), "2026-11-25T10:00:00Z")]
    back = word(1, 9, at="2026-11-26T10:00:00Z", withdrawn=True, last=7)
    other = word(1, 8, at="2026-11-27T10:00:00Z")

    assert vouched_for(policy(), [word(1, 9)], junk, NOW) == {}
    assert vouched_for(policy(), [word(1, 9), back, other], junk, NOW) == {}
    assert vouched_for(policy(), [word(1, 9), back, other], [Junk(8, *(junk[0].key, junk[0].at))], NOW).keys() == {
        key(8)
    }
    assert vouched_for(policy(), [word(1, 9)], junk, "2027-03-01T10:00:00Z").keys() == {key(9)}


# -- a day at the gate -------------------------------------------------------------------------------------------------


def test_a_newcomer_waits_until_somebody_vouches(crowd):
    """Two strangers are looked at; the third is told for whom it waits, everywhere the same, until amira vouches."""
    first, second, third = (crowd.document(who, f"text{n}") for n, who in enumerate(("omar", "omar", "layla")))
    sentence = f"waits for one of #{first}, #{second}: at most 2 of everybody who is not enrolled are looked at at once"

    assert json.loads(crowd.says("nadia", "pr list --json")[1])[2]["waits"] == sentence
    assert f"#{third} {sentence}" in crowd.says("bruno", "pr list")[2]
    assert sentence in crowd.says("bruno", "status")[1]
    code, _, err = crowd.says("bruno", f"pr checks {third}")
    assert (code, f"Error: #{third} {sentence}" in err) == (3, True)
    code, _, err = crowd.says("bruno", f"queue add {third}")
    assert (code, sentence in err) == (3, True)
    assert crowd("layla", f"pr checks {third}") == 0  # on her own machine
    assert crowd("bruno", f"pr checks {third} --out-of-turn") == 0
    assert crowd("amira", ["vouch", "layla", "--reason", "I know her work"]) == 0
    assert crowd("bruno", f"pr checks {third}") == 0
    assert crowd.newcomers("chen") == {"layla": "amira"}
    assert "yes" in crowd.says("nadia", "vouch")[1]


def test_what_a_machine_refused_holds_up_nobody(crowd):
    """Junk leaves the line when a machine has said no, and comes back when its author offers something else."""
    junk = [crowd.document("omar", f"junk{n}", licence="CC-BY-NC-4.0") for n in range(2)]
    honest = crowd.document("layla", "honest")
    assert crowd("bruno", f"pr checks {honest}") == 3
    assert [crowd("bruno", f"pr checks {number}") for number in junk] == [3, 3]

    assert crowd("bruno", f"pr checks {honest}") == 0
    again = crowd.document("nadia", "again")
    assert crowd("omar", f"pr edit {junk[0]} --licence CC0-1.0 --signoff") == 0
    waits = {row["number"]: row.get("waits") for row in json.loads(crowd.says("bruno", "pr list --json")[1])}
    assert [number for number, sentence in waits.items() if sentence] == [again]


def test_a_limit_never_keeps_from_main_what_people_agree_to(crowd):
    """What waits lands all the same where an enrolled machine and two organisations say yes, and the history verifies."""
    for name in ("a", "b"):
        crowd.document("omar", name)
    late = crowd.document("layla", "late")
    assert crowd("amira", f"pr checks {late} --out-of-turn") == 0
    for who in ("amira", "bruno"):
        assert crowd(who, f"pr review {late} --approve --reason good") == 0

    assert crowd("bruno", f"pr merge {late}") == 0
    assert crowd("nadia", "fetch") == 0
    assert crowd("nadia", "verify") == 0


def test_a_vouch_is_answered_for(crowd):
    """One vouch each; taken back it is free again; junk of the newcomer's costs it."""
    junk, _ = crowd.document("layla", "spam"), crowd.document("omar", "text")
    assert crowd("amira", ["vouch", "layla", "--reason", "known"]) == 0
    code, _, err = crowd.says("amira", ["vouch", "omar", "--reason", "known"])
    assert (code, "you vouch for 1, and may for 1" in err) == (3, True)
    assert crowd("amira", f"pr close {junk} --junk --reason spam") == 0

    assert crowd.newcomers() == {}
    assert "no: more than amira may vouch for" in crowd.says("bruno", "vouch")[1]
    assert crowd("amira", "vouch layla --withdraw") == 0
    assert "was junk" in crowd.says("amira", ["vouch", "omar", "--reason", "known"])[2]
    assert crowd("bruno", ["vouch", "omar", "--reason", "known"]) == 0
    assert crowd.newcomers("layla") == {"omar": "bruno"}


@pytest.mark.parametrize(
    ("who", "line", "says"),
    [
        ("layla", "vouch omar --reason friend", "not enrolled"), ("amira", "vouch omar", "needs a reason"),
        ("amira", "vouch nobody --reason x", "no pull request is by"), ("amira", "vouch omar --withdraw", "do not vouch"),
        ("amira", "vouch --withdraw", "for whom"),
    ],
)  # fmt: skip
def test_what_is_no_vouch_is_refused(crowd, who, line, says):
    """Nothing is signed, and what to type is said."""
    crowd.document("omar", "text")

    code, _, err = crowd.says(who, line)
    assert (code != 0, says in err) == (True, True), err
    assert crowd.newcomers() == {}


def test_an_enrolled_key_needs_no_voucher(crowd):
    """Who is enrolled is no newcomer, and a person without vouching in the policy can give none."""
    for who in MAINTAINERS[1:]:
        assert "enrolled already" in crowd.says("amira", ["vouch", crowd.key(who), "--reason", "x"])[2]


def test_a_week_s_evaluations_are_spent_once(crowd):
    """Strangers have one evaluation a week together: the second's cheap checks run, its evals wait and say until when."""
    first, second = crowd.weights("omar", 1), crowd.weights("layla", 2)
    crowd("bruno", f"pr checks {first}")
    _, out, err = crowd.says("bruno", f"pr checks {second} --json")

    assert "its evals were not run: 1 of 1 full evaluations a week of everybody who is not enrolled are spent" in err
    assert "evals" not in {verdict["check"] for verdict in json.loads(out)["verdicts"]}


def test_the_first_check_that_refuses_ends_it(crowd):
    """Cheap checks go first, and nothing is asked of a model, nor a tensor fetched, for what they turn away."""
    number = crowd.weights("omar", 3, licence="CC-BY-NC-4.0")
    _, out, _ = crowd.says("bruno", f"pr checks {number} --json")

    verdicts = json.loads(out)["verdicts"]
    assert [v["check"] for v in verdicts if v["outcome"] == "refuse"] == ["licence"]
    assert {v["check"] for v in verdicts} == {"signoff", "files", "licence"}


def test_what_a_quick_check_refuses_leaves_the_queue(crowd):
    """It is set aside with the reason, signed, and waits no more as if people were still to agree."""
    number = crowd.document("chen", "text", licence="CC-BY-NC-4.0")
    assert crowd("amira", f"queue add {number}") == 0
    code, out, _ = crowd.says("bruno", "queue run")

    assert (code, f"refused #{number} text: check `licence`" in out) == (3, True)
    assert "refused: check `licence`" in crowd.says("chen", "queue")[1]


def test_who_is_refused_thrice_mends_before_they_send_more(crowd):
    """A key's own refused and junk ones take its places, and nobody else's: it is said which, and mending frees one."""
    bad = [crowd.document("omar", f"bad{n}", licence="CC-BY-NC-4.0") for n in range(2)]
    assert [crowd("bruno", f"pr checks {number}") for number in bad] == [3, 3]
    more, other = crowd.document("omar", "more"), crowd.document("layla", "text")
    _, _, err = crowd.says("bruno", "pr list")

    assert f"#{more} waits while #{bad[0]}, #{bad[1]} stand refused or were closed as junk" in err
    assert f"#{other} waits" not in err
    assert crowd("omar", f"pr close {bad[0]} --reason mistake") == 0
    assert "waits" not in crowd.says("bruno", "pr list")[2]
    assert crowd("bruno", f"pr close {more} --junk --reason spam") == 0
    again = crowd.document("omar", "again")
    assert f"#{again} waits while #{bad[1]}, #{more} stand refused" in crowd.says("bruno", "pr list")[2]


def test_people_are_shown_strangers_last(crowd):
    """What somebody enrolled, or their newcomer, offers stands before strangers' in `status`, and what waits stands last."""
    first, second, third = (crowd.document("omar", f"text{n}") for n in range(3))
    known, own = crowd.document("layla", "verbs"), crowd.document("chen", "own")
    assert crowd("amira", ["vouch", "layla", "--reason", "known"]) == 0
    value = json.loads(crowd.says("bruno", "status --json")[1])

    assert [each["number"] for each in value["waiting_for_you"]] == [known, own, first, second]
    assert [each["number"] for each in value["waiting_for_others"]] == [third]
