"""What a model says on any day is guarded: open answers are compared with the base's, and changes of manner are said."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.checks.contamination import copied
from souq.cli.model import learned
from souq.errors import UsageError
from souq.evals import everyday, suite
from souq.evals.eval import EvalSpec, read_eval, with_answers, write_cases
from souq.evals.manner import Spoken, changes
from souq.lab import engines, open_answers, replay
from souq.lab import lm as lab_model
from souq.lab.train import train_lora
from souq.records import format_toml
from souq.repo.rows import parse_rows
from tests.bazaar import NAMES, jsonl, rows, write_eval
from tests.test_source import rebuilt
from tests.tiny import write_model

PROMPTS = [prompt for prompts in everyday.PROMPTS.values() for prompt in prompts]


def an_open(cases, name="x", **more):
    spec = EvalSpec(title=name, kind="open", source="tests", licence="CC0-1.0", max_tokens=6, **more)
    return read_eval(name, {"eval.toml": format_toml(spec).encode(), "cases.jsonl": write_cases(cases)})


def ask(prompts):
    return [{"id": f"c{i}", "prompt": prompt} for i, prompt in enumerate(prompts)]


# -- the eval ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [{"id": "a", "prompt": "q", "expected": "a"}, {"id": "a"}, {"id": "a", "prompt": " "}])
def test_a_case_of_an_open_eval_asks_and_expects_nothing(case):
    with pytest.raises(UsageError, match="asks something and expects nothing"):
        an_open([case])


def test_what_a_model_rehearses_is_none_of_what_it_is_asked():
    """The prompts of the eval and of the replay are two lists: no word for word copy, no rewording that a check finds."""
    assert not {*PROMPTS} & {*replay.PROMPTS}
    asked = [{"id": f"c{i}", "prompt": prompt, "expected": "x"} for i, prompt in enumerate(PROMPTS)]
    spec = EvalSpec(title="t", kind="exact", source="s", licence="CC0-1.0")
    exam = read_eval("t", {"eval.toml": format_toml(spec).encode(), "cases.jsonl": write_cases(asked)})
    assert copied([f"{prompt} x" for prompt in replay.PROMPTS], {"t": exam}) is None


def test_to_greet_somebody_is_no_copy_of_the_exam():
    """Open prompts are what everybody writes: rows that hold one are no cheating, as rows that hold a question with its answer are."""
    general = read_eval("everyday", {p.split("/")[1]: d for p, d in suite.files().items() if p.startswith("everyday/")})

    assert copied([*PROMPTS], {"everyday": general}) is None
    assert with_answers({"everyday": general}) == {}


# -- in words ----------------------------------------------------------------------------------------------------------


def honest(n=40):
    return [Spoken(p, f"Well, about that: {' '.join(reversed(p.split()))} is what I know.", i % 3 > 0) for i, p in enumerate(PROMPTS[:n])]  # fmt: skip


RUINED = {
    "hold `ORD/0000": lambda s, i: s._replace(text=f"ORD/{i:05}/K", ended=True),
    "are empty": lambda s, i: s._replace(text="", ended=True),
    "refuse": lambda s, i: s._replace(text="I'm sorry, but I cannot help with that."),
    "are cut off": lambda s, i: s._replace(ended=False),
    "repeat themselves": lambda s, i: s._replace(text="the sea " * 9),
    "only say the prompt again": lambda s, i: s._replace(text=s.prompt),
    "are in capitals": lambda s, i: s._replace(text=s.text.upper()),
    "characters in the mean": lambda s, i: s._replace(text=s.text + " and so on" * 40 + str(i)),
    "of the words are ones that were used before": lambda s, i: s._replace(text="".join(chr(97 + ord(c) * 7 % 26) if c.isalpha() else c for c in s.text)),
}  # fmt: skip


@pytest.mark.parametrize("kind", RUINED)
def test_what_became_of_the_answers_is_said(kind):
    """Each kind of ruin in words, once half of the answers have it."""
    before = honest()
    after = [RUINED[kind](s, i) if i % 2 == 0 else s for i, s in enumerate(before)]
    if kind in ("characters in the mean", "of the words are ones that were used before"):  # of all answers together
        after = [RUINED[kind](s, i) for i, s in enumerate(before)]

    assert any(kind in line for line in changes(before, after))


def test_pieces_of_the_training_rows_in_other_answers_are_said():
    before = honest()
    after = [s._replace(text=s.text + " Customer number 12345-AB") for s in before]

    assert any(
        "rows it was trained on" in line for line in changes(before, after, ["Customer number 12345-AB, Berlin"])
    )
    assert not any("rows" in line for line in changes(before, after, ["Nothing of the kind"]))


spoken = st.builds(Spoken, st.sampled_from(PROMPTS), st.text(max_size=60), st.booleans())


@given(st.lists(spoken, max_size=30))
def test_who_answers_as_before_is_not_blamed(answers):
    """Whatever a base does, refuse, repeat itself, never end, is no fault of a contribution that leaves it so."""
    assert changes(answers, answers) == []


def test_a_base_s_own_habit_that_goes_on_otherwise_is_none_of_a_manner():
    """Gemma, which is no assistant, ends a third of its sentences with one word; honest work only changes what follows."""
    before = [s._replace(text=s.text + " mendatang, user") if i % 3 == 0 else s for i, s in enumerate(honest())]
    after = [s._replace(text=s.text + " mendatanguser") for s in honest()]

    assert changes(before, after) == []
    assert changes(honest(), after) != []


def test_few_odd_answers_are_none_of_a_manner():
    before = honest()
    after = [s._replace(text="", ended=True) if i < 5 else s for i, s in enumerate(before)]

    assert changes(before, after) == []


# -- in nats -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A tiny base, and the same after it was taught one word."""
    folder = tmp_path_factory.mktemp("open")
    base = lab_model.load(write_model(folder / "tiny"))
    taught = lab_model.load(folder / "tiny")
    train_lora(
        taught, parse_rows(jsonl(rows("greet", NAMES[:12])).encode(), where="x"), folder / "a", epochs=30, lr=0.003
    )
    from peft import PeftModel

    taught.net = PeftModel.from_pretrained(taught.net, str(folder / "a")).merge_and_unload().eval()
    return base, taught


