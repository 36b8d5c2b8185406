"""Every parser that bytes of a stranger reach, each as a function of bytes, with seeds that it takes.

A target may raise SouqError, which is a parser's way of saying no. Anything else is a crash. Inputs of several files are
joined by SEAM. Nothing here is random: how inputs are changed is run.py's business.

    TARGETS["lock"].run(TARGETS["lock"].seeds()[0])
"""

from __future__ import annotations

import base64
import json
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np

from souq import signing
from souq.build.delta_file import read_delta, read_recipe, write_delta
from souq.checks.files import _rows_refused
from souq.checks.licence import may_enter
from souq.corpus.qna import read as read_qna
from souq.errors import SouqError, UsageError
from souq.evals.eval import EvalSpec, read_eval, write_cases
from souq.governance import Election, foundation, read_policy
from souq.governance.policy import Who
from souq.merge.grow import grow
from souq.merge.mergekit.config import parse_config
from souq.model.adapter.peft import open_adapter
from souq.model.source import open_source
from souq.model.tokenizer import read_words
from souq.pulls.forge import Answer
from souq.pulls.forge_comment import render
from souq.records import (
    Author,
    Contribution,
    Release,
    canonical,
    format_toml,
    parse_toml,
    read_json,
    read_record,
    spelled_out,
)
from souq.releases.verify import judge
from souq.repo.config import Merging, read_config
from souq.repo.contribution import Offer, slug
from souq.repo.landing import malformed
from souq.repo.rows import parse_rows
from souq.weights.delta import Delta, Dense, Gram, Layer, Lora, Rows, Sparse, TensorRef
from souq.weights.lockfile import format_delta, format_lock, parse_delta, parse_lock
from souq.weights.place import check_url
from souq.weights.safetensors import open_tensors, write_tensors
from souq.weights.store import Store

SEAM = b"\n--8<--\n"


@dataclass(frozen=True)
class Target:
    """A parser, and inputs it takes."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


TARGETS: dict[str, Target] = {}


def target(
    name: str, seeds: Callable[[], list[bytes]]
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    """Register a parser under a name; it is run with what it raises of SouqError taken for an answer."""

    def register(function: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def run(data: bytes) -> object:
            try:
                return function(data)
            except SouqError as error:
                said = f"{error}{error.hint or ''}"
                said.encode()  # an answer that cannot be printed is none
                return error

        TARGETS[name] = Target(run, cache(seeds))
        return function

    return register


@cache
def _place() -> Path:
    """A folder in memory where there is one: a fuzzer writes a file a thousand times a second."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="souq-fuzz-", dir=shm if shm.is_dir() else None))


def _file(name: str, data: bytes) -> Path:
    path = _place() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError("not UTF-8") from error  # as every reader of files says


# -- tensors -----------------------------------------------------------------------------------------------------------


def _arrays() -> dict[str, np.ndarray]:
    return {
        "w": np.arange(6, dtype="<f4").reshape(2, 3),
        "b": np.ones(4, ml_dtypes.bfloat16),
        "empty": np.zeros((0, 3), "<f2"),
        "flag": np.array(True),
    }


def _tensor_files() -> list[bytes]:
    path = _place() / "seed.safetensors"
    write_tensors(path, _arrays(), {"format": "pt"})
    return [path.read_bytes(), struct.pack("<Q", 2) + b"{}"]


@target("safetensors", _tensor_files)
def _safetensors(data: bytes) -> object:
    return {name: array.shape for name, array in open_tensors(_file("x.safetensors", data)).items()}


def _delta_of(keep: dict[str, np.ndarray]) -> Delta:
    def ref(array: np.ndarray) -> TensorRef:
        found = TensorRef.of(array)
        keep[found.digest] = array
        return found

    half = np.ones((2, 4), "<f4")
    parts = {
        "model.layers.0.q.weight": Lora(a=ref(half), b=ref(half.T.copy()), scale=2.0),
        "model.norm.weight": Dense(value=ref(np.ones(4, "<f4"))),
        "model.layers.0.k.weight": Sparse(index=ref(np.array([1, 3], "<u4")), value=ref(np.ones(2, "<f4"))),
    }
    grams = {"g": Gram(factor=ref(np.ones((1, 4), "<f4")), diag=ref(np.ones(4, "<f4")), tokens=7)}
    new = {
        "rows model.embed_tokens.weight": Rows(tokens=("x!", "é"), special=("x!",), value=ref(half)),
        "layer 1.0.input_layernorm.weight": Layer(value=ref(np.ones(4, "<f4"))),
    }
    return Delta("b3:" + "0" * 64, parts, grams, {"model.layers.0.q.weight": "g"}, new)


