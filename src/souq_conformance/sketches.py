"""Histories, good and bad, in which the sketches of what landed are renewed: main then builds to something else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from souq.weights.delta import Delta, Dense, Gram, TensorRef
from souq.weights.lockfile import format_delta, lock_digest
from souq_conformance.cases import bad, good
from souq_conformance.town import BASE, Offered, Town

UP, OTHER, _ = BASE  # two matrices, and a norm, which has no inputs
_MERGED = 'name = "town"\nlicence = "Apache-2.0"\nbase = "tiny"\n\n[merge]\nmethod = "covariance"\n'
_WHICH = {1: 0.25, 2: 4.0, 3: 9.0}


def sketch_of(town: Town, *tensors: str, which: int = 1) -> Delta:
    """Sketches of what flows into some matrices; each `which` is another."""
    factor = np.array([[1.0, _WHICH[which]]], "<f2")
    diag = np.array([1.0, 0.5], "<f4")
    for array in (factor, diag):
        town.store.put(array)
    gram = Gram(factor=TensorRef.of(factor), diag=TensorRef.of(diag), tokens=7)
    base = lock_digest(town.snapshot().base)
    return Delta(
        base, {}, {f"in-{i}": gram for i in range(len(tensors))}, {t: f"in-{i}" for i, t in enumerate(tensors)}
    )


def sketched(town: Town, title: str, value: float, *, which: int = 1) -> Offered:
    """Weights with a sketch, landed."""
    array = np.full_like(BASE[UP], value)
    array[0] += 1  # of each row another change, so that inputs matter
    town.store.put(array)
    delta = replace(sketch_of(town, UP, which=which), parts={UP: Dense(value=TensorRef.of(array))})
    return town.land(town.offer("weights", title, "mallory", _lock("delta.lock", delta)).agreed("amira", "bruno"))


def _lock(path: str, delta: Delta) -> dict[str, bytes]:
    return {path: format_delta(delta).encode()}


def renewal(town: Town, whose: Offered | str, delta: Delta | None = None, *, of: str = "") -> Offered:
    """New sketches of one contribution, agreed to by two organisations."""
    slug = whose if isinstance(whose, str) else whose.slug
    files = _lock(f"sketches/{slug}.lock", delta or sketch_of(town, UP, which=3))
    return town.offer("sketches", "new sketches", "mallory", files, of=of).agreed("amira", "bruno")


def two_that_meet(town: Town) -> tuple[Offered, Offered]:
    """Two changes of one matrix, on inputs that differ."""
    town.begin(files={"souq.toml": _MERGED.encode()})
    return sketched(town, "first", 2.0), sketched(town, "second", -3.0, which=2)


# -- good --------------------------------------------------------------------------------------------------------------


@good
def sketches_renewed(town: Town) -> None:
    """They land like anything that moves what main builds to, and a release after it names the new recipe."""
    first, _ = two_that_meet(town)
    town.land(renewal(town, first))
    town.land(town.release().agreed("bruno", "chen"))


@good
def sketches_renewed_twice(town: Town) -> None:
    """Those of the higher number are in force."""
    first, second = two_that_meet(town)
    town.land(renewal(town, first))
    town.land(renewal(town, second, sketch_of(town, UP, which=1)))
    town.land(renewal(town, first, sketch_of(town, UP, which=2)))
    town.land(town.release().agreed("bruno", "chen"))


@good
def sketches_of_all_at_once(town: Town) -> None:
    """One contribution renews those of two."""
    first, second = two_that_meet(town)
    files = _lock(f"sketches/{first.slug}.lock", sketch_of(town, UP, which=3))
    files |= _lock(f"sketches/{second.slug}.lock", sketch_of(town, UP, which=1))
    town.land(town.offer("sketches", "all", "mallory", files).agreed("amira", "bruno"))


@good
def sketches_taken_back_and_restored(town: Town) -> None:
    """Without them main builds to what it did before; with them again to what it did then."""
    first, _ = two_that_meet(town)
    before, new = town.read("model.lock"), town.land(renewal(town, first))
    after = town.read("model.lock")
    back = town.land(town.revert(new).agreed("chen", "bruno"))
    assert town.read("model.lock") == before != after
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("chen", "bruno"))
    assert town.read("model.lock") == after


@good
def whose_sketches_they_are_is_taken_back(town: Town) -> None:
    """They stay, and count for nothing until it is restored."""
    first, _ = two_that_meet(town)
    town.land(renewal(town, first))
    after = town.read("model.lock")
    back = town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("chen", "bruno"))
    assert town.read("model.lock") == after


@good
def sketches_of_who_came_without(town: Town) -> None:
    """Somebody else has its rows."""
    town.begin(files={"souq.toml": _MERGED.encode()})
    bare = town.land(town.weights(tensor=UP).agreed("amira", "bruno"))
    sketched(town, "second", -3.0, which=2)
    town.land(renewal(town, bare))


# -- bad ---------------------------------------------------------------------------------------------------------------


@bad("model-lock")
def sketches_that_move_nothing(town: Town) -> None:
    """They are renewed, and model.lock still names what main built to before."""
    first, _ = two_that_meet(town)
    town.land(renewal(town, first), lock=town.read("model.lock"))


@bad("model-lock")
def sketches_taken_back_that_still_count(town: Town) -> None:
    """The folder is gone, and model.lock still has what they moved."""
    first, _ = two_that_meet(town)
    new = town.land(renewal(town, first))
    town.land(town.revert(new).agreed("chen", "bruno"), lock=town.read("model.lock"))


@bad("threshold")
def sketches_nobody_agreed_to(town: Town) -> None:
    """To renew a sketch is to change what main builds to: whoever may say no to the one may to the other."""
    first, _ = two_that_meet(town)
    files = _lock(f"sketches/{first.slug}.lock", sketch_of(town, UP, which=3))
    town.land(town.offer("sketches", "new sketches", "mallory", files).agreed("amira"))


@bad("nothing-to-undo")
def sketches_of_nobody(town: Town) -> None:
    """There is no such contribution."""
    two_that_meet(town)
    town.land(renewal(town, "0099-nobody"))


@bad("nothing-to-undo")
def sketches_of_rows(town: Town) -> None:
    """Data have none."""
    two_that_meet(town)
    rows = town.land(town.data().agreed("amira", "bruno"))
    town.land(renewal(town, rows))


@bad("nothing-to-undo")
def sketches_of_who_was_taken_back(town: Town) -> None:
    """It is not there to have any."""
    first, _ = two_that_meet(town)
    town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(renewal(town, first))


@bad("odd-offer")
def sketches_that_change_weights(town: Town) -> None:
    """Beside the sketch stands a change of a matrix."""
    first, _ = two_that_meet(town)
    array = np.full_like(BASE[OTHER], 5.0)
    town.store.put(array)
    delta = replace(sketch_of(town, UP, which=3), parts={OTHER: Dense(value=TensorRef.of(array))})
    town.land(renewal(town, first, delta))


@bad("odd-offer")
def sketches_of_nothing(town: Town) -> None:
    """A file without one."""
    first, _ = two_that_meet(town)
    town.land(renewal(town, first, replace(sketch_of(town, UP), grams={}, inputs={})))


@bad("odd-offer")
def sketches_that_feed_what_it_does_not_change(town: Town) -> None:
    """They would speak where the contribution says nothing."""
    first, _ = two_that_meet(town)
    town.land(renewal(town, first, sketch_of(town, UP, OTHER)))


@bad("odd-offer")
def sketches_that_leave_one_bare(town: Town) -> None:
    """It had two, and would be merged without inputs in one place."""
    town.begin(files={"souq.toml": _MERGED.encode()})
    arrays = {name: np.full_like(BASE[name], 5.0) for name in (UP, OTHER)}
    for array in arrays.values():
        town.store.put(array)
    parts = {name: Dense(value=TensorRef.of(array)) for name, array in arrays.items()}
    delta = replace(sketch_of(town, UP, OTHER), parts={**parts})
    first = town.land(town.offer("weights", "two", "mallory", _lock("delta.lock", delta)).agreed("amira", "bruno"))
    town.land(renewal(town, first, sketch_of(town, UP, which=3)))


@bad("odd-offer")
def sketches_of_another_base(town: Town) -> None:
    """Of a model that this one is not made of."""
    first, _ = two_that_meet(town)
    town.land(renewal(town, first, replace(sketch_of(town, UP, which=3), base="b3:" + "0" * 64)))


@bad("odd-offer")
def sketches_under_no_name(town: Town) -> None:
    """The file is named after nobody."""
    two_that_meet(town)
    files = _lock("sketches/README", sketch_of(town, UP))
    town.land(town.offer("sketches", "new", "mallory", files).agreed("amira", "bruno"))


@bad("odd-offer")
def sketches_that_are_about_something(town: Town) -> None:
    """Whose they are, their files say; `of` would be a second answer."""
    first, _ = two_that_meet(town)
    town.land(renewal(town, first, of=first.slug))


@bad("outdated")
def sketches_that_are_older_than_those_in_force(town: Town) -> None:
    """Offered first and landed last, they would count for nothing, and nobody would see it."""
    first, _ = two_that_meet(town)
    late = renewal(town, first, sketch_of(town, UP, which=2))
    town.land(renewal(town, first))
    town.land(late)


@bad("release-recipe")
def a_release_that_names_the_old_sketches(town: Town) -> None:
    """Its recipe is that of before they were renewed."""
    first, _ = two_that_meet(town)
    old = town.snapshot().recipe()
    town.land(renewal(town, first))
    town.land(town.release(recipe=old).agreed("bruno", "chen"))
