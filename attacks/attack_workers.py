"""A worker of somebody's cluster answers what it likes: other bytes, other tensors, none, or digests it made up."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from tests.gate import Gate

from souq import workers
from souq.build.model import build
from souq.build.spread import Shelf, model_lock_on
from souq.errors import Hostile, NotFound, Refused
from souq.lab import engines, score_cache
from souq.lab.engines.slices import Asking
from souq.weights.delta import TensorRef
from souq.workers import Done


@dataclass
class Liar:
    """Does every piece as it should, and hands in what `lie` makes of it."""

    lie: object
    store: str = ""

    def map(self, task, pieces):
        do = task.ready()
        yield from (Done(number, self.lie(do(piece)), "the worker mallory") for number, piece in enumerate(pieces))


@pytest.fixture
def gate(tmp_path):
    gate = Gate(tmp_path)
    gate.land(gate.lora(1, decay=0.4), gate.lora(2, decay=0.4))
    return gate


def built(gate, workers):
    gate.repo.workers = workers
    return build(gate.main)


def flipped(answer):
    return {name: data ^ np.uint8(1) for name, data in answer.items()}


LIES = {
    "other bytes": (flipped, "otherwise than this machine does"),
    "fewer bytes": (lambda answer: {name: data[:-1] for name, data in answer.items()}, "answers"),
    "no bytes": (lambda answer: dict.fromkeys(answer), "answers"),
    "another tensor": (lambda answer: {f"{name}x": data for name, data in answer.items()}, "answers"),
    "nothing": (lambda answer: {}, "answers"),
    "a word": (lambda answer: "done", "answers"),
}


@pytest.fixture
def everywhere(monkeypatch):
    """Each piece is computed here too."""
    monkeypatch.setattr(workers, "SPOT", 1)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("lie", LIES)
def test_what_a_worker_makes_up_is_not_built(gate, lie):
    """The machine is named, and nothing is there of the model."""
    how, why = LIES[lie]

    with pytest.raises(Hostile, match=f"mallory.*{why}"):
        built(gate, Liar(how))
    assert not list(gate.repo.cache.glob("built/*/model.*"))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("lie", ["digests", "shapes", "texts"])
def test_what_a_worker_makes_up_is_not_verified(gate, lie):
    """Digests that no tensor has, or that are none."""
    zeros = TensorRef(dtype="BF16", shape=(1,), digest="b3:" + "0" * 64)
    lies = {"digests": lambda ref: replace_digest(ref), "shapes": lambda ref: zeros, "texts": str}

    with pytest.raises(Hostile, match="mallory"):
        model_lock_on(gate.main, Liar(lambda answer: {name: lies[lie](ref) for name, ref in answer.items()}))


def replace_digest(ref):
    return TensorRef(dtype=ref.dtype, shape=ref.shape, digest="b3:" + "0" * 64)


def test_one_lie_in_sixteen_pieces_is_found_as_often_as_is_said(gate, monkeypatch):
    """Whoever lies once about n pieces is found out in one of sixteen runs: nobody can know where we look."""
    pieces = list(range(32))

    class Echo:
        cores = 1

        def ready(self):
            return lambda piece: piece

    class Once:
        store = ""

        def map(self, task, pieces):
            yield from (Done(piece, -1 if piece == 5 else piece, "mallory") for piece in pieces)

    caught = 0
    for _ in range(2_000):
        try:
            assert len(list(workers.checked(Once(), Echo(), pieces))) == 32
        except Hostile:
            caught += 1

    assert 70 <= caught <= 180  # 125 expected, sd 11: beyond five of them once in a million


def test_a_worker_without_the_tensors_says_what_to_type(tmp_path):
    """It neither waits nor guesses."""
    with pytest.raises(NotFound, match="a worker has no folder") as caught:
        Shelf(tmp_path / "elsewhere").opened()
    assert "souq.store" in caught.value.hint


def test_a_worker_reads_from_the_bucket_what_it_does_not_see(gate, tmp_path):
    """The digest is computed again there; an object that was changed is refused."""
    name = next(iter(gate.main.base.values())).digest
    load = Shelf(tmp_path / "elsewhere", f"file://{gate.repo.store.root}").opened()

    assert np.array_equal(load(name), gate.repo.store.get(name))


SCORES = {
    "better ones": lambda values: [msgspec.structs.replace(kept, value=1 - kept.value) for kept in values],
    "other words": lambda values: [msgspec.structs.replace(kept, answer="yes") for kept in values],
    "other cases": lambda values: [msgspec.structs.replace(kept, case=f"{kept.case}x") for kept in values],
    "some twice": lambda values: [*values, values[0]],
    "one less": lambda values: values[1:],
    "no number": lambda values: [msgspec.structs.replace(kept, value=float("nan")) for kept in values],
    "none": lambda values: None,
}


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("lie", SCORES)
def test_what_a_worker_makes_up_is_no_score(bazaar, lie):
    """The machine is named, and nothing is kept of its values."""
    main = bazaar.main()
    main.repo.workers = Liar(SCORES[lie])
    engine = engines.of_built(main, built_here(main))
    suites = {"greet": main.evals["greet"]}
    kept = score_cache.get(main.repo, engine.model, suites["greet"], engine.under)

    with pytest.raises(Hostile, match="mallory"):
        engines.scores(main.repo, suites, engine, again=True)
    assert score_cache.get(main.repo, engine.model, suites["greet"], engine.under) == kept


def built_here(main):
    main.repo.workers, liar = None, main.repo.workers
    built = build(main)
    main.repo.workers = liar
    return built


def test_a_worker_of_another_kind_gives_no_values(bazaar):
    """Values are kept under conditions: who computes under others is asked for none."""
    main = bazaar.main()
    under = msgspec.structs.replace(score_cache.conditions(), arithmetic="float32 on NEON")

    with pytest.raises(Refused, match=r"and values are kept under .*float32 on NEON"):
        Asking(engines.of_built(main, build(main)), under).ready()
