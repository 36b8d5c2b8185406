"""What the checks of spectra, norms and lineage promise: figures that do not depend on how a change is written down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.checks import delta_stats, spectra, tensors
from souq.checks.delta_stats import TensorStats, spectrum, tensor_stats
from souq.checks.lineage import attention_drift, kept_direction
from souq.weights.delta import Dense, TensorRef
from tests.gate import Gate


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


@st.composite
def changes(draw):
    """Two factors of a low-rank change, left (m, r) and right (r, n)."""
    m, n, rank, seed = (draw(st.integers(*span)) for span in ((8, 30), (8, 30), (2, 8), (0, 1000)))
    chance = np.random.default_rng(seed)
    return chance.standard_normal((m, rank)), chance.standard_normal((rank, n))


def figures(found):
    return [found.top, found.size, found.concentration, found.entropy, found.kurtosis]


@given(changes())
def test_figures_are_the_dense_ones(pair):
    """What is computed from factors is what a singular value decomposition of the whole matrix gives."""
    left, right = pair
    whole = left @ right
    s = np.linalg.svd(whole, compute_uv=False)[: left.shape[1]]
    share = s**2 / np.sum(s**2)
    kurtosis = np.mean(whole**4) / np.mean(whole**2) ** 2
    entropy = -np.sum(share * np.log(share))

    assert figures(spectrum(left, right)) == pytest.approx([s[0], np.linalg.norm(whole), share[0], entropy, kurtosis])


@given(changes(), st.integers(0, 1000))
def test_figures_do_not_see_the_factors(pair, seed):
    """(L R)(R^-1 A) is the same change: nobody hides by writing it in other factors."""
    left, right = pair
    turn = np.random.default_rng(seed).standard_normal((left.shape[1],) * 2) + 3 * np.eye(left.shape[1])

    assert figures(spectrum(left @ turn, np.linalg.inv(turn) @ right)) == pytest.approx(
        figures(spectrum(left, right)), rel=1e-5
    )


@given(changes(), st.sampled_from([1e-140, 1e-3, 7.0, 1e140]))
def test_figures_scale(pair, factor):
    """A change made larger has larger sizes in that proportion, and the shape it had; no size is too small or large."""
    top, size, *shape = figures(spectrum(*pair))

    again = figures(spectrum(pair[0], pair[1] * factor))

    assert again == pytest.approx([top * factor, size * factor, *shape])


def test_a_change_without_end_is_refused(gate):
    """Factors whose product overflows are no change anybody can measure."""
    huge = gate.rewritten(gate.lora(0), lambda b, a: (b * 1e30, a * 1e30))
    parts = {name: type(part)(a=part.a, b=part.b, scale=1e300) for name, part in huge.parts.items()}

    with pytest.raises(delta_stats.Hostile, match="too large to be measured"):
        gate.says("norms", type(huge)(huge.base, parts))


def honest(seed, rank=8, scale=1.0, decay=0.7, modules=14):
    """Spectra of an invented honest LoRA: two layers of seven kinds."""
    chance, parts = np.random.default_rng(seed), {}
    for i in range(modules):
        values = (
            scale
            * decay ** (np.arange(rank) * np.exp(0.1 * chance.standard_normal()))
            * np.exp(0.2 * chance.standard_normal())
        )
        left = np.linalg.qr(chance.standard_normal((40, rank)))[0] * values
        parts[f"model.layers.{i // 7}.k{i % 7}_proj.weight"] = spectrum(
            left, np.linalg.qr(chance.standard_normal((30, rank)))[0].T
        )
    return parts


def test_size_and_alpha_do_not_make_one_odd():
    """An honest contributor trains as long, and with as large an alpha, as they like."""
    small, large = (spectra.signature(honest(1, scale=scale)) for scale in (1e-3, 10.0))

    assert small.spread == pytest.approx(large.spread)
    for kind in small.kinds:
        np.testing.assert_allclose(small.kinds[kind], large.kinds[kind], atol=1e-9)


def test_what_is_concentrated_is_far():
    """One direction that holds everything is far from honest spectra of every rank; another honest one is not."""
    bank = spectra.Bank.of([spectra.signature(honest(seed, rank=(4, 8, 16)[seed % 3])) for seed in range(40)])
    distances = [bank.distance(spectra.signature(honest(100 + seed, rank=8))) for seed in range(20)]

    assert bank.distance(spectra.signature(honest(99, decay=0.05))) > bank.threshold
    assert np.mean(np.array(distances) > bank.threshold) <= 0.2


def test_the_threshold_asks_about_few_honest_ones():
    """Left out one by one, at most a twentieth of the bank that ships would be asked about."""
    rows = [one.signature for one in spectra.shipped()]
    bank = spectra.Bank.of(rows)

    def alone(i):
        others = spectra.Rows.of([*rows[:i], *rows[i + 1 :]], bank.kinds)
        return spectra.Usual.of(others).distance(spectra.Rows.of([rows[i]], bank.kinds))

    assert len(rows) >= spectra.LEAST
    assert np.mean([alone(i) > bank.threshold for i in range(len(rows))]) <= spectra.FALSE


def test_main_is_its_own_bank(gate):
    """With enough accepted, what is unlike them calls for eyes, what is like them passes, and nothing is refused."""
    assert gate.says("spectra", gate.lora(0)) == (
        "pass",
        "not compared: 0 honest ones of this base are known, 20 are needed",
    )
    gate.land(*(gate.lora(seed, only="qv") for seed in range(21)))

    assert gate.says("spectra", gate.lora(50, only="qv"))[0] == "pass"
    outcome, because = gate.says("spectra", gate.lora(51, decay=0.05, only="qv"))
    assert (outcome, because.startswith("unlike the 21 honest ones known")) == ("needs-eyes", True)


def test_a_full_fine_tune_is_not_compared(gate):
    """A spectrum is a LoRA's; of what has none the check says so."""
    assert gate.says("spectra", gate.dense(lambda w: w * 1.01)) == (
        "pass",
        "not a LoRA of several matrices: not compared",
    )


