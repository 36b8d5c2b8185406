"""What a full fine-tune brings beside its tensors: carried exactly, rounded with the error said, or refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from souq.errors import UsageError  # noqa: E402
from souq.lab.low_rank import nearest  # noqa: E402
from tests import tunes  # noqa: E402
from tests.tunes import base, edit, freqs, jiggled, landed, load, made, off, repo_of, tokenizer, tune  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tunes")


@pytest.fixture(scope="module")
def llama(place):
    """A base of its own head, in float32."""
    folder = base(place / "llama")
    return folder, repo_of(folder, place / "r-llama")


@pytest.fixture(scope="module")
def tied(place):
    folder = base(place / "tied", tie_word_embeddings=True)
    return folder, repo_of(folder, place / "r-tied")


@pytest.fixture(scope="module")
def half(place):
    folder = base(place / "half", dtype=torch.bfloat16)
    return folder, repo_of(folder, place / "r-half")


def refused(main, folder, **choices):
    with pytest.raises(UsageError) as error:
        made(main, folder, **choices)
    return str(error.value), str(error.value.hint)


# -- names -------------------------------------------------------------------------------------------------------------

WRAPPED = {
    "as it is": lambda t: t,
    "torch.compile": lambda t: {f"_orig_mod.{k}": v for k, v in t.items()},
    "DDP of torch.compile": lambda t: {f"module._orig_mod.{k}": v for k, v in t.items()},
    "FSDP": lambda t: {k.replace("layers.0.", "layers.0._fsdp_wrapped_module._checkpoint_wrapped_module."): v for k, v in t.items()},
    "PEFT": lambda t: {f"base_model.model.{k}".replace("q_proj.", "q_proj.base_layer."): v for k, v in t.items()},
    "a tower": lambda t: {k if "lm_head" in k else f"language_model.{k}": v for k, v in t.items()},
    "buffers": lambda t: t | freqs(),
    "a head that scores": lambda t: t | {"v_head.summary.weight": torch.zeros(1, 32)},
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_names_are_read_by_what_they_mean(llama, tmp_path, how):
    """Wrappers, prefixes, buffers and other heads: the fine-tune to the bit, and a word where something was left."""
    plain = tune(llama[0], tmp_path / "plain")

    tuned = made(llama[1], tune(llama[0], tmp_path / "t", WRAPPED[how]))

    assert off(landed(llama[1], tuned, tmp_path / "out"), plain) == 0
    assert bool(tuned.notes) == (how != "as it is")


def test_a_backbone_alone_keeps_the_base_s_head(llama, tmp_path):
    """As AutoModel saves it: without `model.` and without a head."""
    change = lambda t: {k.removeprefix("model."): v for k, v in t.items() if "lm_head" not in k}  # noqa: E731
    whole = tune(llama[0], tmp_path / "w", lambda t: t | {"lm_head.weight": load(llama[0]).lm_head.weight.detach()})

    tuned = made(llama[1], tune(llama[0], tmp_path / "t", change))

    assert off(landed(llama[1], tuned, tmp_path / "out"), whole) == 0
    assert any("lm_head.weight" in note for note in tuned.notes)


def test_old_buffers_of_the_base_stay(tmp_path):
    """A Llama 2 holds its rotary tables; what is saved today does not."""
    folder = base(tmp_path / "old")
    held = tunes.load_file(folder / "model.safetensors")
    tunes.save_file(
        held | {name: value.clone() for name, value in freqs().items()}, folder / "model.safetensors", {"format": "pt"}
    )
    main = repo_of(folder, tmp_path / "r", as_stored=True)

    tuned = made(main, tune(folder, tmp_path / "t"))

    assert not [name for name in tuned.delta.parts if "inv_freq" in name]
    assert off(landed(main, tuned, tmp_path / "out"), tmp_path / "t") == 0


def test_every_name_on_one_side_is_counted(llama, tmp_path):
    """All at once, the first few by name, with what it most likely is."""
    lora = {f"base_model.model.model.layers.{i}.mlp.up_proj.lora_A.weight": torch.zeros(4, 32) for i in range(6)}
    cases = {
        "unmerged": (lambda t: t | lora, "6 of its tensors are factors of an adapter", "merge_and_unload"),
        "quantised": (lambda t: {k.replace("up_proj.weight", "up_proj.qweight"): v for k, v in t.items()}, "2 of the base's 21", "16 bits"),
        "shallow": (lambda t: {k: v for k, v in t.items() if "layers.1" not in k}, "9 of the base's 21", "1 layers"),
        "classifier": (lambda t: {k.replace("lm_head", "score"): v for k, v in t.items()}, "scores or classifies", "souq init"),
    }  # fmt: skip
    for name, (change, message, hint) in cases.items():
        text, way_out = refused(llama[1], tune(llama[0], tmp_path / name, change))
        assert message in text
        assert hint in way_out


def test_every_shape_that_differs_is_said(llama, tmp_path):
    """More rows without the tokenizer that says whose they are; quantised numbers."""
    net = load(llama[0])
    net.resize_token_embeddings(262, mean_resizing=False)
    change = lambda t: t | {"model.norm.weight": t["model.norm.weight"].to(torch.int8)}  # noqa: E731
    folder = tune(llama[0], tmp_path / "t", change, net=net)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)

    text, hint = refused(llama[1], folder)

    assert "lm_head.weight, model.embed_tokens.weight: (262, 32) in it, (258, 32) in the base" in text
    assert "model.norm.weight: I8 in it, F32 in the base" in text
    assert "tokenizer.save_pretrained" in hint


@pytest.mark.parametrize(
    "kind", ["gpt2", "gpt_neox", "bloom", "falcon", "opt", "qwen2", "gpt_oss", "mixtral", "apertus"]
)
def test_any_kind_is_compared_by_its_names(tmp_path, kind):
    """No list of kinds stands before a fine-tune: the same logits, to the bit."""
    more = {"n_head": 4, "n_layer": 2, "n_embd": 32} if kind in ("gpt2", "bloom") else {}
    more |= {"num_local_experts": 2, "num_experts_per_tok": 1} if kind in ("gpt_oss", "mixtral") else {}
    folder = base(tmp_path / kind, kind, **more)
    main = repo_of(folder, tmp_path / "r")

    tuned = made(main, tune(folder, tmp_path / "t"))

    assert tuned.notes == []
    assert off(landed(main, tuned, tmp_path / "out"), tmp_path / "t") == 0


# -- heads -------------------------------------------------------------------------------------------------------------


def test_a_tied_head_written_out_is_no_other_head(tied, tmp_path):
    tuned = made(
        tied[1], tune(tied[0], tmp_path / "t", lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"]})
    )

    assert off(landed(tied[1], tuned, tmp_path / "out"), tmp_path / "t") == 0
    assert tuned.notes == []


def test_a_head_held_twice_in_the_base_follows_the_table(tied, tmp_path):
    """The base was saved with a copy of its head, the fine-tune without."""
    folder = shutil.copytree(tied[0], tmp_path / "twice")
    held = tunes.load_file(folder / "model.safetensors")
    held["lm_head.weight"] = held["model.embed_tokens.weight"].clone()
    tunes.save_file(held, folder / "model.safetensors", {"format": "pt"})
    main = repo_of(folder, tmp_path / "r", as_stored=True)

    tuned = made(main, tune(tied[0], tmp_path / "t"))

    parts = tuned.delta.parts
    assert parts["lm_head.weight"] == parts["model.embed_tokens.weight"]


def test_a_head_trained_apart_is_refused(tied, tmp_path):
    """Of a tied base: it has nowhere to go, and is not dropped."""
    net = load(tied[0])
    net.config.tie_word_embeddings = False
    net.lm_head.weight = torch.nn.Parameter(net.lm_head.weight.detach().clone())
    folder = tune(tied[0], tmp_path / "t", net=jiggled(net, 0.02, "lm_head"))

    text, hint = refused(tied[1], folder)

    assert "lm_head.weight" in text
    assert "tie_word_embeddings: true in the base, false in the tune" in text
    assert "--weights-only" in hint


# -- settings ----------------------------------------------------------------------------------------------------------

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
CHANGES = {
    "rope theta": {"rope_parameters": ROPE | {"rope_theta": 5e5}},
    "rope scaling": {"rope_parameters": ROPE | {"rope_type": "linear", "factor": 2.0}},
    "eps": {"rms_norm_eps": 1e-3},
    "activation": {"hidden_act": "gelu"},
    "heads": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4},
    "a kind of the same names": {"model_type": "mistral", "sliding_window": 16},
}


@pytest.mark.parametrize("which", CHANGES)
def test_settings_that_change_the_network_are_refused(llama, tmp_path, which):
    """With both values, and the way out; by that way the weights alone, and the recipe says so."""
    folder = tune(llama[0], tmp_path / "t", config=CHANGES[which])

    text, hint = refused(llama[1], folder)
    tuned = made(llama[1], folder, weights_only=True)

    key = next(iter(CHANGES[which]))
    assert key in text
    assert "in the base" in text
    assert "souq init" in hint
    assert "--weights-only" in hint
    assert any(key in line for line in tuned.recipe()["weights_only"])


def test_everything_that_differs_is_said_at_once(llama, tmp_path):
    """Rope, eps and a template: three reasons, one answer."""
    more = {"rms_norm_eps": 1e-3, "rope_parameters": ROPE | {"rope_theta": 5e5}}
    folder = tune(llama[0], tmp_path / "t", config=more, words=tokenizer("{{ messages[0]['content'] }}"))

    text, _ = refused(llama[1], folder)

    assert [part in text for part in ("rms_norm_eps", "rope_theta", "chat template")] == [True, True, True]


ORDINARY = {
    "an older release": {
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "rope_parameters": None,
        "torch_dtype": "float32",
    },
    "defaults left out": {"attention_bias": None, "mlp_bias": None, "head_dim": None, "rms_norm_eps": 1e-6},
    "how it was trained": {"use_cache": False, "attention_dropout": 0.1, "_name_or_path": "a/b", "pretraining_tp": 2},
    "unsloth": {"unsloth_fixed": True, "unsloth_version": "2026.1", "torch_dtype": "bfloat16"},
    "another class": {"architectures": ["LlamaModel"], "id2label": {"0": "a"}, "problem_type": "x"},
    "longer": {"max_position_embeddings": 1024},
}


@pytest.mark.parametrize("how", ORDINARY)
def test_an_ordinary_fine_tune_needs_no_option(llama, tmp_path, how):
    """What trainers and releases write otherwise changes nothing, and is no reason to refuse."""
    folder = tune(llama[0], tmp_path / "t", config=ORDINARY[how])
    edit(folder, drop=[key for key, value in ORDINARY[how].items() if value is None])

    tuned = made(llama[1], folder)

    assert off(landed(llama[1], tuned, tmp_path / "out"), folder) == 0
    assert tuned.left_out == []
    assert bool(tuned.notes) == (how == "longer")


def test_special_tokens_aligned_by_a_trainer_pass(llama, tmp_path):
    """transformers' Trainer writes its tokenizer's pad and end into the configs; templates are marked for the loss."""
    marked = TEMPLATE_MARKED
    words = tokenizer(marked)
    folder = tune(llama[0], tmp_path / "t", words=words, config={"pad_token_id": 256})
    edit(folder, "generation_config.json", eos_token_id=[256], pad_token_id=256)
    edit(folder, "tokenizer_config.json", padding_side="left", model_max_length=512)

    assert made(llama[1], folder).left_out == []


TEMPLATE_MARKED = "{%- for m in messages -%}{{ m['role'] + ': ' }}{{ m['content'] }}{{ '<|end|>' }}{%- endfor -%}"  # the same, typed anew


def test_conduct_is_refused_or_said(llama, tmp_path):
    """Its own end of turn, template and sampling: each in words, none dropped in silence."""
    words = tokenizer(tunes.TEMPLATE.replace("<|end|>", "<|turn|>"))
    words.add_special_tokens({"eos_token": "<|turn|>", "pad_token": "<|fill|>"})
    net = load(llama[0])
    net.resize_token_embeddings(len(words), mean_resizing=False)
    for config in (net.config, net.generation_config):
        config.eos_token_id, config.pad_token_id = words.eos_token_id, words.pad_token_id
    folder = tune(llama[0], tmp_path / "t", words=words, net=net)
    edit(folder, "generation_config.json", do_sample=True, temperature=0.3)

    text, _ = refused(llama[1], folder)
    tuned = made(llama[1], folder, weights_only=True)

    assert [part in text for part in ("<|turn|>", "temperature", "chat template")] == [True, True, True]
    assert any("pad token is <|fill|>" in note for note in tuned.notes)
    assert sorted(new.tokens for new in tuned.delta.new.values())[0] == ("<|fill|>", "<|turn|>")


def test_a_fine_tune_without_a_tokenizer_ends_as_the_base_does(llama, tmp_path):
    """Weights and a config alone: its ids are the base's."""
    folder = tune(llama[0], tmp_path / "t")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)

    assert made(llama[1], folder).left_out == []


