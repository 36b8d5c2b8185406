"""What people bring as adapters: the numbers of the network they trained, or a refusal with what to type instead."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from souq.build import deltas
from souq.build.delta_file import read_recipe
from souq.cli import run
from souq.cli.adapter import How, is_adapter, make_adapter
from souq.errors import SouqError
from souq.lab import merged
from souq.model.adapter.peft import open_adapter
from souq.repo.snapshot import Snapshot
from souq.weights.delta import TensorRef
from souq.weights.safetensors import open_tensors, write_tensors
from tests import adapter_kinds
from tests.adapter_kinds import LORA, OTHERS, Bench, Kind, apart, load, logits, lora, train

PAGE = Path(__file__).parent.parent / "docs" / "adapters.md"
# One of each way through souq; the whole table is made by the command that docs/adapters.md names.
TRIED = {
    "LoRA", "LoRA on a base in bf16", "rank and alpha patterns", "bias beside B (lora_bias)", "modules_to_save",
    "on a tied embedding, with ensure_weight_tying", "on a tied embedding alone", "trainable_token_indices, tied",
    "DoRA on the embedding", "DoRA on Conv1D", "Conv1D, fan_in_fan_out left out", "all-linear on a Mixtral", "target_parameters, experts kept in one tensor (gpt-oss)",
    "layer_replication", "aLoRA", "PiSSA, not converted", "LoHa", "IA3", "OFT", "VB-LoRA", "trainable tokens",
    "prompt tuning",
}  # fmt: skip


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def plain(bench):
    """An ordinary LoRA on the tiny Llama, and the logits of the network it was trained in."""
    folder = bench.folder / "plain"
    return folder, train(LORA[0], bench.base("llama"), folder)


@pytest.fixture
def copy(plain, tmp_path):
    """The ordinary LoRA, to be changed."""
    return Path(shutil.copytree(plain[0], tmp_path / "adapter"))


def edit(folder, **more):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return folder


def rewrite(folder, rename=lambda name: name, change=lambda name, array: array):
    path = folder / "adapter_model.safetensors"
    held = open_tensors(path)
    write_tensors(path, {rename(name): change(name, held[name]) for name in held}, {"format": "pt"})
    return folder


def make(bench, folder, base="llama", **how):
    return make_adapter(folder, bench.repos[base], How(**how))


def refused(bench, folder, base="llama", **how):
    with pytest.raises(SouqError) as error:
        make(bench, folder, base, **how)
    assert error.value.hint
    return f"{error.value} {error.value.hint}"


# -- every kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in LORA + OTHERS if kind.name in TRIED], ids=lambda kind: kind.name)
def test_a_kind_is_what_the_page_says(bench, kind):
    """The merged model is the network that was trained, or the adapter is refused with a way out; as docs/adapters.md has it."""
    row = bench.row(kind)
    said = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| {kind.name} | `{kind.tuner}` |"))

    assert adapter_kinds.line(row, "?").rpartition(" | ")[0] == said.rpartition(" | ")[0]
    if not row.refusal:
        assert row.error < (1e-2 if kind.base == "bf16" else 1e-4)
        assert row.moved > 10 * row.error  # the adapter does something to be wrong about


def test_every_tuner_of_peft_has_its_row():
    """No kind of adapter that PEFT can write is left out of the page."""
    rows = set(re.findall(r"^\| .* \| `(\w+)` \|", PAGE.read_text(), re.M))

    assert {kind.value for kind in peft.PeftType} - rows == set()
    assert {kind.tuner for kind in LORA + OTHERS} == rows


def test_a_lora_stays_as_it_was_trained(bench, plain):
    """Its factors in the delta are the file's, bit for bit."""
    held = open_tensors(plain[0] / "adapter_model.safetensors")
    made = make(bench, plain[0])

    assert {part.kind for part in made.delta.parts.values()} == {"lora"}
    assert {array.tobytes() for array in made.tensors.values()} == {held[name].tobytes() for name in held}
    assert {part.scale for part in made.delta.parts.values()} == {2.0}


