"""What reading a mergekit file promises: the plan mergekit itself would make, and a plain word where it is off."""

from __future__ import annotations

import json
import math
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from souq.errors import Hostile, SouqError, UsageError
from souq.merge.mergekit import config as module
from souq.merge.mergekit import plan as names
from souq.merge.mergekit.config import KNOWN, ModelRef, Token, Tokenizer, parse_config
from souq.merge.mergekit.plan import plan

PARTS = ["input_layernorm.weight", "self_attn.q_proj.weight", "mlp.up_proj.weight"]


def llama(layers, *, head=True, width=4, vocabulary=16):
    """The names and shapes of a small llama, sorted as files sort them."""
    shapes = {f"model.layers.{i}.{part}": ("BF16", (width, width)) for i in range(layers) for part in PARTS}
    shapes |= {"model.embed_tokens.weight": ("BF16", (vocabulary, width)), "model.norm.weight": ("BF16", (width,))}
    if head:
        shapes["lm_head.weight"] = ("BF16", (vocabulary, width))
    return dict(sorted(shapes.items()))


def planned(text, models=None, layers=3):
    [config] = parse_config(text)
    shapes = {str(model): llama(layers) for model in config.models} | (models or {})
    depth = {name: 1 + max(int(n.split(".")[2]) for n in told if ".layers." in n) for name, told in shapes.items()}
    return plan(config, lambda model: shapes[str(model)], lambda model: depth[str(model)])


def outputs(made):
    return {output.name: output for output in made.outputs}


def refused(text, **more):
    with pytest.raises(UsageError) as error:
        planned(text, **more)
    return str(error.value)


# --- what a plan holds


def test_embeddings_come_from_the_first_slice_and_the_head_from_the_last():
    """Slices renumber the layers; what stands before them is the first slice's, what stands after is the last's."""
    made = planned("""
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [1, 3]}]
""")
    told = {output.name: (str(output.inputs[0].model), output.inputs[0].tensor) for output in made.outputs}

    assert next(iter(told)) == "model.embed_tokens.weight"
    assert told["model.embed_tokens.weight"] == ("a", "model.embed_tokens.weight")
    assert told["model.layers.2.mlp.up_proj.weight"] == ("b", "model.layers.1.mlp.up_proj.weight")
    assert told["lm_head.weight"] == ("b", "lm_head.weight")
    assert made.layers == 4
    assert made.models == (ModelRef("a"), ModelRef("b"))


def test_a_base_is_apart_for_methods_that_know_one_and_an_input_for_those_that_do_not():
    """ties is given its base beside the inputs, listed or not; linear averages it in like any other."""
    ties = "{merge_method: ties, base_model: b, parameters: {weight: 1}, models: [{model: a}%s]}"
    for listed in ("", ", {model: b}"):
        output = planned(ties % listed).outputs[0]
        assert [str(item.model) for item in output.inputs] == ["a"]
        assert (str(output.base.model), output.base.parameters) == ("b", {})
        assert output.inputs[0].parameters == {"weight": 1.0, "density": 1.0}

    linear = planned("{merge_method: linear, base_model: b, parameters: {weight: 1}, models: [{model: a}]}").outputs[0]
    assert [str(item.model) for item in linear.inputs] == ["a", "b"]
    assert linear.base is None


def test_a_head_tied_to_its_embedding_is_read_from_it():
    """A model without lm_head answers with its embedding, as mergekit reads tied names."""
    text = "{merge_method: linear, parameters: {weight: 1}, models: [{model: a}, {model: b}]}"
    made = outputs(planned(text, {"b": llama(3, head=False)}))

    assert [item.tensor for item in made["lm_head.weight"].inputs] == ["lm_head.weight", "model.embed_tokens.weight"]
    assert "lm_head.weight" not in outputs(planned(text, {name: llama(3, head=False) for name in "ab"}))


@pytest.mark.parametrize(
    ("method", "wanted"), [("slerp", ["passthrough"]), ("linear", ["linear"]), ("model_stock", [])]
)
def test_an_optional_tensor_only_one_model_has(method, wanted):
    """Where the head of a model is nowhere, each method does what mergekit lets it: copy, merge the rest, or leave."""
    headless = {"tok.weight" if "embed" in n else n: told for n, told in llama(3, head=False).items()}
    with_head = headless | {"lm_head.weight": ("BF16", (16, 4))}
    models = {"a": with_head, "b": headless, "c": headless}
    others = ", {model: c}" if method == "model_stock" else ""
    base = "" if method == "linear" else "base_model: b, "
    parameters = {"slerp": "{t: 0.5}", "linear": "{weight: 1}", "model_stock": "{}"}[method]
    text = f"{{merge_method: {method}, {base}parameters: {parameters}, models: [{{model: a}}, {{model: b}}{others}]}}"

    assert [output.method for output in planned(text, models).outputs if output.name == "lm_head.weight"] == wanted


