"""What distillation promises: divergences are what papers say, a student learns by each, a killed lesson ends alike."""

from __future__ import annotations

import json
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.errors import Hostile, SouqError, UsageError
from souq.lab import checkpoints, distil, losses, student
from souq.lab import lm as lab_model
from souq.lab.student_config import DistillConfig
from souq.licences.table import spelled
from souq.model.gguf.reader import GGUF
from souq.model.gguf.writer import write_gguf
from souq.records import format_toml
from souq.weights.safetensors import open_tensors
from tests.bazaar import NAMES, write_eval
from tests.bazaar import rows as pairs
from tests.tiny import TEMPLATE, tokenizer_files, write_model

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
    ids, kept = losses.topk(p, 2)
    apart = losses.divergence("forward", kept, losses.gather_topk(q, ids))
    ids, kept = losses.topk(p, 4)
    nearly = losses.divergence("forward", kept, losses.gather_topk(q, ids))

    assert float(apart) <= float(nearly) + 1e-5
    assert float(nearly) == pytest.approx(float(losses.divergence("forward", p, q)), abs=1e-4)


@given(odds)
def test_more_of_the_likeliest_than_there_are_tokens_are_all_of_them(p):
    """A recipe's k may be larger than a small vocabulary."""
    ids, kept = losses.topk(p, 32)

    assert (ids.shape[-1], kept.shape[-1]) == (5, 6)
    assert float(kept[..., :-1].exp().sum()) == pytest.approx(1, abs=1e-5)


def test_draws_have_the_whole_gradient_on_average():
    """RS-KD: the mean over many draws is the gradient of the forward divergence."""
    p = torch.log_softmax(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), -1)
    x = torch.zeros(1, 4, requires_grad=True)
    losses.divergence("forward", p, torch.log_softmax(x, -1)).sum().backward()
    whole = x.grad.clone()
    x.grad = None
    ids = losses.sample_tokens(p, 200_000, torch.Generator().manual_seed(3))
    losses.sampled_cross_entropy(ids, torch.log_softmax(x, -1)).sum().backward()

    assert torch.allclose(x.grad, whole, atol=5e-3)


LESSONS = {
    "words": DistillConfig(layers=1, epochs=30, lr=5e-3),
    "forward": DistillConfig(layers=1, epochs=30, lr=5e-3, loss="forward", words=0),
    "reverse, some words": DistillConfig(layers=1, epochs=30, lr=5e-3, loss="reverse", words=0.3),
    "jsd, on its own answers": DistillConfig(
        layers=1, epochs=30, lr=5e-3, loss="jsd", words=0, on_policy=0.5, max_tokens=4
    ),
    "skew, the likeliest": DistillConfig(layers=1, epochs=30, lr=5e-3, loss="skew", words=0, targets="likeliest", k=8),
    "draws": DistillConfig(layers=1, epochs=30, lr=5e-3, loss="forward", words=0, targets="drawn", k=12),
    "scratch": DistillConfig(start="scratch", layers=1, hidden=16, epochs=30, lr=1e-2, loss="forward"),
    "lora": DistillConfig(layers=1, epochs=30, lr=1e-2, method="lora", rank=4),
}


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_a_student_comes_nearer(teacher, lesson):
    """By every loss and every kind of target, from every beginning, the loss falls; the teacher stays as it was."""
    before = {name: value.clone() for name, value in teacher.net.state_dict().items()}
    made = distil.distil(teacher, rows_of(), lesson)

    assert sum(made.curve[-3:]) < 0.9 * sum(made.curve[:3]), made.curve
    assert all(torch.equal(value, before[name]) for name, value in teacher.net.state_dict().items())
    assert made.sizes.student < made.sizes.teacher


