"""Additions that do not fit: bombs of tokens, layers that are not there, experts of other shapes, routers gone mad."""

import json

import ml_dtypes
import numpy as np
import pytest

from souq.build.delta_file import write_delta
from souq.errors import Hostile
from souq.repo.snapshot import base_files
from souq.weights.delta import Delta, Expert, Layer, Router, Rows, TensorRef
from souq.weights.lockfile import format_delta, parse_delta

EMBED = "rows model.embed_tokens.weight"


class Bag(dict):
    def add(self, array):
        ref = TensorRef.of(array)
        self[ref.digest] = array
        return ref


def bf16(*shape, value=0.1):
    return np.full(shape, value, ml_dtypes.bfloat16)


def rows(bag, tokens, special=(), shape=None, value=0.1):
    array = bf16(*(shape or (len(tokens), 32)), value=value)
    return {EMBED: Rows(tokens=tuple(tokens), special=tuple(special), value=bag.add(array))}


def layer(bag, at, *, without="", value=0.1, middle=48):
    shapes = {f"self_attn.{p}_proj.weight": (16 if p in "kv" else 32, 32) for p in "qkvo"}
    shapes |= {
        "mlp.gate_proj.weight": (middle, 32),
        "mlp.up_proj.weight": (middle, 32),
        "mlp.down_proj.weight": (32, middle),
    }
    shapes |= {"input_layernorm.weight": (32,), "post_attention_layernorm.weight": (32,)}
    return {f"layer {at}.{n}": Layer(value=bag.add(bf16(*s, value=value))) for n, s in shapes.items() if n != without}


def expert(bag, at="0.0", *, middle=48, router=0.1, without="", width=32):
    shapes = {"gate_proj.weight": (middle, 32), "up_proj.weight": (middle, 32), "down_proj.weight": (32, middle)}
    made = {f"expert {at}.{n}": Expert(value=bag.add(bf16(*s))) for n, s in shapes.items() if n != without}
    return made | {f"router {at}": Router(value=bag.add(bf16(width, value=router)))}


FORGED = {
    "a token the base has": (lambda bag: rows(bag, ["<|im_end|>"]), "fits-base", "is a token of the base already"),
    "rows of another width": (lambda bag: rows(bag, ["x!"], shape=(1, 31)), "fits-base", "the new rows are"),
    "rows nobody's": (lambda bag: {"rows model.norm.weight": rows(bag, ["x!"])[EMBED]}, "fits-base", "and nowhere else"),
    "a row like a hammer": (lambda bag: rows(bag, ["x!"], value=1e30), "norms", "has a row of norm"),
    "a layer past the end": (lambda bag: layer(bag, "3.0"), "fits-base", "which has 2"),
    "half a layer": (lambda bag: layer(bag, "1.0", without="mlp.up_proj.weight"), "fits-base", "has no mlp.up_proj"),
    "a wider layer": (lambda bag: layer(bag, "1.0", middle=64), "fits-base", "not of its shape"),
    "a layer like a hammer": (lambda bag: layer(bag, "1.0", value=1e4), "norms", "has a row of norm"),
    "an expert of another shape": (lambda bag: expert(bag, middle=64), "fits-base", "not of its shape"),
    "an expert past the end": (lambda bag: expert(bag, "2.0"), "fits-base", "which has 2"),
    "an expert without a router": (
        lambda bag: {k: v for k, v in expert(bag).items() if k != "router 0.0"}, "fits-base", "has no row of the router",
    ),
    "a router's row of another width": (lambda bag: expert(bag, width=16), "fits-base", "not of its shape"),
    "a router that is not a number": (lambda bag: expert(bag, router=np.nan), "tensors", "not finite"),
    "a router that takes everything": (lambda bag: expert(bag, router=1e5), "norms", "has a row of norm"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_it_is_refused(bazaar, tmp_path, name):
    """By the check that should, and nothing on main moves."""
    make, check, says = FORGED[name]
    bag = Bag()
    new = make(bag)
    before = bazaar.main()
    write_delta(tmp_path / "x.delta", Delta(before.base_digest, {}, new=new), bag)
    number = bazaar.offer("mallory", tmp_path / "x.delta", title=name)

    refused, because = bazaar.refusal(number)

    assert (refused, says in because) == (check, True), because
    assert bazaar.main().commit == before.commit


LIES = {
    "ten thousand and one tokens": [f"t{i}" for i in range(10_001)],
    "a token of a megabyte": ["x" * (1 << 20)],
    "a token twice": ["x!", "x!"],
    "no token": [""],
    "a token that is half a character": ["\ud800"],
    "a token that is no text": [7],
    "tokens in a bag": {"a": 1},
}


@pytest.mark.parametrize("name", LIES)
def test_lists_of_tokens_that_lie(name):
    """Refused as the text is read, before any tensor is."""
    said = json.dumps(LIES[name])
    shape = f"{len(LIES[name])}x32"
    text = f"souq delta 1\nbase b3:{'0' * 64}\n\n{EMBED}\ntokens {said}\nspecial []\nvalue BF16 {shape} b3:{'0' * 64}\n"

    with pytest.raises(Hostile):
        parse_delta(text)


@pytest.mark.parametrize(
    "title", ["layer ../1.0.x", "layer 1.0", "layer 99999.0.x", "expert -1.0.x", "router 1", "layer 01.0.x"]
)
def test_places_that_are_none(title):
    text = f"souq delta 1\nbase b3:{'0' * 64}\n\n{title}\nvalue BF16 32 b3:{'0' * 64}\n"

    with pytest.raises(Hostile):
        parse_delta(text)


def test_a_token_cannot_break_out_of_its_line(bazaar):
    """Newlines and stanzas in a token's text stay inside it."""
    bag = Bag()
    token = f"x\n\ndense model.norm.weight\nvalue BF16 32 b3:{'0' * 64}"
    delta = Delta(bazaar.main().base_digest, {}, new=rows(bag, [token]))

    back = parse_delta(format_delta(delta))

    assert (back.parts, back.new[EMBED].tokens) == ({}, (token,))
    assert json.loads(base_files(bazaar.main())["config.json"])["model_type"] == "llama"
