"""Who is honest is not turned away."""

import pytest

from tests.honest import judged, made


@pytest.mark.long
def test_nobody_honest_is_refused(bazaar):
    """Weights of every form, data and evals in a dozen scripts, under six licences: no check says no."""
    main, found = bazaar.main(), {}
    for number, offered in enumerate(made(main), 100):
        found[offered.title] = [(v.check, v.because) for v in judged(main, offered, number) if not v]

    assert len(found) >= 30
    assert {title: no for title, no in found.items() if no} == {}
