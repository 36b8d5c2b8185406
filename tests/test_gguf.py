"""GGUF in and out: every kind of model, every kind of number, positions, vocabularies, parts, and what cannot be kept."""

from __future__ import annotations

import json
import os

import gguf
import ml_dtypes
import numpy as np
import pytest

from souq.errors import Hostile, NotFound
from souq.model.gguf.architectures import LAYOUTS
from souq.model.gguf.reader import GGUF, llama3_factors, llama3_scaling
from souq.model.gguf.tokenizer import PRE_TOKENIZERS, _name
from souq.model.gguf.writer import write_gguf
from souq.model.source import open_source
from souq.weights.safetensors import open_tensors, write_tensors
from tests.gguf_zoo import LLAMA_3, OTHER_3, ZOO, make, odds
from tests.tiny import write_model

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def unpacked(source, folder):
    """A source as the folder it stands for."""
    folder.mkdir()
    for name, data in source.files.items():
        (folder / name).write_bytes(data)
    write_tensors(
        folder / "model.safetensors", {name: source.weights[name] for name in source.weights}, {"format": "pt"}
    )
    return folder


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_goes_out_and_comes_back(tmp_path, name):
    """Written as GGUF and read again: the same tensors to the bit, a configuration that computes the same."""
    from transformers import AutoModelForCausalLM

    net = make(name, tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "model.f32.gguf", "f32", licence="MIT")
    source = open_source(str(tmp_path / "model.f32.gguf"))
    before = open_tensors(tmp_path / "model" / "model.safetensors")
    again, report = AutoModelForCausalLM.from_pretrained(unpacked(source, tmp_path / "back"), output_loading_info=True)

    assert source.weights.keys() == before.keys()
    assert all(source.weights[each].tobytes() == before[each].tobytes() for each in before)
    assert not any(report[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert np.abs(odds(net) - odds(again.float())).max() < 1e-6
    assert source.licence in ("MIT", "mit")
    assert source.notes == ()


def test_the_zoo_has_every_architecture():
    """A layout that no test reads is none."""
    kinds = {kind for kind, _ in ZOO.values()}

    assert {layout.kind for layout in LAYOUTS} <= kinds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny Llama, in bf16."""
    return write_model(tmp_path_factory.mktemp("gguf") / "tiny")


@pytest.mark.parametrize(
    ("kind", "kept"), [("f32", "float32"), ("f16", "float16"), ("bf16", "bfloat16"), ("q8_0", "bfloat16")]
)
def test_numbers_are_kept_as_they_are(folder, tmp_path, kind, kept):
    """A file in 16 or 32 bits is not rounded; of one that is quantised it is said what is kept."""
    write_gguf(folder, tmp_path / "x.gguf", kind, licence="MIT")
    source = open_source(str(tmp_path / "x.gguf"))
    before = open_tensors(folder / "model.safetensors")
    dtype = {"bfloat16": ml_dtypes.bfloat16}.get(kept, kept)

    assert json.loads(source.files["config.json"])["dtype"] == kept
    assert {str(source.weights[name].dtype) for name in source.weights} == {kept}
    assert bool(source.notes) == (kind == "q8_0")
    if kind != "q8_0":
        assert all(source.weights[name].tobytes() == before[name].astype(dtype).tobytes() for name in before)


def rewritten(source, target, change=lambda key, value: value, tensors=lambda name, array: array):
    """A GGUF file with some of what it says changed."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = change(key, field.contents())
        if value is not None:
            inside = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(key, value, field.types[0], sub_type=inside)
    for tensor in reader.tensors:
        array = tensors(tensor.name, np.array(tensor.data))
        if array is not None:
            writer.add_tensor(tensor.name, array, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory):
    """The tiny Llama as a file in f32."""
    write_gguf(folder, made := tmp_path_factory.mktemp("file") / "tiny.f32.gguf", "f32", licence="MIT")
    return made


def test_a_norm_that_no_16_bits_hold_stays_in_32(folder, file, tmp_path):
    """llama.cpp keeps norms in float32 beside half precision: one that is not half precision is not made so."""
    odd = np.float32(1 / 3)
    write_gguf(folder, tmp_path / "half.gguf", "f16")
    made = rewritten(
        tmp_path / "half.gguf", tmp_path / "odd.gguf",
        tensors=lambda name, array: np.full_like(array, odd) if name == "output_norm.weight" else array,
    )  # fmt: skip
    model = GGUF(made)

    assert (model["model.norm.weight"] == odd).all()
    assert model["model.layers.0.input_layernorm.weight"].dtype == np.float16


@pytest.mark.parametrize("settings", [LLAMA_3, OTHER_3, LLAMA_3 | {"factor": 32.0}])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_llama_3_s_scaling_is_found_from_its_factors(settings, theta):
    """A file holds what each frequency is divided by; other factors than Llama 3's way gives are not taken for it."""
    factors = llama3_factors(theta, 128, settings).astype(np.float32)

    assert llama3_scaling(factors, theta) == settings
    assert llama3_scaling(np.linspace(1, 9, 64), theta) is None


def test_positions_nobody_here_scales_so_are_refused(file, tmp_path):
    """Named, where they were dropped."""
    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            inside = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=inside)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with pytest.raises(Hostile, match=r"scales positions by 'longrope'; a llama here knows default, linear"):
        open_source(str(tmp_path / "x.gguf"))


def test_a_folder_that_holds_a_file_is_that_file(file, tmp_path):
    """One is read; of several one must be named."""
    (tmp_path / "tiny.f32.gguf").symlink_to(file)
    (tmp_path / "mmproj-x.gguf").write_bytes(b"what it sees with")

    assert open_source(str(tmp_path)).name == "tiny"
    (tmp_path / "other.gguf").symlink_to(file)
    with pytest.raises(NotFound, match=r"several GGUF files: other.gguf, tiny.f32.gguf"):
        open_source(str(tmp_path))


def test_parts_are_one(file, tmp_path):
    """Cut by llama.cpp's own tool's names, each part is all; one that is not there is named."""
    names = [tensor.name for tensor in gguf.GGUFReader(file).tensors]
    parts = [tmp_path / f"tiny.f32-{i:05}-of-00002.gguf" for i in (1, 2)]
    for i, part in enumerate(parts):
        mine, silent = set(names[i::2]), (lambda key, value: None) if i else (lambda key, value: value)
        rewritten(file, part, silent, tensors=lambda name, array, mine=mine: array if name in mine else None)
    whole = GGUF(file)

    for place in (*parts, tmp_path):
        source = open_source(str(place))
        assert source.name == "tiny"
        assert {n: source.weights[n].tobytes() for n in source.weights} == {n: whole[n].tobytes() for n in whole}
    parts[0].unlink()
    with pytest.raises(NotFound, match=r"not there: tiny.f32-00001-of-00002.gguf"):
        open_source(str(parts[1]))


SPLITS = {json.dumps(split): name for name, split in reversed(PRE_TOKENIZERS.items())}


@pytest.mark.parametrize("name", SPLITS.values())
def test_every_way_to_split_text(file, tmp_path, name):
    """Taken by tokenizers, whole again when decoded, and written under a name that splits alike."""
    from tokenizers import Tokenizer

    assert PRE_TOKENIZERS[_name({"pre_tokenizer": PRE_TOKENIZERS[name], "model": {}})] == PRE_TOKENIZERS[name]
    made = rewritten(file, tmp_path / "x.gguf", lambda key, value: name if key == "tokenizer.ggml.pre" else value)
    files = GGUF(made).files()
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())

    assert tokenizer.decode(tokenizer.encode("the user's 1234, née\n 漢字!").ids) == "the user's 1234, née\n 漢字!"
    assert PRE_TOKENIZERS[name] == json.loads(files["tokenizer.json"])["pre_tokenizer"]


