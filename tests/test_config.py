"""`souq config`: every setting has a meaning; one's own are set where git keeps them, main's by nobody alone."""

from __future__ import annotations

import json

import msgspec
import pytest

from souq.cli.config import MAIN, OWN
from souq.repo.config import Config, Limits
from souq.repo.remote import Repo


def test_every_key_of_souq_toml_has_a_meaning():
    """A new bound that nobody explains fails here."""
    plain = {field.name for field in msgspec.structs.fields(Config)} - {"merge", "checks", "store"}
    bounds = {f"checks.{field.name}" for field in msgspec.structs.fields(Limits)}

    assert MAIN.keys() == plain | bounds | {"merge.method", "store.url"}


def test_all_settings_are_listed_with_values_and_meanings(bazaar):
    code, out, _ = bazaar.says("amira", "config --json")

    rows = {row["key"]: row for row in json.loads(out)}
    assert code == 0
    assert rows.keys() >= MAIN.keys() | OWN.keys()
    assert (rows["name"]["value"], rows["user.name"]["value"]) == ("smol", "amira")
    assert (rows["checks.max_norm"]["value"], rows["checks.max_norm"]["default"]) == (Limits().max_norm, 0.5)
    assert all(row["meaning"] for row in rows.values())
    shown = bazaar.says("amira", "config")[1]
    assert all(key in shown for key in rows)


def test_one_s_own_is_set_read_and_unset(bazaar):
    """As git keeps it, in this clone alone, and what is offered next says it."""
    assert bazaar("chen", "config souq.org Guild") == 0

    assert bazaar.says("chen", "config souq.org")[1] == "Guild\n"
    assert Repo.find(bazaar.actors["chen"].clone).config("souq.org") == "Guild"
    assert bazaar("chen", "config souq.org --unset") == 0
    assert bazaar("chen", "config souq.org --unset") == 0
    assert Repo.find(bazaar.actors["amira"].clone).config("souq.org") != "Guild"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["licence", "MIT"], 3, "licence is main's, which no one person sets"),
        (["merge.method", "mean"], 3, "souq pr search NUMBER --take"),
        (["seconds", "60"], 3, "export SOUQ_SECONDS=60"),
        (["souq.orgg"], 1, "did you mean 'souq.org'?"),
        (["core.pager", "evil"], 1, "no setting 'core.pager'"),
        (["souq.store", "gopher://x"], 2, ""),
    ],
)  # fmt: skip
def test_what_is_not_one_s_own_is_not_set(bazaar, words, code, line):
    """Nothing of git's that could start a program, and nothing of main's, is written."""
    before = (bazaar.actors["chen"].clone / ".git" / "config").read_text()

    done, _, err = bazaar.says("chen", ["config", *words])

    assert done == code
    assert line in err
    assert (bazaar.actors["chen"].clone / ".git" / "config").read_text() == before


def test_a_password_is_not_shown(bazaar, monkeypatch):
    monkeypatch.setenv("SOUQ_ENGINE_KEY", "hunter2")

    assert "hunter2" not in bazaar.says("amira", "config")[1] + bazaar.says("amira", "config engine_key --json")[1]
