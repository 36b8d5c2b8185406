"""What `souq merge` promises beside mergekit's numbers: the same bytes for everybody, and no to what cannot be merged."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from souq.errors import Hostile, NotFound, SouqError, UsageError
from souq.merge.mergekit.config import ModelRef, parse_config
from souq.merge.mergekit.files import merge_files
from souq.merge.mergekit.inputs import Model
from souq.merge.mergekit.vocabulary import Rows
from souq.weights.safetensors import open_tensors, write_tensors
from tests import tiny

LINEAR = "{merge_method: linear, parameters: {weight: 1}, dtype: float32, models: [%s]}"
ALL = (
    "linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs",
    "breadcrumbs_ties", "sce", "nuslerp", "multislerp", "karcher", "model_stock", "ram", "ramplus_tl",
)  # fmt: skip


def small(folder, made, **config):
    """A folder with a model of any tensors."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 1} | config))
    write_tensors(folder / "model.safetensors", made, {"format": "pt"})
    return folder


def layer(value):
    return {"model.layers.0.mlp.up_proj.weight": np.asarray(value)}


def chance(seed, *shape, dtype="f4"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def of(method, *models, base=None, **parameters):
    told = {
        "merge_method": method,
        "models": [{"model": str(m)} for m in models],
        "parameters": {"weight": 1} | parameters,
    }
    return json.dumps(told | {"dtype": "float32"} | ({"base_model": str(base)} if base else {}))


def merge(text, out):
    return merge_files(parse_config(text), text, out)


def refused(text, tmp_path, kind=SouqError):
    """Says no, in one line, and leaves nothing behind."""
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(kind) as error:
        merge(text, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def tensors(folder):
    file = open_tensors(folder / "model.safetensors")
    return {name: file[name] for name in file}


# --- chance


@pytest.mark.parametrize("method", ["dare_linear", "della_linear"])
def test_what_is_dropped_is_made_up_for(tmp_path, method):
    """Half the changes are kept, and together they weigh what all of them weighed."""
    base, change = chance(0, 64, 512), chance(1, 64, 512)
    models = [small(tmp_path / "base", layer(base)), small(tmp_path / "a", layer(base + change))]

    merge(of(method, models[1], base=models[0], density=0.5), tmp_path / "out")
    [moved] = (value - base for value in tensors(tmp_path / "out").values())
    kept = np.abs(moved) > 1e-6

    assert abs(kept.mean() - 0.5) < 0.01
    assert np.abs(moved).sum() == pytest.approx(np.abs(change).sum(), rel=1e-3)
    assert len({round(x, 2) for x in (moved[kept] / change[kept]).tolist()}) <= 4  # one factor for all


def test_over_many_models_chance_is_the_plain_mean(tmp_path):
    """DARE of forty models that changed alike comes to their change: what is kept is not always the same."""
    base, change = chance(0, 8, 64), chance(1, 8, 64)
    first = small(tmp_path / "base", layer(base))
    others = [small(tmp_path / f"m{i}", layer(base + change) | {"model.norm.weight": chance(i, 4)}) for i in range(40)]
    small_base = tensors(first) | {"model.norm.weight": chance(99, 4)}
    write_tensors(first / "model.safetensors", small_base, {"format": "pt"})

    merge(of("dare_linear", *others, base=first, density=0.5, normalize=True), tmp_path / "out")
    moved = tensors(tmp_path / "out")["model.layers.0.mlp.up_proj.weight"] - base

    assert np.corrcoef(moved.reshape(-1), change.reshape(-1))[0, 1] > 0.95
    assert np.linalg.norm(moved - change) / np.linalg.norm(change) < 0.3


@pytest.mark.parametrize("method", ALL)
def test_neither_order_nor_folder_shows(tmp_path, method):
    """The same models, listed another way round and called by other names, make the same bytes."""
    base = chance(0, 16, 96)
    models = [
        small(tmp_path / name, layer(base + chance(i, 16, 96)))
        for i, name in enumerate("abc"[: 2 + (method != "nuslerp")])
    ]
    under = small(tmp_path / "base", layer(base))
    more = {"density": 0.5} | ({"nuslerp_flatten": False, "nuslerp_row_wise": True} if method == "nuslerp" else {})
    apart = under if method not in ("linear", "karcher") else None

    one = merge(of(method, *models, base=apart, **more), tmp_path / "one")["digest"]
    renamed = [model.rename(tmp_path / f"x{i}") for i, model in enumerate(reversed(models))]
    assert merge(of(method, *renamed, base=apart, **more), tmp_path / "two")["digest"] == one


# --- adapters


def lora(folder, seed, *, rank=2, module="model.layers.0.mlp.up_proj", shape=(6, 5), **config):
    folder.mkdir()
    (m, n), at = shape, f"base_model.model.{module}"
    halves = {f"{at}.lora_A.weight": chance(seed, rank, n), f"{at}.lora_B.weight": chance(seed + 1, m, rank)}
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "bias": "none"} | config
    (folder / "adapter_config.json").write_text(json.dumps(told))
    write_tensors(folder / "adapter_model.safetensors", halves, {"format": "pt"})
    return halves


def test_an_adapter_is_laid_over_its_base(tmp_path):
    """W + alpha / r B A in float64, rounded once: the adapter's own arithmetic, whatever the base's dtype."""
    base = chance(0, 6, 5).astype(ml_dtypes.bfloat16)
    small(tmp_path / "base", layer(base))
    a, b = lora(tmp_path / "low", 3).values()

    merge(LINEAR % f"{{model: {tmp_path}/base+{tmp_path}/low}}", tmp_path / "out")
    [told] = tensors(tmp_path / "out").values()

    assert np.array_equal(told, (base.astype("f8") + 2.0 * (b.astype("f8") @ a.astype("f8"))).astype("f4"))
    merge((LINEAR % f"{{model: {tmp_path}/base+{tmp_path}/low}}").replace("dtype: float32, ", ""), tmp_path / "own")
    assert next(iter(tensors(tmp_path / "own").values())).dtype == ml_dtypes.bfloat16


@given(st.lists(st.integers(0, 30), max_size=5))
def test_how_a_computed_tensor_is_cut_does_not_show(cuts):
    """A LoRA's rows, and rows in another vocabulary, are the same numbers in one read and in many."""
    with tempfile.TemporaryDirectory() as home:
        folder = small(Path(home) / "base", layer(chance(0, 6, 5)) | {"embed.weight": chance(1, 6, 5)})
        lora(Path(home) / "low", 3)
        model = Model(ModelRef(str(folder), lora=ModelRef(str(Path(home) / "low"))))
        own = np.array([3, 4, -1, 0, -1])
        given = {2: ((model, "embed.weight", 1), (model, "embed.weight", 5)), 4: ()}
        model.compute("moved", Rows(model, "embed.weight", own, given, (6, 5)), like="embed.weight")
        ends = [0, *sorted(cuts), 30]

        for name in ("model.layers.0.mlp.up_proj.weight", "moved"):
            parts = [model.numbers(name, a, b - a) for a, b in pairwise(ends)]
            assert np.concatenate(parts).tobytes() == model.numbers(name, 0, 30).tobytes()


def test_the_adapter_is_part_of_what_a_model_is(tmp_path):
    """Two adapters on one base are two models to chance, and in the order of the sum."""
    small(tmp_path / "base", layer(chance(0, 6, 5)))
    for i in range(2):
        lora(tmp_path / f"low{i}", 3 + i)
    pairs = [f"{{model: {tmp_path}/base+{tmp_path}/low{i}}}" for i in (0, 1)]

    digests = {
        merge(LINEAR % ", ".join(some), tmp_path / f"o{i}")["digest"] for i, some in enumerate([pairs, pairs[::-1]])
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"rank": 0}, "rank 0, which changes nothing"),
        ({"module": "model.layers.7.mlp.up_proj"}, "model.layers.7.mlp.up_proj.weight, which base does not have"),
        ({"shape": (6, 4)}, "as if it were (6, 4); it is (6, 5)"),
        ({"use_dora": True}, "has no DoRA magnitude"),
        ({"alpha_pattern": {"(?=up)up_proj": 3}}, "RE2 does not take"),
        ({"init_lora_weights": "pissa"}, "began by changing its base"),
        ({"use_bdlora": {"nblocks": 2}}, "PEFT has to merge it"),
        ({"r": 3}, "says rank 3"),
    ],
)
def test_an_adapter_that_does_not_fit(tmp_path, said, message):
    """Rank 0, another base's layers, another shape, more than a LoRA: said before anything is written."""
    small(tmp_path / "base", layer(chance(0, 6, 5)))
    lora(tmp_path / "low", 3, **said)

    assert message in refused(LINEAR % f"{{model: {tmp_path}/base+{tmp_path}/low}}", tmp_path)