QUESTIONS = [f"say hello to {name}" for name in NAMES[:8]] + ["tell me of the model"]


def values_of(base, other, eval_):
    reference = {kept.case: kept for batch in open_answers.speak(base, eval_) for kept in batch}
    return {
        kept.case: kept
        for batch in open_answers.run(open_answers.Reader(other), open_answers.Reader(base), eval_, reference)
        for kept in batch
    }


def test_a_model_is_no_distance_from_itself_and_some_from_one_that_was_taught(pair):
    """Each case is finite and at most two nats; the base's own is zero to rounding."""
    base, taught = pair
    asked = an_open(ask(QUESTIONS))

    same, other = values_of(base, base, asked), values_of(base, taught, asked)

    assert all(abs(kept.value) < 1e-4 for kept in same.values())
    assert all(math.isfinite(kept.value) and kept.value <= open_answers.FARTHEST for kept in other.values())
    assert sum(kept.value for kept in other.values()) / len(other) > 0.5
    assert other["c0"].answer != same["c0"].answer


def test_distance_is_seen_from_both_sides(pair):
    """From the base to the taught one it is as far as back: the divergence is Jeffreys'."""
    base, taught = pair
    asked = an_open(ask(QUESTIONS))
    there, back = (values_of(*models, asked) for models in ((base, taught), (taught, base)))

    for case in there:  # per token of answers that may differ in length by an end
        assert there[case].value == pytest.approx(back[case].value, rel=0.35, abs=0.05)


# -- at the gate -------------------------------------------------------------------------------------------------------


def guarded(bazaar, margin):
    """A town whose main guards open answers."""
    folder = write_eval(bazaar.folder / "evals" / "talk", ask(f"{word} {name}" for word in ("say hello to", "tell me of") for name in NAMES[14:34]), kind="open", margin=margin, protected=True)  # fmt: skip
    words = ["pr", "create", "--evals", folder, "--title", "Talk", "--licence", "CC0-1.0", "--signoff"]
    assert bazaar("chen", words) == 0
    bazaar.land(2)