def test_a_student_of_another_vocabulary_learns_words_alone(teacher, tmp_path):
    """Odds over other tokens are not compared in silence (TRL's issue 4562); what the teacher wrote can be learned."""
    other = write_model(tmp_path / "other", seed=5)
    told = json.loads(tokenizer_files()["tokenizer.json"])
    vocabulary = told["model"]["vocab"]
    swapped = {token: len(vocabulary) - 1 - n if n > 2 else n for token, n in vocabulary.items() if n > 2}
    told["model"]["vocab"] = {token: n for token, n in vocabulary.items() if n <= 2} | {token: n + 3 - min(swapped.values()) for token, n in swapped.items()}  # fmt: skip
    (other / "tokenizer.json").write_text(json.dumps(told))

    with pytest.raises(UsageError, match="token by token"):
        distil.distil(teacher, rows_of(), DistillConfig(start=str(other), loss="forward"))
    made = distil.distil(teacher, rows_of(), DistillConfig(start=str(other), epochs=20, lr=5e-3))
    assert made.curve[-1] < made.curve[0]


def test_a_killed_lesson_goes_on_and_ends_alike(teacher, tmp_path, monkeypatch):
    """Stopped at any step, the same lesson ends with the same numbers, bit for bit; another one does not go on from it."""
    lesson = DistillConfig(layers=1, epochs=4, lr=5e-3, loss="forward", batch=4)
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
    other = DistillConfig(layers=1, epochs=4, lr=4e-3, loss="forward", batch=4)
    fresh = distil.distil(teacher, rows_of(), other, work=tmp_path)
    assert fresh.curve == distil.distil(teacher, rows_of(), other).curve


def test_what_was_kept_for_one_beginning_is_not_read_for_another(teacher, tmp_path, monkeypatch):
    """A folder's template makes other passages, and its weights another training: neither is taken for the old one."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    other = write_model(tmp_path / "other", seed=5)
    (other / "chat_template.jinja").write_text(TEMPLATE.replace("<|im_start|>", ""))
    from_other = DistillConfig(start=str(other), loss="forward", epochs=2, batch=4)
    from_teacher = DistillConfig(layers=1, loss="forward", epochs=2, batch=4)

    first = distil.distil(teacher, rows_of(), from_other, work=tmp_path / "work")
    assert distil.distil(teacher, rows_of(), from_teacher, work=tmp_path / "work").curve == distil.distil(teacher, rows_of(), from_teacher).curve  # fmt: skip

    (other / "model.safetensors").write_bytes((write_model(tmp_path / "third", seed=6) / "model.safetensors").read_bytes())  # fmt: skip
    again = distil.distil(teacher, rows_of(), from_other, work=tmp_path / "work")
    assert again.curve == distil.distil(teacher, rows_of(), from_other).curve != first.curve


def test_an_adapter_learns_without_a_word_to_the_person(teacher):
    """What peft and transformers have to settle between them is none of theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        distil.distil(teacher, rows_of(), DistillConfig(layers=1, epochs=1, method="lora", rank=4))


