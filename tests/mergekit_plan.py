"""What the real mergekit plans for each file on stdin (a JSON list): run by the python of SOUQ_MERGEKIT, in a scratch
folder, where it first writes the tiny llamas the files name. Answers in JSON on stdout; knows nothing of souq."""

import json
import sys
from pathlib import Path

import torch
import transformers
import yaml
from mergekit.architecture import get_architecture_info
from mergekit.architecture.json_definitions import JSON_ARCHITECTURES
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import _model_out_config
from mergekit.merge_methods import registered_methods
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from safetensors.torch import save_file

SIZES = {"hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}


def llama(name, layers, tied):
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    config = transformers.LlamaConfig(**SIZES, vocab_size=16, num_hidden_layers=layers, tie_word_embeddings=tied)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    weights = {k: v.clone() for k, v in transformers.LlamaForCausalLM(config).state_dict().items()}
    if tied:
        weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors")
    return {"layers": layers, "tensors": {name: list(v.shape) for name, v in sorted(weights.items())}}


def planned(text):
    config, options = MergeConfiguration.model_validate(yaml.safe_load(text)), MergeOptions()
    LoaderCache().setup(options)
    info = get_architecture_info(config, options)
    planner = MergePlanner(config, info, options, _model_out_config(config, info))
    planner._plan()
    return {weight.name: task_of(task) for weight, task in planner._tensors}


def task_of(task):
    loads = task.gather_tensors.arguments().values()
    names = {load.model: load._resolve_name(LoaderCache().get(load.model)) for load in loads}
    inputs = {model: dict(own.items()) for model, own in task.input_parameters.items()}
    return {
        "shared": dict(task.parameters.items()),
        "inputs": [[str(m), names[m], inputs[m]] for m in task.model_order if m in names],
        "base": str(task.base_model) if task.base_model else None,
    }


def answer(text):
    try:
        return planned(text)
    except Exception as error:  # whatever mergekit raises is its refusal
        return {"refused": str(error)}


def method(spec):
    parameters = {
        p.name: [
            getattr(p.value_type, "__name__", "float"),
            p.scope.value,
            p.required,
            None if p.required else p.default,
        ]
        for p in spec.parameters
    }
    asks = spec.contract
    limits = [asks.min_inputs, asks.max_inputs, asks.min_non_base, asks.max_non_base]
    return [parameters, asks.base.value, limits, spec.optional_tensor_policy.value]


def loose(architecture):
    """Names before and after the layers of a model of one module."""
    [module] = architecture.modules.values()
    definition = module.architecture.definition
    told = (
        [(w.name, w.vocabulary_axis, w.optional) for w in some]
        for some in (definition.pre_weights, definition.post_weights)
    )
    return [*told, [w.name for w in definition.layer_templates.weights]]


if __name__ == "__main__":
    torch.manual_seed(0)
    models = {name: llama(name, layers, tied) for name, layers, tied in json.loads(sys.argv[1])}
    told = {
        "models": models,
        "plans": [answer(text) for text in json.load(sys.stdin)],
        "methods": {m.spec.name: method(m.spec) for m in registered_methods()},
        "architectures": {a.architectures[0]: loose(a) for a in JSON_ARCHITECTURES if len(a.modules) == 1},
    }
    json.dump(told, sys.stdout)
