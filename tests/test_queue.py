"""The merge queue: main only ever holds a tree that was tested, culprits are named, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from msgspec.structs import replace

from souq import signing
from souq.build import delta_file
from souq.errors import Refused
from souq.governance import read_policy
from souq.pulls import land, offer, reviews
from souq.pulls import pull as pulls
from souq.pulls import queue as queueing
from souq.verify import verify
from tests.bazaar import NAMES, copied, jsonl, rows, write_eval
from tests.eight import BAD, GOOD, offer_eight, part


def outcome(bazaar, numbers):
    """What became of each, in words that no clock and no signature is part of."""
    main = bazaar.main()
    told = {place.pull.number: (place.queued.state, place.queued.others) for place in queueing.listed(main.repo, main)}
    landed = {title for title, n in numbers.items() if pulls.get(main.repo, n).landed(main)}
    return landed, {t: told[n] for t, n in numbers.items() if n in told}, main.model


def verified(bazaar):
    """Another clone judges the history again and rebuilds the model."""
    return bazaar("chen", "fetch") == 0 and bazaar("chen", "verify") == 0


@pytest.fixture(scope="module")
def built_eight(built_bazaar, tmp_path_factory):
    bazaar = copied(built_bazaar, folder := tmp_path_factory.mktemp("eight") / "town")
    return folder, offer_eight(bazaar)


@pytest.fixture
def eight(built_eight, tmp_path, capfd):
    folder, numbers = built_eight
    return copied(folder, tmp_path / "town", capfd), numbers


@pytest.fixture(scope="module")
def settled(built_eight, tmp_path_factory):
    """A town where the queue has run: the town, the numbers, the exit code, and how often main moved at the hub."""
    built, numbers = built_eight
    bazaar = copied(built, folder := tmp_path_factory.mktemp("settled") / "town")
    hub = folder / "hub.git"
    subprocess.run(["git", "config", "core.logAllRefUpdates", "always"], cwd=hub, check=True)
    code = bazaar("amira", "queue run")
    moves = subprocess.run(["git", "reflog", "main"], cwd=hub, check=True, capture_output=True, text=True).stdout
    return bazaar, numbers, code, len(moves.splitlines())


def test_the_right_ones_land(settled):
    """Of eight, those that pass together land; two culprits are named, and of a pair the later one waits apart."""
    bazaar, numbers, code, _ = settled
    landed, aside, _ = outcome(bazaar, numbers)

    assert code == 3
    assert landed == {*GOOD, "lower"}
    assert aside == dict.fromkeys(BAD, ("refused", ())) | {"upper": ("apart", (numbers["lower"],))}
    assert verified(bazaar)


def test_main_moves_once(settled):
    """Five landings are five commits and one push: nobody ever sees a main that was not tested."""
    assert settled[-1] == 1


def test_the_verdict_names_the_tree_it_is_about(settled):
    """Each landing carries a verdict on the very tree that main became, with the others that were in it."""
    bazaar, numbers, *_ = settled
    main = bazaar.main()

    for title in (*GOOD, "lower"):
        told = pulls.read_checked(pulls.get(main.repo, numbers[title]), read_policy(main.policy_text))
        evidence = told[-1].checked.verdicts[-1].evidence
        assert sorted(evidence["together"]) == sorted(numbers[t] for t in (*GOOD, "lower"))


def test_nothing_is_left_to_do(settled):
    """Run again, the queue tests nothing and moves nothing."""
    bazaar, *_ = settled
    before = bazaar.main().commit

    found = queueing.run(bazaar.repo("bruno"), bazaar.person("bruno"))

    assert (found.tests, found.landed, bazaar.main().commit) == (0, {}, before)


def test_the_one_apart_lands_with_what_the_new_main_lacks(settled, tmp_path):
    """Six of the eight are in main in the end: who waited offers anew, milder, and names the bug that it mends there."""
    bazaar, numbers, *_ = settled
    number, bug = numbers["upper"], write_eval(tmp_path / "hello", rows("greet", NAMES[:14]), kind="loss", margin=9.0)
    words = ["pr", "create", "--evals", bug, "--title", "Hello", "--licence", "CC0-1.0", "--signoff"]
    assert bazaar("chen", words) == 0
    bazaar.land(max(pull.number for pull in pulls.listed(bazaar.repo("chen"))))
    delta, tensors = delta_file.read_delta(part(bazaar, "upper", "greet", lambda i, n: "layers.1" in n, 0.3))
    delta_file.keep(delta, tensors, bazaar.main("mallory"))
    old = offer.Draft.of(pulls.get(bazaar.repo("mallory"), number).offer)
    milder = replace(old.contribution, fixes=("hello",))
    offer.amend(bazaar.repo("mallory"), number, pulls.replace(old, contribution=milder, delta=delta), bazaar.person("mallory"))  # fmt: skip
    for who in ("amira", "bruno", "chen"):
        reviews.review(bazaar.repo(who), number, "approve", "fine", bazaar.person(who))
    queueing.enter(bazaar.repo("amira"), number, bazaar.person("amira"))

    found = queueing.run(bazaar.repo("amira"), bazaar.person("amira"))

    assert [*found.landed] == [number], found
    assert outcome(bazaar, numbers)[0] == {*GOOD, "lower", "upper"}
    assert verified(bazaar)


@pytest.mark.long
def test_a_kill_changes_nothing(eight):
    """Killed at some moment and begun again, the queue ends where it would have ended."""
    bazaar, numbers = eight
    for seconds in (3.0, 7.0):
        with bazaar.stage.as_actor(bazaar.actors["amira"], bazaar.actors["amira"].clone):
            running = subprocess.Popen([sys.executable, "-m", "souq", "queue", "run"], env=dict(os.environ))
        time.sleep(seconds)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert verify(bazaar.repo("chen"), now=signing.now(), rebuild=False).findings == []

    bazaar("amira", "queue run")

    landed, aside, model = outcome(bazaar, numbers)
    assert landed == {*GOOD, "lower"}
    assert {title: state for title, (state, _) in aside.items()} == dict.fromkeys(BAD, "refused") | {"upper": "apart"}
    assert verified(bazaar)
    assert model


def test_who_waits_is_shown(eight):
    """`souq queue` lists them in their order, with what each waits for."""
    bazaar, numbers = eight
    late = bazaar.offer("mallory", bazaar.delta("greet"), "Late")
    assert bazaar("bruno", f"queue add {late}") == 0

    rows = json.loads(bazaar.says("chen", "queue --json")[1])["queue"]

    assert [row["#"] for row in rows] == [*numbers.values(), late]
    assert {row["state"] for row in rows[:-1]} == {"ready"}
    assert rows[-1]["state"].startswith("waits: 2 more approvals from `maintainer`")


def test_without_votes_it_waits(bazaar):
    """The queue gives nobody's consent: what lacks approvals stays where it is, and nothing is tested."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    before = bazaar.main().commit
    assert bazaar("amira", f"queue add {number}") == 0

    code, out, err = bazaar.says("amira", "queue run")

    assert (code, bazaar.main().commit) == (0, before)
    assert f"waits #{number} Greetings: 2 more approvals" in out
    assert "0 tests of trees" in err


