"""Somebody puts a file into a downloaded release that a loader would load, or scores that nobody measured."""

import json
import shutil

import msgspec
import pytest
from tests.test_downloaded import downloaded, put, release_of, scores  # noqa: F401

from souq import signing
from souq.records import canonical
from souq.releases import claims
from souq.releases.verify import judge

LOADED = [
    "model-00001-of-00002.safetensors",
    "adapter_model.safetensors",
    "consolidated.safetensors",
    "deep/x.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
    "model.pth",
    "weights.pkl",
    "weights.pickle",
    "optimizer.ckpt",
    "modeling_smol.py",
    "configuration_smol.py",
    "tokenization_smol.py",
    "custom.PY",
    "__init__.py",
    "setup.py",
    "x.pyc",
    "x.so",
    "adapter_config.json",
    "adapter_model.bin",
    "adapter.md",
    "generation_config.json",
    "Config.json",
    "config.json.md",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "tokenizer_config.json.bak",
    "tokenizer.md",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor.md",
    "chat_template.md",
    "additional_chat_templates/tool.jinja",
    "chat_template/evil.md",
    "chat_template.json",
    "model.safetensors.index.json",
    "model.safetensors.index.json.md",
    "smol.gguf",
    "smol.Q4_K.GGUF",
    "model.onnx",
    "onnx/model.onnx",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.npz",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "params.json",
    ".eval_results/x.py",
    ".eval_results/deep/x.yaml",
    ".eval_results/config.yaml",
    ".eval_resultsx/a.yaml",
    ".Eval_Results/a.yaml",
    "tekken.json",
    "quantization_config.json",
    "recipe.yaml",
    "mergekit_config.yml",
    "README.md.py",
    "README.jinja",
    "LICENSE.safetensors",
    "readme.md/x.bin",
    "x.md/modeling.py",
    "nothing",
    ".",
    ".hidden",
    "custom_generate/generate.py",
    "config.ini",
    "cоnfig.json",
    "config.json\u200b",
]


@pytest.fixture
def folder(downloaded, tmp_path):  # noqa: F811
    return shutil.copytree(downloaded, tmp_path / "smol")


@pytest.mark.parametrize("path", [path for path in LOADED if path != "."])
def test_what_a_loader_could_load_is_refused(folder, path):
    """Weights, code, tokenizers, templates, configurations, and whatever souq does not know: named, and not verified."""
    put(folder, {path: b"- x: 1\n"})

    judged = judge(folder)

    assert {finding.file for finding in judged.findings} == {path}
    assert path not in [stranger.file for stranger in judged.strangers]


def test_a_name_that_steers_a_terminal(folder, capfd):
    """A stranger's name is spelled out where it is shown."""
    from souq.cli import run

    put(folder, {"\x1b[2J\u202enotes.md": b"x", "\x1b[1mx.bin": b"x"})
    capfd.readouterr()

    assert run(["release", "verify", str(folder)]) == 3
    shown = capfd.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def forged(site):
    """Files that are nearly Bruno's claim, and why each is none."""
    release, town = release_of(site), site.town.bazaar
    honest = scores(release)
    files = claims.claimed(honest, release, town.person("bruno"))
    face, proof = files.values()
    other = msgspec.structs.replace(release, model="b3:" + 64 * "0")
    stranger = claims.claimed(honest, release, town.person("mallory"))
    statement = signing.statement(claims.KIND, "releases/1.0", release.model, msgspec.to_builtins(honest))
    as_vote = canonical(signing.sign(statement, town.person("bruno").key, namespace="souq.vote.v1"))
    undated = msgspec.structs.replace(honest, at="0000")
    early = signing.statement(claims.KIND, "releases/1.0", release.model, msgspec.to_builtins(undated))
    sealed = canonical(signing.sign(early, town.person("bruno").key, namespace=claims.NAMESPACE))
    yield "other numbers", face.replace(b"0.7500", b"0.9900"), proof
    yield "a line more", face + b"- dataset:\n    id: a/b\n    task_id: x\n  value: 1\n", proof
    yield "a stranger's key", *stranger.values()
    yield "another model", *claims.claimed(honest, other, town.person("bruno")).values()
    yield "signed as a vote", face, as_vote
    yield "no signature", face, b"{}"
    yield "half a signature", face, proof[: len(proof) // 2]
    yield "deep", face, b"[" * 100_000
    yield "large", face, proof + b" " * (5 << 20)
    yield "a date that is none", claims.face(undated), sealed


CASES = ["other numbers", "a line more", "a stranger's key", "another model", "signed as a vote", "no signature", "half a signature", "deep", "large", "a date that is none"]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_scores_that_nobody_signed(site, folder, case):
    """What is not exactly what somebody of the policy signed about this model is a stranger's file, and no claim."""
    face, proof = {name: pair for name, *pair in forged(site)}[case]
    put(folder, {".eval_results/souq.yaml": face, ".eval_results/souq.intoto.json": proof})

    judged = judge(folder)

    assert judged.claims == []
    assert {stranger.file for stranger in judged.strangers} == {
        ".eval_results/souq.yaml",
        ".eval_results/souq.intoto.json",
    }
    assert not judged.findings


def test_a_claim_under_another_name_is_that_claim(site, folder):
    """A signed file copied under two names says one thing twice, and is listed twice."""
    release = release_of(site)
    face, proof = claims.claimed(scores(release), release, site.town.bazaar.person("bruno")).values()
    put(
        folder,
        {
            f".eval_results/{name}.{end}": data
            for name in ("a", "b")
            for end, data in (("yaml", face), ("intoto.json", proof))
        },
    )

    assert len(judge(folder).claims) == 4


def test_links_and_pipes_among_the_scores(folder):
    """A link to a file of the reader's is read as scores are, and shown nowhere."""
    put(folder, {".eval_results/a.yaml": b"x"})
    (folder / ".eval_results" / "b.yaml").symlink_to("/etc/hostname")
    (folder / ".eval_results" / "b.intoto.json").symlink_to("/dev/zero")

    judged = judge(folder)

    assert {finding.file for finding in judged.findings} == {".eval_results/b.intoto.json"}
    assert "/etc" not in json.dumps([stranger.because for stranger in judged.strangers])


def test_a_card_with_a_thousand_starts(folder):
    """A card of a megabyte of line ends costs no more than a moment."""
    (folder / "README.md").write_bytes(b"\n" * (1 << 20))

    assert {finding.file for finding in judge(folder).findings} == {"README.md"}
