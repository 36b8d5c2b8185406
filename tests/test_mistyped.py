"""What is mistyped costs nothing: all of it is told at once, before a model is read, torch started or anything scored."""

from __future__ import annotations

import pytest


@pytest.fixture
def nothing_is_opened(monkeypatch):
    """Whatever takes long is out of reach: who comes so far has not looked at the words first."""

    def too_far(*_, **__):
        raise AssertionError("begun before the words were looked at")

    for name in ("cli.model.starting_lab", "cli.talk.starting_lab", "cli.delta.starting_lab", "cli.start.as_base", "cli.release._scores", "cli.compare.measured", "cli.delta.make_adapter", "build.delta_file.read_delta"):  # fmt: skip
        monkeypatch.setattr(f"souq.{name}", too_far)


LINES = [
    (
        "init x --from {f}/tyni --licence MTI --governance fundation --evals {f}/no --chat-template no.jinja --store s4://x --no-suite",
        ["no model at {f}/tyni", "MTI is no licence's name (did you mean 'MIT'?)", "'fundation' (did you mean 'foundation'?)",
         "no folder {f}/no", "no file no.jinja", "the store's URL"],
    ),
    ("init {f}/evals --from {f}/tiny", ["{f}/evals is already there and not empty"]),
    ("init x --from {f}/tiny --governance foundation --people no.toml", ["no file no.toml"]),
    ("train no.jsonl --out {f}/evals --layers 0-99 --expert x", ["no file no.jsonl", "{f}/evals is already there", "no layer 2, 3", "not layers: 'x'"]),
    ("train {f}/greet.jsonl --out {f}/new --rank 0", ["'--rank': 0 is not in the range"]),
    ("train {f}/greet.jsonl --out {f}/new --lr 0", ["'--lr': 0.0 is not in the range"]),
    ("train {f}/greet.jsonl --out {f}/new --epochs 0", ["'--epochs': 0 is not in the range"]),
    ("chat --pr 99", ["no pull request #99"]),
    ("chat --release 9", ["no release 9"]),
    ("chat --model no", ["no model in no"]),
    ("release create 1/0 --corpus no", ["not a version: '1/0'", "a corpus is published with real text"]),
    ("delta make --from no --data no.jsonl --out no/x.delta", ["no folder no", "no file no.jsonl", "no folder no to write x.delta into"]),
    ("pr create no.delta --title x --licence MTI --fixes gret --data no.jsonl --evals no", ["no file no.delta", "no file no.jsonl", "no eval.toml in no", "not signed off", "MTI is no licence", "no eval gret on main (did you mean 'greet'?)"]),
    ("compare {f}/tiny no --eval no --price x=1/1 --margin 7", ["--margin 7", "no eval 'no'", "--price names 'x'", "no engine"]),
    ("election open cuncil --candidate amria --closes tomorrow", ["'cuncil' is no role that is elected", "nobody enrolled is called amria (did you mean 'amira'?)", "--closes tomorrow is no date"]),
    ("verify --now tomorrow", ["no time: 'tomorrow'"]),
    ("distill no --out x", ["no corpus no"]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "wrong"), LINES, ids=[f"{n}-{line.split()[0]}" for n, (line, _) in enumerate(LINES)])
def test_all_that_is_mistyped_is_told_at_once(bazaar, nothing_is_opened, line, wrong):
    code, out, err = bazaar.says("amira", line.format(f=bazaar.folder))

    assert (code in (1, 2), out) == (True, "")
    assert [each for each in wrong if each.format(f=bazaar.folder) not in err] == [], err


def test_a_mistyped_licence_is_judged_as_nobody_s_and_told_the_nearest(bazaar):
    code, _, err = bazaar.says("amira", "may merge --of MTI")

    assert code == 3
    assert "MTI is no licence's name (did you mean 'MIT'?)" in err
    assert "no licence's name" not in bazaar.says("amira", "may merge --of MIT --of LicenseRef-acme")[2]
