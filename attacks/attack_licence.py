"""A licence that does not fit: non-commercial, no derivatives, none at all, not a licence."""

import pytest


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "CC-BY-ND-4.0", "Apache-2.0 OR CC-BY-NC-4.0", "free for all!", "Apache-2.0 AND", "Achpache-2.0 OR ( OR (MIT AND CC-BND C0)", "( OR ("])  # fmt: skip
def test_it_is_refused(bazaar, licence):
    number = bazaar.offer("mallory", bazaar.delta("greet"), licence=licence)

    assert bazaar.refusal(number)[0] == "licence"


@pytest.mark.lands
@pytest.mark.parametrize("licence", ["LicenseRef-mine", "LicenseRef-Apache"])
def test_an_unknown_licence_asks_for_more_eyes(bazaar, licence):
    """A machine that cannot tell raises the quorum: two approvals no longer do. An invented name is nobody's, whatever it is like."""
    number = bazaar.offer("mallory", bazaar.delta("greet"), licence=licence)
    bazaar("amira", f"pr checks {number}")
    for who in ("amira", "bruno"):
        bazaar(who, f"pr review {number} --approve --reason fine")

    code, _, told = bazaar.says("bruno", f"pr merge {number}")
    assert code == 3
    assert "1 more approval" in told
