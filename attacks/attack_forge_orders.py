"""Words that a forge obeys when a commit that holds them reaches its main branch: close an issue, call somebody, skip
the checks. A stranger's title and a stranger's own commit both travel there."""

import pytest

from attacks.by_hand import NUMBER, offer, turned_away

ORDERS = [
    "fixes #7",
    "Resolves: other/place#12",
    "close https://forge.example/a/b/issues/3",
    "hello @maintainer",
    "dates [skip ci]",
]


@pytest.mark.parametrize("order", ORDERS)
def test_a_commit_that_orders_a_forge_about_is_refused(bazaar, order):
    """In its subject or below it."""
    offer(bazaar, says=f"dates\n\n{order}\n".encode())

    turned_away(bazaar)
    _, out, _ = bazaar.says("amira", f"pr checks {NUMBER} --quick")
    assert "tells a forge" in out


@pytest.mark.lands
def test_a_title_lands_as_plain_words(bazaar):
    """What main's newest two commits say is the title, and no order."""
    bazaar.land(bazaar.offer("chen", bazaar.delta("greet"), title="; ".join(ORDERS)))
    repo = bazaar.repo("amira")
    for commit in (repo.tip(), f"{repo.tip()}^2"):
        text = repo.message(commit)
        assert "fixes no. 7" in text
        assert not any(order in text for order in ORDERS)
    assert bazaar("adil", "fetch") == 0
    assert bazaar("adil", "verify") == 0