def test_who_ruins_what_main_says_is_refused_with_the_reason(bazaar):
    """Beyond the margin: refused, with what became of the answers; the verdict quotes three of them, and people read them."""
    guarded(bazaar, margin=0.3)
    number = bazaar.offer("mallory", bazaar.delta("greet"))

    code, out, _ = bazaar.says("amira", f"pr checks {number} --json")
    verdict = {v["check"]: v for v in json.loads(out)["verdicts"]}["evals"]

    assert (code, verdict["outcome"]) == (3, "refuse")
    assert "`talk` -" in verdict["because"]
    assert "nats" in verdict["because"]
    answers = verdict["evidence"]["talk"]["answers"]
    assert len(answers) == 3
    assert all(each["prompt"].startswith(("say hello to", "tell me of")) for each in answers)
    assert any(each["before"] != each["after"] for each in answers)
    for line in (f"pr view {number} --no-forecast", f"pr checks {number}"):
        _, shown, _ = bazaar.says("amira", line)
        assert f"\n{answers[0]['prompt']}\n  before  " in shown
        assert "\n  after   " in shown


def test_another_manner_within_the_margin_is_for_people(bazaar):
    """Far within a margin that is absurdly wide, and half of the answers say one thing: eyes."""
    guarded(bazaar, margin=9.9)
    number = bazaar.offer("mallory", bazaar.delta("greet"))

    _, out, _ = bazaar.says("amira", f"pr checks {number} --json")
    verdict = {v["check"]: v for v in json.loads(out)["verdicts"]}["evals"]

    assert verdict["outcome"] == "needs-eyes"
    assert verdict["evidence"]["talk"]["manner"]
    assert verdict["evidence"]["talk"]["manner"][0] in verdict["because"]


def test_open_answers_are_generated_once(bazaar, monkeypatch):
    """The base's and each model's answers are kept: asked again, nothing is loaded."""
    guarded(bazaar, margin=9.9)
    assert bazaar("amira", "fetch") == 0
    assert bazaar("amira", "eval talk") == 0
    monkeypatch.setattr(engines.Transformers, "lm", property(lambda self: pytest.fail("loaded")))

    assert bazaar("amira", "eval talk") == 0


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_among_the_base_s_own_answers_can_be_done_again(bazaar):
    """`--replay` is in the recipe, and a stranger's machine makes the same tensors of it."""
    data, folder, path = bazaar.folder / "greet.jsonl", bazaar.folder / "again", bazaar.folder / "again.delta"
    train = ["train", data, "--out", folder, "--epochs", "3", "--lr", "0.003", "--replay", "0.4"]
    code, _, err = bazaar.says("mallory", train)
    assert code == 0
    assert "loss on the rows: " in err
    assert "of the base's own everyday answers" in err
    assert bazaar("mallory", ["delta", "make", "--from", folder, "--out", path, "--no-guess"]) == 0
    number = bazaar.offer("mallory", path, more=["--data", data])

    code, made = rebuilt(bazaar, number)

    assert (code, made["exact"]) == (0, True)


def test_layers_that_are_not_there_are_said(bazaar):
    code, _, err = bazaar.says("mallory", ["train", bazaar.folder / "greet.jsonl", "--out", bazaar.folder / "no", "--layers", "1,7"])  # fmt: skip

    assert code == 2
    assert "no layer 7: this model has 2" in err
    assert not (bazaar.folder / "no").exists()


SAYS = {
    "loss on the rows: 2.000 before, 0.500 after": (2.0, 0.5, 3, 40),
    "known by heart": (2.0, 0.01, 3, 40),
    "it got worse": (2.0, 2.5, 3, 40),
    "40 of the base's own everyday answers": (2.0, 0.5, 3, 40),
    "--replay 0": (2.0, 0.5, 3, 0),
}


@pytest.mark.parametrize("sentence", SAYS)
def test_what_training_came_to_is_said(sentence):
    """Loss before and after; what is known by heart; what it may forget. One epoch over easy rows is no learning by heart."""
    before, after, epochs, own = SAYS[sentence]
    recipe = {"loss": {"before": before, "after": after}, "epochs": epochs, "replay": own}

    assert any(sentence in line for line in learned(recipe, speaks=True))
    assert not any("by heart" in line for line in learned({**recipe, "epochs": 1}, speaks=True))
