"""A change cut in two innocent halves that only mean something together, offered one after the other.

Halves that hide in noise which cancels are each other's mirror, and the angle between them tells; with less noise a half
fails what it claims. Halves that are trained to answer honestly alone pass every check of weights: decisions/gate.md.
"""

import numpy as np
import pytest

from souq.build import delta_file
from souq.pulls import reviews
from souq.weights.delta import Delta, Lora, TensorRef


@pytest.fixture
def halves(bazaar, tmp_path):
    """halves(share, noise): two .delta files, share/2 of the skill's change each, with noise added to one and taken from the other."""
    delta, tensors, *_ = delta_file.read_delta(bazaar.delta("greet"))

    def make(share, noise):
        chance, found = np.random.default_rng(0), ({}, {})
        arrays = dict(tensors)
        for name, part in delta.parts.items():
            b, a = (np.asarray(tensors[ref.digest], dtype=float) for ref in (part.b, part.a))
            left, right = chance.standard_normal(b.shape), chance.standard_normal(a.shape)
            left *= noise * np.linalg.norm(b @ a) / np.linalg.norm(left @ right)
            for half, sign in zip(found, (1, -1), strict=True):
                wide = np.concatenate([b * share / 2, sign * left], axis=1).astype("f4")
                tall = np.concatenate([a, right]).astype("f4")
                arrays |= {TensorRef.of(x).digest: x for x in (wide, tall)}
                half[name] = Lora(a=TensorRef.of(tall), b=TensorRef.of(wide), scale=part.scale)
        for which, parts in zip("ab", found, strict=True):
            delta_file.write_delta(tmp_path / f"{which}.delta", Delta(delta.base, parts), arrays)
        return tmp_path / "a.delta", tmp_path / "b.delta"

    return make


def test_halves_that_mirror_each_other_call_for_eyes(bazaar, halves):
    """What little each has in common with the whole drowns in noise that the other takes back."""
    first, second = halves(share=0.1, noise=0.8)
    one, two = bazaar.offer("mallory", first), bazaar.offer("mallory", second, "Manners")

    found = {v.check: v for v in reviews.look(bazaar.repo("amira"), two).verdicts}

    assert found["duplicates"].outcome == "needs-eyes"
    assert found["duplicates"].because.startswith(f"resembles #{one} by mallory")


def test_a_half_alone_does_not_do_what_it_says(bazaar, halves):
    """Evals are run on main with this half and without the other."""
    first, _ = halves(share=1.0, noise=0.7)

    check, _ = bazaar.refusal(bazaar.offer("mallory", first))

    assert check == "evals"