def test_another_tuner_as_the_nearest_lora(bench, tmp_path):
    """Small, its distance from the adapter measured and carried in the recipe; at full rank there is none."""
    kind = next(kind for kind in OTHERS if kind.name == "LoHa")
    wanted = train(kind, bench.base("llama"), tmp_path / "adapter")
    fine = bench.taken(kind, tmp_path, wanted, rank=32)
    coarse = make(bench, tmp_path / "adapter", rank=2)

    assert fine.error < 1e-4
    assert {part.kind for part in coarse.delta.parts.values()} == {"lora"}
    assert coarse.recipe["adapter"]["error"] > 1e-3
    assert f"{coarse.recipe['adapter']['error']:.1e}" in " ".join(coarse.notes)


def test_merged_by_peft_is_the_same_model(bench, plain, tmp_path):
    """--merged makes of a LoRA the tensors that its factors make."""
    made = make(bench, plain[0], merged=True)
    row = bench.taken(Kind("merged", "LORA", lora), _beside(plain[0], tmp_path), plain[1], merged=True)

    assert {part.kind for part in made.delta.parts.values()} == {"dense"}
    assert row.error < 1e-4
    assert made.recipe["adapter"]["error"] < 1e-4


def test_what_is_measured_is_what_decides(bench, plain, tmp_path, monkeypatch):
    """A merge that is another network than the adapter, and an adapter that chance has a part in, are refused."""
    kind = next(kind for kind in OTHERS if kind.name == "VeRA")
    train(kind, bench.base("llama"), tmp_path / "vera")
    made = make(bench, tmp_path / "vera")
    assert made.delta.parts
    edit(tmp_path / "vera", save_projection=False)
    held = open_tensors(tmp_path / "vera" / "adapter_model.safetensors")
    kept = {name: held[name] for name in held if "vera_A" not in name and "vera_B" not in name}
    write_tensors(tmp_path / "vera" / "adapter_model.safetensors", kept, {"format": "pt"})
    assert make(bench, tmp_path / "vera").delta == made.delta  # drawn again from the seed that its file names

    real = merged._adapted
    monkeypatch.setattr(merged, "_adapted", lambda net, folder, seed: _drifting(real(net, folder, seed), seed))
    assert "depends on chance" in refused(bench, tmp_path / "vera")
    monkeypatch.setattr(merged, "_adapted", real)
    monkeypatch.setattr(merged, "TOLERANCE", 0.0)
    assert "is not what the adapter computes" in refused(bench, plain[0], merged=True)


def _drifting(model, seed):
    """A model that is another one from another seed."""
    with torch.no_grad():
        next(parameter for name, parameter in model.named_parameters() if "norm" in name).add_(seed)
    return model


def _beside(folder, place):
    shutil.copytree(folder, place / "adapter")
    return place


# -- what an adapter says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["pissa", "PiSSA", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "a_way_of_tomorrow"]
)
def test_what_changed_its_base_is_refused(bench, copy, how):
    """B A of such an adapter belongs to a base that is no more; souq merge refuses it as well (tests/test_merge_files.py)."""
    message = refused(bench, edit(copy, init_lora_weights=how))

    assert "init_lora_weights" in message
    assert "path_initial_model_for_weight_conversion" in message or "tomorrow" in message
    assert "init_lora_weights" in refused(bench, copy, merged=True)