def test_the_base_alone_is_copied_by_model_stock():
    """When only the base has the head, model_stock keeps the base's."""
    headless = {"tok.weight" if "embed" in n else n: told for n, told in llama(3, head=False).items()}
    models = {"a": headless | {"lm_head.weight": ("BF16", (16, 4))}, "b": headless, "c": headless}
    text = "{merge_method: model_stock, base_model: a, models: [{model: b}, {model: c}]}"
    head = outputs(planned(text, models))["lm_head.weight"]

    assert (head.method, [str(item.model) for item in head.inputs]) == ("passthrough", ["a"])


def test_vocabularies_may_differ_and_nothing_else():
    """Aligning tokens is somebody else's work; any other difference in shape is named."""
    text = "{merge_method: linear, parameters: {weight: 1}, models: [{model: a}, {model: b}]}"
    planned(text, {"b": llama(3, vocabulary=20)})

    assert "b and (16, 4) in a" in refused(text, models={"b": llama(3, width=5)})


def test_what_a_plan_carries():
    """dtype, tokenizer, template and the parameters that were set in vain are carried as they were asked."""
    made = planned("""
merge_method: linear
models: [{model: "a@main+l@v2", parameters: {weight: "1e-1", density: 0.5}}]
modules:
parameters: {int8_mask: true}
dtype: torch.float32
out_dtype: bfloat16
chat_template: chatml
tokenizer:
  source: base
  pad_to_multiple_of: 8
  tokens:
    <a>: {source: {kind: zero}}
    <b>: {source: {kind: model_token, model: x, token_id: 3}, force: true}
    <c>: {source: org/x}
    <d>: {source: {kind: model_token, model: x, token: "</s>"}}
    <e>: {source: {model: {path: m, revision: r}}}
""")
    x = ModelRef("x")
    tokens = {"<a>": Token("zero"), "<b>": Token(x, 3, True), "<c>": Token(ModelRef("org/x"))}
    tokens |= {"<d>": Token(x, "</s>"), "<e>": Token(ModelRef("m", "r"))}

    assert (made.dtype, made.out_dtype, made.chat_template) == ("float32", "bfloat16", "chatml")
    assert made.tokenizer == Tokenizer("base", tokens, 8)
    assert made.unused == ("density", "int8_mask")
    assert made.models == (ModelRef("a", "main", ModelRef("l", "v2")),)
    assert str(made.models[0]) == "a@main+l@v2"
    assert made.outputs[0].inputs[0].parameters == {"weight": 0.1}


def test_what_is_set_in_vain_is_said():
    """A parameter that changes no number is named: a mask's dtype, a density where nothing is left out."""
    said = "base_model: b, models: [{model: a}], parameters: {weight: 1, density: 0.5, int8_mask: true, rescale: true}"

    assert planned(f"{{merge_method: ties, {said}}}").unused == ("int8_mask",)
    assert planned(f"{{merge_method: task_arithmetic, {said}}}").unused == ("density", "int8_mask", "rescale")


def test_the_two_spellings_of_a_tokenizer_are_one():
    """tokenizer_source is what tokenizer was called before."""
    old, new = (
        planned(f"{{merge_method: passthrough, models: [{{model: a}}], {said}}}").tokenizer
        for said in ("tokenizer_source: union", "tokenizer: {}")
    )
    assert old == new == Tokenizer("union")


def test_one_module_is_read_as_if_it_stood_at_the_top():
    """Its parameters stand between a slice's and the file's."""
    made = planned("""
merge_method: linear
modules: {default: {models: [{model: a}], parameters: {weight: 2}}}
parameters: {weight: 3, normalize: false}
""")
    assert made.outputs[0].inputs[0].parameters == {"weight": 2.0}
    assert made.outputs[0].parameters == {"normalize": False}


def test_stages_come_after_what_they_use():
    """A document may name another; the one that is named comes first."""
    final = "merge_method: passthrough\nmodels: [{model: half}]"
    half = "name: half\nmerge_method: passthrough\nmodels: [{model: a}]"

    assert [config.name for config in parse_config(f"{final}\n---\n{half}\n")] == ["half", None]
    tokens = "merge_method: passthrough\nmodels: [{model: b}]\ntokenizer_source: half"
    assert [config.name for config in parse_config(f"{tokens}\n---\n{half}\n")] == ["half", None]
    [alone] = parse_config("{name: a, merge_method: passthrough, models: [{model: a}]}")
    assert alone.name == "a"


