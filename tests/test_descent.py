"""A descendant is traced to its parent and a stranger to nobody; what cannot be read is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from souq.audit.descent import Model, Rules, circle, descent
from souq.audit.fingerprint import layer_scores
from souq.errors import Hostile, UsageError
from souq.weights.safetensors import write_tensors
from tests import tiny

RULES = Rules(related=0.2, explained=0.8, on_grid=0.9, false_alarms=(0, 1), right={})


def weights(seed):
    return {name: array.astype(np.float32) for name, array in tiny.tensors(seed).items()}


def tuned(base, seed, size=0.05):
    chance = np.random.default_rng(seed)
    return {n: (a + size * a.std() * chance.standard_normal(a.shape)).astype(a.dtype) for n, a in base.items()}


def lora(base):
    chance = np.random.default_rng(8)
    return {
        n: a + 0.01 * (chance.standard_normal((len(a), 2)) @ chance.standard_normal((2, a.shape[1]))).astype("f4")
        if "_proj" in n else a for n, a in base.items()
    }  # fmt: skip


def rounded(base, most):
    def one(a):
        step = np.abs(a).max(1, keepdims=True) / most
        return (np.round(a / step) * step).astype("f4")

    return {n: one(a) if "_proj" in n else a for n, a in base.items()}


def without_layer(base):
    return {n.replace(".1.", ".0."): a for n, a in base.items() if ".layers.0." not in n}


def upcycled(base):
    out = {n: a for n, a in base.items() if ".mlp." not in n}
    return out | {n.replace(".mlp.", f".mlp.experts.{e}."): a for n, a in base.items() if ".mlp." in n for e in (0, 1)}


def narrowed(base):
    """Half of the neurons, and three quarters of the channels."""
    out = {}
    for n, a in base.items():
        a = a[:24] if "gate" in n or "up_proj" in n else a
        a = a[:, :24] if a.ndim == 2 and "down" in n else a
        out[n] = a[:, 8:] if a.ndim == 2 and not ("down" in n or "o_proj" in n) else a
    return out


CHILDREN = {
    "copy": dict, "fine-tune": lambda base: tuned(base, 7), "lora": lora, "quantised": lambda base: rounded(base, 127),
    "pruned-layers": without_layer, "upcycled": upcycled, "pruned-width": narrowed,
}  # fmt: skip


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_is_traced_to_its_parent(kind):
    """Each kind of descent is told by its name, beside a stranger of the same shapes."""
    known = [Model.of("stranger", weights(1)), Model.of("parent", weights(0))]

    found = descent(Model.of("child", CHILDREN[kind](weights(0))), known, RULES)

    assert (found.kind, found.parents) == (kind, ("parent",))


def test_four_bits_are_told_from_eight():
    found = descent(Model.of("child", rounded(weights(0), 7)), [Model.of("parent", weights(0))], RULES)

    assert (found.kind, found.evidence["bits"]) == ("quantised", 4)


def test_a_merge_names_both_and_their_weights():
    """Of two fine-tunes, the base being known too: the two are named, not the base."""
    base = weights(0)
    left, right = tuned(base, 1), tuned(base, 2)
    blend = {n: 0.6 * left[n] + 0.4 * right[n] for n in base}
    known = [Model.of(name, w) for name, w in {"base": base, "left": left, "right": right}.items()]

    found = descent(Model.of("blend", blend), known, RULES)

    assert (found.kind, found.parents) == ("merge", ("left", "right"))
    assert found.evidence["weight of left"] == pytest.approx(0.6, abs=0.01)


def test_a_stranger_of_the_same_shapes_is_nobodys_child():
    found = descent(Model.of("stranger", weights(3)), [Model.of(str(s), weights(s)) for s in (0, 1, 2)], RULES)

    assert not found
    assert found.score < 0.1


def test_the_nearest_of_a_family_is_the_parent():
    base = weights(0)
    elder = tuned(base, 1, 0.1)
    known = [Model.of("base", base), Model.of("elder", elder)]

    assert descent(Model.of("child", tuned(elder, 2, 0.02)), known, RULES).parents == ("elder",)


def test_other_shapes_are_strangers():
    """A checkpoint with nothing in common is compared without an error, and is nobody's child."""
    other = {n: np.random.default_rng(5).standard_normal([d + 8 for d in a.shape]).astype("f4") for n, a in weights(0).items()}  # fmt: skip

    assert layer_scores(Model.of("o", other).print, Model.of("p", weights(0)).print).max() == 0
    assert not descent(Model.of("other", other), [Model.of("parent", weights(0))], RULES)


def test_numbers_that_are_none_are_refused():
    broken = weights(0)
    broken["model.layers.1.mlp.up_proj.weight"][3, 3] = np.nan

    with pytest.raises(Hostile, match=r"up_proj.weight holds numbers that are not finite"):
        Model.of("broken", broken)


@pytest.mark.parametrize("known", [[], None])
def test_nothing_to_compare(known):
    with pytest.raises(UsageError):
        descent(Model.of("a", weights(0)), known, RULES) if known is not None else Model.of("a", {"x": np.ones(3)})


def test_a_ring_of_claims_is_found():
    print_ = Model.of("a", weights(0)).print
    models = [
        Model(name, {}, print_, claims) for name, claims in {"a": "org/b", "b": "c", "c": "org/a", "d": "a"}.items()
    ]

    assert set(circle(models)) == {"a", "b", "c"}
    assert circle(models[:2]) == ()


def test_the_command_answers_and_says_no(bazaar, tmp_path):
    """The parent in JSON; exit 3 for a stranger; a card that says otherwise is named."""
    base = tiny.write_model(tmp_path / "base", 0)
    child = tiny.write_model(tmp_path / "child", 0)
    write_tensors(child / "model.safetensors", tuned(weights(0), 1), {"format": "pt"})
    (child / "README.md").write_text("---\nbase_model: org/elsewhere\n---\n")
    other = tiny.write_model(tmp_path / "other", 9)

    code, told, _ = bazaar.says("chen", f"lineage {child} --known {base} --json")

    assert code == 0
    found = json.loads(told)["descents"][0]
    assert (found["kind"], found["parents"], found["claim"]) == ("fine-tune", ["base"], "org/elsewhere")
    assert bazaar("chen", f"lineage {other} --known {base}") == 3


def test_a_family_is_drawn():
    """Every child on a line of its own, a line from each parent, strangers without one; hostile names are text."""
    from xml.etree import ElementTree

    from souq.audit.tree import drawn

    base, evil = Model.of("base", weights(0)), Model.of("<b>&", tuned(weights(0), 1))
    found = [descent(evil, [base], RULES), descent(Model.of("far", weights(5)), [base], RULES)]
    picture = ElementTree.fromstring(drawn(found))
    texts = ["".join(text.itertext()) for text in picture.findall("{*}text")]

    assert len(picture.findall("{*}path")) == 1
    assert any(said.startswith("<b>&") for said in texts)
    assert any("far (nobody known)" in said for said in texts)