# --- what cannot be merged


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", ml_dtypes.bfloat16])
@pytest.mark.parametrize("method", [*ALL, "slerp", "nearswap"])
def test_nan_and_inf_are_refused(tmp_path, method, dtype, bad):
    """One NaN in one model is not averaged in, trimmed away as an outlier or dropped by chance: it is refused."""
    base = chance(0, 8, 64).astype(dtype)
    models = [small(tmp_path / f"m{i}", layer((base + chance(i, 8, 64)).astype(dtype))) for i in range(3)]
    wrong = (base + chance(1, 8, 64)).astype(dtype)
    wrong[3, 7] = bad
    models[1] = small(tmp_path / "wrong", layer(wrong))
    under = small(tmp_path / "base", layer(base))
    few = {"slerp": models[1:2], "nearswap": models[1:2], "nuslerp": models[:2]}.get(method, models)
    more = {"density": 0.1, "rescale": False, "gamma": 0.05, "epsilon": 0.05, "select_topk": 0.2, "t": 0.5}
    apart = None if method in ("linear", "karcher") else under

    assert "NaN" in refused(of(method, *few, base=apart, **more), tmp_path, Hostile)


def test_models_that_do_not_match(tmp_path):
    """Another shape, a missing tensor, whole numbers: each named, with the model it is in."""
    for name, made in {
        "a": layer(chance(0, 6, 5)), "wide": layer(chance(0, 6, 7)), "whole": layer(np.ones((6, 5), "i4")),
        "other": {"model.layers.0.mlp.down_proj.weight": chance(0, 6, 5)},
    }.items():  # fmt: skip
        small(tmp_path / name, made)

    def said(name):
        return refused(LINEAR % f"{{model: {tmp_path}/a}}, {{model: {tmp_path}/{name}}}", tmp_path)

    assert "is (6, 7) in" in said("wide")
    assert "has no tensor model.layers.0.mlp.up_proj.weight" in said("other")
    assert "which is no float to merge" in said("whole")
    assert "no model at" in said("nowhere")