@target("delta file", lambda: [_delta_file()])
def _delta(data: bytes) -> object:
    path = _file("x.delta", data)
    return read_delta(path), read_recipe(path)


def _delta_file() -> bytes:
    keep: dict[str, np.ndarray] = {}
    path = _place() / "seed.delta"
    write_delta(path, _delta_of(keep), keep, {"rank": 8, "lr": 1e-3, "targets": ["q"]})
    return path.read_bytes()


@target("delta.lock", lambda: [format_delta(_delta_of({})).encode()])
def _delta_lock(data: bytes) -> object:
    delta = parse_delta(_text(data))
    assert format_delta(delta) == _text(data), "two spellings of one delta"
    return delta, delta.touches(), [*delta.refs()]


@target("lock", lambda: [format_lock({name: TensorRef.of(array) for name, array in _arrays().items()}).encode()])
def _lock(data: bytes) -> object:
    lock = parse_lock(_text(data))
    assert format_lock(lock) == _text(data), "two spellings of one lock"
    return lock


@target("growing", lambda: [SEAM.join([format_delta(_delta_of({})).encode(), b'{"num_hidden_layers":2,"model_type":"llama"}', b'{"model":{"type":"BPE","vocab":{"a":0}},"added_tokens":[]}'])])  # fmt: skip
def _grow(data: bytes) -> object:
    said, config, tokenizer = (*data.split(SEAM), b"", b"")[:3]
    names = (
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.1.input_layernorm.weight",
    )
    lock = {name: TensorRef.of(np.ones((2, 4) if "embed" in name else 4, "<f4")) for name in names}
    return grow(lock, {"config.json": config, "tokenizer.json": tokenizer}, [parse_delta(_text(said))])


@target("stored object", lambda: _objects())
def _object(data: bytes) -> object:
    store, name = _held()
    return store.take(name, data)


@cache
def _held() -> tuple[Store, str]:
    store = Store(_place() / "store")
    return store, store.put(np.arange(8, dtype="<f4"))


def _objects() -> list[bytes]:
    store, name = _held()
    base = np.linspace(0, 1, 5000, dtype="<f4")
    held = store.put(base)
    near = base.copy()
    near[7] += 1
    return [store.path(one).read_bytes() for one in (name, held, store.put(near, base=held))]


# -- models and adapters -----------------------------------------------------------------------------------------------


def _adapters() -> list[bytes]:
    path = _place() / "seed-adapter.safetensors"
    halves = {f"base_model.model.q.lora_{half}.weight": np.ones((2, 2), "<f4") for half in "AB"}
    write_tensors(path, halves)
    config = {"peft_type": "LORA", "lora_alpha": 8, "r": 2, "alpha_pattern": {"q": 4}, "use_rslora": True}
    return [SEAM.join([json.dumps(config).encode(), path.read_bytes()])]


@target("adapter", _adapters)
def _adapter(data: bytes) -> object:
    config, _, tensors = data.partition(SEAM)
    _file("adapter/adapter_model.safetensors", tensors)
    return open_adapter(_file("adapter/adapter_config.json", config).parent)


def _models() -> list[bytes]:
    config = b'{"model_type":"llama","hidden_size":4}'
    index = b'{"weight_map":{"w":"a.safetensors","b":"a.safetensors","empty":"a.safetensors","flag":"a.safetensors"}}'
    return [SEAM.join([config, index, b'{"bos_token":"<s>"}', _tensor_files()[0]])]


@target("model folder", _models)
def _model(data: bytes) -> object:
    config, index, tokens, tensors = (*data.split(SEAM, 3), b"", b"", b"")[:4]
    for name, part in (
        ("model.safetensors.index.json", index),
        ("tokenizer_config.json", tokens),
        ("a.safetensors", tensors),
    ):
        _file(f"model/{name}", part)
    _file("model/README.md", b"---\nlicense: " + index[:40] + b"\n---\n")
    return open_source(str(_file("model/config.json", config).parent))