# --- laws of resolution

numbers = st.floats(-1e6, 1e6)


def weight_at(value, layers=5):
    text = yaml.safe_dump({"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": value}}]})
    made = outputs(planned(text, layers=layers))
    return [made[f"model.layers.{i}.mlp.up_proj.weight"].inputs[0].parameters["weight"] for i in range(layers)]


@given(st.lists(numbers, min_size=1, max_size=6), st.integers(2, 9))
def test_a_gradient_runs_from_its_first_number_to_its_last(gradient, layers):
    """Its ends are the first and the last layer's values, and nothing between leaves its range."""
    found = weight_at(gradient, layers)

    assert (found[0], found[-1]) == (gradient[0], gradient[-1])
    assert all(min(gradient) - 1e-6 <= value <= max(gradient) + 1e-6 for value in found)


@given(numbers, st.integers(1, 5))
def test_a_gradient_of_one_number_said_often_is_that_number(value, times):
    """A scalar, a list of it and a list of many of it say the same."""
    assert weight_at([value] * times) == pytest.approx(weight_at(value))


@given(st.lists(numbers, min_size=4, max_size=4))
def test_a_gradient_as_long_as_the_layers_gives_each_its_own(gradient):
    """One number per layer is the plain case of interpolation."""
    assert weight_at(gradient, 4) == pytest.approx(gradient, abs=1e-6)


@given(st.permutations(["self_attn", "mlp", "layers.1.", "embed", "*", "nowhere"]))
def test_the_first_filter_that_is_part_of_the_name_decides(filters):
    """Rules are tried in the order they are written; one without a filter is for all."""
    rules = [{"filter": part, "value": i} for i, part in enumerate(filters)]
    text = yaml.safe_dump({"merge_method": "linear", "parameters": {"weight": rules}, "models": [{"model": "a"}]})
    for output in planned(text).outputs:
        wanted = next(i for i, part in enumerate(filters) if part == "*" or part in output.name)
        assert output.inputs[0].parameters == {"weight": float(wanted)}


def test_a_setting_that_is_silent_about_a_tensor_lets_the_wider_one_speak():
    """Filters that fit nothing, and empty lists, fall through: source, slice, module, file, default."""
    text = """
merge_method: ties
base_model: b
slices:
  - sources:
      - {model: a, layer_range: [0, 1], parameters: {weight: [{filter: mlp, value: 1}], density: []}}
      - {model: b, layer_range: [0, 1]}
    parameters: {weight: [{filter: self_attn, value: 2}], density: 0.2}
parameters: {weight: 3, density: 0.3}
"""
    made = outputs(planned(text))
    found = {name.split(".")[-2]: output.inputs[0].parameters for name, output in made.items()}

    assert [found[part]["weight"] for part in ("up_proj", "q_proj", "norm")] == [1.0, 2.0, 3.0]
    assert found["norm"]["density"] == 0.2


def test_truths_step_and_whole_numbers_stay_whole():
    """A list of truths is stepped through; a whole number that lands between two is refused."""
    text = (
        "{merge_method: linear, models: [{model: a, parameters: {weight: 1}}], parameters: {normalize: [yes, 'off']}}"
    )
    made = outputs(planned(text))
    found = [made[f"model.layers.{i}.mlp.up_proj.weight"].parameters["normalize"] for i in range(3)]
    karcher = "{merge_method: karcher, models: [{model: a}], parameters: {max_iter: %s}}"

    assert found == [True, True, False]
    assert outputs(planned(karcher % '"7.0"'))["model.norm.weight"].parameters == {"max_iter": 7, "tol": 1e-5}
    assert planned(karcher % "[1, 3, 5]").outputs[-1].parameters["max_iter"] == 1
    with pytest.raises(UsageError, match="at one of the layers"):
        planned(karcher % "[1, 2]", layers=4)


# --- what is refused

