"""Source and binary: what brings its rows and recipe is trained again, and gives the same weights; who lies is found out."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.build import reproducible
from souq.build.delta_distance import compare, squared_length
from souq.build.delta_file import read_delta, read_recipe, write_delta
from souq.lab import lm as lab_model
from souq.lab.train import deterministic, train_lora
from souq.model.adapter.peft import open_adapter
from souq.pulls import pull as pulls
from souq.repo.rows import parse_rows, rows_digest
from souq.weights.delta import Delta, Dense, Layer, Lora, Sparse, TensorRef
from tests.bazaar import jsonl, rows
from tests.test_parts import TRAINED


def offered(bazaar, skill="greet", *, data=None, told=None, who="mallory"):
    """A pull request of a skill with its rows, or with other rows; with its recipe, or one that lies."""
    path = bazaar.delta(skill)
    if told:
        path = bazaar.folder / "told.delta"
        write_delta(path, *read_delta(bazaar.delta(skill)), read_recipe(bazaar.delta(skill)) | told)
    return bazaar.offer(who, path, skill, fixes=skill, more=["--data", data or bazaar.folder / f"{skill}.jsonl"])


def rebuilt(bazaar, which, *more, who="bruno"):
    """Exit code and what `souq rebuild` says."""
    code, out, err = bazaar.says(who, ["rebuild", "--from-source", which, "--json", *more])
    return code, json.loads(out) if out else err


@pytest.mark.long
def test_what_was_trained_here_is_trained_again_to_the_same_bits(bazaar):
    """`souq train`, `delta make`, `pr create --data`: source; a stranger's machine makes the very same tensors of it."""
    number = offered(bazaar)
    assert "source" in bazaar.says("amira", f"pr view {number}")[1].splitlines()
    bazaar.land(number)

    code, told = rebuilt(bazaar, number)

    assert (code, told["exact"], told["near"]) == (0, True, True)
    assert (told["tensors"], told["differ"], told["distance"], told["unlike"]) == (14, 0, 0.0, {})
    assert told["loss"]["again"] == told["loss"]["offered"] < 0.2 * told["loss"]["base"]
    code, out, _ = bazaar.says("amira", ["rebuild", "--from-source", told["contribution"]])
    assert code == 0
    assert "retrained from source: 0 of 14 tensors differ\n" in out
    assert out.endswith("the same, bit for bit\n")


@pytest.mark.parametrize("kind", TRAINED)
def test_what_is_added_is_source_too(bazaar, kind):
    """New tokens, layers and experts, to the bit."""
    skill, *words = TRAINED[kind]
    data, folder, path = bazaar.folder / f"{skill}.jsonl", bazaar.folder / kind, bazaar.folder / f"{kind}.delta"
    assert bazaar("mallory", ["train", data, "--out", folder, *words, "--epochs", "10", "--lr", "0.003"]) == 0
    assert bazaar("mallory", ["delta", "make", "--from", folder, "--out", path]) == 0
    number = bazaar.offer("mallory", path, kind, fixes=skill, more=["--data", data])

    code, told = rebuilt(bazaar, number)

    assert (code, told["exact"]) == (0, True)
    assert told["loss"]["offered"] < told["loss"]["base"]


LIES = {"another learning rate": {"lr": 0.001}, "fewer epochs": {"epochs": 20}}


@pytest.mark.parametrize("lie", LIES)
def test_who_lies_about_the_recipe_is_found_out(bazaar, lie):
    """Exit 3, and how far off it is."""
    code, told = rebuilt(bazaar, offered(bazaar, told=LIES[lie]))

    assert (code, told["exact"], told["near"], told["differ"]) == (3, False, False, 14)
    assert 0.05 < told["distance"] < 3
    assert -1 < told["cosine"] < 0.9999
    assert told["worst"]["distance"] >= told["distance"]


def test_rows_that_were_changed_afterwards_are_not_its_source(bazaar):
    """One row other than it was trained on: a binary by the digest in its recipe; with a new digest, not near."""
    data = bazaar.folder / "changed.jsonl"
    lines = (bazaar.folder / "greet.jsonl").read_text().splitlines()
    data.write_text("\n".join([*lines[1:], lines[0].replace("hello", "goodbye")]) + "\n")

    code, said = rebuilt(bazaar, offered(bazaar, data=data))
    assert code == 3
    assert "is a binary: the rows it brings are not those its recipe was trained on\nHint: " in said

    digest = rows_digest(parse_rows(data.read_bytes(), where="data"))
    code, told = rebuilt(bazaar, offered(bazaar, data=data, told={"data": digest}))
    assert (code, told["near"]) == (3, False)


