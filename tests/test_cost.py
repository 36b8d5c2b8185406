"""What a model costs: published runs come out, unknown is never nothing, and a price without a unit is no price."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.audit import cost, prices, trained
from souq.errors import Hostile, UsageError
from souq.weights.delta import TensorRef

H100 = prices.default_prices().on("h100")

# model: parameters at work, tokens; published FLOP. What is left is said beside each.
FLOP = {
    "Llama 3.1 405B": (405e9, 15.6e12, 3.8e25),  # 0.2%: published with two figures
    "DeepSeek-V3": (37e9, 14.8e12, 3.29e24),  # 0.1%: three figures; 37B of 671B are at work
    "OLMo 2 7B": (7.3e9, 4.05e12, 1.77e23),
    "OLMo 2 13B": (13.7e9, 5.6e12, 4.6e23),
    "OLMo 2 32B": (32e9, 6.06e12, 1.16e24),
    "SmolLM2-135M": (135e6, 2e12, 1.61e21),  # 0.6%: 134.5M parameters, called 135M
    "SmolLM2-1.7B": (1.7e9, 11e12, 1.13e23),  # 0.7%: 1.71B parameters, called 1.7B
}


@pytest.mark.parametrize(("params", "tokens", "told"), FLOP.values(), ids=FLOP)
def test_published_work_comes_out(params, tokens, told):
    """6ND is within 5% of what each of these models is known to have taken."""
    assert cost.training("x", params, tokens, H100).flop == pytest.approx(told, rel=0.05)


# model: parameters, tokens, GPU-hours; published tonnes of CO2e; GWh, kg/kWh and USD of the card's own figures.
CARDS = {
    "Llama 3.1 405B": (30.84e6, 8930, 21.6e6, 0.414),
    "Llama 3.1 70B": (7.0e6, 2040, 4.9e6, 0.416),
    "Llama 3.1 8B": (1.46e6, 420, 1.022e6, 0.411),
}


@pytest.mark.parametrize(("hours", "tonnes", "kwh", "intensity"), CARDS.values(), ids=CARDS)
def test_published_cards_come_out(hours, tonnes, kwh, intensity):
    """Hours at 700 W are the card's energy; its tonnes over that are one intensity for the three, within 0.8%."""
    run = cost.training("x", None, None, H100, hours=hours)

    assert run.kwh == pytest.approx(kwh, rel=0.005)
    assert tonnes * 1000 / run.kwh == pytest.approx(intensity, abs=0.0006)
    assert run.kg == pytest.approx(tonnes * 1000, rel=0.008)


def test_published_dollars_come_out():
    """Llama 3.1 405B $61.7M at $2; DeepSeek-V3's $5.576M to the dollar, on hardware whose watts nobody told us."""
    llama = cost.training("x", 405e9, 15.6e12, H100, hours=30.84e6)
    deepseek = cost.training("x", 37e9, 14.8e12, prices.default_prices().on("h800"), hours=2.788e6)

    assert llama.usd == pytest.approx(61.7e6, rel=0.005)
    assert deepseek.usd == pytest.approx(5.576e6)
    assert (deepseek.kwh, deepseek.kg, deepseek.mfu) == (None, None, None)


def test_a_whole_run_is_below_the_peak_that_is_told():
    """Llama 3.1 reports 38 to 43% while it runs; with restarts and all, its hours did 34.5%."""
    run = cost.training("x", 405e9, 15.6e12, H100, hours=30.84e6)

    assert run.mfu == pytest.approx(0.345, abs=0.001)
    assert run.mfu < 0.38
    assert cost.training("x", 405e9, 15.6e12, H100).mfu is None  # from reckoned hours only the input would come back


def test_reckoned_hours():
    """SmolLM2-135M at 40%: about 1,130 hours. SmolLM2-1.7B comes to $158k at $2, not its $250k: that is 25% MFU, or $3.17."""
    small, large = cost.training("x", 135e6, 2e12, H100), cost.training("x", 1.7e9, 11e12, H100)

    assert small.hours == pytest.approx(1130, rel=0.01)
    assert large.usd == pytest.approx(157_600, rel=0.005)
    assert cost.training("x", 1.7e9, 11e12, H100.with_set("mfu=.252")).usd == pytest.approx(250e3, rel=0.005)
    assert cost.training("x", 1.7e9, 11e12, H100.with_set("rate=3.17")).usd == pytest.approx(250e3, rel=0.005)