LINEAR = "merge_method: linear, parameters: {weight: 1}"
OF_A = f"{LINEAR}, models: [{{model: a}}]"
WEIGHT = "{merge_method: linear, models: [{model: a, parameters: {weight: %s}}]}"
TWO = "slices: [{sources: [{model: a, layer_range: %s}, {model: b, layer_range: %s}]}]"
WRONG = {
    "{merge_metod: linear, models: [{model: a}]}": "config: unknown key 'merge_metod' (did you mean 'merge_method'?)",
    "{merge_method: lnear, models: [{model: a}]}": "config.merge_method: unknown 'lnear' (did you mean 'linear'?)",
    "{models: [{model: a}]}": "config.merge_method: expected a text, found nothing",
    f"{{{LINEAR}, models: [{{modl: a}}]}}": "config.models[0]: unknown key 'modl' (did you mean 'model'?)",
    f"{{{LINEAR}, models: [{{model: a, layer_range: [0, 1]}}]}}": "models[0]: unknown key 'layer_range'",
    f"{{{LINEAR}, models: [{{model: 3}}]}}": "models[0].model: expected a text, found a whole number",
    f"{{{LINEAR}, models: [{{model: ''}}]}}": "models[0].model: an empty text",
    f"{{{LINEAR}, models: [{{model: a+b+c}}]}}": "names more than one adapter",
    f"{{{LINEAR}, models: [{{model: a@b@c}}]}}": "'a@b@c' is not a model",
    f"{{{LINEAR}, models: [{{model: '@c'}}]}}": "'@c' is not a model",
    f"{{{LINEAR}, models: [{{model: {{modle: a}}}}]}}": "models[0].model: unknown key 'modle' (did you mean 'model'?)",
    f"{{{LINEAR}, models: {{model: a}}}}": "models: expected a list, found a table of keys",
    f"{{{LINEAR}}}": "one of `models` and `slices` is needed",
    f"{{{LINEAR}, models: [{{model: a}}], slices: [{{sources: []}}]}}": "one of `models` and `slices` is needed",
    f"{{{LINEAR}, slices: [{{sources: []}}]}}": "slices[0].sources: no model in it",
    f"{{{LINEAR}, slices: [{{sorces: []}}]}}": "slices[0]: unknown key 'sorces' (did you mean 'sources'?)",
    f"{{{LINEAR}, slices: [{{residual_weight: x}}]}}": "slices[0].sources: expected a list, found nothing",
    f"{{{LINEAR}, slices: [{{sources: [{{model: a}}]}}]}}": "slices[0].sources[0].layer_range: expected a list",
    f"{{{LINEAR}, {TWO % ('[0, 1.5]', '[0, 1]')}}}": "layer_range[1]: expected a whole number, found a number",
    f"{{{LINEAR}, {TWO % ('[0, true]', '[0, 1]')}}}": "layer_range[1]: expected a whole number, found true or false",
    f"{{{LINEAR}, {TWO % ('[2, 1]', '[0, 1]')}}}": "layer_range: not [first, last + 1]",
    f"{{{LINEAR}, {TWO % ('[0, 1, 2]', '[0, 1]')}}}": "layer_range: not [first, last + 1]",
    f"{{{LINEAR}, {TWO % ('[0, 1]', '[0, 2]')}}}": "sources of one slice have 1 and 2 layers",
    f"{{{LINEAR}, {TWO % ('[0, 9]', '[0, 9]')}}}": "a has 3 layers, not 9",
    f"{{{LINEAR}, modules: {{x: {{}}, y: {{}}}}}}": "config.modules: 2 of them; we merge models of one",
    f"{{{LINEAR}, modules: {{x: {{}}}}, models: [{{model: a}}]}}": "config.modules: they stand beside",
    f"{{{LINEAR}, modules: {{x: {{slice: []}}}}}}": "modules.x: unknown key 'slice' (did you mean 'slices'?)",
    f"{{{LINEAR}, dtype: bfloat, models: [{{model: a}}]}}": "dtype: unknown 'bfloat' (did you mean 'bfloat16'?)",
    f"{{{LINEAR}, chat_template: 3, models: [{{model: a}}]}}": "chat_template: expected a text",
    f"{{{LINEAR}, tokenizer: union, models: [{{model: a}}]}}": "tokenizer: expected a table of keys, found a text",
    f"{{{LINEAR}, tokenizer: {{src: a}}, models: [{{model: a}}]}}": "tokenizer: unknown key 'src'",
    f"{{{OF_A}, tokenizer: {{tokens: {{t: {{source: {{kind: zro}}}}}}}}}}": "unknown 'zro'",
    f"{{{OF_A}, tokenizer: {{tokens: {{t: {{source: {{kind: model_token, model: a}}}}}}}}}}": (
        "tokenizer.tokens.t.source: one of `token` and `token_id`"
    ),
    f"{{{LINEAR}, tokenizer: {{pad_to_multiple_of: -1}}, models: [{{model: a}}]}}": "pad_to_multiple_of: out of bounds",
    f"{{{OF_A}, tokenizer: {{source: base}}, tokenizer_source: base}}": "tokenizer: it stands beside",
    "{merge_method: linear, models: [{model: a, parameters: {wieght: 1}}]}": "'wieght' (did you mean 'weight'?)",
    WEIGHT % "lots": "parameters.weight: not a number",
    WEIGHT % ".nan": "parameters.weight: not a number",
    "{merge_method: linear, models: [{model: a, parameters: {weight: }}]}": "expected a value, found nothing",
    WEIGHT % "[{value: {}}]": "weight[0].value: expected",
    WEIGHT % "[{valu: 1}]": "(did you mean 'value'?)",
    WEIGHT % "[1, {value: 1}]": "weight[0]: expected a table",
    WEIGHT % "{filter: 3, value: 1}": "filter: expected a text",
    f"{{{LINEAR.replace('1', '1, normalize: 2')}, models: [{{model: a}}]}}": "normalize: not true or false",
    "{merge_method: karcher, parameters: {max_iter: 1.5}, models: [{model: a}]}": "max_iter: not a whole number",
    "{merge_method: linear, models: [{model: a}]}": "no `weight` for model.embed_tokens.weight of a",
    "{merge_method: slerp, base_model: a, models: [{model: b}]}": "no `t` for model.embed_tokens.weight",
    "{merge_method: ties, models: [{model: a}]}": "ties needs a base model",
    "{merge_method: ties, base_model: c, slices: [{sources: [{model: a, layer_range: [0, 1]}]}]}": "model c is not",
    "{merge_method: slerp, base_model: a, models: [{model: b}, {model: c}]}": "slerp takes 2 models, not 3",
    "{merge_method: model_stock, base_model: a, models: [{model: b}]}": "model_stock takes 3 or more models, not 2",
    "{merge_method: nuslerp, base_model: a, models: [{model: b}]}": "nuslerp takes 2 models besides the base, not 1",
    f"{{{LINEAR}, models: [{{model: a}}, {{model: a}}]}}": "slices[0]: the same model twice",
    f"{{{LINEAR}, models: [{{model: a, 3: b}}]}}": "config.models[0], a key: expected a text, found a whole number",
    f"{{{LINEAR}, {TWO % ('[0, 1]', '[0, 0x' + 'f' * 9999 + ']')}}}": "layer_range[1]: out of bounds",
    "{merge_method: 0x" + "f" * 9999 + "}": "expected a text, found a whole number",
    WEIGHT % ("0x" + "f" * 9999): "weight: not a number",
    "[]": "config: expected a table of keys, found a list",
    "": "no merge in this file",
    "{": "not YAML: line 1: expected the node content, but found '<stream end>'",
    "a: *\u202eb": "not YAML: line 1: ",
    "!!int ''": "not YAML",
    "!!timestamp x": "not YAML",
    "{merge_method: !!python/object:os.system x}": "not YAML",
    "[" * 5000: "not YAML: nested too deeply",
    " " * (module.MAX_TEXT + 1): "characters of YAML",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_off_is_named(text, message):
    """Every error says where it is, and a wrong word is answered with the nearest right one."""
    said = refused(text)
    assert message in said
    assert "\u202e" not in said


def test_the_line_is_named():
    """Whoever wrote a long file finds the place: of a key that is not known, of a value, of one that is not there."""
    text = "merge_method: linear\nparameters: {weight: 1}\nmodels:\n- model: a\n- %s\n"

    assert refused(text % "modl: b").startswith("line 5: config.models[1]: unknown key 'modl'")
    assert refused(text % "model:\n    3").startswith("line 6: config.models[1].model: expected a text")
    assert refused(text % "{}").startswith("line 5: config.models[1].model: expected a text, found nothing")
    assert refused("models: [\n{model: a}").startswith("not YAML: line 2: ")


def test_aliases_that_multiply_are_refused_before_they_are_followed():
    """A page of YAML that stands for a terabyte costs no more than a page; so does one that copies with `<<`."""
    laughs = "\n".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]" for i in range(1, 12))
    merged = "\n".join(f"k{i}: &k{i} {{<<: [{', '.join([f'*k{i - 1}'] * 9)}]}}" for i in range(1, 12))
    loop = "&a [*a]"

    for bomb in (f"k0: &k0 x\n{laughs}", f"k0: &k0 {{x: y}}\n{merged}", loop):
        assert "once aliases are followed" in refused(bomb)
    shared = "{merge_method: linear, models: [{model: a, parameters: &p {weight: 1}}, {model: b, parameters: *p}]}"
    assert len(planned(shared).outputs[0].inputs) == 2


