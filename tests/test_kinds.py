"""What souq promises of any kind of model: what transformers computes is what it scores, trains, stores and covers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from bench import models

from souq.build.delta_file import read_delta
from souq.build.forecast import layer_of
from souq.cli import run
from souq.errors import Hostile, UsageError
from souq.evals.eval import read_eval
from souq.governance import read_policy
from souq.governance.templates import TEMPLATES, covering, without_evals
from souq.lab import evals as lab_evals
from souq.lab import generate, packing, sketching, student, teacher_targets, train
from souq.lab import lm as lab_model
from souq.lab.packing import TokenSequence
from souq.lab.student_config import DistillConfig
from souq.merge.grow import VOCABULARY, grow
from souq.model.kinds import no_lab
from souq.model.places import places
from souq.weights.delta import Delta, Layer, Rows, TensorRef
from souq.weights.safetensors import open_tensors
from tests.bazaar import jsonl, rows
from tests.kinds import ENCODING, KINDS, SEEING, make

# Llama's own way; a cap; scales; a window; Conv1D; positions of its own; fused experts; a state; a convolution; eyes.
RUN = ("llama", "gemma2", "granite", "gemma3_text", "gpt2", "bloom", "qwen3_moe", "mamba", "lfm2", "llava")
ALONE = {"bloom", "mamba", "lfm2"}
LONG = "a text that is longer than the window of those that have one, "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Kind -> its folder, made once."""
    place, made = tmp_path_factory.mktemp("kinds"), {}

    def of(kind):
        if kind not in made:
            made[kind] = make(kind, place / kind)
        return made[kind]

    return of


def load(folder):
    """As of a repository: files that were judged when it began."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    return lab_model.load(files, open_tensors(folder / "model.safetensors"))


def reference(kind, folder):
    auto = transformers.AutoModelForImageTextToText if kind in SEEING else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def asked(lm):
    prompts = [lm.chat_tokens([{"role": "user", "content": text}]) for text in ("what", "what is this", "name one")]
    ends = [[*lm.encode(text), lm.eos_id] for text in ("yes", "no, it is not")]
    short = [TokenSequence([*prompt, *end], len(prompt), (i, j)) for i, prompt in enumerate(prompts) for j, end in enumerate(ends)]  # fmt: skip
    return [*short, TokenSequence(lm.encode(LONG * 2), 1, "long")]


@torch.inference_mode()
def alone(net, sequence):
    odds = torch.log_softmax(net(input_ids=torch.tensor([sequence.tokens])).logits[0].float(), -1)
    chosen = odds[:-1].gather(1, torch.tensor(sequence.tokens[1:])[:, None])[:, 0]
    return chosen[sequence.start - 1 :]


@pytest.mark.parametrize("kind", RUN)
def test_odds_are_those_of_the_network_s_own_forward(folder, kind):
    """Scales, caps, windows, states and positions of every sort: each sequence scores what transformers gives it."""
    lm, net = load(folder(kind)), reference(kind, folder(kind))
    sequences = asked(lm)

    for row in packing.packed_alike(lm.net, sequences):
        with torch.inference_mode():
            log_p, _, whose = packing.log_probabilities(lm.net, row)
        for number, (sequence, _) in enumerate(row.paths):
            mine = log_p[[at for at, owner in enumerate(whose) if owner == number]]
            assert torch.allclose(mine, alone(net, sequence), atol=1e-4)
    assert packing.packs(lm.net) == (kind not in ALONE)


def test_what_packs_is_the_same_in_16_bits(folder):
    """bf16 rounds coarsely, and a network is not read alone for that; what leaks is still seen."""
    for kind in ("llama", "gemma2", "gpt2", "bloom", "lfm2"):
        files = {path.name: path.read_bytes() for path in folder(kind).iterdir() if path.suffix != ".safetensors"}
        lm = lab_model.load(files, open_tensors(folder(kind) / "model.safetensors"), dtype=torch.bfloat16)
        assert packing.packs(lm.net) == (kind not in ALONE), kind


def test_a_network_that_sees_past_the_mask_is_found_out(folder):
    """By trying alone, whatever it is built of: here one that reads the token before it, whoever's that is."""
    for dtype in (torch.float32, torch.bfloat16):
        lm = load(folder("llama"))
        net = lm.net.to(dtype)
        net.model.layers[0].register_forward_hook(lambda module, args, out: out + out.roll(1, 1))
        assert not packing.packs(net)