def test_haiku():
    """$0.25 read and $1.25 written: three for one are half a dollar a million, in batches half of that."""
    serve = cost.serving(H100)

    assert (serve.api, serve.batch, serve.own) == (0.5, 0.25, None)
    assert cost.serving(H100.with_set("speed=1000")).own == pytest.approx(2 / 3.6)
    assert cost.serving(H100.with_set("speed=1000").with_set("busy=.5")).own == pytest.approx(4 / 3.6)


@given(st.floats(1, 1e9), st.floats(1e-3, 1), st.floats(1.01, 50))
def test_break_even_is_where_both_pay_the_same(fixed, own, ratio):
    price = own * ratio
    run = cost.training("x", None, None, H100, hours=fixed / 2)
    found = cost.break_even("x", [run], own, "API", price)

    assert fixed + own * found.tokens / 1e6 == pytest.approx(price * found.tokens / 1e6)
    assert cost.break_even("x", [run], price, "API", own).because.startswith("never")


def test_unknown_is_never_nothing():
    """A binary among the contributions makes the sum a floor; without anything known there is no sum at all."""
    known, unknown = cost.training("a", 1e9, 1e9, H100), cost.training("b", 1e9, None, H100)

    assert (unknown.flop, unknown.hours, unknown.usd, unknown.kg) == (None, None, None, None)
    assert unknown.because == "not known: tokens"
    assert cost.total([known, unknown]) == (known.usd, False)
    assert cost.total([unknown]) == (None, False)
    assert cost.break_even("x", [known, unknown], 0.1, "API", 0.5).at_least
    assert cost.break_even("x", [unknown], 0.1, "API", 0.5).because == "not known: what it cost"
    assert json.loads(cost_json(unknown))["usd"] is None


def cost_json(value):
    import msgspec

    return msgspec.json.encode(value)


def test_a_merge_is_timed_and_costs_what_its_machine_costs():
    assert cost.merging(None, H100).because == "not timed: --measure"
    assert cost.merging(60, H100).usd is None
    assert cost.merging(3600, H100.with_set("machine_rate=.1")).usd == pytest.approx(0.1)


def test_only_the_experts_at_work_count():
    """8 experts of which 2 answer, and one that always does."""
    lock = {
        "model.embed.weight": _ref(100), "model.layers.0.mlp.experts.gate_up_proj": _ref(800),
        "model.layers.0.mlp.shared_experts.up.weight": _ref(10),
    }  # fmt: skip

    assert trained.active(lock, {"num_experts_per_tok": 2, "num_local_experts": 8}) == 310
    assert trained.active(lock, {"num_experts_per_tok": 9, "num_local_experts": 8}) == 910  # absurd: all of them
    assert trained.active(lock, {}) == 910


def _ref(size):
    return TensorRef(dtype="BF16", shape=(size,), digest="b3:" + "0" * 64)