def test_bounds():
    """A thousand models, ten thousand slices, two hundred thousand layers read: no more."""
    many = ", ".join(f"{{model: m{i}}}" for i in range(module.MAX_MODELS + 1))
    slices = ", ".join(["{}"] * (module.MAX_SLICES + 1))
    part = "{sources: [{model: a, layer_range: [0, 1000]}]}"

    assert "more than 1000 models" in refused(f"{{{LINEAR}, models: [{many}]}}")
    assert "slices: more than 10000" in refused(f"{{{LINEAR}, slices: [{slices}]}}")
    assert "layers to read" in refused(f"{{{LINEAR}, slices: [{', '.join([part] * 201)}]}}", layers=1000)


def test_a_text_that_would_steer_the_terminal_is_hostile():
    """Names out of a file are shown on screens."""
    with pytest.raises(Hostile):
        parse_config('{merge_method: linear, models: [{model: "a\\e[2J"}]}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: a, %s}\n---\n{name: a, %s}", "same name"),
        ("{%s}\n---\n{%s}", "two have none"),
        ("{name: a, %s}\n---\n{name: b, merge_method: passthrough, models: [{model: a+c}]}", "a -> b -> a"),
    ],
)
def test_stages_that_cannot_be_ordered(text, message):
    """Names are said once, and no stage waits for itself."""
    stage = "merge_method: passthrough, models: [{model: b}]"
    with pytest.raises(UsageError, match=r"same name|none|wait for each other") as error:
        parse_config(text.replace("%s", stage))
    assert message in str(error.value) or "b -> a -> b" in str(error.value)


