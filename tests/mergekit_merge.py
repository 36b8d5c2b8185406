"""What the real mergekit makes of each configuration on stdin (a JSON object, name -> text): run by the python of
SOUQ_MERGEKIT in a folder that holds the models. Writes a folder beside each name; says on stdout which it refused."""

import json
import sys

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def merged(name, text):
    options = MergeOptions(
        lora_merge_cache=f"{name}.cache", lora_merge_dtype="float32", quiet=True, random_seed=0, write_model_card=False
    )
    LoaderCache().loaders.clear()
    *stages, last = yaml.safe_load_all(text)
    try:
        for stage in stages:  # as its multimerge does: each into a folder of its name, which the next ones read
            folder = stage.pop("name")
            run_merge(MergeConfiguration.model_validate(stage), folder, options)
        run_merge(MergeConfiguration.model_validate(last), name, options)
    except Exception as error:  # whatever mergekit raises is its refusal
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    torch.manual_seed(0)
    json.dump({name: merged(name, text) for name, text in json.load(sys.stdin).items()}, sys.stdout)