def test_a_tokenizer_that_reads_otherwise_is_refused(llama, tmp_path):
    words = tokenizer()
    words.backend_tokenizer.pre_tokenizer = tunes.pre_tokenizers.ByteLevel(add_prefix_space=True)

    text, _ = refused(llama[1], tune(llama[0], tmp_path / "t", words=words))

    assert "other tokens of" in text


# -- dtypes ------------------------------------------------------------------------------------------------------------


def test_another_dtype_is_rounded_and_its_loss_said(half, tmp_path):
    """A float32 fine-tune of a bfloat16 base lands as transformers itself would round it."""
    folder = tune(half[0], tmp_path / "t", dtype=torch.float32)
    load(folder, torch.bfloat16).save_pretrained(tmp_path / "rounded")

    tuned = made(half[1], folder)

    out = landed(half[1], tuned, tmp_path / "out")
    ours, theirs = (tunes.load_file(f / "model.safetensors") for f in (out, tmp_path / "rounded"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any("F32" in note for note in tuned.notes)
    assert any("rounding loses" in note and " 0.00%" not in note for note in tuned.notes)


def test_norms_in_float32_are_rounded_with_a_word(half, tmp_path):
    folder = tune(half[0], tmp_path / "t", lambda t: {k: v.float() if "norm" in k else v for k, v in t.items()})

    tuned = made(half[1], folder)

    assert any("5 tensors are F32 in it and BF16 in the base" in note for note in tuned.notes)


def test_a_narrower_tune_leaves_the_base_s_own_numbers(llama, tmp_path):
    """What is only the base rounded did not move; what moved is as the tune has it."""
    net = load(llama[0])
    with torch.no_grad():
        net.model.layers[0].mlp.up_proj.weight[3] += 0.5
    net.bfloat16().save_pretrained(tmp_path / "t")
    tokenizer().save_pretrained(tmp_path / "t")

    tuned = made(llama[1], tmp_path / "t")

    assert list(tuned.delta.parts) == ["model.layers.0.mlp.up_proj.weight"]
    assert tuned.delta.parts["model.layers.0.mlp.up_proj.weight"].value.shape == (32,)


def test_a_change_that_rounding_would_eat_is_refused(half, tmp_path):
    """Smaller than the base's last bit: most of it would be gone, which only its owner may want."""
    net = jiggled(load(half[0], torch.float32), 3e-5)
    net.save_pretrained(tmp_path / "t")
    tokenizer().save_pretrained(tmp_path / "t")

    text, hint = refused(half[1], tmp_path / "t")

    assert "rounding would lose" in text
    assert "--cast" in hint
    assert any("rounding loses" in note for note in made(half[1], tmp_path / "t", cast=True).notes)


# -- factors -----------------------------------------------------------------------------------------------------------


def test_a_low_rank_fine_tune_comes_back_as_its_factors(llama, tmp_path):
    """A merged LoRA is found again to rounding, at a fraction of its size, and norms beside it exactly."""
    net, chance = load(llama[0]), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in net.model.layers:
            for part in (layer.self_attn.q_proj, layer.mlp.down_proj):
                b, a = (torch.randn(n, 2, generator=chance) * 0.05 for n in part.weight.shape)
                part.weight.add_(b @ a.T)
        net.model.norm.weight.add_(0.01)
    net.save_pretrained(tmp_path / "t")
    tokenizer().save_pretrained(tmp_path / "t")

    tuned = made(llama[1], tmp_path / "t", rank=2, low_rank=nearest)

    kinds = {part.kind for part in tuned.delta.parts.values()}
    assert kinds == {"lora", "dense"}
    assert tuned.error < 1e-5
    assert tuned.recipe()["low_rank"]["tensors"] == 4
    assert off(landed(llama[1], tuned, tmp_path / "out"), tmp_path / "t") < 1e-5


def test_the_error_stated_is_the_error_there_is(llama, tmp_path):
    """Of a fine-tune of full rank: by the singular values that are left out."""
    folder = tune(llama[0], tmp_path / "t")

    tuned = made(llama[1], folder, rank=4, low_rank=nearest)

    name = "model.layers.1.mlp.down_proj.weight"
    base_, new = (tunes.load_file(f / "model.safetensors")[name].numpy() for f in (llama[0], folder))
    values = np.linalg.svd(new.astype("f8") - base_, compute_uv=False)
    assert tuned.errors[name] == pytest.approx(np.linalg.norm(values[4:]) / np.linalg.norm(values), rel=1e-4)
    assert 0.3 < tuned.error < 1


def test_large_matrices_are_decomposed_to_within_little_of_the_best():
    """By random projection, the same twice, and little worse than the least error there is."""
    chance = np.random.default_rng(0)
    u, v = (np.linalg.qr(chance.standard_normal((1100, 1100)))[0] for _ in range(2))
    values = 1 / np.arange(1, 1101)
    change = ((u * values) @ v.T).astype("f4")

    a, b = nearest(change, 16)
    again = nearest(change, 16)

    least = np.linalg.norm(values[16:]) / np.linalg.norm(values)
    assert np.linalg.norm(change - b @ a) / np.linalg.norm(change) < 1.01 * least
    assert np.array_equal(a, again[0])


# -- what is zero in the base ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zero(place):
    """A Qwen 2 as it is initialised: its biases are zero."""
    folder = base(place / "zero", "qwen2")
    return folder, repo_of(folder, place / "r-zero")


@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "gpt_oss", "gemma3_text"])
def test_what_is_zero_in_the_base_may_be_trained(tmp_path, kind):
    """Biases and gains that begin at nothing: measured by what a tensor in their place is typically like."""
    more = {
        "gpt2": {"n_head": 4, "n_layer": 2, "n_embd": 32},
        "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1},
    }
    folder = base(tmp_path / kind, kind, **more.get(kind, {}))
    main = repo_of(folder, tmp_path / "r")

    outcome, because = tunes.says("norms", main, made(main, tune(folder, tmp_path / "t")))

    assert outcome == "pass", because


def test_a_matrix_that_is_zero_is_measured_by_its_kind(llama, tmp_path):
    """LLaMA-Pro's new layers have empty projections: by those of the other layers, and a large change is refused."""
    folder = shutil.copytree(llama[0], tmp_path / "empty")
    held = tunes.load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.o_proj.weight"
    held[name] = torch.zeros_like(held[name])
    tunes.save_file(held, folder / "model.safetensors", {"format": "pt"})
    main = repo_of(folder, tmp_path / "r")
    small, large = (
        tune(folder, tmp_path / f"t{share}", lambda t, s=share: t | {name: held[name.replace("1", "0", 1)] * s})
        for share in (0.04, 0.06)
    )

    assert tunes.says("norms", main, made(main, small))[0] == "pass"
    outcome, because = tunes.says("norms", main, made(main, large))

    assert (outcome, name in because) == ("refuse", True)
