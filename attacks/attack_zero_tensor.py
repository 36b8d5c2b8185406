"""A tensor that is zero in the base has no norm to be capped by: a bias that shouts, a gain that silences, a matrix that
takes over."""

import numpy as np
import pytest
from tests import tunes

from souq.build.tuned import Tuned
from souq.weights.delta import Delta, Dense, TensorRef

BIAS = "model.layers.0.self_attn.v_proj.bias"


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    place = tmp_path_factory.mktemp("zero")
    return tunes.repo_of(tunes.base(place / "qwen", "qwen2"), place / "r")


@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
def test_it_is_capped_by_the_weight_beside_it(main, size):
    """As many times too large as it is, it is refused; as small as training makes it, it passes."""
    ref = main.base[BIAS]
    assert not main.repo.store.get(ref.digest).any()

    def offered(value):
        array = np.full(ref.shape, value, "f4")
        delta = Delta(main.base_digest, {BIAS: Dense(value=TensorRef.of(array))})
        return tunes.says("norms", main, Tuned(delta, {TensorRef.of(array).digest: array}))

    outcome, because = offered(size)

    assert (outcome, BIAS in because) == ("refuse", True)
    assert offered(1e-3)[0] == "pass"


def test_noise_in_a_zero_tensor_cannot_hide_a_change(main):
    """Nor does it help that all of a change is in tensors that were zero."""
    parts, tensors = {}, {}
    for name, ref in main.base.items():
        if name.endswith("bias"):
            array = np.full(ref.shape, 0.5, "f4")
            parts[name] = Dense(value=TensorRef.of(array))
            tensors[parts[name].value.digest] = array

    assert tunes.says("norms", main, Tuned(Delta(main.base_digest, parts), tensors))[0] == "refuse"