def test_one_model_and_a_thousand(tmp_path):
    """One model is itself; a thousand are their mean, with no more files open than a shell allows."""
    made = [chance(i, 3, 4) for i in range(1000)]
    folders = [small(tmp_path / f"m{i}", layer(value)) for i, value in enumerate(made)]

    merge(of("linear", folders[0]), tmp_path / "one")
    assert np.array_equal(next(iter(tensors(tmp_path / "one").values())), made[0])
    merge(of("linear", *folders), tmp_path / "all")
    assert np.allclose(next(iter(tensors(tmp_path / "all").values())), np.mean(made, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{merge_method: tise, models: [{model: a}]}", "did you mean 'ties'"),
        ("{merge_method: arcee_fusion, base_model: a, models: [{model: b}]}", "not the same model twice"),
        (
            "{merge_method: ties, base_model: a, models: [{model: b, parameters: {densty: 1}}]}",
            "did you mean 'density'",
        ),
        ("{merge_method: linear, tokeniser_source: union, models: [{model: a}]}", "did you mean 'tokenizer_source'"),
        ("models: [" + "{model: a}, " * 100_000 + "]", "characters of YAML"),
    ],
)
def test_words_that_are_not_mergekits(tmp_path, text, message):
    """An unknown method or key is answered with the nearest one; a method we cannot keep exact, with the reason."""
    assert message in refused(text, tmp_path, UsageError)


# --- tokenizers


