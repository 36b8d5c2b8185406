"""What models have in common is computed once, and no value hangs on that: not on where a network is taken apart, not
on what was kept, not on which cases are asked together or in which order."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from souq import checked_lines
from souq.evals.eval import read_eval, write_cases
from souq.lab import evals as lab_evals
from souq.lab import lm as lab_model
from souq.lab import open_answers
from souq.lab.family import Family
from souq.lab.halves import Halves, halves, layers_of
from souq.lab.lower_states import MOST, LowerStates
from souq.lab.packing import PackedRow, TokenSequence, logits, packs
from souq.lab.score_cache import Kept, conditions
from souq.records import digest
from souq.weights.delta import TensorRef
from tests.kinds import LANGUAGE, SEEING, make, network

LAYERS = 4
WORDS = [
    "the",
    "user",
    "and",
    "the",
    "assistant",
    "talk",
    "about",
    "the",
    "model",
    "of",
    "a",
    "city",
    "by",
    "the",
    "sea",
]


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return lab_model.load(make("llama", tmp_path_factory.mktemp("halves") / "llama", num_hidden_layers=LAYERS))


@pytest.fixture(scope="module")
def suites():
    chance = random.Random(0)

    def text(n):
        return " ".join(chance.choices(WORDS, k=n))

    cases = {
        "exact": [{"prompt": text(3), "expected": text(2)} for _ in range(12)],
        "choice": [{"prompt": text(3), "choices": [f"{text(2)} {i}" for i in range(4)]} for _ in range(16)],
        "loss": [{"prompt": text(i % 2), "expected": text(6)} for i in range(12)],
    }
    for case in cases["choice"]:
        case["choices"][1] = case["choices"][0] + " " + text(2)  # one goes on where another ends
        case["expected"] = case["choices"][0]
    return {kind: an_eval(kind, each) for kind, each in cases.items()}


def an_eval(kind, cases):
    spec = f'title = "x"\nkind = "{kind}"\nsource = "s"\nlicence = "MIT"\nmax_tokens = 6\n'
    named = [{"id": f"c{i}", **case} for i, case in enumerate(cases)]
    return read_eval(kind, {"eval.toml": spec.encode(), "cases.jsonl": write_cases(named)})


def values(lm, suite, below=None):
    return {kept.case: kept.value for batch in lab_evals.run(lm, suite, below=below) for kept in batch}


def by_all_odds(lm, suite):
    """The values as they follow from every odds of every text."""
    return lab_evals.judge(suite, lab_evals.read(lm, [suite])).cases


def row_of(*texts):
    row = PackedRow()
    for text in texts:
        row.add(TokenSequence(list(text), 1))
    return row


# -- a network in parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["llama", "gemma2", "gemma3_text", "qwen3", "granite", "gpt2", "cohere", "mixtral", "gemma3"]
)
def test_its_parts_are_the_whole(kind):
    """Lower layers, upper layers and head, one after the other, give the odds that the network gives at once."""
    net = network(kind).eval()
    depth = len(layers_of(net)[1]) - 1
    parts, row = halves(net, depth), row_of(b"the user asks", b"the user says so", b"a city")

    assert parts is not None
    with torch.no_grad():
        together = logits(net, row)[0]
        apart = parts.head(parts.upper(row, parts.lower(row))[row.targets()[0]])
    assert (apart - together).abs().max() <= 1e-5 * together.std()


@pytest.mark.parametrize("kind", [*LANGUAGE, *SEEING])
def test_what_is_taken_apart_gives_what_the_whole_gives(kind):
    """Of every kind that souq knows: either its parts are the whole, or it is left whole."""
    net = network(kind).eval()
    parts, row = halves(net, 1), row_of(b"one of them", b"one or two")

    if parts is not None:
        assert packs(net)
        with torch.no_grad():
            together, other = logits(net, row)[0], row_of(b"something else that was read between")
            below = parts.lower(row)
            parts.upper(other)
            apart = parts.head(parts.upper(row, below)[row.targets()[0]])
        assert (apart - together).abs().max() <= 1e-4 * together.std()


def test_a_network_is_left_as_it_was(lm):
    """Nothing that passed a layer by is left in it, whatever went wrong inside."""
    before = logits(lm.net, row := row_of(b"the city"))[0]
    with pytest.raises(RuntimeError):
        Halves(lm.net, 2).upper(row, torch.zeros(3))

    assert torch.equal(logits(lm.net, row)[0], before)
    assert not [module for module in lm.net.modules() if "forward" in vars(module)]


# -- values ------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_value_hangs_on_what_is_shared(lm, suites, tmp_path_factory, data):
    """Any depth, any cases in any order and batches, states kept or not: the values of every odds of every text."""
    suite = suites[data.draw(st.sampled_from([*suites]))]
    place, key = tmp_path_factory.mktemp("lower"), digest(b"llama")
    cases = data.draw(st.permutations(suite.cases))
    expected = by_all_odds(lm, suite)
    given_values = {}
    while cases:
        count, depth = data.draw(st.integers(1, len(cases))), data.draw(st.integers(0, LAYERS - 1))
        below = LowerStates(place / f"{depth}", key, depth) if depth and data.draw(st.booleans()) else None
        given_values |= values(lm, replace(suite, cases=tuple(cases[:count])), below)
        if data.draw(st.booleans()):  # asked again, of what is kept by now
            below = LowerStates(place / f"{depth}", key, depth) if depth else None
            given_values |= values(lm, replace(suite, cases=tuple(cases[:count])), below)
        cases = cases[count:]

    assert given_values == pytest.approx(expected, abs=1e-5)
    if suite.spec.kind != "loss":
        assert given_values == expected


def test_kept_states_are_not_computed_again(lm, suites, tmp_path):
    """A second reading runs no layer below the depth, and gives the same numbers to the last bit."""
    ran = []
    halves(lm.net, 2)
    hook = layers_of(lm.net)[1][1].self_attn.register_forward_hook(lambda *_: ran.append(1))
    try:
        first = values(lm, suites["choice"], LowerStates(tmp_path, digest(b"x"), 2))
        computed = len(ran)
        again = values(lm, suites["choice"], LowerStates(tmp_path, digest(b"x"), 2))
    finally:
        hook.remove()

    assert 0 < computed == len(ran)
    assert again == first


def test_what_overflows_is_computed_each_time(lm, suites, tmp_path, monkeypatch):
    """Beyond its room nothing is written, and the values are the same."""
    from souq.lab import lower_states

    assert MOST >= 1 << 20
    monkeypatch.setattr(lower_states, "MOST", 1_000)
    below = LowerStates(tmp_path, digest(b"x"), 2)

    assert values(lm, suites["exact"], below) == by_all_odds(lm, suites["exact"])
    assert not [*tmp_path.rglob("*.safetensors")]


def test_a_broken_model_is_scored_as_before(lm, suites):
    """Odds that are no numbers bound nothing: every option is heard, and the race ends."""
    broken = lab_model.twin(lm, {"lm_head.weight": lm.weights["lm_head.weight"] * float("nan")}, {"lm_head.weight"})
    halves(lm.net)
    from souq.lab import halves as taken

    taken.alike(lm.net, broken.net)

    assert values(broken, suites["choice"]).keys() == by_all_odds(broken, suites["choice"]).keys()


# -- models side by side -----------------------------------------------------------------------------------------------


def changed(lm, *names):
    return dict(lm.weights) | {name: (lm.weights[name] * 1.5).astype(lm.weights[name].dtype) for name in names}


def lock_of(weights):
    return {name: TensorRef.of(weights[name]) for name in weights}


def layer(number, what="mlp.up_proj"):
    return f"model.layers.{number}.{what}.weight"


def test_a_twin_is_the_model_and_shares_the_rest(lm, suites):
    """It gives what the same tensors give alone; what did not change is the same memory, and the first is as it was."""
    before = values(lm, suites["loss"])
    weights = changed(lm, layer(2))
    twin = lab_model.twin(lm, weights, {layer(2)})
    alone = lab_model.load(files_of(lm), weights)

    own = {name: value.data_ptr() for name, value in lm.net.state_dict().items()}
    differs = [name for name, value in twin.net.state_dict().items() if value.data_ptr() != own[name]]
    assert differs == [layer(2)]
    assert values(twin, suites["loss"]) == values(alone, suites["loss"]) != before
    assert values(lm, suites["loss"]) == before


def files_of(lm):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        lm.net.config.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("names", "depth"),
    [
        ([layer(3)], 3),
        ([layer(3), layer(1, "self_attn.q_proj")], 1),
        ([layer(0)], None),
        (["model.embed_tokens.weight"], None),
        (["lm_head.weight", layer(3)], None),
        ([], None),
    ],
)
def test_a_family_is_taken_apart_below_its_lowest_change(lm, tmp_path, names, depth):
    """Where a tensor outside the layers changes, or the first layer, nothing is shared."""
    one, other = lock_of(lm.weights), lock_of(changed(lm, *names))
    below = Family(tmp_path, lambda: (one, other)).below(lm, {}, one, conditions())

    assert (below.depth if below else None) == depth


def test_states_go_by_all_that_they_hang_on(lm, tmp_path):
    """Models that differ above share them; those that differ below, in files, versions or arithmetic do not."""
    one, upper = lock_of(lm.weights), lock_of(changed(lm, layer(3)))
    lower = lock_of(changed(lm, layer(0), layer(3)))
    family, here = Family(tmp_path, lambda: (one, upper)), conditions()

    def key(lock, files=None, under=here):
        return family.below(lm, files or {}, lock, under).key

    assert key(one) == key(upper)
    others = [key(lower), key(one, {"config.json": b"{}"}), key(one, under=conditions("transformers 6")),
              key(one, under=conditions(arithmetic="bfloat16 on any"))]  # fmt: skip
    assert len({key(one), *others}) == 5


def test_open_answers_are_as_far_apart_however_they_are_read(lm, tmp_path):
    """Both models over shared layers, or each alone: the same answers and the same distances."""
    suite = an_eval("open", [{"prompt": " ".join(WORDS[i : i + 3])} for i in range(8)])
    weights = changed(lm, layer(2), layer(3))
    one, other = lock_of(lm.weights), lock_of(weights)
    family, files = Family(tmp_path, lambda: (one, other)), files_of(lm)
    first, second = family.lm(files, lm.weights, one, None), family.lm(files, weights, other, None)
    readers = [
        open_answers.Reader(each, family.below(each, files, lock, conditions()))
        for each, lock in ((second, other), (first, one))
    ]
    assert [reader.below.depth for reader in readers] == [2, 2]
    reference = {kept.case: kept for batch in open_answers.speak(first, suite) for kept in batch}

    shared, alone = (
        {kept.case: kept for batch in open_answers.run(*pair, suite, reference) for kept in batch}
        for pair in (readers, [open_answers.Reader(lab_model.load(files, weights)), open_answers.Reader(lm)])
    )

    assert {name: kept.answer for name, kept in shared.items()} == {name: kept.answer for name, kept in alone.items()}
    for name, kept in shared.items():
        assert kept.value == pytest.approx(alone[name].value, abs=1e-5)
    assert any(kept.value > 0.001 for kept in shared.values())


def test_old_lines_and_new_ones_are_one_form(tmp_path):
    """Nothing in what is kept of a score has changed: an older souq reads it."""
    line = msgspec.json.encode(Kept(case="a", value=1.0))
    checked_lines.append(tmp_path / "scores.jsonl", [line])

    [checksum, body] = (tmp_path / "scores.jsonl").read_bytes().strip().split(b" ", 1)
    assert checksum == b"%08x" % zlib.crc32(body)
    assert json.loads(body) == {"case": "a", "value": 1.0}
