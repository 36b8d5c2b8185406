"""souq against its own conformance suite: every bad history rejected for its reason, every good one accepted."""

from __future__ import annotations

import json
import sys

import pytest

from souq_conformance import suite
from souq_conformance.cases import CASES
from souq_conformance.codes import CODES, CONSEQUENCE

SOUQ = f"{sys.executable} -m souq verify {{repo}} --json"
BY_COMMAND = (
    "two-organisations-agree", "one-approval-short", "a-path-that-is-no-text", "a-policy-nested-beyond-reason",
    "main-points-nowhere", "a-reader-with-habits", "rsa-and-ecdsa",
)  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance") / "cases"
    suite.build(folder)
    return folder


@pytest.mark.long
def test_every_history_is_judged_as_it_must_be(cases):
    """No bad one passes, none is turned away for another reason, no good one is turned away."""
    results = suite.run(cases, suite.in_process, jobs=2)

    assert [str(result) for result in results if not result.named] == []
    assert len([case for case in CASES.values() if case.reason]) >= 60
    assert len([case for case in CASES.values() if not case.reason]) >= 30


@pytest.mark.parametrize("name", BY_COMMAND)
def test_the_command_says_the_same(cases, name):
    """Exit 0 or 3, and the reasons on stdout, as any other verifier would be asked."""
    (result,) = suite.run(cases, suite.Command(SOUQ), [name])

    assert result.named, str(result)


@pytest.mark.parametrize(
    ("does", "bad", "good"),
    [("import sys; sys.exit(3)", 1, 0), ("", 0, 1), ("1 / 0", 0, 0), ("print({}); import sys; sys.exit(3)", 1, 0)],
)
def test_a_verifier_that_does_not_look_is_found_out(cases, does, bad, good):
    """Who rejects all, accepts all or crashes is counted so; exit codes alone are enough for that."""
    names = ["two-organisations-agree", "one-approval-short"]
    verifier = suite.Command(f"{sys.executable} -c {json.dumps(does)} {{repo}}")

    told = suite.summary(suite.run(cases, verifier, names))

    assert told == f"bad histories rejected: {bad}/1, 0 for the reason named; good ones accepted: {good}/1"


def test_another_verifier_names_its_reasons():
    """The documented answer, and a reason that is none of the case's."""
    asked = suite.Asked(name="x", says="", repo="x", root="r", now="n", reason="expired-key")

    def named(*codes):
        out = json.dumps({"reasons": codes}).encode()
        return suite.Result(asked, suite.Answer(False, suite.codes_in(out))).named

    assert named("expired-key")
    assert named("threshold"), "what follows from it"
    assert not named("fork")
    assert not named("expired-key", "fork")


def test_every_code_is_written_down():
    """A reason that no reader could look up is none."""
    used = {code for case in CASES.values() for code in (case.reason, *case.also) if code}
    documented = (suite.Path(__file__).parent.parent / "docs" / "conformance.md").read_text()

    assert used <= CODES.keys()
    assert {*CONSEQUENCE} <= CODES.keys()
    assert [code for code in CODES if f"`{code}`" not in documented] == []
    assert all(case.says.endswith((".", "?")) for case in CASES.values())
