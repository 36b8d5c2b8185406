"""What a fine-tune was trained from: the base, or main with what others landed there."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from souq.build.delta_file import read_delta
from souq.build.model import build
from souq.weights.safetensors import open_tensors, write_tensors

CHANGED = "model.layers.0.mlp.up_proj.weight"


def trained(folder, out, step=0.03):
    """A folder whose every matrix moved a little."""
    out.mkdir()
    for path in folder.iterdir():
        if path.suffix in (".json", ".jinja"):
            (out / path.name).write_bytes(path.read_bytes())
    held, chance = open_tensors(folder / "model.safetensors"), np.random.default_rng(5)
    moved = {name: held[name].astype("f4") + step * chance.standard_normal(held[name].shape) for name in held}
    write_tensors(out / "model.safetensors", {n: a.astype(ml_dtypes.bfloat16) for n, a in moved.items()}, {})
    return out


@pytest.fixture
def landed(bazaar):
    """A town whose main has one contribution, and whose main merges by adding up."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    assert bazaar("mallory", "fetch") == 0
    return bazaar


def difference(bazaar, path):
    delta, tensors = read_delta(path)
    main = bazaar.main("mallory")
    base = main.repo.store.get(main.base[CHANGED].digest).astype("f4")
    return tensors[delta.parts[CHANGED].value.digest].astype("f4") - base


def test_training_on_main_is_noticed_and_asked_about(landed):
    """As a change of the base it would bring what others landed a second time."""
    town = landed.folder
    assert landed("mallory", ["export", town / "main"]) == 0
    tune = trained(town / "main", town / "tune")

    code, _, err = landed.says("mallory", f"delta make --from {tune} --out {town}/x.delta")

    assert code == 2
    assert "trained on main" in err
    assert "--of main" in err
    assert "souq export --base" in err


def test_what_it_changes_of_main_is_laid_over_the_base(landed):
    """The step it took from main, and nothing of what main had; or, asked for, all of it."""
    town = landed.folder
    assert landed("mallory", ["export", town / "main"]) == 0
    tune = trained(town / "main", town / "tune")
    for of in ("main", "base"):
        assert landed("mallory", ["delta", "make", "--from", tune, "--of", of, "--out", town / f"{of}.delta"]) == 0

    built = build(landed.main("mallory"))
    step = open_tensors(tune / "model.safetensors")[CHANGED].astype("f4") - built.weights[CHANGED].astype("f4")
    ours, whole = difference(landed, town / "main.delta"), difference(landed, town / "base.delta")
    assert np.linalg.norm(ours - step) < 0.05 * np.linalg.norm(step)
    assert np.linalg.norm(whole - step) > 0.2 * np.linalg.norm(step)


def test_what_was_not_trained_on_today_s_main_is_no_change_of_it(landed):
    """Of the base, or of an earlier main: taking today's main from it would take others' work out."""
    town = landed.folder
    assert landed("mallory", ["export", "--base", town / "base"]) == 0
    tune = trained(town / "base", town / "tune")

    code, _, err = landed.says("mallory", f"delta make --from {tune} --of main --out {town}/x.delta")

    assert (code, "nothing that main has moved" in err) == (2, True)


def test_the_base_itself_is_written_to_train_on(landed):
    """And what is trained on it needs no word."""
    town = landed.folder
    assert landed("mallory", ["export", "--base", town / "base"]) == 0
    tune = trained(town / "base", town / "tune")

    code, _, err = landed.says("mallory", f"delta make --from {tune} --out {town}/x.delta")

    main, held = landed.main("mallory"), open_tensors(town / "base" / "model.safetensors")
    assert code == 0
    assert "main" not in err
    assert all((held[name] == main.repo.store.get(ref.digest)).all() for name, ref in main.base.items())


def test_what_main_has_added_is_not_offered_again(bazaar):
    """Tokens that landed: asked about, and with --of main left to main."""
    town = bazaar.folder
    words = [
        "train",
        town / "count.jsonl",
        "--out",
        town / "tokens",
        "--token",
        "what comes after",
        "--token",
        "one more",
    ]
    assert bazaar("mallory", [*words, "--epochs", "40", "--lr", "0.003"]) == 0
    assert bazaar("mallory", ["delta", "make", "--from", town / "tokens", "--out", town / "t.delta"]) == 0
    bazaar.land(bazaar.offer("mallory", town / "t.delta", fixes="count"))
    assert bazaar("mallory", "fetch") == 0
    assert bazaar("mallory", ["export", town / "main"]) == 0
    tune = trained(town / "main", town / "tune", 0.0)
    held = dict(open_tensors(tune / "model.safetensors").items())
    held["model.norm.weight"] = held["model.norm.weight"] * np.asarray(1.5, ml_dtypes.bfloat16)
    write_tensors(tune / "model.safetensors", held, {})

    asked, _, err = bazaar.says("mallory", f"delta make --from {tune} --out {town}/x.delta")
    assert (asked, "trained on main" in err) == (2, True)
    assert bazaar("mallory", ["delta", "make", "--from", tune, "--of", "main", "--out", town / "x.delta"]) == 0

    delta, _ = read_delta(town / "x.delta")
    assert (list(delta.parts), delta.new) == (["model.norm.weight"], {})