def test_a_model_that_lacks_a_tensor_is_named():
    """A model of another architecture is not merged in part."""
    text = f"{{{LINEAR}, models: [{{model: a}}, {{model: b}}]}}"
    short = {n: told for n, told in llama(3).items() if n != "model.layers.1.mlp.up_proj.weight"}

    bias = llama(3) | {"lm_head.bias": ("BF16", (16,))}
    assert "b has no tensor lm_head.bias" in refused(text, models={"a": bias})
    with pytest.raises(UsageError, match="a has no tensor of layer 3"):
        plan(parse_config(text)[0], lambda model: llama(3), lambda model: 4)
    assert "b has no tensor model.layers.1.mlp.up_proj.weight" in refused(text, models={"b": short})
    assert "a has no tensor model.layers.1.mlp.up_proj.weight" in refused(text, models={"a": short})


def test_towers_that_see_are_merged_whole():
    """Gradients and slices go over the layers of text; an encoder with a decoder has no one stack, and takes neither."""
    text = f"{{{LINEAR.replace('weight: 1', 'weight: [0, 1]')}, models: [{{model: a}}, {{model: b}}]}}"
    seeing = llama(3) | {f"vision.blocks.{i}.up.weight": ("F32", (2,)) for i in range(3)}
    both = {name.replace("model.", part): told for part in ("encoder.", "decoder.") for name, told in llama(3).items()}

    made = planned(text, models={"a": seeing, "b": seeing})

    weights = {name: output.inputs[0].parameters["weight"] for name, output in outputs(made).items()}
    assert [weights[f"model.layers.{i}.mlp.up_proj.weight"] for i in range(3)] == [0.0, 0.5, 1.0]
    assert [weights[f"vision.blocks.{i}.up.weight"] for i in range(3)] == [0.0, 0.0, 0.0]
    with pytest.raises(UsageError, match="has not one stack of them"):
        plan(parse_config(text)[0], lambda model: both, lambda model: 3)
    one = text.replace("[0, 1]", "1")
    assert {output.name for output in plan(parse_config(one)[0], lambda model: both, lambda model: 3).outputs} == {
        *both
    }


@given(st.text(alphabet="{}[]:,&*!<->|'\"\n a1.", max_size=80))
def test_no_text_breaks_the_reader(text):
    """Whatever is written is read or refused in our own words."""
    with suppress(SouqError):
        parse_config(text)


# --- mergekit itself