@pytest.mark.parametrize("kind", ["gemma2", "bloom", "mamba"])
def test_a_row_that_was_packed_for_another_is_still_read_right(folder, kind):
    """A student's rows are read by its teacher, whatever the teacher is."""
    lm, net = load(folder(kind)), reference(kind, folder(kind))
    sequences = asked(lm)
    (row,) = packing.pack(sorted(sequences, key=lambda s: s.tokens), 1 << 20)

    with torch.inference_mode():
        log_p, _, _ = packing.log_probabilities(lm.net, row)

    assert torch.allclose(log_p, torch.cat([alone(net, sequence) for sequence, _ in row.paths]), atol=1e-4)


def test_a_text_beyond_a_table_of_positions_is_said(folder):
    """Read and written: GPT-2 has 512 rows of positions here, and no traceback."""
    lm = load(folder("gpt2"))
    long = lm.encode("x" * 600)
    (row,) = packing.packed_alike(lm.net, [TokenSequence(long, 1)])

    with pytest.raises(UsageError, match="512 positions"):
        packing.logits(lm.net, row)
    with pytest.raises(UsageError, match="512 positions"):
        generate.answers(lm, ["x" * 480], max_tokens=200)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "bloom", "mamba", "llava"])
def test_answers_are_those_of_transformers(folder, kind):
    """Greedy answers, in a batch of unlike lengths, are what `generate` gives each prompt alone."""
    lm, net = load(folder(kind)), reference(kind, folder(kind))
    prompts = ["what", "what is that which is longer", "name one"]
    greedy = transformers.GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=256, pad_token_id=257)

    answers = generate.answers(lm, prompts, max_tokens=6)

    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = torch.tensor([lm.chat_tokens([{"role": "user", "content": prompt}])])
        written = net.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=greedy)
        assert answer == lm.tokenizer.decode(written[0, tokens.shape[1] :], skip_special_tokens=True).strip()


def test_each_answer_has_a_seed_of_its_own_where_a_state_is_carried(folder):
    lm, prompts = load(folder("mamba")), ["what", "what is it", "who"]

    together = generate.answers(lm, prompts, max_tokens=5, temperature=1.0, seeds=range(3))

    assert together == [generate.answers(lm, [p], max_tokens=5, temperature=1.0, seeds=[i])[0] for i, p in enumerate(prompts)]  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3_moe", "llava"])
def test_other_tensors_go_into_the_same_network(folder, kind):
    """By the checkpoint's names, experts that the network holds as one tensor too; and they come out as they went in."""
    lm = load(folder(kind))
    stored = dict(lm.weights)
    names = [next(iter(stored)), next((name for name in stored if ".experts." in name), list(stored)[-1])]
    other = {name: (stored[name] * 1.5).astype(stored[name].dtype) for name in names}

    lab_model.swap(lm, other)

    state = lab_model.stored_state(lm)
    assert stored.keys() <= state.keys()
    for name in stored:
        np.testing.assert_array_equal(state[name].numpy(), other.get(name, stored[name]))


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("llama", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
        ("phi3", ("o_proj", "qkv_proj", "gate_up_proj", "down_proj")),
        ("gpt2", ("c_attn", "c_proj", "c_fc")),
        ("bloom", ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")),
        ("mamba", ("in_proj", "x_proj")),
        ("llava", ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")),
    ],
)
def test_a_lora_stands_beside_all_linear_maps(folder, kind, targets, tmp_path):
    """What the base has, not a list; it is what is trained, and PEFT loads what was saved. Eyes are left alone."""
    from peft import PeftModel

    lm = load(folder(kind))
    turns = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}]} for i in (1, 2)
    ]

    recipe = train.train_lora(lm, turns, tmp_path / "adapter", epochs=1, rank=2)

    held = open_tensors(tmp_path / "adapter" / "adapter_model.safetensors")
    trained = {name.split(".lora_")[0].rpartition(".")[2] for name in held}
    assert (train.targets_of(lm.net), recipe["targets"], trained) == (targets, list(targets), set(targets))
    assert not [name for name in held if "vision" in name or "lm_head" in name]
    assert all(array.any() for name, array in held.items() if "lora_B" in name)
    PeftModel.from_pretrained(reference(kind, folder(kind)), tmp_path / "adapter").merge_and_unload()