@pytest.mark.parametrize(("name", "said", "begins"), [
    ("llama-bpe", None, True), ("llama-bpe", False, False), ("tekken", None, True), ("qwen2", None, False),
    ("qwen2", True, True),
])  # fmt: skip
def test_a_text_begins_as_in_llama_cpp(file, tmp_path, name, said, begins):
    """Where a file says nothing of it, Llama 3's and Mistral's texts have a beginning and others have none."""
    from transformers import AutoTokenizer

    made = rewritten(
        file, tmp_path / "x.gguf", changed(pre=lambda old: name, add_bos_token=lambda old: said)
    )  # fmt: skip
    source = open_source(str(made))
    tokenizer = AutoTokenizer.from_pretrained(unpacked(source, tmp_path / "m"))

    assert (tokenizer.encode("the user")[0] == 1) == begins
    assert source.notes == ()


def test_a_file_that_does_not_say_how_text_is_split(file, tmp_path):
    made = rewritten(file, tmp_path / "x.gguf", changed(pre=lambda old: None))

    assert open_source(str(made)).notes == ("it does not say how its tokenizer splits text: taken is GPT-2's way",)


def changed(**values):
    """What `rewritten` changes of the vocabulary."""
    return lambda key, value: values.get(key.rpartition(".")[2], lambda old: old)(value)


