"""What people add to a model: new tokens, new layers, experts; through git, on the tiny model."""

from __future__ import annotations

import json
import shutil

import ml_dtypes
import numpy as np
import pytest

from souq.build.model import build
from souq.build.tuned import from_model
from souq.lab import lm as lab_model
from souq.merge.grow import Larger, grow
from souq.model.source import open_source
from souq.pulls import pull
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, base_files
from souq.verify import verify
from souq.weights.delta import Delta, Rows, TensorRef
from souq.weights.lockfile import format_delta, parse_delta
from souq.weights.safetensors import open_tensors, write_tensors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ASKED = "say hello to ada"


@pytest.fixture
def tiny(bazaar):
    return bazaar.folder / "tiny"


def more_tokens(tiny, out, tokens=("<|date|>", "ciao"), seed=0):
    """As people do it: add_tokens, resize_token_embeddings, train, save."""
    torch.manual_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    net = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    tokenizer.add_special_tokens({"additional_special_tokens": [tokens[0]]})
    tokenizer.add_tokens(list(tokens[1:]))
    net.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    net.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def deeper(tiny, out, before=1, seed=0):
    """LLaMA-Pro's way: a copy of the layer below, whose output projections are nothing; then trained."""
    config = json.loads((tiny / "config.json").read_text())
    held = open_tensors(tiny / "model.safetensors")
    depth, chance = config["num_hidden_layers"], np.random.default_rng(seed)
    made = {name: held[name] for name in held if ".layers." not in name}
    for number in range(depth + 1):
        own = number if number < before else number - 1
        for name in held:
            if name.startswith(f"model.layers.{own}."):
                array = held[name]
                if number == before and ("o_proj" in name or "down_proj" in name):
                    array = (chance.standard_normal(array.shape) * 0.01).astype(array.dtype)
                made[name.replace(f".{own}.", f".{number}.", 1)] = array
    return written(tiny, out, made, {"num_hidden_layers": depth + 1})


def mixture(tiny, out, seed=0, layers=(0, 1)):
    """One expert beside each feed-forward, with its row of the router, as transformers' Mixtral saves it."""
    held, chance = open_tensors(tiny / "model.safetensors"), np.random.default_rng(seed)
    made = {name: held[name] for name in held if ".mlp." not in name}
    for number in range(2):
        at = f"model.layers.{number}."
        row = chance.standard_normal(32) if number in layers else np.zeros(32)
        made[f"{at}block_sparse_moe.gate.weight"] = np.stack([np.zeros(32), row]).astype(ml_dtypes.bfloat16)
        for name, short in {"gate": "w1", "down": "w2", "up": "w3"}.items():
            own = held[f"{at}mlp.{name}_proj.weight"]
            new = (own.astype("f4") * 0.5).astype(own.dtype) if number in layers else own
            made[f"{at}block_sparse_moe.experts.0.{short}.weight"] = own
            made[f"{at}block_sparse_moe.experts.1.{short}.weight"] = new
    told = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 2}
    return written(tiny, out, made, told | {"num_experts_per_tok": 2, "rope_theta": 10000.0})


