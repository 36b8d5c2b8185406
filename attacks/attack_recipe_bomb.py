"""Recipes that would keep a verifier's machine busy for years, fill its memory, or break whoever reads them."""

import json
import time

import pytest
from tests.bazaar import jsonl

from souq.build.delta_file import read_delta, read_recipe, write_delta
from souq.errors import Hostile, UsageError
from souq.pulls import pull
from souq.records import Contribution, parse_toml
from souq.repo.rows import parse_rows, rows_digest

ABSURD = {
    "a rank of a million": {"rank": 10**6},
    "a rank its factors do not have": {"rank": 4_096},
    "an alpha its factors do not have": {"alpha": 4_096},
    "a billion epochs": {"epochs": 10**9},
    "no epochs": {"epochs": 0},
    "a million threads": {"threads": 10**6},
    "batches of nothing": {"batch": 0},
    "a rate that is no number": {"lr": float("nan")},
    "a rate without end": {"lr": float("inf")},
    "a seed below nothing": {"seed": -1},
    "a thousand and one layers": {"layers": list(range(1_001))},
    "layers it does not change": {"layers": [7]},
    "targets that are a pattern": {"targets": ["(a+)+$"]},
    "targets it does not change": {"targets": ["lm_head"]},
    "another number format": {"dtype": "float64"},
    "a method nobody knows": {"method": "os.system"},
    "a word for a number": {"epochs": "many"},
    "a method that adds": {"method": "additions", "tokens": ["x"], "layers": [], "experts": []},
    "a rebase onto a branch": {"rebase": {"onto": "--upload-pack=x"}},
    "a digest of nothing": {"data": "b3:" + "0" * 64},
}


def lied(bazaar, told, data=None):
    path = bazaar.folder / "bomb.delta"
    write_delta(path, *read_delta(bazaar.delta("greet")), read_recipe(bazaar.delta("greet")) | told)
    return bazaar.offer("mallory", path, more=["--data", data or bazaar.folder / "greet.jsonl"])


@pytest.mark.parametrize("name", ABSURD)
def test_it_is_a_binary_and_says_why(bazaar, name):
    """No minute of training is spent on it, and everybody can still read the list."""
    number = lied(bazaar, ABSURD[name])
    begun = time.monotonic()

    code, out, err = bazaar.says("bruno", f"rebuild --from-source {number}")

    assert (code, out, "is a binary: " in err) == (3, "", True)
    assert time.monotonic() - begun < 20
    (row,) = [row for row in json.loads(bazaar.says("bruno", "pr list --json")[1]) if row["number"] == number]
    assert row["source"] == "binary"


def test_more_than_a_verifier_meant_to_spend(bazaar):
    """Every number within bounds, their product not: refused until somebody says it is worth it."""
    number = lied(bazaar, {"epochs": 10_000})

    code, out, err = bazaar.says("bruno", f"rebuild --from-source {number}")

    assert (code, out) == (2, "")
    assert "MB of rows times epochs" in err
    assert "raise --most" in err


def test_a_row_too_long_to_look_at(bazaar, tmp_path):
    """Attention grows with the square of a row: one of 40 kB is refused before a token of it is read."""
    data = tmp_path / "long.jsonl"
    data.write_text(jsonl([("say", "hello " * 7_000)]))
    number = lied(bazaar, {"data": rows_digest(parse_rows(data.read_bytes(), where="long"))}, data)

    code, _, err = bazaar.says("bruno", f"rebuild --from-source {number}")

    assert (code, "the longest row 42," in err) == (2, True)


ROWS = {
    "nothing to say": [{"text": ""}],
    "a turn nobody has": [{"messages": [{"role": "\u001b[31m", "content": "x"}]}],
    "half a pair": [{"completion": "x", "text": "y"}],
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_break_a_training(bazaar, tmp_path, name):
    """Whatever breaks inside, the answer is one line and no."""
    data = tmp_path / "odd.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
    told = {"data": rows_digest(ROWS[name]), "epochs": 1}

    code, out, err = bazaar.says("bruno", f"rebuild --from-source {lied(bazaar, told, data)}")

    assert code in (2, 3)
    assert "\x1b" not in out + err
    assert err.splitlines()[-1].startswith(("Error: ", "Hint: "))


BROKEN = {
    "a number of five thousand digits": "rank = " + "9" * 5_000,
    "a number of more than 64 bits": "rank = " + "9" * 30,
    "twenty thousand brackets": "rank = " + "[" * 20_000 + "]" * 20_000,
    "five thousand braces": "rank = " + "{a=" * 5_000 + "1" + "}" * 5_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_toml_that_breaks_its_readers(bazaar, name):
    """Refused as it is read, and nobody's list of pull requests breaks."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    repo = bazaar.repo("mallory")
    offer = pull.get(repo, number).offer
    text = offer.files["contribution.toml"].decode().partition("[recipe")[0] + f"\n[recipe]\n{BROKEN[name]}\n"
    with pytest.raises((Hostile, UsageError)):
        parse_toml(text, Contribution, where="contribution.toml")
    own = {f"contributions/{offer.slug}/contribution.toml": text.encode()}
    base = repo.commit(f"{pull.get(repo, number).head}^")
    files = {f"contributions/{offer.slug}/{path}": data for path, data in offer.files.items()} | own
    head = repo.write_commit([base], files, "x\n", tree_of=base)
    name = f"refs/souq/pr/{number}/head"
    repo.publish({name: (pull.get(repo, number).head, head)}, [])

    for line in ("pr list", "status", f"rebuild --from-source {number}"):
        code, _, err = bazaar.says("bruno", line)
        assert (code in (0, 1, 2, 3), "Traceback" in err) == (True, False)
    assert "cannot be read" in bazaar.says("bruno", "pr list")[1]
