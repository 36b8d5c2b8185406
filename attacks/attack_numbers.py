"""Weights that fit in name and shape, and whose numbers are the attack: ranks, scales, positions, kinds."""

import ml_dtypes
import numpy as np
import pytest

from attacks.attack_additions import Bag
from souq.build.delta_file import write_delta
from souq.weights.delta import Delta, Dense, Lora, Sparse

SMALL, NORM = "model.layers.0.self_attn.k_proj.weight", "model.norm.weight"  # (16, 32) and (32,)
LATER = "model.layers.1.self_attn.q_proj.weight"


def halves(bag, rank, *, dtype="<f4", value=0.01, m=16, n=32, scale=1.0):
    return Lora(a=bag.add(np.full((rank, n), value, dtype)), b=bag.add(np.full((m, rank), value, dtype)), scale=scale)


def sparse(bag, index, values=None, kind="<u4"):
    where = np.array(index, kind)
    return Sparse(
        index=bag.add(where), value=bag.add(np.full(len(where) if values is None else values, 0.1, ml_dtypes.bfloat16))
    )


def hidden(bag):
    """An honest small change first in every order, and one that is infinity times zero."""
    a, b = np.full((2, 32), 1e30, "<f4"), np.full((32, 2), 1e30, "<f4")
    b[:, 1] *= -1
    return {SMALL: halves(bag, 2), LATER: Lora(a=bag.add(a), b=bag.add(b), scale=1e300)}


FORGED = {
    "a rank of twenty thousand": (lambda bag: {SMALL: halves(bag, 20_000)}, "fits-base", "is of rank 20,000"),
    "a rank of nothing": (lambda bag: {SMALL: halves(bag, 0)}, "evals", ""),
    "factors of whole numbers": (lambda bag: {SMALL: halves(bag, 2, dtype="<i8", value=1)}, "fits-base", "not of its kind"),
    "factors of yes and no": (lambda bag: {SMALL: halves(bag, 2, dtype="?", value=1)}, "fits-base", "not of its kind"),
    "an infinite change hidden behind an honest one": (hidden, "norms", "too large to be measured"),
    "a scale of 1e308": (lambda bag: {SMALL: halves(bag, 2, scale=1e308)}, "norms", "of its norm"),
    "a scale of minus nothing": (lambda bag: {SMALL: halves(bag, 2, scale=-0.0)}, "evals", ""),
    "an infinite factor": (lambda bag: {SMALL: halves(bag, 2, value=np.inf)}, "tensors", "not finite"),
    "a position past the end": (lambda bag: {SMALL: sparse(bag, [1, 512])}, "norms", "past the end"),
    "a position of 2^64 - 1": (lambda bag: {SMALL: sparse(bag, [1, (1 << 64) - 1], kind="<u8")}, "norms", "past the end"),
    "a position twice": (lambda bag: {SMALL: sparse(bag, [3, 3])}, "norms", "once each"),
    "positions out of order": (lambda bag: {SMALL: sparse(bag, [5, 3])}, "norms", "once each"),
    "more positions than numbers": (lambda bag: {NORM: sparse(bag, range(33))}, "fits-base", "not of its kind"),
    "a whole tensor of another kind": (lambda bag: {SMALL: Dense(value=bag.add(np.zeros((16, 32), "<f4")))}, "fits-base", "not of its kind"),
    "a whole tensor turned on its side": (lambda bag: {SMALL: Dense(value=bag.add(np.zeros((32, 16), ml_dtypes.bfloat16)))}, "fits-base", "not of its kind"),
    "a whole tensor of infinity": (lambda bag: {SMALL: Dense(value=bag.add(np.full((16, 32), np.inf, ml_dtypes.bfloat16)))}, "tensors", "not finite"),
    "factors for a vector": (lambda bag: {NORM: halves(bag, 1, m=32, n=1)}, "fits-base", "not of its kind"),
    "nothing at all": (lambda bag: {}, "norms", "changes nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_it_is_refused(bazaar, tmp_path, name):
    """By the check that should, without the memory its numbers ask for, and main stays as it is."""
    make, check, says = FORGED[name]
    bag = Bag()
    with np.errstate(over="ignore"):
        parts = make(bag)
    write_delta(tmp_path / "x.delta", Delta(bazaar.main().base_digest, parts), bag)
    number = bazaar.offer("mallory", tmp_path / "x.delta", title=name)

    refused, because = bazaar.refusal(number)

    assert (refused, says in because) == (check, True), because