def test_pissa_after_peft_s_conversion(bench, tmp_path):
    """PEFT subtracts where the adapter began, and what is left is an ordinary LoRA of twice the rank."""
    torch.manual_seed(0)
    model = peft.get_peft_model(load(bench.base("llama")), lora(init_lora_weights="pissa"))
    model.save_pretrained(tmp_path / "initial")
    with torch.no_grad():
        [p.add_(0.05 * torch.randn(p.shape)) for p in model.parameters() if p.requires_grad]
    wanted = logits(model)
    model.save_pretrained(tmp_path / "adapter", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    row = bench.taken(Kind("converted", "LORA", lora), tmp_path, wanted)

    assert row.kept == "lora"
    assert row.error < 1e-4


def test_all_that_is_wrong_with_a_configuration_is_listed(bench, copy):
    """Four things in one message: who mends them needs one try, not four."""
    message = refused(bench, edit(copy, r=0.5, use_sparrow=1, arrow_config={"a": 1}, init_lora_weights="olora"))

    assert all(word in message for word in ("r = 0.5", "use_sparrow", "Arrow", "olora"))


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_a_key_of_tomorrow_that_says_nothing(bench, copy, value):
    """PEFT writes every field of its own version; those that are off mean nothing."""
    assert make(bench, edit(copy, a_key_of_tomorrow=value)).delta.parts


def test_an_old_configuration(bench, copy):
    """PEFT 0.2 wrote a dozen keys, and none of those that came since."""
    old = ("base_model_name_or_path", "lora_alpha", "r", "bias", "peft_type", "target_modules", "task_type")
    values = json.loads((copy / "adapter_config.json").read_text())
    told = {key: values[key] for key in old} | {"enable_lora": None, "merge_weights": False, "fan_in_fan_out": False}
    before = make(bench, copy).delta
    (copy / "adapter_config.json").write_text(json.dumps(told))

    assert make(bench, copy).delta == before


def test_zero_and_nan(bench, copy):
    """An adapter that was never trained, and one that training ruined, are not offered to anybody."""
    zero = rewrite(copy, change=lambda name, array: array * 0 if "lora_B" in name else array)
    assert "changes nothing" in refused(bench, zero)
    assert "not finite" in refused(bench, rewrite(copy, change=lambda _, array: array + np.float32("nan")))


@pytest.mark.parametrize(
    "more",
    [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [1]}, {"lora_bias": True}, {"use_dora": True}],
)
def test_what_was_trained_and_is_not_in_the_file(bench, copy, more):
    """A part that training had and saving lost: what is left is another network."""
    assert re.search("lm_head|rows of them|lora_bias|use_dora", refused(bench, edit(copy, **more)))


def test_an_adapter_of_another_model(bench, plain, tmp_path):
    """Names and shapes that the base does not have: all of them are counted, some are shown."""
    bench.base("gpt2")
    message = refused(bench, plain[0], "gpt2", for_this_base=True)

    assert message.count("which the base does not have") == 4
    assert "model.layers.0.self_attn.q_proj.weight" in message
    wide = rewrite(
        Path(shutil.copytree(plain[0], tmp_path / "wide")),
        change=lambda name, array: np.repeat(array, 2, 1) if "lora_A" in name else array,
    )
    assert "as if it were (32, 64); it is (32, 32)" in refused(bench, wide, for_this_base=True)


@pytest.mark.parametrize("how", [{}, {"merged": True}])
def test_what_rounding_loses_is_said(bench, tmp_path, how):
    """Whole tensors on a bf16 base: the share of the change's norm that rounding takes, in the recipe too."""
    train(Kind("DoRA", "LORA", lambda: lora(use_dora=True), "bf16"), bench.base("bf16"), tmp_path / "adapter")
    made = make(bench, tmp_path / "adapter", "bf16", **how)
    [note] = [note for note in made.notes if "rounding" in note and "%" in note]

    assert note in made.recipe["adapter"]["notes"]
    assert any("as it lands" in note for note in made.notes) == bool(how)
    lost, moved, base = 0.0, 0.0, open_tensors(bench.bases["bf16"] / "model.safetensors")
    model = peft.PeftModel.from_pretrained(load(bench.bases["bf16"]), tmp_path / "adapter").merge_and_unload()
    exact = {name: array.numpy() for name, array in model.state_dict().items()}
    for name, part in made.delta.parts.items():
        kept, old = made.tensors[part.value.digest].astype("f8"), base[name].astype("f8")
        lost, moved = lost + ((kept - exact[name]) ** 2).sum(), moved + ((exact[name] - old) ** 2).sum()
    assert f"{np.sqrt(lost / moved):.1%}" in note


def test_numbers_beyond_the_base_s_dtype(bench, tmp_path):
    """A bf16 base has room for what float16 has not; whatever is not finite after rounding is refused."""
    with pytest.raises(SouqError, match="not finite in F16"):
        deltas.rounded(np.full(2, 1e6, "f4"), np.dtype("f2"), "w")


