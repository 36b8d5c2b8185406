"""The peers' side of bench/peers.py, run by a Python that has them: python bench/peers_merge.py TOOL FOLDER OUT SETTINGS.

FOLDER has models/base and models/NAME (Hugging Face folders), people/NAME (PEFT adapters) and models/tokens.json, what
each NAME's rows are as tokens. Writes the tensors that differ from the base's to OUT, a safetensors file, and prints
one line of JSON: the processor's seconds that the merge took, and the process's largest memory.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def mergekit(models, names, settings):
    """Its own run over the folders, as `mergekit-yaml` does it; each model has the same weight and density."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    method, own = settings.pop("method"), {k: settings.pop(k) for k in ("weight", "density") if k in settings}
    entries = [{"model": str(models / name), "parameters": own} for name in names]
    text = {"merge_method": method, "models": entries, "parameters": settings, "dtype": "float32"}
    if method not in ("linear", "karcher"):
        text["base_model"] = str(models / "base")
    with tempfile.TemporaryDirectory() as out:
        options = MergeOptions(quiet=True, random_seed=0, write_model_card=False, copy_tokenizer=False)
        run_merge(MergeConfiguration.model_validate(text), out, options)
        return load_file(Path(out) / "model.safetensors")


def peft(models, names, settings):
    """Its `add_weighted_adapter`, and what it then merges into the model."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(models / "base", dtype=torch.float32)
    first, *others = names
    net = PeftModel.from_pretrained(net, models.parent / "people" / first, adapter_name=first)
    for name in others:
        net.load_adapter(models.parent / "people" / name, adapter_name=name)
    weights = [settings.pop("weight")] * len(names)
    net.add_weighted_adapter(names, weights, "merged", **settings)
    net.set_adapter("merged")
    return net.merge_and_unload().state_dict()


# -- FusionBench ---------------------------------------------------------------------------------------------------------


def regmean(models, names, settings):
    """Its function for any model of linear layers; its trainers are asked for nothing but batches, here rows of tokens."""
    from fusion_bench.method.regmean.regmean import regmean_merging

    rows = tokens(models)
    trainers = [Rows(rows[name]) for name in names]
    return regmean_merging([net_of(models / name) for name in names], trainers, [], [10**9] * len(names), **settings)


class Rows:
    _train_batch_size = 1

    def __init__(self, rows):
        self.rows = rows

    def get_train_dataloader(self):
        return [{"input_ids": row} for row in self.rows]

    def _prepare_inputs(self, inputs):
        return inputs


def regmean_plusplus(models, names, settings):
    """Its algorithm, layer after layer; how a Llama is taken apart, which it leaves to subclasses and has for CLIP only."""
    from fusion_bench.method.regmean_plusplus.clip_regmean_plusplus import (
        RegMeanAlgorithmForCLIPPlusPlus,
        RegMeanAlgorithmPlusPlus,
    )

    class ForLlama(RegMeanAlgorithmForCLIPPlusPlus):
        _config_mapping = RegMeanAlgorithmPlusPlus._config_mapping  # its own is a plain dict, which its base refuses

        def on_regmean_start(self):
            self.turned = self.modelpool.load_pretrained_model().model.rotary_emb

        def merge_embedding_layer(self, models_to_merge_dict):
            return {}  # nobody trained it

        def get_input_for_first_layer(self, model, train_dataset):
            return [model.get_input_embeddings()(row) for row in train_dataset]

        def get_layers(self, model):
            return model.model.layers

        def update_merged_params_dict(self, merged_params_dict, new_merged_params, layer_idx):
            new = {f"model.layers.{layer_idx}.{key}": value for key, value in new_merged_params.items()}
            return merged_params_dict | new

        def layer_batches_forward(self, layer, batches_input):
            return [first(layer(x, position_embeddings=self.places(x), attention_mask=None)) for x in batches_input]

        def places(self, x):
            return self.turned(x, torch.arange(x.shape[1])[None])

    made = ForLlama(
        dataloader_kwargs={},
        num_regmean_examples=10**9,
        exclude_param_names_regex=[],
        weight_transpose=True,
        **settings,
    )
    nets = {name: net_of(models / name) for name in names}
    return made.run(pool(net_of(models / "base"), nets, tokens(models))).state_dict()


def first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


def data_free(models, names, settings):
    """One of its algorithms on the matrices that anybody changed, in networks that have nothing else."""
    from fusion_bench.method.isotropic_merging.iso import ISO_C_Merge, ISO_CTS_Merge
    from fusion_bench.method.opcm.opcm_general import OPCM
    from fusion_bench.method.task_singular_vector.TSVM import TaskSingularVectorMerging
    from fusion_bench.method.wudi.wudi import WUDIMerging

    kinds = {
        "tsvm": TaskSingularVectorMerging, "iso-c": ISO_C_Merge, "iso-cts": ISO_CTS_Merge, "wudi": WUDIMerging,
        "opcm": OPCM,
    }  # fmt: skip
    base = load_file(models / "base" / "model.safetensors")
    tuned = {name: load_file(models / name / "model.safetensors") for name in names}
    changed = [key for key in base if any(not torch.equal(base[key], other[key]) for other in tuned.values())]
    nets = {name: matrices({key: other[key] for key in changed}) for name, other in tuned.items()}
    made = kinds[settings.pop("algorithm")](**settings)
    net = made.run(pool(matrices({key: base[key] for key in changed}), nets))
    return {key.removesuffix(".weight").replace("/", "."): value for key, value in net.state_dict().items()}


def matrices(weights):
    net = torch.nn.ModuleDict()
    for key, value in weights.items():
        net[key.replace(".", "/")] = linear = torch.nn.Linear(value.shape[1], value.shape[0], bias=False)
        linear.weight.data = value
    return net.requires_grad_(False)


def pool(base, nets, rows=None):
    from fusion_bench import BaseModelPool

    class Pool(BaseModelPool):
        def load_train_dataset(self, dataset_name):
            return rows[dataset_name]

    return Pool({"_pretrained_": base, **nets})


def net_of(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)


def tokens(models):
    rows = json.loads((models / "tokens.json").read_text())
    return {name: [torch.tensor([row]) for row in own] for name, own in rows.items()}


TOOLS = {
    "mergekit": mergekit, "peft": peft, "regmean": regmean, "regmean++": regmean_plusplus, "fusion-bench": data_free,
}  # fmt: skip


def main(tool, folder, out, settings):
    torch.manual_seed(0)
    models = Path(folder) / "models"
    names = sorted(path.name for path in models.iterdir() if path.is_dir() and path.name != "base")
    begun = time.process_time()
    made = TOOLS[tool](models, names, json.loads(settings))
    took = time.process_time() - begun
    base = load_file(models / "base" / "model.safetensors")
    made = {key: made[key].detach().float().contiguous() for key in base if key in made}
    save_file({key: value for key, value in made.items() if not torch.equal(value, base[key])}, out)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write("\n" + json.dumps({"seconds": took, "memory": memory}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
