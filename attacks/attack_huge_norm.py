"""A change a hundred times too large: by its factors, or hidden in its scale."""

import pytest


@pytest.mark.parametrize(("factor", "scale"), [(100.0, 1.0), (1.0, 100.0), (1e-20, 1e22)])
def test_it_is_refused(bazaar, tmp_path, factor, scale):
    path = bazaar.changed(tmp_path / "huge.delta", lambda a: (a * factor).astype(a.dtype), scale=scale)
    number = bazaar.offer("mallory", path)

    check, because = bazaar.refusal(number)

    assert (check, "of its norm; the most is 0.5" in because) == ("norms", True)