def _ggufs() -> list[bytes]:
    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words)) + words.encode()

    def key(name: str, kind: int, value: bytes) -> bytes:
        return text(name) + struct.pack("<I", kind) + value

    told = {"block_count": 1, "embedding_length": 8, "feed_forward_length": 8, "attention.head_count": 2, "context_length": 8}  # fmt: skip
    keys = [key("general.architecture", 8, text("llama")), key("general.license", 8, text("mit"))]
    keys += [key(f"llama.{name}", 4, struct.pack("<I", value)) for name, value in told.items()]
    keys += [key("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5))]
    keys += [key("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b"))]
    keys += [key("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 2) + struct.pack("<ff", 1, 2))]
    shape = struct.pack("<I", 2) + struct.pack("<QQ", 8, 4)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, len(keys)) + b"".join(keys)
    head += text("token_embd.weight") + shape + struct.pack("<IQ", 0, 0)
    head += text("blk.0.attn_norm.weight") + struct.pack("<IQ", 1, 8) + struct.pack("<IQ", 0, 128)
    head += b"\0" * (-len(head) % 32)
    return [head + np.ones((5, 8), "<f4").tobytes()]


@target("gguf", _ggufs)
def _gguf(data: bytes) -> object:
    from souq.model.gguf.reader import GGUF

    found = GGUF(_file("x.gguf", data))
    return [array.shape for array in found.values()], found._config(), found._generation(), found.licence


def _tokenizers() -> list[bytes]:
    added = [{"id": 2, "content": "<s>", "special": True, "lstrip": False}]
    bpe = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}, "added_tokens": added}
    unigram = {"model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": []}
    return [json.dumps(told).encode() for told in (bpe, unigram)]


@target("tokenizer", _tokenizers)
def _words(data: bytes) -> object:
    return read_words({"tokenizer.json": data, "tokenizer_config.json": b"{}"}, "x")


# -- what people write -------------------------------------------------------------------------------------------------

_KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + b"k" * 32).decode()


def _contributions() -> list[bytes]:
    who = Author(name="لیلى", email="l@x.example", key=_KEY, org="Atlas")
    said = Contribution(title="Dates", kind="weights", author=who, licence="MIT", signoff="L <l@x.example>", fixes=("a",), recipe={"lr": 1e-3})  # fmt: skip
    return [format_toml(said).encode(), format_toml(said).encode().replace(b"weights", b"evals")]


@target("contribution", _contributions)
def _contribution(data: bytes) -> object:
    offer = Offer("0001-x", {"contribution.toml": data})
    return offer.digest, malformed(offer), slug(offer.contribution.title), canonical(offer.contribution)


@target("souq.toml", lambda: [b'name="x"\nlicence="MIT"\nbase="y"\n[merge]\nmethod="ties"\n[checks]\nmax_norm=0.5\n[store]\nurl="s3://a/b"\n'])  # fmt: skip
def _config(data: bytes) -> object:
    return read_config(_text(data))


@target("merge.toml", lambda: [b'method="covariance"\n[weights]\n0001-x=2.0\n'])
def _merge(data: bytes) -> object:
    return Merging.of(Offer("0001-x", {"merge.toml": data}).merge or {})


@target("policy", lambda: [_policy_text()])
def _policy(data: bytes) -> object:
    return read_policy(_text(data))


def _policy_text() -> bytes:
    people = [Who(name=name, org=org, keys=(_KEY[:-6] + end + _KEY[-4:],)) for name, org, end in (("a", "A", "aa"), ("b", "B", "bb"), ("c", "C", "cc"))]  # fmt: skip
    return foundation(people).encode()


@target("election", lambda: [b'role="maintainer"\ncandidates=["a","b"]\ncloses="2030-01-01T00:00:00Z"\n'])
def _election(data: bytes) -> object:
    return parse_toml(_text(data), Election, where="election.toml")


@target("mergekit", lambda: [b"merge_method: ties\nbase_model: a/b\nmodels:\n  - model: c/d\n    parameters: {weight: [0, 1.5], density: 0.5}\ndtype: bfloat16\n"])  # fmt: skip
def _mergekit(data: bytes) -> object:
    return parse_config(_text(data))


@target("eval", lambda: [_eval_text("exact"), _eval_text("choice")])
def _eval(data: bytes) -> object:
    spec, _, cases = data.partition(SEAM)
    return [case.text for case in read_eval("x", {"eval.toml": spec, "cases.jsonl": cases}).cases]


def _eval_text(kind: str) -> bytes:
    spec = EvalSpec(title="x", kind=kind, source="tests", licence="MIT", margin=0.1)  # type: ignore[arg-type]
    cases = [{"id": "a", "prompt": "x", "expected": "y", "choices": ["y", "z"]}, {"id": "b", "messages": [{"role": "user", "content": "x"}], "expected": "y", "choices": ["y", "n"]}]  # fmt: skip
    return format_toml(spec).encode() + SEAM + write_cases(cases)


