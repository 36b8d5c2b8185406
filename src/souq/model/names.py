"""What the names of a checkpoint's tensors say: layers, tables of tokens, buffers, and the wrappers trainers leave.

Names are read by their pattern, never by a list of kinds, so that a GPT-2 and a Llama are read alike. It knows names
and opens no file.

    >>> [in_layer(name).groups() for name in ("model.layers.3.mlp.up_proj.weight", "transformer.h.0.ln_1.bias")]
    [('model.layers.', '3', 'mlp.up_proj.weight'), ('transformer.h.', '0', 'ln_1.bias')]
    >>> renamed(["_orig_mod.layers.0.up.weight"], ["model.layers.0.up.weight", "lm_head.weight"]).names
    {'model.layers.0.up.weight': '_orig_mod.layers.0.up.weight'}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from souq.model.places import places

_LAYER = re.compile(r"((?:.*?\.)??(?:layers?|h|blocks?)\.)(\d{1,6})\.(.+)", re.ASCII)
TOKENS = re.compile(r"(?:^|\.)(?:embed_tokens|tok_embeddings|word_embeddings|embeddings|embed_in|embed|wte)\.weight$")
HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output|output_layer)\.weight$")
HEAD_BIAS = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output|output_layer)\.bias$")
# Computed from the configuration, not learned: old files hold them and new ones do not.
_COMPUTED = re.compile(
    r"(?:^|\.)(?:rotary_emb\.\w*inv_freq|rotary_emb\.(?:cos|sin)_cached|rotary_pos_emb\.inv_freq|rope\.freqs"
    r"|(?:attn|attention|self_attention|self_attn)\.masked_bias|position_ids)$"
)
_CAUSAL_MASK = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")  # of GPT-2 and NeoX: (1, 1, n, n)
_SECOND_HEAD = re.compile(r"(?:v_head|value_head|score|classifier|reward_head|regression_head|qa_outputs)\.[\w.]+")
_WRAPPER = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|base_layer"
    r"|modules_to_save\.default)\.|^(?:module\.)+|^base_model\.model\.(?=\w)"
)


def in_layer(name: str) -> re.Match[str] | None:
    """A name inside a stack of layers: what stands before the layer's number, the number, what follows it."""
    return _LAYER.fullmatch(name)


def indexes_tokens(name: str) -> bool:
    """Whether a tensor has a row for every token: an embedding, an output head, its bias."""
    return any(kind.search(name) for kind in (TOKENS, HEAD, HEAD_BIAS))


def is_buffer(name: str, shape: tuple[int, ...] = ()) -> bool:
    """Whether a tensor is computed from the configuration: a rotary table, a causal mask, positions."""
    mask = len(shape) == 4 and shape[:2] == (1, 1) and _CAUSAL_MASK.search(name) is not None
    return mask or _COMPUTED.search(name) is not None


def is_second_head(name: str) -> bool:
    """Whether a tensor is of a head that scores or classifies, which stands beside the one that writes."""
    return _SECOND_HEAD.fullmatch(name) is not None


@dataclass(frozen=True)
class Renamed:
    """A checkpoint's names as another's are written: that spelling -> its own; and what was changed in them."""

    names: dict[str, str]
    changes: tuple[str, ...] = ()


def renamed(theirs: Iterable[str], ours: Collection[str]) -> Renamed:
    """Their names spelled like ours: without a trainer's wrappers, and with the words before a layer that ours have.

    Where two of them would come to one name, they are left as they are.
    """
    bare, words = {name: name for name in theirs}, set[str]()
    while inside := {word for name in bare.values() for word in _WRAPPER.findall(name)}:  # one wraps another
        bare, words = {name: _WRAPPER.sub("", short) for name, short in bare.items()}, words | inside
    changes = [f"`{word}` is taken out of its names" for word in sorted(words)]
    near = places((short for short in bare.values() if short not in ours), ours)
    if near:
        first = min(near)
        changes.append(f"{len(near)} of its names are read as the base spells them: `{first}` as `{near[first]}`")
    spelled = {name: near.get(short, short) for name, short in bare.items()}
    if len(set(spelled.values())) < len(spelled):
        return Renamed({name: name for name in spelled})
    return Renamed({own: name for name, own in spelled.items()}, tuple(changes))
