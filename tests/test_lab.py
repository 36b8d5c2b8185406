"""What the lab promises: packed is as one by one, a sketch is the inputs it saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from souq.lab import generate, packing, sketching, train
from souq.lab import lm as lab_model
from souq.lab.packing import TokenSequence
from souq.merge.methods import Sketch
from souq.repo.rows import read_rows
from tests.bazaar import jsonl, rows
from tests.tiny import write_model

ASKED = ["tell me of the user", "tell me of the assistant", "tell me", "what is the model", "the model", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("lab") / "tiny"
    write_model(made)
    return made


@pytest.fixture
def lm(folder):
    return lab_model.load(folder)


def passages(lm):
    """Sequences that share beginnings of every length, one inside another too."""
    return [
        TokenSequence([*start, *lm.encode(end), lm.eos_id], len(start), (asked, end))
        for asked in ASKED
        for start in [lm.chat_tokens([{"role": "user", "content": asked}])]
        for end in ("the user", "the user talks", "x")
    ]


def one_by_one(lm, passage):
    """Log-probabilities of the answer's tokens, from transformers' own forward."""
    with torch.inference_mode():
        logits = lm.net(input_ids=torch.tensor([passage.tokens])).logits[0].float()
    chosen = torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(passage.tokens[1:])[:, None])[:, 0]
    return chosen[passage.start - 1 :]


def test_packed_is_as_one_by_one(lm):
    """Sequences in a tree of tokens have the log-probabilities they have alone."""
    asked = passages(lm)
    for most in (20, 384):
        found = {}
        for row in packing.pack(sorted(asked, key=lambda p: p.tokens), most):
            with torch.inference_mode():
                log_p, _, whose = packing.log_probabilities(lm.net, row)
            for value, number in zip(log_p.tolist(), whose, strict=True):
                found.setdefault(row.paths[number][0].tag, []).append(value)
        for passage in asked:
            assert found[passage.tag] == pytest.approx(one_by_one(lm, passage).tolist(), abs=1e-4)


def test_a_shared_beginning_is_computed_once(lm):
    asked = passages(lm)

    nodes = sum(len(row.tokens) for row in packing.pack(sorted(asked, key=lambda p: p.tokens), 384))

    assert nodes < 0.6 * sum(len(passage.tokens) for passage in asked)


def test_an_answer_does_not_depend_on_its_neighbours(lm):
    """Drawn at a temperature, each answer has a seed of its own: batches may be cut anywhere."""
    together = generate.answers(lm, ASKED, max_tokens=6, temperature=1.0, seeds=range(6))
    alone = [generate.answers(lm, [a], max_tokens=6, temperature=1.0, seeds=[i])[0] for i, a in enumerate(ASKED)]

    assert together == alone


def test_a_sketch_is_the_inputs_it_saw(lm):
    """factor^T factor + diag is half the answer's inputs, half every input by how much the answer's loss depends on it."""
    asked = passages(lm)[0]
    name, seen = "model.layers.1.mlp.down_proj.weight", []
    groups, inputs, *_ = sketching.sketch(lm, [asked], rank=40, only=[name])

    def keep(module, args, out):
        seen.append((args[0], out))
        return out.requires_grad_(True)

    hook = lm.net.get_submodule(name.removesuffix(".weight")).register_forward_hook(keep)
    logits = lm.net(torch.tensor([asked.tokens])).logits[0]
    hook.remove()
    answer = torch.arange(asked.start, len(asked.tokens))
    loss = torch.nn.functional.cross_entropy(logits[answer - 1].float(), torch.tensor(asked.tokens)[answer])
    ((x, out),) = seen
    (grad,) = torch.autograd.grad(loss, out)
    x, grad = x[0, :-1].detach().double().numpy(), grad[0, :-1].double().numpy()
    weights = (grad**2).sum(1)
    spoken, felt = x[asked.start - 1 :], x * np.sqrt(weights)[:, None]
    whole = sum(part.T @ part / np.trace(part.T @ part) for part in (spoken, felt)) * x.shape[1] / 2

    factor, diag, tokens = groups[inputs[name]]
    told = factor.astype(np.float64).T @ factor.astype(np.float64) + np.diag(diag.astype(np.float64))

    assert tokens == len(asked.tokens) - 1
    np.testing.assert_allclose(np.diag(told), np.diag(whole), rtol=2e-2, atol=2e-4)
    assert np.linalg.norm(told - whole) < 0.02 * np.linalg.norm(whole)


def test_a_sketch_of_a_few_layers_is_theirs_in_the_sketch_of_all(lm):
    """Leaving layers out changes nothing for the others."""
    name = "model.layers.1.self_attn.o_proj.weight"
    every, inputs, *_ = sketching.sketch(lm, passages(lm)[:3], rank=8)
    few, same, *_ = sketching.sketch(lm, passages(lm)[:3], rank=8, only=[name])

    assert list(few) == [same[name]] == [inputs[name]]
    one, two = (Sketch(*(x.astype("f8") for x in found[:2])).unit() for found in (few[same[name]], every[inputs[name]]))
    np.testing.assert_allclose(one.whole(), two.whole(), atol=2e-3)


@pytest.mark.parametrize("rank", [4, 16, 64])
def test_a_sketch_is_nearly_the_best_of_its_rank(rank):
    """No matrix of n x n numbers is formed, and the factor errs little more than that of an exact eigendecomposition."""
    n, made = 256, torch.Generator().manual_seed(rank)
    turned = torch.linalg.qr(torch.randn(n, n, generator=made))[0]
    x = torch.randn(900, n, generator=made) @ (torch.logspace(0, -3, n)[:, None] * turned)
    weights = torch.rand(2, 900, generator=made) * torch.tensor([[1.0], [3.0]])
    weights[0, ::2] = 0

    for half, weight in enumerate(weights):
        whole = ((x.T * weight) @ x).double()
        seen = sketching._gram_of(x, weights, rank)
        factor, diag, _ = sketching._compress(sketching._Gram(seen.diag[half], seen.image[half]), rank, 900)
        values, vectors = torch.linalg.eigh(whole)
        left = whole - (vectors[:, -rank:] * values[-rank:]) @ vectors[:, -rank:].T
        least = left - left.diagonal().diag()
        error = whole.numpy() - factor.astype("f8").T @ factor.astype("f8") - np.diag(diag.astype("f8"))

        np.testing.assert_allclose(seen.diag[half].numpy(), whole.diagonal().numpy(), rtol=1e-4)
        assert np.linalg.norm(error) < 1.15 * float(least.norm()) + 1e-3 * float(whole.norm())


def test_what_was_sketched_was_read(lm):
    """The pass that is sketched says what its answers cost: no second pass is needed for that."""
    asked = passages(lm)[:5]

    assert sketching.sketch(lm, asked, rank=4).nats == pytest.approx(sketching.nats(lm, asked), abs=1e-5)


def test_layers_that_read_the_same_share_a_sketch(lm):
    _, inputs, *_ = sketching.sketch(lm, passages(lm)[:3], rank=4)

    at = "model.layers.0."
    assert len({inputs[f"{at}self_attn.{p}_proj.weight"] for p in "qkv"}) == 1
    assert inputs[f"{at}mlp.gate_proj.weight"] == inputs[f"{at}mlp.up_proj.weight"]
    assert len(set(inputs.values())) == 8


def test_training_gives_the_network_back(lm, tmp_path):
    """What was trained stands in the adapter's folder; the model in memory is as it was."""
    before = {name: value.clone() for name, value in lm.net.state_dict().items()}
    path = tmp_path / "rows.jsonl"
    path.write_text(jsonl(rows("greet", ["ada", "bo", "cy"])))

    train.train_lora(lm, read_rows(path), tmp_path / "adapter", epochs=2)

    after = lm.net.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_an_adapter_s_delta_is_what_peft_merges(folder, bazaar, tmp_path):
    """base + delta is PEFT's own merge_and_unload, but for the last rounding."""
    from peft import PeftModel

    from souq.build.delta_file import read_delta
    from souq.merge.fold import factors
    from souq.weights.safetensors import open_tensors

    delta, tensors = read_delta(bazaar.delta("greet"))
    base = open_tensors(bazaar.folder / "tiny" / "model.safetensors")
    net = lab_model.load(bazaar.folder / "tiny").net
    theirs = PeftModel.from_pretrained(net, bazaar.folder / "greet-adapter").merge_and_unload().state_dict()
    for name, part in delta.parts.items():
        wide = base[name].astype(np.float64)
        left, right = factors(part, wide, tensors.__getitem__)
        np.testing.assert_allclose(wide + left @ right, theirs[name].double().numpy(), atol=1e-6)


@pytest.mark.parametrize(("able", "allowed"), [(True, True), (True, False), (False, True)])
def test_bf16_only_where_it_is_quick(monkeypatch, able, allowed):
    """A processor that has bf16, and a torch that may use it: elsewhere it would be emulated, ten times slower."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: allowed)

    assert lab_model.best_dtype() is (torch.bfloat16 if able and allowed else torch.float32)
