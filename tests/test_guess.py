"""Sketches of who has no data at hand: what the change itself says of its inputs, beside what the base reads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from souq import governance
from souq.build.delta_file import read_delta
from souq.build.guess import OWN, with_guess
from souq.cli import run
from souq.lab import sketching
from souq.model.source import open_source
from souq.repo.init import Beginning, init
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Dense, Lora, TensorRef
from souq.weights.lockfile import lock_digest
from tests.tiny import write_model

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v1m2vUeWnK9wZk3yqJ2qJ2qJ2qJ2qJ2qJ2qJ2qJ2q"
TEXTS = ["the user asks the assistant about the model", "and the assistant tells the user what the model says"]
Q, K, DOWN, NORM = (
    "self_attn.q_proj.weight",
    "self_attn.k_proj.weight",
    "mlp.down_proj.weight",
    "input_layernorm.weight",
)


def begin(folder, *, sketched=True):
    write_model(folder / "tiny")
    sketch = (lambda source, lock: sketching.of_base(source, lock_digest(lock), TEXTS)) if sketched else None
    begin = Beginning("smol", "Apache-2.0", governance.solo("a", "a", KEY), {}, sketch=sketch)
    init(folder / "smol", open_source(str(folder / "tiny")), begin)
    repo = Repo.find(folder / "smol")
    return Snapshot(repo, repo.tip())


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    return begin(tmp_path_factory.mktemp("guess"))


def changes(main, names):
    """A LoRA of rank 2 on each, or another whole tensor where the name ends in `!`."""
    random, parts, tensors = np.random.default_rng(3), {}, {}
    for name in names:
        own = f"model.layers.0.{name.rstrip('!')}"
        shape = main.base[own].shape
        arrays = [random.standard_normal((2, shape[-1])).astype("<f4"), random.standard_normal((shape[0], 2)).astype("<f4")]  # fmt: skip
        if name.endswith("!") or len(shape) == 1:
            arrays = [main.repo.store.get(main.base[own].digest) + random.standard_normal(shape).astype("<f4")]
        refs = [TensorRef.of(array) for array in arrays]
        tensors |= {ref.digest: array for ref, array in zip(refs, arrays, strict=True)}
        parts[own] = Lora(a=refs[0], b=refs[1], scale=1.5) if len(refs) == 2 else Dense(value=refs[0])
    return Delta(main.base_digest, parts), tensors


def whole(delta, name, load):
    gram = delta.gram_of(name)
    factor = load(gram.factor.digest).astype(float)
    return factor.T @ factor + np.diag(load(gram.diag.digest))


def unit(g):
    return g / np.diag(g).mean()


@pytest.mark.parametrize("names", [[Q], [f"{Q}!"], [Q, K], [Q, f"{K}!"], [DOWN]], ids=" ".join)
def test_a_little_is_the_change_s_own_and_the_rest_the_base_s(main, names):
    delta, tensors = changes(main, names)
    made, held = with_guess(main, delta, tensors)

    own = np.mean([unit(d.T @ d) for d in (moved(main, delta, name, tensors) for name in delta.parts)], axis=0)
    for name in delta.parts:
        expected = OWN * own + (1 - OWN) * unit(base_of(main, name))
        assert np.linalg.norm(whole(made, name, held.__getitem__) - expected) < 0.01 * np.linalg.norm(expected)
    assert made.parts == delta.parts


def base_of(main, name):
    gram = main.sketch.grams[main.sketch.inputs[name]]
    factor = main.repo.store.get(gram.factor.digest).astype(float)
    return factor.T @ factor + np.diag(main.repo.store.get(gram.diag.digest))


def moved(main, delta, name, tensors):
    part = delta.parts[name]
    if isinstance(part, Lora):
        return part.scale * tensors[part.b.digest].astype(float) @ tensors[part.a.digest]
    return tensors[part.value.digest].astype(float) - main.repo.store.get(main.base[name].digest)


def test_layers_that_read_the_same_share_a_guess(main):
    made, _ = with_guess(main, *changes(main, [Q, K]))

    assert len(made.grams) == 1
    assert len(made.inputs) == 2


def test_a_norm_has_no_inputs_to_guess(main):
    made, _ = with_guess(main, *changes(main, [NORM]))

    assert made.grams == {}


def test_a_guess_is_the_same_every_time(main):
    delta, tensors = changes(main, [Q, f"{K}!", DOWN])

    assert with_guess(main, delta, tensors)[0] == with_guess(main, delta, tensors)[0]


def test_where_the_base_was_not_sketched_nothing_is_guessed(tmp_path):
    main = begin(tmp_path, sketched=False)
    delta, tensors = changes(main, [Q])

    assert with_guess(main, delta, tensors) == (delta, tensors)


@pytest.mark.parametrize(("words", "guessed"), [([], True), (["--no-guess"], False)])
def test_delta_make_says_that_it_guessed(tmp_path, monkeypatch, capfd, words, guessed):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    begin(tmp_path)
    net = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "tiny"), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))  # fmt: skip
    net.save_pretrained(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path / "smol")
    capfd.readouterr()

    assert run(["delta", "make", "--from", str(tmp_path / "adapter"), "--for-this-base", "--out", str(tmp_path / "x.delta"), *words, "--json"]) == 0  # fmt: skip

    value, err = json.loads((told := capfd.readouterr()).out), told.err
    assert ("guessed from the change itself" in err) == guessed
    assert (value["sketches"] > 0) == guessed
    assert bool(read_delta(tmp_path / "x.delta")[0].grams) == guessed
