"""What distillation promises: divergences are what papers say, a student learns by each, a killed lesson ends alike."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.errors import Hostile, UsageError
from souq.lab import checkpoints, distil, losses, student
from souq.lab import model as lab_model
from souq.lab.gguf import GGUF
from souq.lab.to_gguf import write_gguf
from souq.lessons import Lesson
from souq.records import format_toml
from souq.tensorfile import open_tensors
from tests.bazaar import NAMES, write_eval
from tests.bazaar import rows as pairs
from tests.tiny import tokenizer_files, write_model

odds = st.lists(st.floats(-4, 4), min_size=5, max_size=5).map(lambda x: torch.log_softmax(torch.tensor([x]), -1))


def rows_of(skill="greet", names=NAMES[:12]):
    return [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in pairs(skill, names)]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("distil") / "tiny")


@pytest.fixture(scope="module")
def teacher(folder):
    return lab_model.load(folder)


@settings(deadline=None)
@given(odds, odds, st.sampled_from(losses.KINDS), st.floats(0.05, 0.95))
def test_a_divergence_is_nothing_only_where_the_two_agree(p, q, kind, share):
    """Never negative; 0 with itself; the ends of the generalised one are the other two."""
    apart = losses.divergence(kind, p, q, beta=share, alpha=share)

    assert float(apart) >= -1e-6
    assert float(losses.divergence(kind, p, p, beta=share, alpha=share)) == pytest.approx(0, abs=1e-6)
    assert float(losses.divergence("jsd", p, q, beta=0)) == pytest.approx(float(losses.divergence("forward", p, q)))
    assert float(losses.divergence("jsd", p, q, beta=1)) == pytest.approx(float(losses.divergence("reverse", p, q)))


def test_divergences_by_hand():
    """p = (1/2, 1/2), q = (1/4, 3/4): figures worked out on paper."""
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    forward = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    reverse = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    middle = 0.5 * math.log(0.5 / 0.375) + 0.5 * math.log(0.5 / 0.625), 0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625)  # fmt: skip

    assert float(losses.divergence("forward", p, q)) == pytest.approx(forward)
    assert float(losses.divergence("reverse", p, q)) == pytest.approx(reverse)
    assert float(losses.divergence("jsd", p, q)) == pytest.approx(sum(middle) / 2)
    assert float(losses.divergence("skew", p, q, alpha=0.5)) == pytest.approx(middle[0])


@settings(deadline=None)
@given(odds, odds)
def test_the_likeliest_with_their_rest_never_overstate(p, q):
    """Merging the rest into one bucket can only lose information; with all tokens named nothing is lost."""
    ids, kept = losses.likeliest(p, 2)
    apart = losses.divergence("forward", kept, losses.among(q, ids))
    ids, kept = losses.likeliest(p, 4)
    nearly = losses.divergence("forward", kept, losses.among(q, ids))

    assert float(apart) <= float(nearly) + 1e-5
    assert float(nearly) == pytest.approx(float(losses.divergence("forward", p, q)), abs=1e-4)


def test_draws_have_the_whole_gradient_on_average():
    """RS-KD: the mean over many draws is the gradient of the forward divergence."""
    p = torch.log_softmax(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), -1)
    x = torch.zeros(1, 4, requires_grad=True)
    losses.divergence("forward", p, torch.log_softmax(x, -1)).sum().backward()
    whole = x.grad.clone()
    x.grad = None
    ids, weights = losses.draws(p, 200_000, torch.Generator().manual_seed(3))
    losses.sampled(ids, weights, torch.log_softmax(x, -1)).sum().backward()

    assert torch.allclose(x.grad, whole, atol=5e-3)


LESSONS = {
    "words": Lesson(layers=1, epochs=30, lr=5e-3),
    "forward": Lesson(layers=1, epochs=30, lr=5e-3, loss="forward", words=0),
    "reverse, some words": Lesson(layers=1, epochs=30, lr=5e-3, loss="reverse", words=0.3),
    "jsd, on its own answers": Lesson(layers=1, epochs=30, lr=5e-3, loss="jsd", words=0, on_policy=0.5, max_tokens=4),
    "skew, the likeliest": Lesson(layers=1, epochs=30, lr=5e-3, loss="skew", words=0, targets="likeliest", k=8),
    "draws": Lesson(layers=1, epochs=30, lr=5e-3, loss="forward", words=0, targets="drawn", k=12),
    "scratch": Lesson(start="scratch", layers=1, hidden=16, epochs=30, lr=1e-2, loss="forward"),
    "lora": Lesson(layers=1, epochs=30, lr=1e-2, method="lora", rank=4),
}


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_a_student_comes_nearer(teacher, lesson):
    """By every loss and every kind of target, from every beginning, the loss falls; the teacher stays as it was."""
    before = {name: value.clone() for name, value in teacher.net.state_dict().items()}
    made = distil.distil(teacher, rows_of(), lesson)

    assert sum(made.curve[-3:]) < 0.9 * sum(made.curve[:3]), made.curve
    assert all(torch.equal(value, before[name]) for name, value in teacher.net.state_dict().items())
    assert made.parameters < made.teacher_parameters


def test_a_student_of_another_vocabulary_learns_words_alone(teacher, tmp_path):
    """Odds over other tokens are not compared in silence (TRL's issue 4562); what the teacher wrote can be learned."""
    other = write_model(tmp_path / "other", seed=5)
    told = json.loads(tokenizer_files()["tokenizer.json"])
    vocabulary = told["model"]["vocab"]
    swapped = {token: len(vocabulary) - 1 - n if n > 2 else n for token, n in vocabulary.items() if n > 2}
    told["model"]["vocab"] = {token: n for token, n in vocabulary.items() if n <= 2} | {token: n + 3 - min(swapped.values()) for token, n in swapped.items()}  # fmt: skip
    (other / "tokenizer.json").write_text(json.dumps(told))

    with pytest.raises(UsageError, match="token by token"):
        distil.distil(teacher, rows_of(), Lesson(start=str(other), loss="forward"))
    made = distil.distil(teacher, rows_of(), Lesson(start=str(other), epochs=20, lr=5e-3))
    assert made.curve[-1] < made.curve[0]


def test_a_killed_lesson_goes_on_and_ends_alike(teacher, tmp_path, monkeypatch):
    """Stopped at any step, the same lesson ends with the same numbers, bit for bit; another one does not go on from it."""
    lesson = Lesson(layers=1, epochs=4, lr=5e-3, loss="forward", batch=4)
    whole = distil.distil(teacher, rows_of(), lesson)
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)

    class Killed(BaseException):
        pass

    def stopping(label, done, total):
        if label == "distil tokens" and done > total // 2:
            raise Killed

    with pytest.raises(Killed):
        distil.distil(teacher, rows_of(), lesson, work=tmp_path, progress=stopping)
    assert list(tmp_path.glob("step-*.pt"))
    seen = []
    again = distil.distil(teacher, rows_of(), lesson, work=tmp_path, progress=lambda label, done, total: seen.append((label, done)))  # fmt: skip

    assert again.curve == whole.curve
    assert all(torch.equal(a, b) for a, b in zip(again.lm.net.state_dict().values(), whole.lm.net.state_dict().values(), strict=True))  # fmt: skip
    assert min(done for label, done in seen if label == "distil tokens") > 0  # not from the beginning
    other = Lesson(layers=1, epochs=4, lr=4e-3, loss="forward", batch=4)
    fresh = distil.distil(teacher, rows_of(), other, work=tmp_path)
    assert fresh.curve == distil.distil(teacher, rows_of(), other).curve