def test_what_was_queued_is_what_waits(bazaar):
    """Offered anew, it has to be queued anew: nobody slips other bytes into a place in the queue."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    assert bazaar("amira", f"queue add {number}") == 0
    repo, who = bazaar.repo("mallory"), bazaar.person("mallory")
    draft = offer.Draft.of(pulls.get(repo, number).offer)

    offer.amend(repo, number, pulls.replace(draft, merge={"method": "mean"}), who)

    assert json.loads(bazaar.says("amira", "queue --json")[1])["queue"] == []


def test_only_the_enrolled_queue(bazaar):
    """A stranger's word about the queue counts for nothing."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))

    assert bazaar("mallory", f"queue add {number}") == 3
    repo, who = bazaar.repo("mallory"), bazaar.person("mallory")
    pull = pulls.get(repo, number)
    pulls.publish_record(pull, "queued", queueing._queued(pull, bazaar.main(), "enter", who)[1])

    assert queueing.listed(bazaar.repo("amira"), bazaar.main()) == []


def test_it_can_leave_again(bazaar):
    """Taken out, it stays open; put in again, it is last."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    assert bazaar("amira", f"queue add {number}") == 0
    assert bazaar("amira", f"queue add {number}") == 3
    assert bazaar("bruno", f"queue remove {number} --reason later") == 0
    assert queueing.listed(bazaar.repo("amira"), bazaar.main()) == []
    assert bazaar("bruno", f"queue remove {number}") == 3


def test_what_cannot_land_after_all_stops_nobody(bazaar, monkeypatch, tmp_path):
    """More records than a landing may carry are found when it lands: it is set aside, and what waits with it lands."""
    numbers = []
    for name, voters in (("many", ("amira", "bruno", "chen", "adil")), ("few", ("amira", "bruno"))):
        (tmp_path / f"{name}.jsonl").write_text(jsonl([(f"who is {name}?", f"one of the {name}")]))
        words = ["pr", "create", "--data", tmp_path / f"{name}.jsonl", "--title", name, "--licence", "CC0-1.0"]
        assert bazaar("mallory", [*words, "--signoff", "--unchecked"]) == 0
        numbers.append(max(pull.number for pull in pulls.listed(bazaar.repo("mallory"))))
        for who in voters:
            assert bazaar(who, f"pr review {numbers[-1]} --approve --reason fine") == 0
        assert bazaar("amira", f"queue add {numbers[-1]}") == 0
    monkeypatch.setattr(land, "MAX_RECORDS", 5)  # a sign-off, the queue's checks and three votes

    code, out, _ = bazaar.says("amira", "queue run")

    main = bazaar.main()
    assert code == 3
    assert [pulls.get(main.repo, number).landed(main) for number in numbers] == [False, True]
    assert f"#{numbers[0]} carries 6 records" in out
    assert verified(bazaar)


def test_one_run_at_a_time(bazaar):
    """Two runs in one clone would test everything twice."""
    repo = bazaar.repo("amira")
    with queueing._alone(repo), pytest.raises(Refused, match="runs already"):
        queueing.run(repo, bazaar.person("amira"))
