"""One author who brings a model's data alone, in many small contributions, under many names of one organisation."""

import pytest
from tests.stall import case, key, offer, qa, stall

from souq.checks.caps import caps


def rows(start, count):
    return [qa(f"what comes after {i}?", f"{i + 1}, says mallory") for i in range(start, start + count)]


@pytest.mark.parametrize(
    ("by", "org", "says"),
    [(key(0), "Nowhere", "of one author"), (f"{key(0)} someone-else", "Elsewhere", "of one author"), (key(9), "nowhere", "of one organisation")],
)  # fmt: skip
def test_the_last_piece_is_refused(tmp_path, by, org, says):
    landed = [offer(rows(100 * n, 100), slug=f"{n:04}-piece") for n in range(1, 5)]
    main = stall(tmp_path, landed=landed, checks="max_rows_per_author = 450\nmax_rows_per_org = 450\n")

    outcome, because, _ = caps(case(main, offer(rows(900, 100), slug="0009-piece", by=by, org=org)))

    assert (outcome, says in because) == ("refuse", True), because