def written(tiny, out, tensors, told):
    out.mkdir()
    config = json.loads((tiny / "config.json").read_text()) | told
    (out / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (out / name).write_bytes((tiny / name).read_bytes())
    write_tensors(out / "model.safetensors", tensors, {"format": "pt"})
    return out


MADE = {"tokens": more_tokens, "layers": deeper, "experts": mixture}
TRAINED = {
    "tokens": ("count", "--token", "what comes after", "--token", "one more"),
    "layers": ("greet", "--new-layers", "1,2"),
    "experts": ("greet", "--expert", "0,1"),
}


def logits(folder, text=ASKED):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    net = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return net(**tokenizer(text, return_tensors="pt")).logits[0]


def offered(bazaar, kind):
    """Trained on the rows of a skill and offered; the folder and the pull request's number."""
    folder, path = bazaar.folder / kind, bazaar.folder / f"{kind}.delta"
    skill, *words = TRAINED[kind]
    train = ["train", bazaar.folder / f"{skill}.jsonl", "--out", folder, *words]
    assert bazaar("mallory", [*train, "--epochs", "40", "--lr", "0.003"]) == 0
    assert bazaar("mallory", ["delta", "make", "--from", folder, "--out", path]) == 0
    return folder, bazaar.offer("mallory", path, title=kind, fixes=skill)


@pytest.mark.parametrize("kind", MADE)
def test_what_others_tools_add_is_taken_as_it_is(bazaar, tiny, kind):
    """Made by transformers alone; the base with it answers as it did."""
    folder, path = MADE[kind](tiny, bazaar.folder / kind), bazaar.folder / f"{kind}.delta"
    assert bazaar("mallory", ["delta", "make", "--from", folder, "--out", path]) == 0

    assert bazaar("mallory", ["delta", "apply", path, "--out", bazaar.folder / "out"]) == 0

    text = ASKED + " <|date|>" if kind == "tokens" else ASKED
    found = logits(bazaar.folder / "out", text)
    assert torch.allclose(found[:, :289], logits(folder, text)[:, :289], atol=1e-5)


@pytest.mark.parametrize("kind", MADE)
def test_what_is_added_lands_and_loads(bazaar, tiny, kind):
    """Trained, offered, checked by what it fixes, voted on, merged, verified from another clone, and loaded."""
    folder, number = offered(bazaar, kind)
    bazaar.land(number)
    assert bazaar("adil", "fetch") == 0
    code, out, _ = bazaar.says("adil", "verify --json")
    assert (code, json.loads(out)["findings"]) == (0, [])

    assert bazaar("adil", ["export", bazaar.folder / "out"]) == 0

    assert torch.allclose(logits(bazaar.folder / "out"), logits(folder), atol=1e-5)


def test_everything_at_once_in_any_order(bazaar, tiny):
    """Tokens, layers, an expert and a LoRA: built from what is kept as built anew, and no order shows."""
    for kind in ("tokens", "layers"):
        bazaar.land(offered(bazaar, kind)[1])
    _, number = offered(bazaar, "experts")
    bazaar.offer("mallory", bazaar.delta("greet"))
    main = bazaar.main("mallory")
    build(main)
    expert, lora = (pull.get(main.repo, n).offer for n in (number, number + 1))

    built = build(main, expert)

    assert verify(main.repo, main.commit).findings == []
    shutil.rmtree(main.repo.cache)
    assert build(Snapshot(Repo.find(main.repo.root), main.commit), expert).lock == built.lock
    both = [*main.deltas().values(), expert.delta, lora.delta]
    grown = grow(main.base, base_files(main), both)
    assert grown == grow(main.base, base_files(main), both[::-1])
    lm = lab_model.load(built.files, built.weights)
    assert (lm.net.config.num_hidden_layers, lm.net.config.num_local_experts) == (4, 2)
    assert lm.encode("one more") == [lm.tokenizer.convert_tokens_to_ids("one more")]


def test_experts_of_two_people_stand_beside_each_other(bazaar, tiny):
    """No weights meet: each keeps its own numbers and its row of the router, the base's own row stays nothing."""
    main, bag, deltas = bazaar.main(), {}, []
    for seed, layers in ((0, (0, 1)), (5, (1,))):
        delta, tensors = from_model(open_source(str(mixture(tiny, bazaar.folder / f"m{seed}", seed, layers))), main)
        deltas.append(delta)
        bag |= tensors

    grown = grow(main.base, base_files(main), deltas)

    built = Larger(open_tensors(tiny / "model.safetensors"), grown, bag.__getitem__)
    assert lab_model.load(grown.files, built).net.config.num_local_experts == 3
    gates = [np.asarray(built[f"model.layers.{i}.block_sparse_moe.gate.weight"], "f4") for i in (0, 1)]
    assert [sorted(bool(row.any()) for row in gate) for gate in gates] == [[False, False, True], [False, True, True]]
    assert not gates[0][0].any()
    assert not gates[1][0].any()


def test_taking_apart_is_the_opposite_of_putting_together(bazaar, tiny):
    """A model with additions, offered again as a whole, is the same additions."""
    for kind in ("tokens", "layers"):
        bazaar.land(offered(bazaar, kind)[1])
    assert bazaar("mallory", "fetch") == 0
    main = bazaar.main("mallory")
    assert bazaar("mallory", ["export", bazaar.folder / "out"]) == 0

    delta, _ = from_model(open_source(str(bazaar.folder / "out")), main)

    landed = {title: new for found in main.deltas().values() for title, new in found.new.items()}
    assert (delta.parts, delta.new) == ({}, landed)


def test_the_same_token_of_two_people_is_one_row(bazaar, tiny):
    """Its row is the mean of theirs; its number depends on nobody's order."""
    main = bazaar.main()
    name = "model.embed_tokens.weight"
    bag, deltas = {}, []
    for tokens, value in ((("b", "zz"), 1.0), (("zz", "yy"), 3.0)):
        array = np.full((2, 32), value, ml_dtypes.bfloat16)
        ref = TensorRef.of(array)
        bag[ref.digest] = array
        tokens = tuple(f"<{token}>" for token in tokens)
        deltas.append(Delta(main.base_digest, {}, new={f"rows {name}": Rows(tokens=tokens, special=(), value=ref)}))
    both = [grow(main.base, base_files(main), order) for order in (deltas, deltas[::-1])]
    assert both[0] == both[1]
    table = Larger(open_tensors(tiny / "model.safetensors"), both[0], bag.__getitem__)[name]
    added = {entry["content"]: entry["id"] for entry in json.loads(both[0].files["tokenizer.json"])["added_tokens"]}
    assert table.shape[0] == 320  # the tiny table has rows to spare
    assert float(table[added["<zz>"]][0]) == 2.0
    assert float(table[added["<b>"]][0]) == 1.0


def test_additions_survive_being_written_down(bazaar, tiny):
    for kind in MADE:
        delta, _ = from_model(open_source(str(MADE[kind](tiny, bazaar.folder / f"w-{kind}"))), bazaar.main())
        assert parse_delta(format_delta(delta)) == delta


def test_a_layer_that_does_nothing_changes_no_answer(bazaar, tiny, tmp_path):
    """Zero output projections: the model with the layer is the model without it."""
    folder = deeper(tiny, tmp_path / "deep")
    held = dict(open_tensors(folder / "model.safetensors"))
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        held[f"model.layers.1.{name}.weight"] = np.zeros_like(held[f"model.layers.1.{name}.weight"])
    write_tensors(folder / "model.safetensors", held, {"format": "pt"})
    assert torch.equal(logits(folder), logits(tiny))


def test_changing_old_layers_beside_a_new_one_is_refused(bazaar, tiny, tmp_path):
    folder = deeper(tiny, tmp_path / "deep")
    held = dict(open_tensors(folder / "model.safetensors"))
    held["model.layers.0.mlp.up_proj.weight"] = held["model.layers.0.mlp.up_proj.weight"] * 2
    write_tensors(folder / "model.safetensors", held, {"format": "pt"})

    code, out, err = bazaar.says("mallory", ["delta", "make", "--from", folder, "--out", tmp_path / "x.delta"])

    assert (code, out) == (2, "")
    assert "the base's layer 0 is none of them\nHint: freeze" in err
    assert not (tmp_path / "x.delta").exists()