DAMAGED = {
    "merges of tokens it has not": (changed(merges=lambda old: [*old, "zz qq"]), r"1 merges name tokens it does not have"),
    "a token twice": (changed(tokens=lambda old: [*old[:-1], old[5]]), r"1 tokens stand there twice"),
    "types for some": (changed(token_type=lambda old: old[:-3]), r"token_type are not one for each of 320 tokens"),
    "an end beyond": (changed(eos_token_id=lambda old: 9_999), r"eos_token_id is 9999, of 320 tokens"),
    "no merges": (changed(merges=lambda old: None), r"BPE without merges"),
    "all at once": (
        changed(merges=lambda old: [*old, "zz qq"], eos_token_id=lambda old: 9_999),
        r"1 merges name tokens.*; eos_token_id is 9999",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_vocabulary_is_named(file, tmp_path, name):
    """Everything that is wrong with it, in one line."""
    change, message = DAMAGED[name]
    with pytest.raises(Hostile, match=f"its vocabulary is damaged: .*{message}"):
        open_source(str(rewritten(file, tmp_path / "x.gguf", change)))


def test_what_is_missing_or_too_much_is_named(file, tmp_path):
    """A layer without a tensor, a tensor nobody has a place for, a setting that is not there."""
    lost = rewritten(file, tmp_path / "a.gguf", tensors=lambda n, array: None if n == "blk.1.ffn_up.weight" else array)
    with pytest.raises(Hostile, match=r"a.gguf lacks blk.1.ffn_up.weight"):
        GGUF(lost)
    silent = rewritten(
        file, tmp_path / "b.gguf",
        lambda key, value: None if key in ("llama.context_length", "llama.attention.layer_norm_rms_epsilon") else value,
    )  # fmt: skip
    with pytest.raises(Hostile, match=r"context_length and attention.layer_norm_rms_epsilon as a number"):
        open_source(str(silent))
    writer = gguf.GGUFWriter(tmp_path / "c.gguf", "t5")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(Hostile, match=r"'t5', no causal language model; souq reads llama, mistral3, qwen2"):
        GGUF(tmp_path / "c.gguf")


REFUSED = {
    "a window": ("mistral", {"sliding_window": 64}, "a window of 64"),
    "another scale": ("gemma2", {"query_pre_attn_scalar": 99}, "query_pre_attn_scalar is 99; llama.cpp takes 16"),
    "other positions": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
    "another activation": ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_would_compute_otherwise_is_not_written(tmp_path, name):
    """Named, and nothing written."""
    kind, change, message = REFUSED[name]
    make(kind, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | change
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))

    with pytest.raises(Hostile, match=message):
        write_gguf(tmp_path / "m", tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_added_tokens_keep_their_kind(folder, tmp_path):
    """Special ones are control tokens there, others are found whole in a text; both come back as they were."""
    other = tmp_path / "m"
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"].append({"id": 300, "content": "<think>", "special": False, **plain})
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_gguf(other, tmp_path / "x.gguf", "f32")
    kinds = gguf.GGUFReader(tmp_path / "x.gguf").get_field("tokenizer.ggml.token_type").contents()
    back = json.loads(GGUF(tmp_path / "x.gguf").files()["tokenizer.json"])

    assert (kinds[0], kinds[1], kinds[100], kinds[300]) == (3, 3, 1, 4)
    assert {token["id"]: token["special"] for token in back["added_tokens"]} == {0: True, 1: True, 2: True, 300: False}


def test_a_sentencepiece_vocabulary_goes_out_and_comes_back(folder, tmp_path):
    """Merges become scores and scores merges: text is cut the same."""
    from tokenizers import Tokenizer

    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{i:02X}>": i + 3 for i in range(256)}
    for piece in [
        "\u2581",
        "t",
        "h",
        "e",
        "\u2581t",
        "he",
        "\u2581the",
        "u",
        "s",
        "r",
        "us",
        "er",
        "\u2581us",
        "\u2581user",
    ]:
        vocab[piece] = len(vocab)
    merges = [
        ["\u2581", "t"],
        ["h", "e"],
        ["\u2581t", "he"],
        ["u", "s"],
        ["e", "r"],
        ["\u2581", "us"],
        ["\u2581us", "er"],
    ]
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "post_processor": None, "pre_tokenizer": None,
        "added_tokens": [{"id": i, "content": each} | token for i, each in enumerate(["<unk>", "<s>", "</s>"])],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "decoder": {"type": "ByteFallback"},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }  # fmt: skip
    other = tmp_path / "m"
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    (other / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})
    )
    write_gguf(other, tmp_path / "x.gguf", "f32")
    back = Tokenizer.from_str(GGUF(tmp_path / "x.gguf").files()["tokenizer.json"].decode())
    here = Tokenizer.from_str(json.dumps(tokenizer))

    for text in ("the user", "the  users hé 7"):
        assert back.encode(text, add_special_tokens=False).ids == here.encode(text, add_special_tokens=False).ids
    assert back.encode("the").ids[0] == 1