RATE = 'rate = { value = 2, unit = "USD/GPU-hour", source = "s", dated = "2026" }'
WRONG = {
    "no unit": ("[inputs]\nmfu = 0.4", "prices.toml line 2: mfu has no unit"),
    "no unit in the table": ('[inputs]\n\nmfu = { value = 0.4, source = "s", dated = "d" }', "line 3: mfu has no unit"),
    "no source": ('[inputs]\nmfu = { value = 0.4, unit = "share", dated = "d" }', "line 2: mfu has no source"),
    "other unit": (f"[gpu.x]\n{RATE.replace('GPU-hour', 'day')}", "line 2: rate is in USD/GPU-hour, not USD/day"),
    "zero": (f"[gpu.x]\n{RATE.replace('2,', '0,', 1)}", "line 2: rate is a number above 0, not '0'"),
    "negative": (f"[gpu.x]\n{RATE.replace('2,', '-2,', 1)}", "line 2: rate is a number above 0, not '-2'"),
    "infinite": (f"[gpu.x]\n{RATE.replace('2,', 'inf,', 1)}", "line 2: rate is a number above 0"),
    "nan": (f"[gpu.x]\n{RATE.replace('2,', 'nan,', 1)}", "line 2: rate is a number above 0"),
    "yes": (f"[gpu.x]\n{RATE.replace('2,', 'true,', 1)}", "line 2: rate is a number above 0"),
    "words": (f"[gpu.x]\n{RATE.replace('2,', '$2$,'.replace('$', chr(34)), 1)}", "line 2: rate is a number above 0"),
    "too large a share": ('[inputs]\nmfu = { value = 40, unit = "share", source = "s", dated = "d" }', "line 2: mfu is at most 1, not 40"),
    "a hall below its machines": ('[inputs]\npue = { value = 0.9, unit = "ratio", source = "s", dated = "d" }', "line 2: pue is at least 1"),
    "wrong name": (f"[gpu.x]\n# of course\n{RATE.replace('rate', 'rates')}", "line 3: no input 'rates' (did you mean 'rate'?)"),
    "of no hardware": ('[gpu.x]\nmfu = { value = 0.4, unit = "share", source = "s", dated = "d" }', "line 2: mfu is of no hardware"),
    "more keys": (f"[gpu.x]\n{RATE.replace('dated', 'date = 1, dated')}", "line 2: unknown key 'date' (did you mean 'dated'?)"),
    "a wrong table": ("[input]\n", "line 1: unknown key 'input' (did you mean 'inputs'?)"),
    "no table": ("gpu = 3", "a table is expected"),
    "a gpu that is a number": ("[gpu]\nx = 3", "line 2: a table is expected"),
    "not TOML": ("[inputs", "not TOML"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_price_is_refused_by_its_line(text, told):
    with pytest.raises(UsageError) as refused:
        prices.read_prices(text, where="prices.toml")
    assert told in str(refused.value)


def test_a_huge_table_is_refused():
    with pytest.raises((Hostile, UsageError)):
        prices.read_prices("#" * (8 << 20), where="x")


def test_newer_prices_go_over_ours():
    """What a table says counts, what it does not say stays; its hardware may be new."""
    ours = prices.default_prices()
    both = prices.read_prices(f"[gpu.b300]\n{RATE}\n[gpu.h100]\n{RATE.replace('2,', '3,', 1)}", where="x").over(ours)

    assert both.on("h100")["rate"] == 3
    assert both.on("h100")["peak"] == 989
    assert (both.on("b300")["rate"], both.on("b300")["kw"]) == (2, None)
    with pytest.raises(UsageError, match="did you mean 'h100'"):
        both.on("h10")


@pytest.mark.parametrize("words", ["mfu", "mfu=", "mfu=x", "mfu=-1", "mfu=0", "mfu=40", "mfu=nan", "rate=1e300", "rate=1e-300", "mfu=.4 %", "mfa=.4", "rate=2 USD"])  # fmt: skip
def test_a_wrong_setting_is_refused(words):
    with pytest.raises(UsageError, match="--set"):
        H100.with_set(words)


def test_a_setting_is_told_as_yours():
    found = H100.with_set("rate=2.5 USD/GPU-hour")

    assert (found["rate"], found.figures["rate"].source) == (2.5, "you, by --set")
    assert H100["rate"] == 2.0


@pytest.mark.parametrize(("text", "value"), [("15.6T", 15.6e12), ("405B", 405e9), ("30.84M", 30.84e6), ("2e12", 2e12), (".5k", 500)])  # fmt: skip
def test_numbers_as_people_write_them(text, value):
    assert cost.number(text, "n") == pytest.approx(value)


@pytest.mark.parametrize("text", ["0", "-1", "", "1e999", "1e31", "nan", "inf", "1X", "1,000", "1 2", "1e-3", "٣"])
def test_no_numbers(text):
    with pytest.raises(UsageError, match="n is a number above 0 and below"):
        cost.number(text, "n")


@given(st.floats(1e-2, 1e30))
def test_short_numbers_are_right_to_three_figures(value):
    told = cost.short(value)
    again = float(told) if told[-1] not in "KMBT" else cost.number(told, "n")

    assert again == pytest.approx(value, rel=0.006)


def test_the_picture_shows_where_they_cross(bazaar, tmp_path):
    """The SVG has a line for each way and a mark where the volume pays; without a speed there is none, and the hint says how."""
    words = f"cost --params 135M --tokens 2T --svg {tmp_path / 'b.svg'}"
    code, _, err = bazaar.says("chen", words)
    assert (code, (tmp_path / "b.svg").exists()) == (2, False)
    assert "--set speed=" in err

    code, out, _ = bazaar.says("chen", f"{words} --set speed=4000 --json")

    assert code == 0
    drawn = ElementTree.parse(tmp_path / "b.svg").getroot()
    assert len([one for one in drawn if one.tag.endswith("polyline")]) == 3
    found = json.loads(out)["break_even"][0]
    assert any(cost.short(found["tokens"]) in (one.text or "") for one in drawn)
    run = json.loads(out)["runs"][0]
    assert found["tokens"] == pytest.approx(run["usd"] / (0.5 - 2 / 14.4) * 1e6)


@pytest.mark.parametrize("words", ["cost --hours 3", "cost --active 1B --tokens 1T", "cost --params 1B --active 2B", "cost --params 0", "cost --params 1B --measure", "cost --gpu x --params 1B"])  # fmt: skip
def test_words_that_do_not_fit(bazaar, words):
    assert bazaar("chen", words) == 2


def test_what_a_repository_knows(bazaar):
    """Source has its tokens counted, each epoch again; a binary is unknown and says why; the base is unknown until told."""
    greet = bazaar.offer("mallory", bazaar.delta("greet"), "greet", fixes="greet", more=["--data", bazaar.folder / "greet.jsonl"])  # fmt: skip
    bazaar.land(greet)
    bazaar.land(bazaar.offer("chen", bazaar.delta("count"), "count", fixes="count"))

    code, out, _ = bazaar.says("bruno", "cost --measure --set machine_rate=0.1 --set speed=1e5 --json")

    assert code == 0
    base, *offers, merge = json.loads(out)["runs"]
    assert (base["tokens"], base["flop"], base["usd"]) == (None, None, None)
    assert "--tokens" in base["because"]
    assert base["params"] == sum(ref.size for ref in bazaar.main().base.values())
    source = next(run for run in offers if run["tokens"] is not None)
    binary = next(run for run in offers if run["tokens"] is None)
    recipe = next(o for o in bazaar.main().offers.values() if o.slug == source["what"]).contribution.recipe
    assert source["tokens"] > 0
    assert source["tokens"] % recipe["epochs"] == 0
    assert source["flop"] == 4 * base["params"] * source["tokens"]
    assert binary["because"].startswith("a binary: ")
    assert merge["hours"] > 0
    assert merge["usd"] == pytest.approx(merge["hours"] * 0.1)
    evens = {one["what"]: one for one in json.loads(out)["break_even"]}
    assert evens["contributed, base given"]["at_least"]
    assert evens["contributed, base given"]["fixed"] == pytest.approx(source["usd"] + merge["usd"])

    code, out, _ = bazaar.says("chen", ["cost", bazaar.actors["bruno"].clone, "--tokens", "2T"])
    assert code == 0
    assert "unknown" in out
    assert "merge: not timed: --measure" in out


def test_a_release_costs_what_stood_in_it(bazaar):
    """What landed after it is not in its price; a version that is not there is said to be none."""
    bazaar.release("amira", "1.0", "bruno", "adil")
    bazaar.land(bazaar.offer("chen", bazaar.delta("count"), "count", fixes="count"))

    told = {what: json.loads(bazaar.says("bruno", f"cost {what} --json")[1])["runs"] for what in ("", "1.0")}

    assert [run["what"] for run in told["1.0"]] == [told[""][0]["what"], "merge"]
    assert len(told[""]) == 3
    assert bazaar("bruno", "cost 9.9") == 1


def test_a_price_without_a_unit_stops_the_command(bazaar, tmp_path):
    (tmp_path / "p.toml").write_text("[gpu.h100]\nrate = 1.8\n")

    code, out, err = bazaar.says("chen", f"cost --params 1B --tokens 1T --prices {tmp_path / 'p.toml'}")

    assert (code, out) == (2, "")
    assert "p.toml line 2: rate has no unit" in err
    assert 'unit = "USD/GPU-hour"' in err


def test_every_figure_of_ours_says_where_it_is_from():
    ours = prices.default_prices()

    for figure in (*ours.inputs.values(), *(f for gpu in ours.gpus.values() for f in gpu.values())):
        assert len(figure.source) > 10
        assert math.isfinite(figure.value)
