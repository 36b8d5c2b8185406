"""delta.lock and base.lock that are small to send and endless to read, or say one thing in two spellings."""

import json

import pytest

from souq.errors import Hostile
from souq.weights.lockfile import format_delta, parse_delta, parse_lock

NAME = "b3:" + "0" * 64
HEAD = f"souq delta 1\nbase {NAME}\n"


def dense(name="w", shape="2", dtype="F32", digest=NAME):
    return f"\ndense {name}\nvalue {dtype} {shape} {digest}\n"


def lora(scale="1.0", a="1x2", b="2x1", name="w"):
    return f"\nlora {name}\na F32 {a} {NAME}\nb F32 {b} {NAME}\nscale {scale}\n"


def gram(feeds="w", tokens="5", factor="1x2", diag="2"):
    return f"\ngram g\nfeeds {feeds}\nfactor F32 {factor} {NAME}\ndiag F32 {diag} {NAME}\ntokens {tokens}\n"


def tokens(said):
    return f"\nrows e\ntokens {said}\nspecial []\nvalue F32 1x2 {NAME}\n"


BOMBS = {
    "a shape of two hundred thousand dimensions": lambda: dense(shape="x".join(["9" * 12] * 200_000)),
    "a quarter of a million stanzas": lambda: "".join(dense(f"t{i}") for i in range(250_000)),
    "a sketch that feeds three million tensors": lambda: gram(feeds=" ".join(f"t{i}" for i in range(3_000_000))),
    "forty megabytes of one line": lambda: dense(shape="1" * (40 << 20)),
    "factors of rank a billion that are not there": lambda: lora(a="1000000000x1000", b="1000x1000000000"),
    "a tensor of 2^48 numbers": lambda: dense(shape=f"{1 << 24}x{1 << 24}"),
    "a hundred thousand brackets of tokens": lambda: tokens("[" * 100_000),
    "a million tokens": lambda: tokens(json.dumps([f"t{i}" for i in range(1_000_000)])),
    "a token that is a number of five thousand digits": lambda: tokens("[" + "9" * 5_000 + "]"),
    "no end of blank lines": lambda: "\n" * 1_000_000,
    "two changes to one tensor": lambda: dense() + lora(),
    "a tensor twice": lambda: dense() + dense(),
    "factors that do not meet": lambda: lora(a="3x2", b="2x4"),
    "factors of three dimensions": lambda: lora(a="1x2x1", b="2x1x1"),
    "positions that are not whole": lambda: f"\nsparse w\nindex F32 2 {NAME}\nvalue F32 2 {NAME}\n",
    "positions that may be negative": lambda: f"\nsparse w\nindex I32 2 {NAME}\nvalue F32 2 {NAME}\n",
    "more values than positions": lambda: f"\nsparse w\nindex U32 2 {NAME}\nvalue F32 3 {NAME}\n",
    "a sketch of no tokens": lambda: gram(tokens="0"),
    "a sketch of minus one tokens": lambda: gram(tokens="-1"),
    "a sketch that fits nothing": lambda: gram(factor="1x3"),
    "a tensor with two sketches": lambda: gram() + gram().replace("gram g", "gram h"),
    "a digest that is a path": lambda: dense(digest="b3:../../../../etc/passwd"),
    "a digest in capitals": lambda: dense(digest="b3:" + "A" * 64),
    "a dtype nobody knows": lambda: dense(dtype="F8_E4M3"),
    "a negative shape": lambda: dense(shape="-2"),
    "a kind nobody knows": lambda: f"\npickle w\nvalue F32 2 {NAME}\n",
    "a key nobody knows": lambda: dense() + "load os.system\n",
    "a key twice": lambda: dense() + f"value F32 2 {NAME}\n",
    "a layer of negative number": lambda: f"\nlayer -1.0.w\nvalue F32 2 {NAME}\n",
    "a layer of number a billion": lambda: f"\nlayer 1000000000.0.w\nvalue F32 2 {NAME}\n",
    "the hundredth expert of one place": lambda: f"\nexpert 0.100.w\nvalue F32 2 {NAME}\n",
    "an alpha that is infinite": lambda: lora("inf"),
    "an alpha that is no number": lambda: lora("nan"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_it_is_refused_as_text(name):
    """Before any tensor is asked for."""
    with pytest.raises(Hostile):
        parse_delta(HEAD + BOMBS[name]())


@pytest.mark.parametrize(
    "scale", ["1_0.0", " 1.0", "1.0 ", "\uff11.0", "+1.0", "01.0", "1", "1e0", "1.00", "1e308", "0x1p3"]
)
def test_a_scale_has_one_spelling(scale):
    """`1_0` is ten to Python, and an error or one to others."""
    with pytest.raises(Hostile):
        parse_delta(HEAD + lora(scale))


SPELLINGS = {
    "other order": lambda text: HEAD + dense("b") + dense("a"),
    "a line more at the end": lambda text: text + "\n",
    "no line at the end": lambda text: text.rstrip("\n"),
    "a space before it": lambda text: " " + text,
    "Windows' line ends": lambda text: text.replace("\n", "\r\n"),
    "fields in another order": lambda text: HEAD + f"\nlora w\nscale 1.0\na F32 1x2 {NAME}\nb F32 2x1 {NAME}\n",
    "a number with a zero before it": lambda text: text.replace("F32 2 ", "F32 02 "),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_delta_has_one_spelling(name):
    """Two spellings of one change would be two digests: what was turned down once could be offered as new."""
    text = HEAD + dense("a") + dense("b")
    assert format_delta(parse_delta(text)) == text

    with pytest.raises(Hostile):
        parse_delta(SPELLINGS[name](text))


@pytest.mark.parametrize("name", ["dimensions", "stanzas", "order", "twice"])
def test_a_lock_of_main(name):
    """The same for base.lock and model.lock, which a remote hands over."""
    stanza = f"\ntensor {{}}\nvalue F32 2 {NAME}\n"
    text = {
        "dimensions": f"\ntensor w\nvalue F32 {'x'.join(['9' * 12] * 200_000)} {NAME}\n",
        "stanzas": "".join(stanza.format(f"t{i}") for i in range(250_000)),
        "order": stanza.format("b") + stanza.format("a"),
        "twice": stanza.format("a") + stanza.format("a"),
    }[name]

    with pytest.raises(Hostile):
        parse_lock("souq lock 1\n" + text)