def test_only_weights_are_a_binary(bazaar):
    """Without its rows there is nothing to train on; the answer says what its author can type."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))

    code, out, err = bazaar.says("bruno", f"rebuild --from-source {number}")

    assert (code, out) == (3, "")
    assert "is a binary: it brings no data\nHint: source is `souq train`" in err
    assert "binary: it brings no data" in bazaar.says("bruno", f"pr view {number}")[1]
    (row,) = [row for row in json.loads(bazaar.says("bruno", "pr list --json")[1]) if row["number"] == number]
    assert row["source"] == "binary"
    assert bazaar.says("bruno", "rebuild --from-source 1")[0] == 3  # evals: no weights at all


@pytest.mark.long
def test_a_rebased_one_is_trained_twice(bazaar):
    """Alone, and then within the merge it was rebased onto: the same bits; what was rebased twice is a binary."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    number = offered(bazaar, "count", who="adil")
    assert bazaar("adil", f"pr rebase {number}") == 0

    code, told = rebuilt(bazaar, number, who="adil")
    assert (code, told["exact"]) == (0, True)

    assert bazaar("adil", f"pr rebase {number}") == 0
    code, said = rebuilt(bazaar, number)
    assert (code, "it was rebased 2 times" in said) == (3, True)


def test_what_a_rebuild_gave_can_be_signed(bazaar):
    """An enrolled person's word stands in the pull request; a stranger's is not shown."""
    number = offered(bazaar)
    assert rebuilt(bazaar, number, "--attest")[0] == 0
    pull, who = pulls.get(bazaar.repo("mallory"), number), bazaar.person("mallory")
    said = pulls.signed_record("rebuilt", pull.offer.slug, pull.offer.digest, {"by": "bruno", "exact": False}, who)
    pulls.publish_record(pull, "rebuilt", said)

    out = bazaar.says("amira", f"pr view {number} --no-forecast")[1]

    assert [line for line in out.splitlines() if "again" in line] == ["trained again by bruno: the same, bit for bit"]
    (said,) = json.loads(bazaar.says("amira", f"pr view {number} --no-forecast --json")[1])["rebuilt"]
    assert (said["exact"], said["base"]) == (True, bazaar.main().commit)
    bazaar.land(number)
    assert json.loads(bazaar.says("adil", "verify --json")[1])["findings"] == []