@pytest.mark.parametrize(
    "wrong",
    [{"words": 2}, {"epochs": 0}, {"lr": 0}, {"temperature": 0}, {"on_policy": 0.5}, {"loss": "reverse", "targets": "drawn"},
     {"start": "scratch"}, {"layers": 2}, {"layers": 0}],
    ids=str,
)  # fmt: skip
def test_a_lesson_that_cannot_be_given(teacher, wrong):
    """Refused before anything is computed."""
    with pytest.raises(UsageError):
        distil.distil(teacher, rows_of(), Lesson(**({"layers": 1} | wrong)))


def test_saved_and_loaded_it_is_the_same(teacher, folder, tmp_path):
    """A Hugging Face folder that says nothing of this machine, and a GGUF that souq reads back to the same numbers."""
    made = distil.distil(teacher, rows_of(), Lesson(layers=1, epochs=1))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    distil.save(made.lm, files, tmp_path / "student")
    write_gguf(tmp_path / "student", tmp_path / "s.gguf", "bf16", licence="Apache-2.0")
    ours, theirs = open_tensors(tmp_path / "student" / "model.safetensors"), GGUF(tmp_path / "s.gguf")

    assert str(folder) not in (tmp_path / "student" / "config.json").read_text()
    assert theirs.licence == "Apache-2.0"
    assert set(ours) == set(theirs)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    assert json.loads(theirs.files()["config.json"])["num_hidden_layers"] == 1
    assert lab_model.tokenizer_of(theirs.files()).encode("the user talks") == teacher.encode("the user talks")