def test_a_folder_in_several_files_can_begin_and_one_of_another_build_is_refused(teacher, tmp_path):
    """Larger models are published in shards; a configuration of other weights is refused in words."""
    from safetensors.torch import load_file, save_file

    shards = write_model(tmp_path / "shards", seed=5)
    tensors = load_file(shards / "model.safetensors")
    (shards / "model.safetensors").unlink()
    told = {name: f"model-0000{1 + (n % 2)}-of-00002.safetensors" for n, name in enumerate(tensors)}
    for file in set(told.values()):
        save_file({name: tensors[name] for name in tensors if told[name] == file}, shards / file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": told}))
    whole = write_model(tmp_path / "whole", seed=5)
    curves = [distil.distil(teacher, rows_of(), DistillConfig(start=str(folder), epochs=1)).curve for folder in (shards, whole)]  # fmt: skip
    assert curves[0] == curves[1]

    config = {"model_type": "gpt_neox", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 320, "intermediate_size": 48}  # fmt: skip
    (whole / "config.json").write_text(json.dumps(config))
    with pytest.raises(SouqError, match="the checkpoint has no gpt_neox"):
        distil.distil(teacher, rows_of(), DistillConfig(start=str(whole), epochs=1))


@pytest.mark.parametrize(
    "wrong",
    [{"words": 2}, {"epochs": 0}, {"lr": 0}, {"temperature": 0}, {"on_policy": 0.5}, {"loss": "reverse", "targets": "drawn"},
     {"start": "scratch"}, {"start": "scratch", "hidden": -16}, {"start": "scratch", "layers": -1, "hidden": 16}, {"layers": 2}, {"layers": 0}],
    ids=str,
)  # fmt: skip
def test_a_lesson_that_cannot_be_given(teacher, wrong):
    """Refused before anything is computed."""
    with pytest.raises(UsageError):
        distil.distil(teacher, rows_of(), DistillConfig(**({"layers": 1} | wrong)))


def test_saved_and_loaded_it_is_the_same(teacher, folder, tmp_path):
    """A Hugging Face folder that says nothing of this machine, and a GGUF that souq reads back to the same numbers."""
    made = distil.distil(teacher, rows_of(), DistillConfig(layers=1, epochs=1))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    distil.save(made.lm, files, tmp_path / "student")
    write_gguf(tmp_path / "student", tmp_path / "s.gguf", "bf16", licence="Apache-2.0")
    ours, theirs = open_tensors(tmp_path / "student" / "model.safetensors"), GGUF(tmp_path / "s.gguf")

    assert str(folder) not in (tmp_path / "student" / "config.json").read_text()
    assert spelled(theirs.licence) == "Apache-2.0"
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


def greeter(folder):
    """A recipe of a dozen names, as TOML has it, and the files it reads."""
    write_eval(folder / "held", pairs("greet", NAMES[20:24]))
    seeds = [{"prompt": q, "expected": a} for q, a in pairs("greet", NAMES[:8])]
    (folder / "known.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    (folder / "names.jsonl").write_text("".join(json.dumps({"name": name}) + "\n" for name in NAMES[8:20]))
    return {
        "name": "greeter", "evals": ["held"], "sampling": {"max_tokens": 6},
        "seeds": [{"kind": "answers", "path": "known.jsonl", "source": "t", "licence": "CC0-1.0"},
                  {"kind": "fields", "path": "names.jsonl", "source": "t", "licence": "CC-BY-4.0"}],
        "prompts": [{"name": "greet", "template": "say hello to {name}"}],
    }  # fmt: skip


def test_one_command_from_seeds_to_a_file_llama_cpp_loads(bazaar, tmp_path):
    """A recipe becomes a corpus, a student, a GGUF and a card with both licences; nothing else is left lying about."""
    tmp_path /= "shop"
    recipe = {**greeter(tmp_path), "gguf": "f16", "student": {"layers": 1, "loss": "forward", "epochs": 2}}
    (tmp_path / "greeter.toml").write_text(format_toml(recipe))

    code, out, err = bazaar.says("amira", ["distill", tmp_path / "greeter.toml", "--out", tmp_path / "greeter", "--json"])  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    assert told["scores"]["student"].keys() == {"held"}
    assert GGUF(tmp_path / "greeter" / "greeter.f16.gguf").parameters == told["parameters"]["student"]
    card = (tmp_path / "greeter" / "README.md").read_text()
    assert "license_name: Apache-2.0 AND CC-BY-4.0 AND CC0-1.0" in card
    assert GGUF(tmp_path / "greeter" / "greeter.f16.gguf").licence == "Apache-2.0 AND CC-BY-4.0 AND CC0-1.0"  # fmt: skip
    assert "| held |" in card
    assert "% real, " in card
    assert "`ancestry = 1`" in card
    assert "<svg" in (tmp_path / "greeter" / "curve.svg").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "greeter", "greeter.corpus", "greeter.toml", "held", "known.jsonl", "names.jsonl"]  # fmt: skip
    assert lab_model.load(tmp_path / "greeter").net.config.num_hidden_layers == 1


def test_what_stops_after_the_training_is_taken_up_again(bazaar, tmp_path, monkeypatch):
    """A disk that is full while the file is written: nothing stands under the student's name, and the same line goes on."""
    tmp_path /= "shop"
    tmp_path.mkdir()
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    (tmp_path / "greeter.toml").write_text(format_toml({**greeter(tmp_path), "student": {"layers": 1, "epochs": 2}}))
    line = ["distill", tmp_path / "greeter.toml", "--out", tmp_path / "greeter", "--gguf", "f16"]

    with monkeypatch.context() as patch:
        patch.setattr(
            "souq.model.gguf.writer._add", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        assert bazaar("amira", line) == 1
    assert not (tmp_path / "greeter").exists()
    assert list((tmp_path / "greeter.work").glob("step-*.pt"))
    assert bazaar("amira", line) == 0
    assert (tmp_path / "greeter" / "greeter.f16.gguf").is_file()
    assert not (tmp_path / "greeter.work").exists()


def test_a_recipe_s_folder_is_seen_from_the_recipe_and_its_licence_binds(bazaar, tmp_path):
    """The student is somebody's model taught anew: their licence stands on the card, their folder's place does not."""
    tmp_path /= "shop"
    recipe = {**greeter(tmp_path), "student": {"start": "theirs", "epochs": 1}}
    theirs = write_model(tmp_path / "theirs", seed=5)
    (theirs / "README.md").write_text(
        "---\nlicense: other\nlicense_name: MIT AND ISC\n---\n"
    )  # as a student's card says it
    (tmp_path / "greeter.toml").write_text(format_toml(recipe))

    assert bazaar("amira", ["distill", tmp_path / "greeter.toml", "--out", tmp_path / "greeter"]) == 0
    card = (tmp_path / "greeter" / "README.md").read_text()
    assert "terms: Apache-2.0 AND CC-BY-4.0 AND CC0-1.0 AND ISC AND MIT" in card
    assert "start theirs" in card
    assert str(tmp_path) not in card

    (theirs / "README.md").unlink()  # nobody says what they allow
    assert bazaar("amira", ["distill", tmp_path / "greeter.corpus", "--start", theirs, "--epochs", "1", "--out", tmp_path / "more"]) == 0  # fmt: skip
    assert "LicenseRef-unknown" in (tmp_path / "more" / "README.md").read_text()


def test_from_scratch_by_the_command_line_alone(bazaar, tmp_path):
    """All that `--start scratch` needs can be typed; what is missing is said with what to type."""
    tmp_path /= "shop"
    tmp_path.mkdir()
    (tmp_path / "greeter.toml").write_text(format_toml(greeter(tmp_path)))
    assert bazaar("amira", ["corpus", "make", tmp_path / "greeter.toml", "--out", tmp_path / "corpus"]) == 0
    line = ["distill", tmp_path / "corpus", "--start", "scratch", "--layers", "1", "--epochs", "1", "--out", tmp_path / "new"]  # fmt: skip

    code, _, err = bazaar.says("amira", line)
    assert (code, "`hidden = 256`" in err) == (2, True)
    assert bazaar("amira", [*line, "--hidden", "16"]) == 0
    assert lab_model.load(tmp_path / "new").net.config.hidden_size == 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gguf": "q4_k"}, "one of f32, f16, bf16, q8_0"),
        ({"student": {"start": "nowhere"}}, "no config.json in"),
        ({"student": {"start": "teachr"}}, "did you mean 'teacher'?"),
    ],
    ids=str,
)
def test_what_cannot_end_well_is_not_begun(bazaar, tmp_path, change, said):
    """A wrong kind of file or a folder that is not there is said before the teacher is asked anything."""
    tmp_path /= "shop"
    tmp_path.mkdir()
    (tmp_path / "greeter.toml").write_text(format_toml({**greeter(tmp_path), "student": {"layers": 1}, **change}))
    code, _, err = bazaar.says("amira", ["distill", tmp_path / "greeter.toml", "--out", tmp_path / "greeter"])

    assert code != 0
    assert said in err
    assert not (tmp_path / "greeter.corpus").exists()
