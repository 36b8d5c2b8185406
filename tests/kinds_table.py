"""The table of model kinds that transformers builds, as src/souq/model/kinds.toml holds it.

python -m tests.kinds_table > src/souq/model/kinds.toml
"""

from __future__ import annotations

import sys
import textwrap

HEAD = """\
# Which kinds of model transformers has a class of its own for, by `model_type`, so that no code that comes with a model
# is needed. Made by `python -m tests.kinds_table` and compared with the installed transformers by tests/test_bases.py:
# `souq init` would wait three seconds for transformers to say it.
# causal    those it builds as a causal language model, by its class
# native    the others
# tied      causal ones whose head is the embedding where config.json does not say
# keys      what the configurations of causal ones may hold
"""


def table() -> str:
    """kinds.toml for the transformers that is installed."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    transformers.logging.set_verbosity_error()
    causal, keys, tied = dict(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items())), set[str](), list[str]()
    for kind in causal:
        made = transformers.CONFIG_MAPPING[kind]
        keys |= set(made.__dataclass_fields__) | set(made.attribute_map)
        if getattr(made, "tie_word_embeddings", False):
            tied.append(kind)
    native = sorted(set(CONFIG_MAPPING_NAMES) - set(causal))
    version = ".".join(transformers.__version__.split(".")[:2])
    lists = {"native": native, "tied": tied, "keys": sorted(keys)}
    text = f'{HEAD}\nrelease = "{version}"\n' + "".join(f"\n{name} = {_list(words)}\n" for name, words in lists.items())
    return f"{text}\n[causal]\n" + "".join(f'{kind} = "{made}"\n' for kind, made in causal.items())


def _list(words: list[str]) -> str:
    text = ", ".join(f'"{word}"' for word in words)
    return (
        "[\n" + textwrap.fill(text, 116, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False) + ",\n]"
    )


if __name__ == "__main__":
    sys.stdout.write(table())