@pytest.mark.parametrize("kind", ["f32", "bf16", "q8_0"])
def test_a_tune_that_is_kept_as_gguf(bazaar, tmp_path, kind):
    """Taken as the folder it was made from, where its numbers are the tune's; where not, what to do."""
    tune = write_model(tmp_path / "tune", seed=9)
    write_gguf(tune, tmp_path / "tune.gguf", kind)
    code, out, err = bazaar.says(
        "chen", ["delta", "make", "--from", tmp_path / "tune.gguf", "--out", tmp_path / "x.delta", "--json"]
    )
    if kind == "q8_0":
        assert (code, out) == (2, "")
        assert "tune.gguf is quantised (Q8_0)" in err
        assert "name the folder that it was made from" in err
        return
    assert code == 0, err
    assert bazaar("chen", ["delta", "make", "--from", tune, "--out", tmp_path / "y.delta", "--json"]) == 0
    assert (tmp_path / "x.delta").read_bytes() == (tmp_path / "y.delta").read_bytes()


def test_main_as_a_file(bazaar, tmp_path):
    """`souq export --gguf`: main's own numbers, and nothing over what is there."""
    code, _, err = bazaar.says("amira", ["export", "--gguf", tmp_path / "main.gguf"])
    assert code == 0, err
    assert bazaar("amira", ["export", tmp_path / "main"]) == 0
    model, here = GGUF(tmp_path / "main.gguf"), open_tensors(tmp_path / "main" / "model.safetensors")

    assert model.kind == "BF16"
    assert {name: model[name].tobytes() for name in model} == {name: here[name].tobytes() for name in here}
    code, _, err = bazaar.says("amira", ["export", "--gguf", tmp_path / "main.gguf"])
    assert (code, "is already there" in err) == (2, True)
    assert bazaar("amira", ["export"]) == 2
