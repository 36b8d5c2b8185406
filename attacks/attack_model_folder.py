"""A model, an adapter or an eval to be taken in, whose files are links to its reader's own, or ask for code."""

import json
import os
import struct
import time
from contextlib import suppress

import pytest
from tests.bazaar import rows, write_eval
from tests.tiny import write_model

from souq.build.delta_file import recipe_beside
from souq.errors import Hostile, NotFound, SouqError
from souq.evals.eval import read_folder
from souq.model.adapter.peft import open_adapter
from souq.model.config import MODEL_FILES, admit
from souq.model.gguf.reader import GGUF
from souq.model.source import open_source

SECRET = '{"token": "of whoever opens it"}'


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "chat_template.jinja", "model.safetensors"])
def test_a_link_to_its_reader_s_own_file(tmp_path, name):
    """`souq init` would have copied the file behind it into a repository that is then pushed."""
    folder = write_model(tmp_path / "m")
    (tmp_path / "secret").write_text(SECRET)
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "secret")

    with pytest.raises(Hostile, match="a link out of its folder"):
        open_source(str(folder))


def test_a_hub_s_cache_is_links_and_is_taken(tmp_path):
    """models--x/snapshots/<revision>/config.json links into models--x/blobs."""
    folder = write_model(tmp_path / "models--x" / "snapshots" / "main")
    blobs = tmp_path / "models--x" / "blobs"
    blobs.mkdir()
    for path in [*folder.iterdir()]:
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)

    assert len(open_source(str(folder)).weights) == 20


@pytest.mark.parametrize("odd", ["a pipe", "a device", "a folder"])
def test_a_file_that_never_ends(tmp_path, odd):
    folder = write_model(tmp_path / "m")
    path = folder / "model.safetensors"
    path.unlink()
    {"a pipe": lambda: os.mkfifo(path), "a device": lambda: path.symlink_to("/dev/zero"), "a folder": path.mkdir}[odd]()

    with pytest.raises((Hostile, NotFound)):
        open_source(str(folder))


CODE = {
    "beside the model": ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}),
    "in a model inside the model": ("config.json", {"text_config": {"auto_map": {"AutoModel": "a/b--evil.Model"}}}),
    "in a list": ("config.json", {"towers": [{"auto_map": {}}]}),
    "in the tokenizer": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["a/b--evil.Tok", None]}}),
    "in how it generates": ("generation_config.json", {"trust_remote_code": True}),
    "five hundred brackets deep": ("config.json", {"a": json.loads("[" * 500 + "]" * 500)}),
}


@pytest.mark.parametrize("name", CODE)
def test_code_is_asked_for(tmp_path, name):
    """It was looked for at the top of config.json alone. A stranger is refused; from an owner it is never kept."""
    file, more = CODE[name]
    folder = write_model(tmp_path / "m")
    held = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(held | more))

    with pytest.raises(Hostile):
        admit({path.name: path.read_bytes() for path in folder.iterdir() if path.name in MODEL_FILES})
    with suppress(Hostile):
        kept = b"".join(open_source(str(folder)).files.values())
        assert not any(word in kept for word in (b"auto_map", b"trust_remote_code", b"evil"))


def test_code_of_a_kind_that_nothing_else_builds(tmp_path):
    """Only its own code could build it: its owner is refused as well."""
    folder = write_model(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    code = {"model_type": "mallory", "auto_map": {"AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config | code))

    with pytest.raises(Hostile, match="auto_map"):
        open_source(str(folder))


@pytest.mark.parametrize("name", ["vocab.json", "added_tokens.json", "tokenizer.model", "merges.txt"])
def test_a_link_whose_target_has_another_name(tmp_path, name):
    """Files that nothing parses at `souq init` would carry any of its reader's own into the repository."""
    folder = write_model(tmp_path / "m")
    (tmp_path / "id_ed25519").write_text(SECRET)
    (folder / name).symlink_to(tmp_path / "id_ed25519")

    with pytest.raises(Hostile, match="a link out of its folder"):
        open_source(str(folder))


@pytest.mark.parametrize(
    "key", ["tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file", "init_inputs"]
)
def test_a_tokenizer_that_names_its_reader_s_files(tmp_path, key):
    """Some releases of transformers open what these keys name: they are not kept."""
    folder = write_model(tmp_path / "m")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "/etc/passwd"}))

    assert b"/etc/passwd" not in open_source(str(folder)).files["tokenizer_config.json"]


