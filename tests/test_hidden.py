"""Hidden evals: main knows a digest, evaluators know the cases, tries are charged, and what was signed can be checked."""

from __future__ import annotations

import json
import subprocess

import msgspec
import pytest

from souq.evals.eval import read_eval, read_folder
from souq.governance.policy import format_policy, read_policy
from souq.pulls import hidden, land
from souq.pulls import pull as pulls
from souq.records import format_toml
from tests.bazaar import NAMES, rows, write_eval


@pytest.fixture
def sealed(bazaar):
    """A town with a hold-out: the prose that greeting adapters should leave alone; its folder is chen's."""
    folder = write_eval(bazaar.folder / "private" / "prose", rows("count", NAMES[20:30]), kind="loss", margin=9.0, protected=True)  # fmt: skip
    assert bazaar("chen", ["hidden", "seal", folder, "--signoff"]) == 0
    bazaar.land(max(pull.number for pull in pulls.listed(bazaar.repo("chen"))), "amira", "bruno")
    return bazaar, folder


def attest(bazaar, who, number, folder):
    return bazaar(who, ["eval", "--attest", number, "--hidden", folder])


def limit(bazaar, **checks):
    """Set a limit in souq.toml, as a founder would have."""
    main = bazaar.main()
    config = msgspec.structs.replace(main.config, checks=msgspec.structs.replace(main.config.checks, **checks))
    push(main, {"souq.toml": format_toml(config).encode()})


def push(main, files):
    """Main with other files, past all rules: what a test is about begins after that."""
    commit = main.repo.write_commit([main.commit], files, "x\n", tree_of=main.commit)
    main.repo.publish({"refs/heads/main": (main.commit, commit)}, [])


def test_main_holds_a_digest_and_no_case(sealed):
    """Nothing of a hold-out is anywhere in git but how many cases it has and what digest they will have."""
    bazaar, folder = sealed
    main = bazaar.main()
    words = ["git", "cat-file", "--batch-all-objects", "--batch"]
    everything = subprocess.run(words, cwd=bazaar.folder / "hub.git", check=True, capture_output=True).stdout

    assert set(main.below("evals/prose/")) == {"sealed.toml"}
    assert main.sealed["prose"].digest == read_eval("prose", read_folder(folder)).digest
    assert "prose" not in main.evals
    assert rows("count", NAMES[20:21])[0][0].encode() not in everything


def test_the_digest_tells_nothing(sealed):
    """Whoever guesses the cases cannot know that they guessed right: a salt is part of them."""
    bazaar, folder = sealed
    files = read_folder(folder)
    bare = {**files, "eval.toml": b"\n".join(line for line in files["eval.toml"].split(b"\n") if b"salt" not in line)}

    assert read_eval("prose", bare).digest != bazaar.main().sealed["prose"].digest


def test_an_evaluator_runs_it_and_says_one_word(sealed):
    """The verdict names the hold-out and commits to its values; no figure of it leaks."""
    bazaar, folder = sealed
    number = bazaar.offer("mallory", bazaar.delta("greet"))

    assert attest(bazaar, "chen", number, folder) == 0

    pull = pulls.get(bazaar.repo("amira"), number)
    checked = pulls.read_checked(pull, read_policy(bazaar.main().policy_text))[-1].checked
    verdict = next(found for found in checked.verdicts if found.check == "hidden")
    assert (verdict.outcome, set(verdict.evidence["evals"]["prose"])) == ("pass", {"digest", "values"})


def test_without_the_cases_nothing_is_attested(sealed):
    """An evaluator who lacks the hold-out is told so, and other cases do not pass for it."""
    bazaar, _ = sealed
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    other = write_eval(bazaar.folder / "other" / "prose", rows("count", NAMES[:5]), kind="loss", margin=9.0)

    assert bazaar("chen", ["eval", "--attest", number]) == 2
    code, _, err = bazaar.says("chen", ["eval", "--attest", number, "--hidden", other])
    assert (code, "opens no seal of main" in err) == (1, True)