MODELS = [("a", 4, False), ("b", 4, False), ("c", 4, True), ("big", 6, False)]
CONFIGS = [
    f"{{{LINEAR}, models: [{{model: a}}, {{model: b, parameters: {{weight: [0, 0.3, 1]}}}}]}}",
    f"{{{LINEAR}, base_model: c, models: [{{model: a}}, {{model: b}}]}}",
    "{merge_method: linear, models: [{model: a, parameters: {weight: '1e-1', normalize: no}}, {model: c, parameters:"
    " {weight: {value: true}}}], parameters: {normalize: ['on', false, 1], weight: 7}}",
    """
merge_method: slerp
base_model: a
slices: [{sources: [{model: a, layer_range: [0, 4]}, {model: b, layer_range: [0, 4]}]}]
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5
dtype: bfloat16
""",
    """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources: [{model: big, layer_range: [2, 6], parameters: {scale: [{filter: down_proj, value: 0.1}, {value: 1}]}}]
  - sources: [{model: a, layer_range: [3, 4]}]
    parameters: {scale: [0.5, 0.7]}
""",
    """
merge_method: ties
base_model: a
models:
  - model: a
  - {model: b, parameters: {weight: [{filter: mlp, value: 0.5}, {value: 0}], density: [1, 0.7, 0.1]}}
  - {model: c, parameters: {weight: [{filter: mlp, value: 0.3}, {filter: layers.2., value: 0.9}], density: 0.5}}
parameters: {weight: 0.25, normalize: [true, false], int8_mask: 1, lambda: [1, 0.5]}
""",
    """
merge_method: della_linear
slices:
  - base_model: b
    sources:
      - {model: a, layer_range: [1, 3], parameters: {weight: [1, 2], epsilon: [{filter: layers.1., value: 0.1}]}}
      - {model: b, layer_range: [0, 2]}
      - {model: big, layer_range: [4, 6]}
    parameters: {density: [{filter: q_proj, value: [0.1, 0.9]}], weight: [{filter: "*", value: 0.4}]}
  - base_model: a
    sources: [{model: a, layer_range: [0, 1]}, {model: c, layer_range: [3, 4]}]
    parameters: {density: [], weight: 1, lambda: [{filter: layers.2.mlp, value: 3}]}
parameters: {density: 0.6, epsilon: 0.05}
""",
    "{merge_method: nuslerp, parameters: {weight: 1}, models: [{model: a}, {model: c, parameters: {weight: [0, 9]}}]}",
    "{merge_method: breadcrumbs, base_model: b, modules: {default: {models: [{model: a}], parameters: {weight:"
    " [1, 0.2], gamma: [{filter: norm, value: 0}]}}}, parameters: {weight: 9, gamma: 0.02, density: 0.9}}",
    "{merge_method: karcher, base_model: a, models: [{model: b}, {model: c}], parameters: {max_iter: [2, 5, 8, 11],"
    " tol: '1e-7'}}",
    "{merge_method: multislerp, models: [{model: a}, {model: b}, {model: c}], parameters: {weight: [1, 3, 2, 9, 4]}}",
    "{merge_method: model_stock, base_model: a, models: [{model: b}, {model: c}], parameters: {filter_wise: yes}}",
    "{merge_method: sce, base_model: a, models: [{model: b}], parameters: {select_topk: [0.1, 0.2]}}",
    # The last slice has more sources than the first: mergekit hears only as many after the layers.
    """
merge_method: linear
slices:
  - sources: [{model: a, layer_range: [0, 1]}]
  - sources: [{model: b, layer_range: [0, 1]}, {model: c, layer_range: [1, 2]}]
parameters: {weight: 1}
""",
    # Refused by both.
    "{merge_method: ties, base_model: a, models: [{model: b}]}",
    "{merge_method: slerp, base_model: a, models: [{model: b}, {model: c}], parameters: {t: 1}}",
    "{merge_method: passthrough, base_model: a, models: [{model: b}]}",
    "{merge_method: linear, parameters: {weight: [{filter: mlp, value: 1}]}, models: [{model: a}]}",
    "{merge_method: karcher, models: [{model: a}], parameters: {max_iter: [1, 2]}}",
    "{merge_method: sce, base_model: a, slices: [{sources: [{model: b, layer_range: [0, 1]}]}]}",
]


