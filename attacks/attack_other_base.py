"""A delta made on another model: its numbers would mean nothing here."""


def test_it_is_refused(bazaar, tmp_path):
    path = bazaar.changed(tmp_path / "other.delta", lambda a: a, base="b3:" + "7" * 64)
    number = bazaar.offer("mallory", path)

    check, because = bazaar.refusal(number)

    assert (check, "made on b3:777777777777" in because) == ("fits-base", True)


def test_it_is_refused_before_it_is_sent(bazaar, tmp_path):
    """The contributor hears at once, and nothing reaches the hub."""
    path = bazaar.changed(tmp_path / "other.delta", lambda a: a, base="b3:" + "7" * 64)
    before = bazaar.repo("mallory").refs("refs/souq/pr/")
    words = ["pr", "create", path, "--title", "x", "--licence", "MIT", "--signoff", "--fixes", "greet"]

    code, _, err = bazaar.says("mallory", words)

    assert code == 3
    assert err.startswith("Error: check `fits-base`: made on b3:777777777777…")
    assert bazaar.repo("mallory").refs("refs/souq/pr/") == before