def test_revealed_it_can_be_checked(sealed):
    """Once it retires, its cases land, only the very ones that were sealed, and what was signed comes out again."""
    bazaar, folder = sealed
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    assert attest(bazaar, "chen", number, folder) == 0
    for who in ("amira", "bruno", "chen"):  # ten cases leave a doubt, so one more is asked
        assert bazaar(who, f"pr review {number} --approve --reason fine") == 0
    assert bazaar("bruno", f"pr merge {number}") == 0

    assert bazaar("chen", ["hidden", "reveal", folder, "--signoff"]) == 0
    shown = max(pull.number for pull in pulls.listed(bazaar.repo("chen")))
    bazaar.land(shown, "amira", "bruno")

    main = bazaar.main()
    assert (main.sealed, main.evals["prose"].protected) == ({}, True)
    assert bazaar("adil", "fetch") == 0
    out = bazaar.says("adil", "hidden recheck --json")[1]
    assert [(one["by"], one["eval"], one["holds"]) for one in json.loads(out)] == [("chen", "prose", True)]
    assert bazaar("adil", "verify --no-rebuild") == 0


def test_what_was_sealed_is_what_is_revealed(sealed):
    """Easier cases cannot be shown in place of those that were sealed."""
    bazaar, _ = sealed
    easier = write_eval(bazaar.folder / "evals" / "prose", rows("count", NAMES[:5]), kind="loss", margin=9.0)
    words = ["pr", "create", "--evals", easier, "--title", "x", "--licence", "MIT", "--signoff"]

    code, _, err = bazaar.says("mallory", words)

    assert (code, "is not what was sealed" in err) == (3, True)


def test_a_seal_is_never_changed(sealed):
    """Nobody puts another hold-out under the name of one that is there."""
    bazaar, _ = sealed
    again = write_eval(bazaar.folder / "again" / "prose", rows("count", NAMES[:5]), kind="loss", margin=9.0)

    code, _, err = bazaar.says("mallory", ["hidden", "seal", again, "--signoff"])

    assert (code, "a seal is never changed" in err) == (3, True)


def test_tries_are_charged(sealed):
    """Each digest tried counts once, for the author, their organisation and all strangers together; then no more."""
    bazaar, folder = sealed
    limit(bazaar, tries=2)
    numbers = [bazaar.offer("mallory", bazaar.delta("greet"), f"Try {i}") for i in range(3)]

    assert [attest(bazaar, "chen", number, folder) for number in (numbers[0], *numbers[:2])] == [0, 0, 0]
    code, _, err = bazaar.says("chen", ["eval", "--attest", numbers[2], "--hidden", folder])

    assert (code, "has used all 2 tries" in err) == (3, True)
    main = bazaar.main()
    told = {one.name: (one.used, one.most) for one in hidden.accounts(main.repo, main)}
    assert (len(told), told.pop(hidden.STRANGERS), *told.values()) == (2, (2, 10), (2, 2))


def test_two_evaluators_of_different_organisations(bazaar):
    """A scope may ask that its checks be run by two of a role, each of another organisation: one is not enough."""
    main = bazaar.main()
    policy = read_policy(main.policy_text)
    role = type(policy.role[0])(name="evaluator", members=("bruno", "chen"))
    asked = type(policy.scope[0].requires[0])(role="evaluator", n=2)
    scopes = tuple(
        msgspec.structs.replace(s, evaluators=asked) if s.name == "contributions" else s for s in policy.scope
    )
    new = format_policy(msgspec.structs.replace(policy, role=(*policy.role, role), scope=scopes))
    push(main, {"GOVERNANCE.toml": new.encode()})
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    for who in ("amira", "bruno"):
        assert bazaar(who, f"pr review {number} --approve --reason fine") == 0

    for who, lack in (("amira", "(have none)"), ("bruno", "(have Borealis)"), ("chen", "")):
        assert bazaar(who, f"eval --attest {number}") == 0
        missing = land.decision(bazaar.repo("adil"), number).missing
        assert (lack in missing[0]) if lack else (missing == ())