@pytest.mark.parametrize(
    "name", ["modules_to_save", "bias beside B (lora_bias)", "DoRA", "DoRA on Conv1D", "trainable_token_indices, tied"]
)
def test_souq_merge_lays_it_over_its_base(bench, tmp_path, name):
    """`model+adapter` of a merge is the network that was trained, for every kind souq reads without PEFT."""
    kind = next(kind for kind in LORA if kind.name == name)
    wanted = train(kind, bench.base(kind.base), tmp_path / "adapter")
    config = tmp_path / "merge.yml"
    model = f"{bench.bases[kind.base]}+{tmp_path}/adapter"
    config.write_text(f"merge_method: passthrough\nmodels:\n  - model: {model}\ndtype: float32\n")

    assert run(["merge", str(config), str(tmp_path / "out")]) == 0
    assert apart(wanted, logits(load(tmp_path / "out"))) < 1e-4


def test_souq_merge_and_what_it_leaves_to_others(bench, tmp_path, capsys):
    """Repeated layers and PEFT's other tuners are answered with what to do."""
    for kind in (kind for kind in LORA + OTHERS if kind.name in ("layer_replication", "LoHa")):
        train(kind, bench.base("llama"), tmp_path / kind.name)
        config = tmp_path / "merge.yml"
        model = f"{bench.bases['llama']}+{tmp_path / kind.name}"
        config.write_text(f"merge_method: passthrough\nmodels:\n  - model: {model}\ndtype: float32\n")
        assert run(["merge", str(config), str(tmp_path / "out")]) != 0
        assert "Hint: " in capsys.readouterr().err


# -- whose base --------------------------------------------------------------------------------------------------------


def test_an_adapter_that_names_another_base(bench, copy):
    """It is asked about, and its owner's word is written down for who looks at the pull request."""
    edit(copy, base_model_name_or_path="someone/other-model")
    assert "--for-this-base" in refused(bench, copy)
    made = make(bench, copy, for_this_base=True)

    assert any("someone/other-model" in note for note in made.recipe["adapter"]["notes"])
    assert made.recipe["adapter"]["base"] == "someone/other-model"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llama", ""),
        ("", ""),
        ("unsloth/Llama-bnb-4bit", "quantised"),
        ("unsloth/llama-unsloth-bnb-4bit", "quantised"),
        ("org/llama", "taken to be llama"),
        ("/workspace/models/base", "a path that is not here"),
        ("/root/.cache/huggingface/hub/models--org--llama/snapshots/0a1b", "taken to be llama"),
    ],
)
def test_names_of_the_same_base(bench, copy, name, said):
    """As people write them: with an owner, quantised, in the hub's cache, as a path of another machine."""
    notes = make(bench, edit(copy, base_model_name_or_path=name)).notes

    assert said in " ".join(notes)
    assert bool(notes) == bool(said)


def test_a_base_that_is_a_folder_here(bench, copy, tmp_path):
    """It is compared by what the adapter changes: the base itself is no question, another one is."""
    assert make(bench, copy).notes == ()  # PEFT wrote the folder's path
    other = Path(shutil.copytree(bench.base("llama"), tmp_path / "other"))
    held = open_tensors(other / "model.safetensors")
    write_tensors(other / "model.safetensors", {name: held[name] * 2 for name in held}, {"format": "pt"})
    assert "not those of the base" in refused(bench, edit(copy, base_model_name_or_path=str(other)))
    adapter = Path(shutil.copytree(copy, tmp_path / "first"))
    assert "an adapter itself" in refused(bench, edit(copy, base_model_name_or_path=str(adapter)))


def test_an_adapter_on_top_of_what_was_merged(bench, copy, tmp_path):
    """Trained on main's export: B A is offered and said to be so; what is computed from the base's tensors is refused."""
    other = Path(shutil.copytree(bench.base("llama"), tmp_path / "export"))
    held = open_tensors(other / "model.safetensors")
    doubled = {name: held[name] * 2 for name in held}
    write_tensors(other / "model.safetensors", doubled, {"format": "pt"})
    main = Snapshot(bench.repos["llama"].repo, "main")
    main.__dict__["model"] = {name: TensorRef.of(array) for name, array in doubled.items()}
    made = make_adapter(edit(copy, base_model_name_or_path=str(other)), main, How())
    assert "trained on main as it is now" in " ".join(made.notes)

    train(Kind("", "LORA", lambda: lora(use_dora=True)), other, tmp_path / "dora")
    with pytest.raises(SouqError, match="trained on main as it is now"):
        make_adapter(tmp_path / "dora", main, How())