def spoken(folder, ids, *, added=(), rows=None, named=None):
    """A model with a tokenizer of whole words, and a row for each that holds its number."""
    rows = len(ids) + len(added) if rows is None else rows
    table = np.repeat(np.arange(rows, dtype="f4")[:, None], 4, axis=1)
    small(folder, layer(np.eye(4, dtype="f4")) | {"model.embed_tokens.weight": table}, vocab_size=rows)
    entries = [{"id": len(ids) + i, "content": token, "special": True} for i, token in enumerate(added)]
    model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(ids)}, "unk_token": ids[0]}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": entries, "model": model}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": named or ids[0]}))
    return folder


def two(tmp_path, tail, *, base="a"):
    models = f"models: [{{model: {tmp_path}/a}}, {{model: {tmp_path}/b}}]"
    return f"{{merge_method: linear, parameters: {{weight: 1}}, dtype: float32, base_model: {tmp_path}/{base}, {models}{tail}}}"


def test_tokens_keep_their_rows(tmp_path):
    """In a union each token's row is the mean of those who have it: what only one has, the other is given."""
    spoken(tmp_path / "a", ["u", "x", "y"])
    spoken(tmp_path / "b", ["y", "u", "z"], added=["<s>"])

    merge(two(tmp_path, ", tokenizer: {source: union}"), tmp_path / "out")
    told = tensors(tmp_path / "out")["model.embed_tokens.weight"][:, 0].tolist()
    ids = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["added_tokens"]

    # u: (0 + 1) / 2; x: a's 1; y: (2 + 0) / 2; then b's z and <s>, as b has them
    assert told == [0.5, 1.0, 1.0, 2.0, 3.0]
    assert [(entry["id"], entry["content"]) for entry in ids] == [(3, "z"), (4, "<s>")]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 5


def test_what_is_left_out_of_the_kept_model_s_files_is_said(tmp_path):
    """A merge has the first model's files: code that came with it is not among them, and unknown keys are."""
    for name in ("a", "b"):
        spoken(tmp_path / name, ["u", "x"])
    path = tmp_path / "a" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "m.M"}, "its_own": 1}))
    report = merge(two(tmp_path, ""), tmp_path / "out")

    assert "auto_map" in report["notes"][0]
    assert "its_own" in report["notes"][1]
    assert "auto_map" not in (kept := json.loads((tmp_path / "out" / "config.json").read_text()))
    assert kept["its_own"] == 1


def test_without_a_word_on_tokenizers_rows_are_not_mixed_up(tmp_path):
    """One token under two numbers is refused and says what to write; a few more tokens elsewhere are only mentioned."""
    spoken(tmp_path / "a", ["u", "x", "y"])
    spoken(tmp_path / "b", ["y", "u", "x"])
    spoken(tmp_path / "c", ["u", "x", "q"])

    assert "'y' is token 2 in" in refused(two(tmp_path, ""), tmp_path, UsageError)
    told = merge(two(tmp_path, "").replace(f"{tmp_path}/b", f"{tmp_path}/c"), tmp_path / "out")
    assert "differs in 2 tokens" in told["notes"][0]
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "a" / "tokenizer.json").read_bytes()