@pytest.fixture(scope="module")
def mergekit(tmp_path_factory):
    """What the real mergekit says to CONFIGS, and of its methods and architectures."""
    if not (python := os.environ.get("SOUQ_MERGEKIT")):
        pytest.skip("SOUQ_MERGEKIT names no python with mergekit 0.1.5")
    script = Path(__file__).with_name("mergekit_plan.py")
    told = subprocess.run(
        [python, script, json.dumps(MODELS)],
        input=json.dumps(CONFIGS),
        cwd=tmp_path_factory.mktemp("mergekit"),
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(told.stdout)


@pytest.mark.parametrize("i", range(len(CONFIGS)))
def test_mergekit_plans_the_same(mergekit, i):
    """Every tensor, every input and every number of a plan is mergekit's own, to the last bit; so is every refusal."""
    models = {name: {n: ("F32", tuple(s)) for n, s in m["tensors"].items()} for name, m in mergekit["models"].items()}
    theirs = mergekit["plans"][i]
    if "refused" in theirs:
        assert refused(CONFIGS[i], models=models)
        return
    made = planned(CONFIGS[i], models)
    knows = KNOWN[made.method].base != "ignored"

    assert {output.name for output in made.outputs} == set(theirs)
    for output in made.outputs:
        told = theirs[output.name]
        apart = told["base"] if knows else None
        mine = [[str(item.model), item.tensor, item.parameters] for item in output.inputs]
        base = [[str(output.base.model), output.base.tensor, output.base.parameters]] if output.base else []
        assert output.parameters == told["shared"]
        assert mine == [item for item in told["inputs"] if item[0] != apart]
        assert base == [item for item in told["inputs"] if item[0] == apart]


def test_mergekit_has_the_same_methods(mergekit):
    """Parameters, their kinds, scopes and defaults, and what a method asks of its inputs."""
    absent = {
        "error": "merge the rest",
        "passthrough_singleton": "copy the only one",
        "passthrough_base_singleton": "copy the base",
        "base_or_skip": "base or nothing",
    }
    assert KNOWN.keys() | module.NOT_MERGED.keys() == mergekit["methods"].keys()
    for name, contract in KNOWN.items():
        parameters, base, (low, high, others_low, others_high), policy = mergekit["methods"][name]
        mine = {p.name: [p.kind, p.scope.replace("-", "_"), p.required, p.default] for p in contract.parameters}
        assert mine == {k: [v[0].replace("Optional", "float"), *v[1:]] for k, v in parameters.items()}
        assert (contract.base, contract.absent) == (base, absent[policy])
        assert contract.inputs == (low, math.inf if high is None else high)
        assert contract.others == (others_low or 0, math.inf if others_high is None else others_high)


def test_mergekit_puts_the_same_tensors_before_and_after_the_layers(mergekit):
    """Of decoders with one stack of layers, names alone tell which is which, and which index the vocabulary."""
    vocabulary = (names._TOKENS, names._HEAD, names._BIAS)
    told = {name: kinds for name, kinds in mergekit["architectures"].items() if "Causal" in name or "GPT" in name}
    # phi-1 counts its embedding and its head as layers; two of the oldest name theirs like nobody else.
    for name in told.keys() - {"MixFormerSequentialForCausalLM", "PhiForCausalLM"}:
        before, after, inside = told[name]
        assert all(names._BEFORE.search(tensor) for tensor, _, _ in before), name
        assert not any(names._BEFORE.search(tensor) for tensor, _, _ in after), name
        for tensor, axis, _ in [*before, *after]:
            assert any(kind.search(tensor) for kind in vocabulary) == (axis == 0), tensor
        assert all(names._LAYER.fullmatch(tensor.replace("${layer_index}", "3")) for tensor in inside), name


# --- what other programs of mergekit write


def test_what_mergekit_reads_past_is_said():
    """`embed_slerp` and `random_seed` change nothing, here as there, and are not passed over in silence."""
    made = planned(
        "{merge_method: slerp, base_model: a, random_seed: 42, parameters: {t: 0.5, embed_slerp: true},"
        " models: [{model: a}, {model: b}]}"
    )

    assert made.unused == ("embed_slerp",)
    assert ["random_seed" in note for note in made.notes] == [True]


def test_merges_are_named_by_where_mergekit_mega_would_write_them():
    """`out_path` is a name that other merges use; what the last does not use is left out, and said."""
    config = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: %s}, {model: %s}]\nout_path: %s\n"
    documents = [config % ("a", "x", "./aside"), config % ("a", "b", "./one"), config % ("./one", "x", "./two")]

    made = parse_config("---\n".join(documents))

    assert [config.name for config in made] == ["./one", "./two"]
    assert made[-1].notes == ("the merge ./aside is not part of ./two, and is not made",)


@pytest.mark.parametrize(
    ("text", "program", "way"),
    [
        ("{base_model: a, gate_mode: hidden, experts: [{source_model: b, positive_prompts: [x]}]}", "moe", "--expert"),
        ("{genome: {models: [a, b], merge_method: ties}, tasks: []}", "evolve", "merge_method"),
    ],
)
def test_another_program_s_file_is_answered_with_the_way(text, program, way):
    with pytest.raises(UsageError, match=f"mergekit-{program}") as error:
        parse_config(text)

    assert way in error.value.hint