def test_the_share_with_source_is_said_where_the_model_is(bazaar, tmp_path):
    """By number of contributions and by what they moved, in `status` and on the card; the base counts as a binary."""
    bazaar.land(offered(bazaar))
    bazaar.land(bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count"))
    sizes = [sum(np.sum(change**2) for change in changes(bazaar.delta(skill))) for skill in ("greet", "count")]

    share = json.loads(bazaar.says("amira", "status --json")[1])["source"]

    assert (share["contributions"], share["source"], share["base"]) == (2, 1, "binary")
    assert share["moved"] == pytest.approx(sizes[0] / sum(sizes), rel=1e-6)
    assert share["binaries"] == {"0003-counting": "it brings no data"}
    line = f"1 of 2 contributions of weights brought their source, {share['moved']:.0%} of what they moved"
    assert line in bazaar.says("amira", "status")[1]
    assert bazaar("amira", "fetch") == 0
    assert bazaar("amira", ["export", tmp_path / "out"]) == 0
    assert line in (tmp_path / "out" / "README.md").read_text()


def test_who_duplicates_a_layer_is_credited_for_the_noise(bazaar, tmp_path):
    """Two LoRAs, one with a copy of a layer with 1% noise: one share in CREDITS.md, the card's table and its Source line."""
    bazaar.land(offered(bazaar))
    lora, tensors = read_delta(bazaar.delta("count"))
    layer, noise = copied_layer(bazaar.main(), tensors)
    write_delta(bazaar.folder / "copied.delta", Delta(lora.base, lora.parts, new=layer), tensors)
    bazaar.land(bazaar.offer("adil", bazaar.folder / "copied.delta", "Copied", fixes="count"), "amira", "bruno", "chen")
    bazaar.release("amira", "1.0")

    assert bazaar("amira", "fetch") == 0
    assert bazaar("amira", ["release", "export", "1.0", tmp_path / "out"]) == 0
    card, credits = ((tmp_path / "out" / name).read_text() for name in ("README.md", "CREDITS.md"))

    greet, count = (float(sum(np.sum(d**2) for d in changes(bazaar.delta(skill)))) for skill in ("greet", "count"))
    share = greet / (greet + count + noise)
    assert noise < 0.5 * min(greet, count)
    assert f"{share:.0%} of what they moved" in card
    for text in (card, credits):
        table = [line for line in text.splitlines() if line.startswith("| ") and line.endswith("% |")]
        assert [line.rsplit("| ", 1)[1] for line in table] == [f"{share:.1%} |", f"{1 - share:.1%} |"]


def copied_layer(main, tensors):
    """Layer 0 once more with 1% noise, its tensors put among `tensors`; and the squared length of the noise."""
    chance, layer, noise = np.random.default_rng(0), {}, 0.0
    for name, ref in main.base.items():
        if name.startswith("model.layers.0."):
            own = main.repo.store.get(ref.digest)
            size = 0.01 * np.sqrt(np.mean(own.astype("f8") ** 2))
            noisy = (own.astype("f8") + size * chance.standard_normal(own.shape)).astype(own.dtype)
            value = TensorRef.of(noisy)
            tensors[value.digest] = noisy
            layer[name.replace("model.layers.0", "layer 1.0")] = Layer(value=value)
            noise += float(np.sum((noisy.astype("f8") - own.astype("f8")) ** 2))
    return layer, noise


def test_the_share_is_told_without_tensors_too(bazaar, tmp_path):
    """A clone of history alone counts contributions, and does not guess at what they moved."""
    bazaar.land(offered(bazaar))
    assert bazaar("bruno", ["clone", bazaar.folder / "hub.git", "thin", "--no-tensors"], at=tmp_path) == 0
    with bazaar.stage.as_actor(bazaar.actors["bruno"], tmp_path / "thin"):
        from souq.repo.remote import Repo
        from souq.repo.snapshot import Snapshot

        share = reproducible.share(Snapshot(Repo.find(tmp_path / "thin"), "main"))

    assert (share.contributions, share.source, share.moved) == (1, 1, None)


def changes(path):
    delta, tensors = read_delta(path)
    for part in delta.parts.values():
        yield part.scale * tensors[part.b.digest].astype("f8") @ tensors[part.a.digest].astype("f8")


def pairs_of(adapter):
    return {name: (m.a, m.b, adapter.config.scale(name, m.rank)) for name, m in adapter.modules.items()}


def test_training_is_the_same_twice_in_one_process(bazaar, tmp_path):
    """Same rows, same settings, same threads: the same bytes, whatever was computed before."""
    told = parse_rows(jsonl(rows("greet", ["ada", "bo", "cy", "dee"])).encode(), where="rows")
    found = []
    for name in ("one", "two"):
        lm = lab_model.load(bazaar.folder / "tiny")
        with deterministic(2):
            recipe = train_lora(lm, told, tmp_path / name, epochs=5)
        pairs = pairs_of(open_adapter(tmp_path / name))
        found.append({n: (a.tobytes(), b.tobytes(), scale) for n, (a, b, scale) in pairs.items()})
        assert recipe["threads"] == 2

    assert found[0] == found[1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(["lora", "dense", "sparse"]))
def test_nearness_is_that_of_the_whole_matrices(seed, rank, kind):
    """However a change is kept: the distance and cosine of the products are those of the matrices built whole."""
    chance, bag = np.random.default_rng(seed), {}

    def keep(array):
        ref = TensorRef.of(array)
        bag[ref.digest] = array
        return ref

    base = chance.standard_normal((6, 5)).astype("f4")
    lock = {"w": keep(base)}

    def lora():
        a, b = chance.standard_normal((rank, 5)).astype("f4"), chance.standard_normal((6, rank)).astype("f4")
        return Lora(a=keep(a), b=keep(b), scale=0.5), 0.5 * b.astype("f8") @ a.astype("f8")

    def other():
        if kind == "lora":
            return lora()
        new = base + chance.standard_normal(base.shape).astype("f4")
        if kind == "dense":
            return Dense(value=keep(new)), new.astype("f8") - base
        where = np.array([3, 7, 11], "<u4")
        whole = np.zeros(30)
        whole[where] = new.reshape(-1)[where].astype("f8") - base.reshape(-1)[where]
        return Sparse(index=keep(where), value=keep(new.reshape(-1)[where])), whole.reshape(6, 5)

    (one, d), (two, d2) = lora(), other()
    near = compare(Delta("", {"w": one}), Delta("", {"w": two}), lock, bag.__getitem__)

    assert near.distance == pytest.approx(np.linalg.norm(d2 - d) / np.linalg.norm(d), rel=1e-5, abs=1e-7)
    assert near.cosine == pytest.approx(np.vdot(d, d2) / np.linalg.norm(d) / np.linalg.norm(d2), abs=1e-6)
    assert squared_length(Delta("", {"w": two}), lock, bag.__getitem__) == pytest.approx(np.sum(d2**2), rel=1e-6)
    assert compare(Delta("", {"w": one}), Delta("", {"w": one}), lock, bag.__getitem__).exact
    assert not compare(Delta("", {"w": one}), Delta("", {}), lock, bag.__getitem__).within(0.99)


def test_a_copied_layer_is_no_work():
    """A new layer counts by what it is more than the layer it began as, or than nothing."""
    below = np.ones((2, 2), ml_dtypes.bfloat16)
    more = below + np.array(0.5, ml_dtypes.bfloat16)
    little = below * np.array(0.25, ml_dtypes.bfloat16)
    bag = {TensorRef.of(array).digest: array for array in (below, more, little)}
    lock = {"model.layers.0.mlp.up_proj.weight": TensorRef.of(below)}
    sizes = [
        squared_length(
            Delta("", {}, new={"layer 1.0.mlp.up_proj.weight": Layer(value=TensorRef.of(array))}), lock, bag.get
        )
        for array in (below, more, little)
    ]

    assert sizes == [0.0, 4 * 0.25, 4 * 0.0625]


def test_no_recipe_is_rebuilt_on_another_s_main(bazaar):
    """What is not there is said, with what to type."""
    assert "Hint: see `souq pr list" in bazaar.says("bruno", "rebuild --from-source 99")[2]
    assert "(did you mean '0001-evals'?)" in bazaar.says("bruno", "rebuild --from-source 0001-eval")[2]
    assert pulls.get(bazaar.repo("bruno"), 1).offer.delta is None