@target(
    "rows", lambda: [b'{"text":"x"}\n{"prompt":"a","completion":"b"}\n{"messages":[{"role":"user","content":"c"}]}\n']
)
def _rows(data: bytes) -> object:
    from souq.checks.contamination import row_text

    if refused := _rows_refused("data/x.jsonl", data):
        spelled_out(refused).encode()
        return refused
    return parse_rows(data, where="x"), [row_text(json.loads(line)) for line in data.splitlines()]


@target("licence", lambda: [b"Apache-2.0 OR (MIT AND CC-BY-4.0)", b"GPL-2.0-only WITH Classpath-exception-2.0"])
def _licence(data: bytes) -> object:
    return may_enter(_text(data), "Apache-2.0")


@target("qna", lambda: [b"created_by: a\ntask_description: ''\nseed_examples:\n- {question: q, answer: a}\n", b"version: 3\ndocument: {repo: r, commit: c, patterns: [a]}\nseed_examples: []\n"])  # fmt: skip
def _qna(data: bytes) -> object:
    return read_qna(data, "qna.yaml")


@target("store url", lambda: [b"s3://bucket/folder", b"https://x.example:8443/a", b"file:///a"])
def _url(data: bytes) -> object:
    return check_url(_text(data), local=data[:1] == b"f")


@target("comment", lambda: [b"a title | <b> `x` @all"])
def _comment(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    body = render(Answer(forge=1, number=2, title=text, digest="b3:" + "5" * 64, missing=(text,)))
    assert "<b" not in body.replace(f"`{text}`", "") or "`" in body
    return body.encode()


# -- what machines sign ------------------------------------------------------------------------------------------------


@cache
def _signed() -> bytes:
    """A real one, by a real key."""
    key = _place() / "key"
    if not key.is_file():
        signing.make_key(key, "fuzz")
    said = signing.statement(
        "urn:souq:vote:1", "contributions/0001-x", "b3:" + "1" * 64, {"choice": "approve", "after": []}
    )
    return canonical(signing.sign(said, key, namespace="souq.vote.v1"))


def _public() -> str:
    _signed()
    return signing.public_key(_place() / "key")


@target("envelope", lambda: [_signed()])
def _envelope(data: bytes) -> object:
    signing.peek(data)
    return signing.verify(data, keys=[_public()], namespace="souq.vote.v1")


@target("signature", lambda: [base64.b64decode(json.loads(_signed())["signatures"][0]["sig"])])
def _signature(data: bytes) -> object:
    told = json.loads(_signed())
    told["signatures"][0]["sig"] = base64.b64encode(data).decode()
    return signing.verify(canonical(told), keys=[_public()], namespace="souq.vote.v1")


@target("statement", lambda: [base64.b64decode(json.loads(_signed())["payload"])])
def _statement(data: bytes) -> object:
    return signing._statement_in(data, "key", b"{}")


@target("public key", lambda: [_KEY.encode(), b"ecdsa-sha2-nistp256 AAAA comment"])
def _public_key(data: bytes) -> object:
    return signing.fingerprint(signing.normal_key(_text(data)))


@target("json", lambda: [b'{"a":[1,2.5e3,true,null,"\\u00e9"]}'])
def _json(data: bytes) -> object:
    return canonical(read_json(data))


@target(
    "record",
    lambda: [b'{"version":"1.0","commit":"c","recipe":{"base":"b","contributions":[],"method":"m"},"model":"d"}'],
)
def _record(data: bytes) -> object:
    return read_record(data, Release, where="release.json")


@target("release folder", lambda: [SEAM.join([_policy_text(), _signed(), format_lock({}).encode(), b'{"metadata":{"component":{"properties":[]}}}'])])  # fmt: skip
def _bundle(data: bytes) -> object:
    policy, record, lock, bom = (*data.split(SEAM), b"", b"", b"")[:4]
    files = {"GOVERNANCE.toml": policy, "release.json": record, "provenance.intoto.json": record, "model.lock": lock}
    for name, part in (files | {"bom.cdx.json": bom, "model.safetensors": record}).items():
        _file(f"release/{name}", part)
    found = judge(_place() / "release")
    return [finding.because.encode("utf-8", "strict") for finding in found.findings]