ADAPTERS = {
    "an alpha without end": {"lora_alpha": float("inf")},
    "an alpha that is no number": {"lora_alpha": float("nan")},
    "an alpha that is a yes": {"lora_alpha": True},
    "a pattern RE2 cannot take": {"lora_alpha": 8, "alpha_pattern": {r"(?=(a+)+\\1)b": 4}},
    "a pattern of a million states": {"lora_alpha": 8, "alpha_pattern": {"((a{100}){100}){100}": 4}},
    "a pattern longer than any name": {"lora_alpha": 8, "alpha_pattern": {"a" * 5_000: 4}},
    "a hundred thousand patterns": {"lora_alpha": 8, "alpha_pattern": {f"a{i}": 4 for i in range(100_000)}},
    "patterns to no number": {"lora_alpha": 8, "alpha_pattern": {"a": float("nan")}},
    "another rank than its factors": {"lora_alpha": 8, "r": 4},
    "a rank as a text": {"lora_alpha": 8, "r": "2"},
    "an initialisation that took from the base": {"lora_alpha": 8, "init_lora_weights": "PiSSA_niter_4"},
    "an initialisation of tomorrow": {"lora_alpha": 8, "init_lora_weights": "sparrow"},
    "a key of tomorrow": {"lora_alpha": 8, "use_sparrow": True},
    "code by the name of a module": {"lora_alpha": 8, "megatron_config": {"a": 1}, "megatron_core": "os"},
    "tokens that are no numbers": {"lora_alpha": 8, "trainable_token_indices": ["x"]},
    "patterns that are a list": {"lora_alpha": 8, "alpha_pattern": ["x"]},
    "another method": {"peft_type": "PREFIX_TUNING"},
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_s_settings(tmp_path, name):
    import numpy as np

    from souq.weights.safetensors import write_tensors

    halves = {f"base_model.model.q.lora_{half}.weight": np.ones((2, 2), "<f4") for half in "AB"}
    write_tensors(tmp_path / "adapter_model.safetensors", halves)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | ADAPTERS[name]))

    with pytest.raises(SouqError):
        open_adapter(tmp_path)


def test_a_pattern_that_never_ends(tmp_path):
    """Python's own patterns go back and forth on this one for longer than the sun shines; RE2 reads the name once."""
    import numpy as np

    from souq.weights.safetensors import write_tensors

    name = "a" * 60 + ".b"
    halves = {f"base_model.model.{name}.lora_{half}.weight": np.ones((2, 2), "<f4") for half in "AB"}
    write_tensors(tmp_path / "adapter_model.safetensors", halves)
    told = {"peft_type": "LORA", "lora_alpha": 8, "alpha_pattern": {"(a+)+c": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    begin = time.perf_counter()

    assert open_adapter(tmp_path).config.scale(name, 2) == 4.0
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("data", [b"\xff", b"a." * 30_000 + b"a = 1", b"a = 1\n" + b"#" * (1 << 20)])
def test_a_recipe_beside_an_adapter(tmp_path, data):
    (tmp_path / "recipe.toml").write_bytes(data)

    with pytest.raises(Hostile):
        recipe_beside(tmp_path)


def test_an_eval_that_is_a_link(tmp_path):
    folder = write_eval(tmp_path / "greet", rows("greet", ["ada"]))
    (folder / "cases.jsonl").rename(tmp_path / "secret")
    (folder / "cases.jsonl").symlink_to(tmp_path / "secret")

    with pytest.raises(Hostile, match="a link"):
        read_folder(folder)


@pytest.mark.parametrize("more", [{"choices": [str(i) for i in range(5_000)]}, {"prompt": "x" * (1 << 20)}])
def test_a_case_that_keeps_a_model_busy(tmp_path, more):
    """Five thousand choices are five thousand runs of the model for everybody who checks."""
    folder = write_eval(tmp_path / "greet", [("say", "1")])
    case = {"id": "a", "prompt": "x", "expected": "1"} | more
    (folder / "cases.jsonl").write_text(json.dumps(case) + "\n")

    with pytest.raises(Hostile, match="a case has at most"):
        read_folder(folder)


def text(words):
    return struct.pack("<Q", len(words)) + words.encode()


def gguf(tensors=0, keys=1, body=b"", version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


GGUFS = {
    "an array of 2^40 bytes that are not there": gguf(body=text("k") + struct.pack("<IIQ", 9, 0, 1 << 40)),
    "an array of twenty million": gguf(body=text("k") + struct.pack("<IIQ", 9, 0, 20_000_000) + bytes(20_000_000)),
    "arrays in arrays": gguf(body=text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 100_000),
    "2^40 tensors": gguf(tensors=1 << 40, body=bytes(100)),
    "2^40 keys": gguf(keys=1 << 40, body=bytes(100)),
    "a text of 2^62 letters": gguf(body=struct.pack("<Q", 1 << 62)),
    "a tensor of sixty dimensions": gguf(tensors=1, keys=0, body=text("w") + struct.pack("<I", 60) + bytes(600)),
    "a tensor of 2^63 numbers": gguf(tensors=1, keys=0, body=text("w") + struct.pack("<IQQ", 2, 1 << 62, 2) + bytes(12)),
    "a version nobody knows": gguf(version=99),
}  # fmt: skip


@pytest.mark.parametrize("name", GGUFS)
def test_a_gguf_that_never_ends(tmp_path, name):
    """The library that reads the format counts to 2^40 before it looks whether the file does."""
    (tmp_path / "x.gguf").write_bytes(GGUFS[name])

    with pytest.raises(Hostile):
        GGUF(tmp_path / "x.gguf")