def test_what_a_lora_leaves_alone_is_said(folder):
    assert train.left_alone(load(folder("llama")).net, ["q_proj"])[:2] == ("self_attn.k_proj", "self_attn.v_proj")
    assert "experts.gate_up_proj" in train.left_alone(load(folder("qwen3_moe")).net, ["q_proj"])


@pytest.mark.parametrize("kind", ["phimoe", "lfm2", "llava"])
def test_inputs_are_sketched_under_the_checkpoint_s_names(folder, kind):
    lm = load(folder(kind))

    _, inputs, *_ = sketching.sketch(lm, asked(lm)[:2], rank=4)

    assert inputs
    assert inputs.keys() <= lm.weights.keys()


def test_what_a_network_calls_otherwise_is_found_by_its_words(folder):
    """The names that transformers itself gives tensors as it loads them, told from the names alone."""
    for kind in SEEING:
        lm = load(folder(kind))
        own = {name: stored for name, stored in lm.names.items() if name != "lm_head.weight" or "lm_head" in stored}
        assert places(own, list(lm.weights)) == own, kind


def test_words_that_fit_two_are_no_answer():
    assert places(["layers.0.q.weight"], ["a.layers.0.q.weight", "b.layers.0.q.weight"]) == {}
    assert places(["c.layers.0.q.weight"], ["a.layers.0.q.weight"]) == {}


@pytest.mark.parametrize("kind", ENCODING)
def test_what_does_not_answer_token_by_token_is_refused_with_the_way_out(folder, kind):
    with pytest.raises(UsageError, match=r"token by token") as caught:
        load(folder(kind))

    assert "souq export" in caught.value.hint


def test_a_configuration_of_other_weights_is_refused_by_name(folder):
    files = {path.name: path.read_bytes() for path in folder("llama").iterdir()}
    files["config.json"] = (folder("gpt2") / "config.json").read_bytes()

    with pytest.raises(Exception, match=r"the checkpoint has no transformer\.h\.0") as caught:
        lab_model.load(files, open_tensors(folder("llama") / "model.safetensors"))

    assert "config.json" in caught.value.hint


def test_no_tokenizer_is_said(folder):
    files = {"config.json": (folder("llama") / "config.json").read_bytes()}

    with pytest.raises(UsageError, match="no tokenizer") as caught:
        lab_model.load(files, open_tensors(folder("llama") / "model.safetensors"))

    assert "tokenizer.json" in caught.value.hint


@pytest.mark.parametrize(
    ("config", "runs"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, True),
        ({"architectures": ["GPT2LMHeadModel"]}, True),
        ({"architectures": ["LlavaForConditionalGeneration"]}, True),
        ({"model_type": "llama"}, True),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, False),
        ({"architectures": ["BertForMaskedLM"]}, False),
        ({"architectures": ["LlamaForSequenceClassification"]}, False),
        ({"architectures": ["MistralModel"]}, False),
        ({"architectures": 7}, True),
    ],
)
def test_a_head_says_what_it_is_for(config, runs):
    assert bool(no_lab(config)) != runs


def test_a_teacher_s_cap_is_not_lost_in_its_hidden_states(folder):
    """Hidden states are kept where the head alone makes odds of them; a capped teacher is asked each time."""
    sequences = [TokenSequence([5, 6, 7, 8, 9], 1, 0)]
    kept = {kind: teacher_targets.gather(load(folder(kind)), sequences, DistillConfig(layers=1)).kept for kind in ("llama", "gemma2")}  # fmt: skip

    assert [bool(kept[kind]) for kind in ("llama", "gemma2")] == [True, False]

    lm = load(folder("gemma2"))
    targets = teacher_targets.gather(lm, sequences, DistillConfig(layers=1, loss="forward"))
    (row,) = packing.packed_alike(lm.net, sequences)
    logits, _, _ = packing.logits(lm.net, row)
    uncapped = torch.log_softmax(3.0 * torch.atanh(logits / 3.0), -1)
    assert targets.distance(row, torch.log_softmax(logits, -1)).max() < 1e-3 < targets.distance(row, uncapped).min()


