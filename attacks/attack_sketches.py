"""New sketches of what others brought, by a stranger: to silence them, to be louder than everybody, or to write files."""

import dataclasses
import json

import numpy as np
import pytest

from attacks.by_hand import blob, file, folder, offer, told, tree, turned_away
from souq.pulls import reviews
from souq.weights.delta import Delta, Gram, TensorRef
from souq.weights.lockfile import format_delta

SLUG = "0002-greetings"


@pytest.fixture
def greeted(bazaar):
    """Chen's weights have landed."""
    bazaar.offer("chen", bazaar.delta("greet"))
    bazaar.land(2)
    return bazaar


def push(bazaar, locks, kind="sketches"):
    """mallory pushes sketches past every client, with the tensors where anybody finds them."""
    oids = {data: blob(bazaar, data) for data in set(locks.values())}
    rows = [file(name.encode(), oids[data]) for name, data in locks.items()]
    plain = told(bazaar, kind).replace(b'fixes=["greet"]\n', b"")
    return offer(bazaar, [folder(b"sketches", tree(bazaar, rows))], text=plain)


def theirs(bazaar):
    main = bazaar.main()
    return main, dataclasses.replace(main.offers[SLUG].delta, parts={}, new={})


def with_gram(bazaar, change):
    """Chen's sketches with one of them made anew; its tensors lie in everybody's store."""
    main, delta = theirs(bazaar)
    name, gram = next(iter(delta.grams.items()))
    arrays = change(*(main.repo.store.get(ref.digest) for ref in (gram.factor, gram.diag)))
    for who in ("amira", "mallory"):
        for array in arrays:
            bazaar.repo(who).store.put(array)
    factor, diag = map(TensorRef.of, arrays)
    return dataclasses.replace(delta, grams={**delta.grams, name: Gram(factor=factor, diag=diag, tokens=gram.tokens)})


def refusals(bazaar, number):
    verdicts = reviews.check(bazaar.repo("amira"), number, bazaar.person("amira")).verdicts
    return " | ".join(verdict.because for verdict in verdicts if not verdict)


def of_one(delta: Delta) -> Delta:
    name = next(iter(delta.grams))
    return Delta(delta.base, {}, {name: delta.grams[name]}, {t: g for t, g in delta.inputs.items() if g == name})


HUGE = {
    "as loud as a float can be": lambda f, d: (f, np.full_like(d, np.finfo(np.float32).max)),
    "not a number": lambda f, d: (f * np.float16("nan"), d),
    "below zero": lambda f, d: (f, -d),
    "of a rank without end": lambda f, d: (np.zeros((1 << 20, f.shape[1]), np.float16), d),
    "of another width": lambda f, d: (f[:, :1].copy(), d[:1].copy()),
}


@pytest.mark.lands
@pytest.mark.parametrize("change", HUGE.values(), ids=HUGE.keys())
def test_numbers_no_layer_says(greeted, change):
    """Refused, or, where it is only odd, a person of another organisation is asked to look at whose it is."""
    number = push(greeted, {f"{SLUG}.lock": format_delta(with_gram(greeted, change)).encode()})

    code, out, _ = greeted.says("amira", f"pr checks {number} --json")
    outcomes = {verdict["check"]: verdict["outcome"] for verdict in json.loads(out)["verdicts"]}
    assert code == 3 or outcomes["fits-base"] == "needs-eyes"
    turned_away(greeted)


@pytest.mark.lands
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (of_one, "none would be left"),  # so that it is merged without inputs there
        (lambda d: dataclasses.replace(d, grams={}, inputs={}), "holds no sketch"),
        (lambda d: dataclasses.replace(d, inputs={**d.inputs, "model.norm.weight": next(iter(d.grams))}), "which it does not change"),
    ],
)  # fmt: skip
def test_a_voice_that_is_taken_or_made_up(greeted, change, why):
    number = push(greeted, {f"{SLUG}.lock": format_delta(change(theirs(greeted)[1])).encode()})

    assert why in refusals(greeted, number)
    turned_away(greeted)


@pytest.mark.lands
def test_weights_among_sketches(greeted):
    """A change of a matrix where only sketches are looked for."""
    main = greeted.main()
    number = push(greeted, {f"{SLUG}.lock": format_delta(main.offers[SLUG].delta).encode()})

    assert "changes weights" in refusals(greeted, number)
    turned_away(greeted)


@pytest.mark.lands
@pytest.mark.parametrize("name", ["0001-evals.lock", "0099-nobody.lock", "x.lock", "GOVERNANCE.toml", "setup.py", ".lock", "aux.lock"])  # fmt: skip
def test_sketches_of_nobody_and_files_that_are_none(greeted, name):
    number = push(greeted, {name: format_delta(theirs(greeted)[1]).encode()})

    assert refusals(greeted, number)
    turned_away(greeted)


@pytest.mark.lands
def test_sketches_beside_weights(greeted):
    """Of a contribution that is none of sketches: nobody looks for them there."""
    number = push(greeted, {f"{SLUG}.lock": format_delta(theirs(greeted)[1]).encode()}, kind="data")

    assert "a contribution of data without data/" in refusals(greeted, number)
    turned_away(greeted)


@pytest.mark.lands
def test_three_thousand_of_them(greeted):
    """Small to send, and each would be read."""
    lock = format_delta(theirs(greeted)[1]).encode()
    push(greeted, {f"{i:04d}-x.lock": lock for i in range(3_100)})

    assert "more than 3,002 files" in turned_away(greeted)