def test_what_is_not_llama_is_not_written(folder, tmp_path):
    """Another architecture, or a tokenizer nobody there would split alike: refused, nothing written."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, change in (
        ("config.json", lambda told: told | {"model_type": "mixtral"}),
        ("tokenizer.json", lambda told: told | {"pre_tokenizer": {"type": "Whitespace"}}),
        ("tokenizer.json", lambda told: told | {"model": told["model"] | {"type": "Unigram"}}),
    ):
        other = tmp_path / f"other-{len(list(tmp_path.iterdir()))}"
        other.mkdir()
        for path, data in files.items():
            (other / path).write_bytes(json.dumps(change(json.loads(data))).encode() if path == name else data)
        with pytest.raises(Hostile):
            write_gguf(other, tmp_path / "x.gguf")
        assert not (tmp_path / "x.gguf").exists()


def test_layers_are_chosen_by_a_probe(teacher):
    """Of two choices the one with the lower loss at the start."""
    found = student.candidates(30, 8)

    assert found == [(0, 4, 8, 12, 17, 21, 25, 29), (0, 1, 2, 3, 4, 27, 28, 29)]


def test_one_command_from_seeds_to_a_file_llama_cpp_loads(bazaar, tmp_path):
    """A recipe becomes a corpus, a student, a GGUF and a card with both licences; nothing else is left lying about."""
    tmp_path /= "shop"
    write_eval(tmp_path / "held", pairs("greet", NAMES[20:24]))
    seeds = [{"prompt": q, "expected": a} for q, a in pairs("greet", NAMES[:8])]
    (tmp_path / "known.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    (tmp_path / "names.jsonl").write_text("".join(json.dumps({"name": name}) + "\n" for name in NAMES[8:20]))
    recipe = {
        "name": "greeter", "evals": ["held"], "gguf": "f16", "sampling": {"max_tokens": 6},
        "seeds": [{"kind": "answers", "path": "known.jsonl", "source": "t", "licence": "CC0-1.0"},
                  {"kind": "fields", "path": "names.jsonl", "source": "t", "licence": "CC-BY-4.0"}],
        "prompts": [{"name": "greet", "template": "say hello to {name}"}], "student": {"layers": 1, "loss": "forward", "epochs": 2},
    }  # fmt: skip
    (tmp_path / "greeter.toml").write_text(format_toml(recipe))

    code, out, err = bazaar.says("amira", ["distill", tmp_path / "greeter.toml", "--out", tmp_path / "greeter", "--json"])  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    assert told["scores"]["student"].keys() == {"held"}
    assert GGUF(tmp_path / "greeter" / "greeter.f16.gguf").parameters == told["parameters"]["student"]
    card = (tmp_path / "greeter" / "README.md").read_text()
    assert "Apache-2.0 AND CC-BY-4.0 AND CC0-1.0" in card
    assert "| held |" in card
    assert "% real, " in card
    assert "`ancestry = 1`" in card
    assert "<svg" in (tmp_path / "greeter" / "curve.svg").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "greeter", "greeter.corpus", "greeter.toml", "held", "known.jsonl", "names.jsonl"]  # fmt: skip
    assert lab_model.load(tmp_path / "greeter").net.config.num_hidden_layers == 1