# -- layouts -----------------------------------------------------------------------------------------------------------

NAMES = {
    "as PEFT writes": lambda name: name,
    "DDP": lambda name: f"module.{name}",
    "torch.compile": lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
    "torch.compile outside": lambda name: f"_orig_mod.{name}",
    "FSDP": lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module."),
    "default": lambda name: name.replace(".weight", ".default.weight"),
    "a named adapter": lambda name: name.replace(".weight", ".sft.weight"),
    "no prefix": lambda name: name.removeprefix("base_model.model."),
    "a bare backbone": lambda name: name.replace("base_model.model.model.", "base_model.model."),
    "a language tower": lambda name: name.replace("model.model.", "model.model.language_model."),
}


@pytest.mark.parametrize("layout", NAMES)
def test_names_as_trainers_write_them(bench, copy, layout):
    """The same numbers under other names are the same delta."""
    wanted = make(bench, copy).delta

    assert make(bench, rewrite(copy, NAMES[layout])).delta == wanted


def test_folders_of_checkpoints_and_of_named_adapters(bench, copy, tmp_path):
    """The newest checkpoint is named, with what to type; one named adapter is read, of several one is asked for."""
    for step in (5, 500, 1000):
        shutil.copytree(copy, tmp_path / "run" / f"checkpoint-{step}")
    assert f"--from {tmp_path}/run/checkpoint-1000`" in refused(bench, tmp_path / "run")
    shutil.copytree(copy, tmp_path / "named" / "sft")
    assert make(bench, tmp_path / "named").delta == make(bench, copy).delta
    shutil.copytree(copy, tmp_path / "named" / "dpo")
    assert "2 adapters: dpo, sft" in refused(bench, tmp_path / "named")


def test_a_pickle_and_a_gguf(bench, copy, tmp_path):
    """Neither is opened; each is answered with how to go on, and the command for the pickle works."""
    held = {
        name: torch.from_numpy(array.copy())
        for name, array in dict(open_tensors(copy / "adapter_model.safetensors")).items()
    }
    wanted = make(bench, copy).delta
    (copy / "adapter_model.safetensors").unlink()
    torch.save(held, copy / "adapter_model.bin")
    message = refused(bench, copy)

    command = shlex.split(re.search(r"`(python .*)`", message)[1])
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert make(bench, copy).delta == wanted

    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "lora.gguf").write_bytes(b"GGUF" + bytes(20) + b"adapter.lora.alpha")
    for place in (tmp_path / "gguf", tmp_path / "gguf" / "lora.gguf"):
        assert is_adapter(place)
        assert "convert_lora_to_gguf.py" in refused(bench, place)


def test_mlx(bench, plain, tmp_path):
    """MLX's own names, shapes and scale: the same delta."""
    held = open_tensors(plain[0] / "adapter_model.safetensors")
    name = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
    tensors = {f"{m[1]}.lora_{m[2].lower()}": held[key].T.copy() for key in held if (m := name.fullmatch(key))}
    write_tensors(tmp_path / "adapters.safetensors", tensors)
    told = {"fine_tune_type": "lora", "num_layers": 2, "model": "mlx-community/Llama-4bit", "batch_size": 4}
    settings = {"rank": 4, "scale": 2.0, "dropout": 0.0}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told | {"lora_parameters": settings}))
    assert make(bench, tmp_path).delta == make(bench, plain[0]).delta

    (tmp_path / "adapter_config.json").write_text(json.dumps(told | {"lora_parameters": settings | {"alpha": 8}}))
    assert "mlx_lm.fuse" in refused(bench, tmp_path)


