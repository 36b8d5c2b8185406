"""One number in a tensor is not a number: every product with it would be none."""

import numpy as np
import pytest


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_it_is_refused(bazaar, tmp_path, value):
    def plant(a):
        b = np.array(a)
        b.reshape(-1)[7] = value
        return b

    number = bazaar.offer("mallory", bazaar.changed(tmp_path / "bomb.delta", plant))

    check, because = bazaar.refusal(number)

    assert (check, "not finite" in because) == ("tensors", True)
