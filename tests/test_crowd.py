"""One model under several badges is one model, and two models are two."""

from __future__ import annotations

import json

import numpy as np
import pytest

from souq.audit.near_identical import crowd
from souq.errors import Hostile, NotFound, UsageError
from souq.weights.safetensors import write_tensors
from tests import tiny


def model(folder, tensors):
    folder.mkdir()
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    return folder


def tuned(tensors, share, seed=0):
    """Every tensor moved by `share` of its own norm, in any direction."""
    chance = np.random.default_rng(seed)
    made = {}
    for name, array in tensors.items():
        off = chance.standard_normal(array.shape)
        whole = array.astype(np.float64)
        made[name] = (whole + off * share * np.linalg.norm(whole) / np.linalg.norm(off)).astype(np.float32)
    return made


@pytest.fixture
def whole():
    return {name: array.astype(np.float32) for name, array in tiny.tensors(1).items()}


def pairs(found):
    return {(pair.how, pair.distance) for cluster in found.clusters for pair in cluster.pairs}


def test_a_copy_is_a_copy(tmp_path, whole):
    """Another folder, other metadata, two files instead of one: the same tensors are the same model."""
    names = sorted(whole)
    (tmp_path / "b").mkdir()
    write_tensors(tmp_path / "b" / "model-1.safetensors", {name: whole[name] for name in names[:5]}, {"by": "me"})
    write_tensors(tmp_path / "b" / "model-2.safetensors", {name: whole[name] for name in names[5:]})

    found = crowd([model(tmp_path / "a", whole), tmp_path / "b"])

    assert (found.kinds, pairs(found)) == (1, {("copy", 0.0)})


def test_a_renamed_copy_is_a_copy(tmp_path, whole):
    """Every tensor under another name, or two of one shape exchanged."""
    renamed = {name.replace("model.", "transformer."): array for name, array in whole.items()}
    swapped = dict(whole)
    one, two = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    swapped[one], swapped[two] = whole[two], whole[one]

    found = crowd([model(tmp_path / "a", whole), model(tmp_path / "b", renamed), model(tmp_path / "c", swapped)])

    assert (found.kinds, pairs(found)) == (1, {("renamed", 0.0)})


@pytest.mark.parametrize(("share", "kinds"), [(0.001, 1), (0.01, 1), (0.019, 1), (0.021, 2), (0.1, 2)])
def test_a_tiny_change_is_told_by_its_size(tmp_path, whole, share, kinds):
    """Moved by less than `within` of its norm it is the same model again, by more it is another; the size told is true."""
    found = crowd([model(tmp_path / "a", whole), model(tmp_path / "b", tuned(whole, share))], within=0.02)

    assert found.kinds == kinds
    for how, distance in pairs(found):
        assert how == "near"
        assert distance == pytest.approx(share, rel=0.05)


def test_another_dtype_is_no_other_model(tmp_path, whole):
    """bf16 written as f32 holds the very same numbers."""
    found = crowd([model(tmp_path / "a", whole), model(tmp_path / "b", tiny.tensors(1))])

    assert pairs(found) == {("converted", 0.0)}


def test_strangers_are_strangers(tmp_path, whole):
    """Another seed, another shape, half of the tensors: no badge is taken from anybody."""
    narrow = {name: array[:16] for name, array in whole.items()}
    half = dict(sorted(whole.items())[: len(whole) // 2])
    folders = [model(tmp_path / name, t) for name, t in {"a": whole, "b": tiny.tensors(2), "c": narrow, "d": half}.items()]  # fmt: skip

    found = crowd(folders, within=0.5)

    assert (found.models, found.kinds, found.clusters) == (4, 4, ())


@pytest.mark.parametrize("more", [1, 20])
def test_a_few_new_tokens_are_no_other_model(tmp_path, whole, more):
    """A vocabulary that grew by rows is compared by the rows both have; one that grew by half is another model."""
    name = "model.embed_tokens.weight"
    grown = {rows: whole | {name: np.concatenate([whole[name], whole[name][:rows]])} for rows in (more, 160)}
    a, b, c = model(tmp_path / "a", whole), model(tmp_path / "b", grown[more]), model(tmp_path / "c", grown[160])

    assert pairs(crowd([a, b])) == {("near", 0.0)}
    assert pairs(crowd([b, a])) == {("near", 0.0)}
    assert crowd([a, c]).kinds == 2


def test_places_stay_when_a_table_grows(tmp_path):
    """Across the size where fewer numbers are sampled, the same places are compared."""
    step = 7 * 256  # just below and at it
    whole = np.random.default_rng(0).standard_normal((step, 1)).astype(np.float32)
    a, b = model(tmp_path / "a", {"w": whole[: step - 9]}), model(tmp_path / "b", {"w": whole})

    assert pairs(crowd([a, b])) == {("near", 0.0)}


def test_clusters_are_chains(tmp_path, whole):
    """a - b - c each a step apart are one kind, though a and c are further than a step; a stranger stands alone."""
    step = tuned(whole, 0.015, 1)
    chain = {"a": whole, "b": step, "c": tuned(step, 0.015, 2), "z": tiny.tensors(9)}
    folders = [model(tmp_path / name, tensors) for name, tensors in chain.items()]

    found = crowd(folders, within=0.02)

    assert (found.models, found.kinds) == (4, 2)
    assert [name[-1] for name in found.clusters[0].models] == ["a", "b", "c"]
    assert len(found.clusters[0].pairs) == 2
    assert crowd(folders[::-1], within=0.02).kinds == 2


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_no_numbers_are_near_nothing(tmp_path, whole, odd):
    """A tensor of NaN is at no distance from anything, so it joins no crowd."""
    broken = whole | {"model.norm.weight": np.full(tiny.HIDDEN, odd, np.float32)}

    assert crowd([model(tmp_path / "a", whole), model(tmp_path / "b", broken)], within=1).kinds == 2


def test_what_is_no_model(tmp_path, whole):
    a = model(tmp_path / "a", whole)
    (tmp_path / "empty").mkdir()
    twice = model(tmp_path / "twice", whole)
    write_tensors(twice / "more.safetensors", {"model.norm.weight": whole["model.norm.weight"]})

    with pytest.raises(NotFound, match="no safetensors"):
        crowd([a, tmp_path / "empty"])
    with pytest.raises(Hostile, match="stands in another file too"):
        crowd([a, twice])
    for folders in ([a], [a, a], [a, tmp_path / "x" / ".." / "a"]):
        with pytest.raises(UsageError, match="different folders"):
            crowd(folders)


def test_the_command(bazaar, tmp_path, whole):
    model(tmp_path / "a", whole), model(tmp_path / "b", tuned(whole, 0.01)), model(tmp_path / "c", whole)
    words = f"stats --near {tmp_path}/a {tmp_path}/b {tmp_path}/c"

    code, out, err = bazaar.says("chen", words)
    assert code == 0
    assert f"{tmp_path}/a and {tmp_path}/c: copy, 0 apart" in out
    assert "3 models, 1 different within 0.02" in err

    code, out, _ = bazaar.says("chen", f"{words} --within 0.001 --json")
    assert (code, json.loads(out)["kinds"]) == (0, 2)