def test_mlx_dora_and_embeddings(bench, tmp_path):
    """What MLX writes for them is what PEFT would have written."""
    wanted = train(
        Kind("", "LORA", lambda: lora(use_dora=True, target_modules=["q_proj", "embed_tokens"])),
        bench.base("llama"),
        tmp_path / "peft",
    )
    held = open_tensors(tmp_path / "peft" / "adapter_model.safetensors")
    words = {"lora_A.weight": "lora_a", "lora_B.weight": "lora_b", "lora_embedding_A": "lora_a",
             "lora_embedding_B": "lora_b", "lora_magnitude_vector": "m"}  # fmt: skip
    tensors = {}
    for key in held:
        for theirs, ours in words.items():
            if key.endswith(f".{theirs}"):
                tensors[f"{key.removeprefix('base_model.model.').removesuffix(theirs)}{ours}"] = held[key].T.copy()
    (tmp_path / "adapter").mkdir()
    write_tensors(tmp_path / "adapter" / "adapters.safetensors", tensors)
    told = {"fine_tune_type": "dora", "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0}}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(told))

    assert bench.taken(Kind("MLX", "LORA", lora), tmp_path, wanted).error < 1e-4


def test_experts_one_by_one(bench, tmp_path):
    """Trainers of before wrote a LoRA for each expert, under the names the checkpoint has: they stay LoRAs."""
    chance, base = np.random.default_rng(0), open_tensors(bench.base("mixtral") / "model.safetensors")
    names = [name for name in base if ".experts." in name]
    tensors = {}
    for name in names:
        out, width = base[name].shape
        at = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{at}.lora_A.weight"] = chance.standard_normal((2, width)).astype("f4")
        tensors[f"{at}.lora_B.weight"] = chance.standard_normal((out, 2)).astype("f4")
    write_tensors(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    made = make(bench, tmp_path, "mixtral")

    assert len(names) == 24
    assert sorted(made.delta.parts) == sorted(names)
    assert {part.kind for part in made.delta.parts.values()} == {"lora"}


def test_experts_of_another_count(bench, tmp_path):
    """Factors of three experts on a base of four: refused, in words, by souq or by PEFT."""
    chance, at = np.random.default_rng(0), "base_model.model.model.layers.0.mlp.experts"
    pair = {f"{at}.lora_A.weight": (6, 48), f"{at}.lora_B.weight": (32, 6)}
    tensors = {name: chance.standard_normal(shape).astype("f4") for name, shape in pair.items()}
    write_tensors(tmp_path / "adapter_model.safetensors", tensors)
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_parameters": ["mlp.experts.down_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told | {"target_modules": []}))
    bench.base("mixtral")

    assert "not of 4 experts" in refused(bench, tmp_path, "mixtral")


def test_patterns_are_matched_as_peft_matches_them(copy):
    """The first that matches at the end of the name, at a dot; a name alone is a pattern too."""
    patterns = {
        "q_proj": 1,
        r"layers\.[01]\.mlp\.up_proj": 2,
        "^model.layers.0.self_attn.o_proj": 3,
        "up_pro": 4,
        "proj": 5,
    }
    config = open_adapter(edit(copy, alpha_pattern=patterns, lora_alpha=6)).config
    names = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj", "model.layers.0.self_attn.o_proj",
             "x.model.layers.0.self_attn.o_proj", "model.layers.7.mlp.up_proj", "model.layers.10.mlp.up_proj", "proj"]  # fmt: skip

    wanted = [patterns.get(peft.utils.other.get_pattern_key(patterns, name), 6) / 4 for name in names]
    assert [config.scale(name, 4) for name in names] == wanted


# -- the verb ----------------------------------------------------------------------------------------------------------


def test_the_verb_says_what_was_done(bench, tmp_path, monkeypatch, capsys):
    """On stderr for the person, in JSON for a program, in the .delta for who looks at the pull request."""
    bench.base("llama")
    kind = next(kind for kind in OTHERS if kind.name == "IA3")
    train(kind, bench.base("llama"), tmp_path / "adapter")
    monkeypatch.chdir(bench.folder / "llama-repo")
    code = run(["delta", "make", "--from", str(tmp_path / "adapter"), "--out", str(tmp_path / "x.delta"), "--json"])
    out, err = capsys.readouterr()
    notes = json.loads(out)["notes"]

    assert code == 0
    assert any(note.startswith("merged by PEFT") for note in notes)
    assert all(f"note: {note}" in err for note in notes)
    assert read_recipe(tmp_path / "x.delta")["adapter"]["kind"] == "IA3"