def test_larger_than_is_usual_on_main(gate):
    """Below the absolute cap, a change far larger than what main accepted calls for eyes; eight must have landed first."""
    loud = gate.lora(60, share=0.25, only="qv")
    assert gate.says("norms", loud)[0] == "pass"
    gate.land(*(gate.lora(seed, only="qv") for seed in range(8)))

    outcome, because = gate.says("norms", loud)

    assert (outcome, "changes are larger than is usual on main" in because) == ("needs-eyes", True)
    assert gate.says("norms", gate.lora(61, only="qv"))[1].endswith("as large as is usual on main")
    assert gate.says("norms", gate.lora(62, share=0.9, only="qv"))[0] == "refuse"


def test_one_loud_tensor_is_not_averaged_away():
    """A single tensor among many is named, with its share and the cap."""
    main = [{f"model.layers.{i}.mlp.up_proj.weight": 0.05 + 0.001 * j for i in range(6)} for j in range(8)]
    mine = dict.fromkeys(main[0], 0.05) | {"model.layers.3.mlp.up_proj.weight": 0.3}

    odd = tensors.unusual(mine, main, mads=6, enough=8)

    assert list(odd) == ["model.layers.3.mlp.up_proj.weight"]
    assert tensors.unusual(mine, main[:7], mads=6, enough=8) == {}


def test_another_model_under_this_name(gate):
    """A mixture with another model's weights is hinted at, within the cap of norms; a fine-tune is not."""
    chance = np.random.default_rng(5)

    def mixed(w):
        return 0.75 * w + 0.25 * chance.standard_normal(w.shape) * w.std()

    outcome, because = gate.says("lineage", gate.dense(mixed))
    assert (outcome, because.startswith("a hint:")) == ("needs-eyes", True)
    assert gate.says("norms", gate.dense(mixed))[0] == "pass"
    assert gate.says("lineage", gate.dense(lambda w: w + 0.1 * chance.standard_normal(w.shape) * w.std()))[0] == "pass"
    assert gate.says("lineage", gate.lora(0))[1].startswith("changes no tensor as a whole")


@given(st.integers(0, 1000), st.floats(0.01, 0.45))
def test_lineage_from_two_figures(seed, size):
    """The cosine and the spread of W + d are those of the matrix itself."""
    chance = np.random.default_rng(seed)
    base, change = chance.standard_normal((12, 9)), size * chance.standard_normal((12, 9))
    tuned, whole = base + change, float(np.linalg.norm(base))
    seen = {
        "model.layers.0.self_attn.q_proj.weight": tensor_stats(
            Dense(value=TensorRef.of(tuned)), None, change, whole, base
        )
    }

    assert kept_direction(seen) == pytest.approx(np.vdot(tuned, base) / np.linalg.norm(tuned) / whole)
    assert attention_drift(seen) == pytest.approx(abs(np.linalg.norm(tuned) / whole - 1))
    assert isinstance(next(iter(seen.values())), TensorStats)
