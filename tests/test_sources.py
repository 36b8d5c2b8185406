"""Where a base may come from: folders in one file or many, GGUF of any kind of number (what is refused: attacks/attack_hostile_files.py)."""

from __future__ import annotations

import json

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from souq.errors import SouqError
from souq.model.gguf.reader import GGUF
from souq.model.source import open_source
from tests.tiny import HEADS, HIDDEN, LAYERS, MIDDLE, VOCAB, tensors, write_model


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "tiny")


def read(path):
    return {name: array.tobytes() for name, array in open_source(str(path)).weights.items()}


def test_many_files_are_as_one(folder, tmp_path):
    """A checkpoint that transformers wrote in shards is the same base as in one file."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16").save_pretrained(
        tmp_path / "cut", max_shard_size="20KB"
    )

    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 2
    assert read(tmp_path / "cut") == read(folder)


@pytest.mark.parametrize("shard", ["../tiny/model.safetensors", "/etc/passwd", "a/b.safetensors", "none.safetensors"])
def test_an_index_names_files_of_its_folder_only(folder, shard):
    index = {"weight_map": dict.fromkeys(tensors(), shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if shard == "none.safetensors":  # beside a single file it would be an old index
        (folder / "model.safetensors").unlink()

    with pytest.raises(SouqError, match=r"outside the folder|no file"):
        read(folder)


def test_an_index_that_leaves_tensors_out_is_refused(folder):
    index = {"weight_map": {"model.norm.weight": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(SouqError, match="do not name the same tensors"):
        read(folder)


NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def theirs(name):
    """llama.cpp's name of a tensor."""
    name = name.removesuffix(".weight")
    for ours, short in NAMES.items():
        if name.endswith(ours):
            return f"blk.{name.split('.')[2]}.{short}.weight"
    return {"model.embed_tokens": "token_embd.weight", "model.norm": "output_norm.weight"}[name]


def permute(wide, heads):
    """As llama.cpp's converter lays out rotary heads."""
    return wide.reshape(heads, 2, wide.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(wide.shape)


def write_gguf(path, kind):
    """The tiny model as GGUF, and what a reader should find: name -> float32 before it is bf16 again."""
    writer, expected = gguf.GGUFWriter(path, "llama"), {}
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MIDDLE)
    writer.add_block_count(LAYERS)
    writer.add_vocab_size(VOCAB)
    for name, array in tensors().items():
        wide = array.astype(np.float32)
        heads = HEADS if name.endswith("q_proj.weight") else 2 if name.endswith("k_proj.weight") else 0
        moved = np.ascontiguousarray(permute(wide, heads) if heads else wide)
        packs = wide.ndim == 2 and wide.shape[-1] % 32 == 0
        as_kind = kind if packs else gguf.GGMLQuantizationType.F32
        packed = quantize(moved, as_kind)
        writer.add_tensor(theirs(name), packed, raw_dtype=as_kind)
        back = dequantize(packed, as_kind).reshape(wide.shape)
        rows = np.argsort(permute(np.arange(wide.shape[0])[:, None], heads)[:, 0]) if heads else slice(None)
        expected[name] = back[rows]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_gguf_of_any_kind_of_number(tmp_path, kind):
    """Each tensor comes back under transformers' name, in transformers' order of rows, to the bit of its kind."""
    expected = write_gguf(tmp_path / "tiny.gguf", gguf.GGMLQuantizationType[kind])

    found = GGUF(tmp_path / "tiny.gguf")
    kept = {"F32": np.float32, "F16": np.float16}.get(kind, ml_dtypes.bfloat16)

    assert found.keys() == expected.keys()
    for name, wide in expected.items():
        assert found[name].tobytes() == wide.astype(kept).tobytes(), name
        assert np.abs(found[name].astype(np.float32) - tensors()[name].astype(np.float32)).max() < 0.2