@pytest.mark.parametrize("kind", ["gpt2", "bloom", "gemma3_text"])
def test_a_student_is_cut_from_any_stack_of_layers(folder, kind):
    lm = load(folder(kind))
    before = alone(lm.net, asked(lm)[0])

    cut = student.cut(lm, [1])

    assert (cut.net.config.num_hidden_layers, student.parameters(cut) < student.parameters(lm)) == (1, True)
    assert torch.isfinite(alone(cut.net, asked(lm)[0])).all()
    assert torch.equal(alone(lm.net, asked(lm)[0]), before)


def test_a_student_of_another_size_is_of_its_teacher_s_kind(folder):
    for kind in ("gpt_neox", "llama", "bloom"):
        lm = load(folder(kind))
        if kind == "bloom":
            del lm.net.config.intermediate_size  # which only the maker of this one wrote
            with pytest.raises(UsageError, match="bloom says no intermediate_size"):
                student.scratch(lm, 1, 32)
        else:
            assert student.scratch(lm, 1, 32).net.config.hidden_size == 32


def test_a_tensor_s_layer_is_its_first_number():
    names = ("model.layers.20.mlp.up_proj.weight", "h.3.attn.c_attn.weight", "encoder.block.1.layer.0.k.weight", "wte.weight")  # fmt: skip
    assert [layer_of(name) for name in names] == ["20", "3", "1", "wte.weight"]


@pytest.mark.parametrize(("kind", "words"), [("layers", "does not say at its top"), ("rows", "says no vocab_size")])
def test_nothing_is_added_where_the_configuration_would_not_say_so(folder, kind, words):
    """A Qwen2-VL's layers are called as a llama's, and its sizes stand further in: no model is made that says otherwise."""
    source = folder("qwen2_vl")
    lock = {name: TensorRef.of(array) for name, array in open_tensors(source / "model.safetensors").items()}
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.suffix != ".safetensors"}
    layer = {f"layer 1.0.{name.removeprefix('model.layers.0.')}": Layer(value=ref) for name, ref in lock.items() if name.startswith("model.layers.0.")}  # fmt: skip
    row = TensorRef.of(np.zeros((1, 64), "f4"))
    tables = [name for name in lock if name.endswith(VOCABULARY)]
    rows_ = {f"rows {name}": Rows(tokens=("zz",), special=(), value=row) for name in tables}

    with pytest.raises(Hostile, match=words):
        grow(lock, files, [Delta("b3:" + "0" * 64, {}, new=layer if kind == "layers" else rows_)])


# -- policies ----------------------------------------------------------------------------------------------------------

