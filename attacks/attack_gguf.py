"""GGUF files that would fill a machine, or be read as something else than what stands in them."""

import gguf
import numpy as np
import pytest
from tests.tiny import write_model

from souq.errors import Hostile
from souq.model.gguf.reader import GGUF
from souq.model.gguf.writer import write_gguf
from souq.model.source import open_source


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(write_model(folder / "m"), folder / "m.gguf", "f32")
    return folder / "m.gguf"


def tampered(
    honest, target, change=lambda key, value: value, architecture="llama", offset=None, names=lambda name: name
):
    """The honest file with other settings."""
    reader, writer = gguf.GGUFReader(honest), gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            inside = field.types[-1] if len(field.types) > 1 else None
            renamed = key.replace("llama.", f"{architecture}.") if key.startswith("llama.") else key
            writer.add_key_value(renamed, change(key, field.contents()), field.types[0], sub_type=inside)
    for tensor in reader.tensors:
        writer.add_tensor(names(tensor.name), np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def whole(path):
    source = open_source(str(path))
    return [source.weights[name] for name in source.weights]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.block_count", 4_000_000_000, "4,000,000,000"),
        ("llama.block_count", 4_000, "says it has 4,000 layers; it holds tensors of 2"),
        ("llama.attention.head_count", 4_000_000_000, "4,000,000,000"),
        ("llama.attention.head_count", 7, "has not the shape its settings say"),
        ("llama.embedding_length", 0, "number above 0"),
        ("llama.context_length", 1 << 31, "max_position_embeddings is"),
    ],
)
def test_sizes_that_lie(honest, tmp_path, key, value, message):
    """Refused in a line, before as many names are made."""
    made = tampered(honest, tmp_path / "x.gguf", lambda k, old: value if k == key else old)

    with pytest.raises(Hostile, match=message):
        whole(made)


def test_a_thousand_experts_in_a_thousand_layers(tmp_path):
    """Of a file that is small because each is a number wide."""
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "qwen3moe")
    for key, value in {"block_count": 300, "embedding_length": 1, "attention.head_count": 1, "feed_forward_length": 1,
                       "context_length": 8, "expert_count": 1_000, "expert_used_count": 1,
                       "expert_feed_forward_length": 1}.items():  # fmt: skip
        writer.add_uint32(f"qwen3moe.{key}", value)
    for layer in range(300):
        writer.add_tensor(f"blk.{layer}.ffn_up_exps.weight", np.zeros((1_000, 1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with pytest.raises(Hostile, match="300 layers of 1,000 experts: no model has"):
        GGUF(tmp_path / "x.gguf")


def test_tensors_that_lie_in_each_other(honest, tmp_path):
    """Two names for the same bytes: a small file that is a large model."""
    data = bytearray(honest.read_bytes())
    reader = gguf.GGUFReader(honest)
    first = next(tensor for tensor in reader.tensors if tensor.name == "blk.0.ffn_up.weight")
    where = first.field.parts[-1]  # its offset, eight bytes
    start = int(where.ctypes.data - reader.data.ctypes.data)
    data[start : start + 8] = (0).to_bytes(8, "little")
    (tmp_path / "x.gguf").write_bytes(data)

    with pytest.raises(Hostile, match="lies in another tensor"):
        GGUF(tmp_path / "x.gguf")


@pytest.mark.parametrize("architecture", ["qwen2", "gemma", "starcoder2", "falcon", "gpt2", "deepseek2", "stablelm"])
def test_one_architecture_under_another_s_name(honest, tmp_path, architecture):
    """Its settings or its tensors are not those: never taken as a model that computes something else."""
    made = tampered(honest, tmp_path / "x.gguf", architecture=architecture)
    if architecture in ("qwen2", "gemma"):  # whose files look the same: it is read as what it says
        assert GGUF(made).layout.architecture == architecture
        return
    with pytest.raises(Hostile):
        open_source(str(made))


def test_a_chat_template_in_a_file_is_judged(honest, tmp_path):
    """What stands in metadata is a chat template as any other."""
    made = tampered(
        honest, tmp_path / "x.gguf", lambda k, old: "{{ ''.__class__ }}" if k.endswith("chat_template") else old
    )
    from souq.model.config import approved

    with pytest.raises(Hostile):
        approved(open_source(str(made)).files)
