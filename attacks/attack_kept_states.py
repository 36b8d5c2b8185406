"""What is kept of a model's lower layers, changed by somebody or put in another's place: the gate would score what is not there."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.kinds import make

from souq.evals.eval import read_eval, write_cases
from souq.lab import evals
from souq.lab import lm as lab_model
from souq.lab.lower_states import LowerStates
from souq.records import digest
from souq.weights.safetensors import open_tensors, write_tensors

KEY, OTHER = digest(b"this model below layer 1"), digest(b"another model below layer 1")
SPEC = b'title = "x"\nkind = "loss"\nsource = "s"\nlicence = "MIT"\n'
CASES = [{"id": f"c{i}", "prompt": "one", "expected": f"the sea and {i} ships"} for i in range(9)]
SUITE = read_eval("x", {"eval.toml": SPEC, "cases.jsonl": write_cases(CASES)})


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return lab_model.load(make("llama", tmp_path_factory.mktemp("kept") / "llama"))


@pytest.fixture
def place(lm, tmp_path):
    values(lm, LowerStates(tmp_path, KEY, 1))
    return tmp_path


def values(lm, below):
    return {kept.case: kept.value for batch in evals.run(lm, SUITE, below=below) for kept in batch}


def file_in(place, key=KEY):
    (path,) = LowerStates(place, key, 1).folder.glob("*.safetensors")
    return path


def rewritten(path, of=KEY, states=None, metadata=None):
    """The file as its writer would write it, with something else in it and every digest it can know by itself made anew."""
    file = open_tensors(path)
    names, old = file["names"], file["states"]
    new = old if states is None else states(old)
    write_tensors(path, {"names": names, "states": new}, metadata or {"of": of, "holds": file.metadata["holds"]})


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 64
    path.write_bytes(data)


ATTACKS = {
    "a bit is flipped": flipped,
    "it is cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "it is no such file": lambda path: path.write_bytes(b"\x80\x04pickle"),
    "it is empty": lambda path: path.write_bytes(b""),
    "its numbers are others": lambda path: rewritten(path, states=lambda old: old * np.float32(0.9)),
    "its numbers are of another width": lambda path: rewritten(path, states=lambda old: old[:, :-1].copy()),
    "its states stand in another order": lambda path: rewritten(path, states=lambda old: old[::-1].copy()),
    "it has no digest": lambda path: rewritten(path, metadata={"of": KEY}),
    "it says it is another's": lambda path: rewritten(path, of=OTHER),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_states_that_somebody_changed_are_not_believed(lm, place, attack):
    """The values are those of the model, and the file is gone and made again."""
    expected = values(lm, None)
    path = file_in(place)
    ATTACKS[attack](path)
    before = path.read_bytes()

    assert values(lm, LowerStates(place, KEY, 1)) == expected
    assert file_in(place).read_bytes() != before


def test_states_of_another_model_are_not_believed(lm, place):
    """Put under this model's name, byte for byte and with digests that hold: they say whose they are."""
    other = LowerStates(place, OTHER, 1)
    other.folder.mkdir()
    shutil.copy(file_in(place), other.folder)
    twisted = LowerStates(place / "twisted", OTHER, 1)
    noise = np.random.default_rng(0)
    mine = LowerStates(place, KEY, 1)
    for name, state in mine._kept.items():
        twisted._kept[name] = twisted._new[name] = noise.standard_normal(state.shape).astype(np.float32)
    twisted.flush()
    path = file_in(place)
    shutil.copy(file_in(place / "twisted", OTHER), path)

    assert values(lm, LowerStates(place, KEY, 1)) == values(lm, None)
    assert open_tensors(file_in(place)).metadata["of"] == KEY
    assert not LowerStates(place, OTHER, 1).knows([1, 2])
    assert not [*LowerStates(place, OTHER, 1).folder.glob("*.safetensors")]