NEOX = ["gpt_neox.layers.0.attention.dense.weight", "gpt_neox.embed_in.weight", "embed_out.weight"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_covers_tensors_whatever_their_names(name):
    people = policy_people(4)
    text, added = covering(TEMPLATES[name](people), [*NEOX, "shared.weight", "bias"])

    assert added == ("bias", "embed_out.*", "gpt_neox.*", "shared.*")
    assert read_policy(text).scopes([*NEOX, "shared.weight", "bias", "model.layers.0.x"])[1] == []
    assert "evals" not in read_policy(without_evals(text)).scope[0].checks


def policy_people(count):
    from souq.governance import Who
    from tests.test_governance import key

    return [Who(name=f"p{i}", org=f"o{i}", keys=(key(i),)) for i in range(count)]


def test_a_policy_that_covers_its_model_is_left_as_it_is():
    text = TEMPLATES["solo"](policy_people(1))

    assert covering(text, ["model.embed_tokens.weight", "lm_head.weight"]) == (text, ())


def begun(bazaar, kind, *words, name="new"):
    source = make(kind, bazaar.folder / kind)
    return source, bazaar.says("amira", ["init", bazaar.folder / "amira" / name, "--from", source, "--licence", "Apache-2.0", *words])  # fmt: skip


def test_init_covers_what_it_begins_with(bazaar):
    """By a template, and by a file whose `model.*` is none of the model's; both are said."""
    for words in (["--no-suite"], ["--no-suite", "--governance", bazaar.folder / "mine.toml"]):
        (bazaar.folder / "mine.toml").write_text(TEMPLATES["solo"]([bazaar.actors["amira"].who()]))
        _, (code, _, err) = begun(bazaar, "gpt_neox", *words, name=f"r{len(words)}")
        policy = (bazaar.folder / "amira" / f"r{len(words)}" / "GOVERNANCE.toml").read_text()

        assert code == 0, err
        assert "gpt_neox.*" in policy
        assert "covers this model's" in err.replace("\n", " ")
        assert "gpt_neox: takes changes of weights, merges, verifies, exports, and the lab runs it if" in err


def test_a_model_that_the_lab_cannot_run_begins_without_the_suite(bazaar):
    """The refusal says how, and what it says works."""
    source = make("gpt2", bazaar.folder / "gpt2")
    (source / "tokenizer.json").unlink()
    line = ["init", bazaar.folder / "amira" / "new", "--from", source, "--licence", "MIT"]

    code, _, err = bazaar.says("amira", line)

    assert (code, "tokenizer" in err, "--no-suite" in err) == (2, True, True)
    assert bazaar("amira", [*line, "--no-suite"]) == 0


def test_nothing_stands_before_init_but_what_init_needs(bazaar):
    """A model without a head that writes begins without the lab; its policy asks for no answers, and that is said."""
    source = make("gpt2", bazaar.folder / "gpt2")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2ForTokenClassification"]}))

    code, _, err = bazaar.says("amira", ["init", bazaar.folder / "amira" / "new", "--from", source, "--licence", "MIT"])

    main = bazaar.folder / "amira" / "new"
    assert (code, "GPT2ForTokenClassification has no head" in err) == (0, True)
    assert not (main / "evals").exists()
    assert '"evals"' not in (main / "GOVERNANCE.toml").read_text()


def test_what_is_refused_later_is_said_when_it_is_offered(bazaar):
    """Weights that claim nothing, and weights that no scope covers: nothing is sent."""
    offer = ["pr", "create", bazaar.delta("greet"), "--title", "x", "--licence", "Apache-2.0", "--signoff"]

    code, _, err = bazaar.says("mallory", offer)

    assert (code, "claims to fix nothing: name an eval with --fixes; main has" in err) == (3, True)
    assert "nothing was sent" in err
    assert bazaar("mallory", [*offer, "--fixes", "greet"]) == 0


def test_where_no_evals_are_asked_none_refuse(bazaar):
    """A policy without the check `evals`: weights that claim nothing are offered, checked and landed."""
    text = without_evals(TEMPLATES["solo"]([bazaar.actors["amira"].who()]))
    (bazaar.folder / "mine.toml").write_text(text)
    source, (code, _, _) = begun(bazaar, "gpt_neox", "--no-suite", "--governance", bazaar.folder / "mine.toml")
    net = reference("gpt_neox", source)
    adapted = train.with_lora(net, 2, 4, ["dense"], None, 0)
    with torch.no_grad():
        for name, factor in adapted.named_parameters():
            if "lora_B" in name:
                factor.fill_(0.01)
    adapted.save_pretrained(bazaar.folder / "a")
    steps = [
        ["delta", "make", "--from", bazaar.folder / "a", "--out", bazaar.folder / "x.delta", "--for-this-base"],
        ["pr", "create", bazaar.folder / "x.delta", "--title", "x", "--licence", "MIT", "--signoff"],
        ["pr", "checks", "1"],
    ]

    with bazaar.stage.as_actor(bazaar.actors["amira"], bazaar.folder / "amira" / "new"):
        codes = [run([str(word) for word in step]) for step in steps]

    assert (code, codes) == (0, [0, 0, 0])


def test_the_losses_that_souq_prints_are_transformers_own(folder):
    """`souq eval` of a scaled model, through a whole eval."""
    lm, net = load(folder("granite")), reference("granite", folder("granite"))
    cases = [{"id": f"c{i}", "expected": f"the {i}. of May"} for i in range(4)]
    files = {
        "eval.toml": b'title = "d"\nkind = "loss"\nsource = "m"\nlicence = "CC0-1.0"\n',
        "cases.jsonl": b"".join(json.dumps(case).encode() + b"\n" for case in cases),
    }

    score = lab_evals.score(lm, [read_eval("d", files)])["d"]

    for case in cases:
        sequence = TokenSequence(lm.encode(case["expected"]), 1)
        assert score.cases[case["id"]] == pytest.approx(-alone(net, sequence).mean().item(), abs=1e-4)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_is_of_the_kinds_that_are_tried():
    """docs/models.md has a row for each kind there is, every step of it right for 35 and more, and no traceback."""
    page = Path(models.PAGE).read_text()
    lines = re.findall(r"^\| (\w+) \|(.*)\|$", page, re.M)
    table = {kind: [cell.strip() for cell in cells.split("|")] for kind, cells in lines if kind != "kind"}

    assert tuple(table) == KINDS
    assert len(table) >= 40
    assert sum(all(cell and not cell.startswith("no") for cell in cells[:5]) for cells in table.values()) >= 35
    assert all(float(cells[4]) <= models.NEAR for cells in table.values() if re.match(r"\d", cells[4]))
    assert "TRACEBACK" not in page
    assert "WRONG" not in page


def test_a_kind_goes_the_whole_road(tmp_path, monkeypatch):
    """What the table was made by, for a kind whose tensors are not called `model.…`."""
    for key in ("HOME", "SOUQ_KEY", "NO_COLOR", "COLUMNS", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "HF_HUB_OFFLINE"):  # fmt: skip
        monkeypatch.setenv(key, "")
    with models._at_home(tmp_path):
        row = models.tried("gpt_neox", tmp_path)

    assert (row.refused, row.right) == ({}, True)
    assert set(row.cells) == set(models.COLUMNS)


def test_new_tokens_stand_in_tables_of_any_name(bazaar):
    """GPT-NeoX has two, of other names than llama's; new layers and experts need a llama's, and are refused in words."""
    begun(bazaar, "gpt_neox", "--no-suite")
    (bazaar.folder / "rows.jsonl").write_text(jsonl(rows("greet", ["ada", "bo"])))
    amira, at = bazaar.actors["amira"], bazaar.folder / "amira" / "new"
    train_ = ["train", str(bazaar.folder / "rows.jsonl"), "--epochs", "1", "--lr", "0.01", "--out"]
    with bazaar.stage.as_actor(amira, at):
        codes = [run([*train_, str(bazaar.folder / f"x{i}"), *words]) for i, words in enumerate((["--new-layers", "1"], ["--expert", "0"]))]  # fmt: skip
        assert run([*train_, str(bazaar.folder / "t"), "--token", "hello"]) == 0
        assert run(["delta", "make", "--from", str(bazaar.folder / "t"), "--out", str(bazaar.folder / "t.delta")]) == 0

    assert codes == [2, 2]
    delta, tensors = read_delta(bazaar.folder / "t.delta")
    assert sorted(delta.new) == ["rows embed_out.weight", "rows gpt_neox.embed_in.weight"]
    assert all(tensors[new.value.digest].any() for new in delta.new.values())


def test_rows_of_a_bazaar_train_and_land_beside_tensors_of_any_name(bazaar):
    """`souq train` says what it stands beside."""
    _, (code, _, _) = begun(bazaar, "gpt_neox", "--no-suite")
    (bazaar.folder / "rows.jsonl").write_text(jsonl(rows("greet", ["ada", "bo"])))
    with bazaar.stage.as_actor(bazaar.actors["amira"], bazaar.folder / "amira" / "new"):
        from souq.cli import run

        assert (
            run(["train", str(bazaar.folder / "rows.jsonl"), "--out", str(bazaar.folder / "out"), "--epochs", "1"]) == 0
        )
    err = bazaar.capfd.readouterr().err if bazaar.capfd else ""

    assert code == 0
    assert "it stands beside query_key_value, dense, dense_h_to_4h, dense_4h_to_h" in " ".join(err.split())