def broken(folder, said):
    (folder / "tokenizer.json").write_text(said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "not JSON"),
        ('{"model": {"vocab": {"a": 0, "a": 1}}}', "a key stands twice"),
        ('{"model": {"vocab": {"a": 0, "b": 0}}}', "one number to two tokens"),
        ('{"model": {"vocab": {"a": -1}}}', "out of bounds"),
        ('{"model": {"vocab": {"a": 1e9}}}', "out of bounds"),
        ('{"model": {"vocab": [1, 2]}}', "no vocabulary we can read"),
        ('{"added_tokens": [{"id": 2, "content": "a"}], "model": {"vocab": {"a": 0}}}', "gives 'a' two numbers"),
        ('{"model": {"vocab": {"a": 0, "b": 7}}}', "gaps"),
        ('{"model": {"vocab": {"zz": 0}}}', "which its tokenizer.json does not have"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_a_hostile_tokenizer(tmp_path, said, message):
    """Numbers that clash, wrap or point nowhere are refused before a row is read."""
    spoken(tmp_path / "a", ["a", "b"], rows=9)
    spoken(tmp_path / "b", ["a", "b"], rows=9)
    broken(tmp_path / "a", said)

    assert message in refused(two(tmp_path, ", tokenizer_source: base"), tmp_path)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("{q: {source: %s/nowhere}}", "which is not merged"),
        ("{q: {source: {kind: model_token, model: %s/b, token_id: 99}}}", "has no row for 99"),
        ("{q: {source: {kind: model_token, model: %s/b, token: nope}}}", "has no row for 'nope'"),
    ],
)
def test_a_token_from_nowhere(tmp_path, tokens, message):
    """A rule that points at no row says which."""
    spoken(tmp_path / "a", ["a", "b"])
    spoken(tmp_path / "b", ["a", "b"])
    small(tmp_path / "nowhere", layer(np.eye(4, dtype="f4")))

    assert message in refused(two(tmp_path, f", tokenizer: {{tokens: {tokens % tmp_path}}}"), tmp_path)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("auto", "{{ two }}"), ("chatml", "<|im_start|>"), ("{{ own }} and a text besides", "{{ own }}")],
)
def test_the_chat_template(tmp_path, asked, found):
    """`auto` is the one most models have; a name is known or refused."""
    for name, template in {"a": "{{ one }}", "b": "{{ two }}", "c": "{{ two }}"}.items():
        (spoken(tmp_path / name, ["u"]) / "chat_template.jinja").write_text(template)
    text = two(tmp_path, f", chat_template: '{asked}'").replace("models: [", f"models: [{{model: {tmp_path}/c}}, ")

    assert "no chat template 'lama' is kept here" in refused(two(tmp_path, ", chat_template: lama"), tmp_path)
    merge(text, tmp_path / "out")
    assert found in (tmp_path / "out" / "chat_template.jinja").read_text()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    """Nobody's files are overwritten."""
    made = tiny.write_model(tmp_path / "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("")
    with pytest.raises(UsageError, match="already there"):
        merge(LINEAR % f"{{model: {made}}}", tmp_path / "out")
    with pytest.raises(NotFound):
        merge(LINEAR % "{model: ./nowhere}", tmp_path / "new")


# --- disks


def test_large_models_are_written_in_shards(tmp_path):
    """The same tensors in files of at most that size, under transformers' names; it loads them."""
    made = tiny.write_model(tmp_path / "a")
    text = LINEAR % f"{{model: {made}}}"
    whole = merge(text, tmp_path / "whole")
    cut = merge_files(parse_config(text), text, tmp_path / "cut", shard=20_000)

    files = sorted((tmp_path / "cut").glob("model-*.safetensors"))
    index = json.loads((tmp_path / "cut" / "model.safetensors.index.json").read_text())
    found = {name: (file.name, open_tensors(file)[name]) for file in files for name in open_tensors(file)}
    assert len(files) > 2
    assert [file.name for file in files] == [
        f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))
    ]
    assert index["weight_map"] == {name: file for name, (file, _) in sorted(found.items())}
    assert all(
        sum(a.nbytes for _, a in found.values() if _ == file.name) <= 20_000 or len(open_tensors(file)) == 1
        for file in files
    )
    assert cut["digest"] == whole["digest"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "cut", dtype="float32").state_dict()
    for name, (_, array) in found.items():
        assert np.array_equal(loaded[name].numpy(), array.astype(np.float32)), name


def test_a_disk_that_fills_up(tmp_path):
    """No room for the result: said in one line, and nothing half-written stays."""
    made = tiny.write_model(tmp_path / "a")
    (tmp_path / "merge.yml").write_text(LINEAR % f"{{model: {made}}}")
    told = subprocess.run(
        [sys.executable, "-m", "souq", "merge", "merge.yml", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )  # fmt: skip

    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert "File too large" in told.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "merge.yml"]


def test_settings_that_a_merge_cannot_keep_are_said(tmp_path):
    """One config is kept; by what else a model was trained to compute is not passed over."""
    for name, theta in (("a", 1e4), ("b", 5e5)):
        small(tmp_path / name, layer(chance(1, 4, 4)), rope_theta=theta, use_cache=theta > 1e4)

    report = merge(two(tmp_path, ""), tmp_path / "out")

    assert report["notes"] == [
        f"{tmp_path}/b computes with rope_parameters.rope_theta 500000.0; 10000.0 is kept, as in {tmp_path}/a"
    ]
