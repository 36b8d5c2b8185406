"""What a fine-tune's files say otherwise than its base's: what changes the network, what changes its conduct, the rest.

A fine-tune is more than tensors. Its config.json says how they are computed with (rope, windows, caps, heads), its
other files how it is talked to and when it stops; a delta carries none of them. Trainers also write much that means
nothing, so settings are compared by what they do: defaults written out, spelled as one release of transformers spells
them, tokens by their text, templates by what they write. It compares; what comes of it is the caller's.

    differences = compare(base_files, tune_files)
    differences.network      # ("rope_parameters.rope_theta: 10000.0 in the base, 500000.0 in the tune",)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from souq.model.chat_template import writes_alike
from souq.model.config import chat_templates, settings_in
from souq.model.tokenizer import Words, read_words, token_text

Files = Mapping[str, bytes]
Config = dict[str, Any]
WriteOut = Callable[[Config], tuple[Config, Collection[str]]]
"""A config with every default of its kind written out, and the keys that its kind reads."""

# Keys that change neither what is computed nor how the model is used: marks of who wrote the file, training alone,
# what other heads would need, how it is run.
_NOISE = re.compile(
    r"_(?!sliding_window_pattern|remove_final_layer_norm).*|.*version|.*version_.*|name_or_path|architectures|"
    r"(?:torch_)?dtype|torchscript|tokenizer_class|processor_class|use_cache|cache_implementation|return_dict|"
    r"use_return_dict|output_\w+|gradient_checkpointing\w*|.*dropout\w*|.*_pdrop|layerdrop|.*_aux_loss\w*|aux_loss\w*|"
    r".*z_loss\w*|router_jitter_noise|initializer_\w+|init_\w+|id2label|label2id|num_labels|problem_type|"
    r"finetuning_task|task_specific_params|classifier_\w+|summary_\w+|pretraining_tp|chunk_size_feed_forward|"
    r"unsloth_\w+|tie_encoder_decoder|is_decoder|is_encoder_decoder|cross_attention_hidden_size|add_cross_attention|"
    r"pruned_heads|tf_legacy_loss|use_bfloat16|keys_to_ignore\w*|neftune\w*|model_max_length|padding_side|logits_to_keep|"
    r"num_logits_to_keep|slow_but_exact|transformers\.js_config|quantization_config|attn_implementation|"
    r"experts_implementation"
)
# Ids and the defaults of generation that older configs hold: compared as conduct, by what generates.
_CONDUCT = re.compile(
    r"(?:bos|eos|pad|sep|decoder_start|forced_bos|forced_eos|eod)_token_id|(?:max|min)_(?:length|new_tokens)|do_sample|"
    r"temperature|top_[kph]|typical_p|repetition_penalty|length_penalty|no_repeat_ngram_size|num_beams?|num_beam_groups|"
    r"diversity_penalty|early_stopping|bad_words_ids|suppress_tokens|begin_suppress_tokens|num_return_sequences|"
    r"encoder_no_repeat_ngram_size|remove_invalid_values|exponential_decay_length_penalty|prefix|max_time"
)
_SIZES = {"vocab_size", "padded_vocab_size", "padding_idx"}  # which the tensors show
# Defaults that hold in every kind that has the key, for where transformers is not there to say.
_DEFAULTS: Config = {
    "rope_parameters.rope_type": "default", "rope_parameters.rope_theta": 10000.0,
    "attention_bias": False, "mlp_bias": False, "use_sliding_window": False, "rope_interleave": False,
    "use_parallel_residual": True, "clip_qkv": None, "norm_bias": False, "use_qk_norm": False, "alibi": False,
}  # fmt: skip
_FIXED_ROPE = ("default", "linear", "llama3", "proportional")  # whose angles do not depend on the longest position
_SAMPLING: Config = {
    "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": None, "typical_p": 1.0,
    "repetition_penalty": 1.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "num_beams": 1, "bad_words_ids": None,
    "suppress_tokens": None, "begin_suppress_tokens": None, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "guidance_scale": None, "penalty_alpha": None, "stop_strings": None, "sequence_bias": None,
}  # fmt: skip
_PROBES = (
    "Hello, world!", "  two  blanks\n\n\tand a tab", "naïve café ﬁne №5", "مرحبا بكم 123456", "你好，世界。",
    "a1B2-c_d/e\\f", "They're 12,345.67 €", "🙂👍🏽", "def f(x):\n    return x**2  # ok", "İSTANBUL straße",
)  # fmt: skip


@dataclass
class Differences:
    """Sentences, each with the base's value and the tune's: what changes the network or its conduct, and what is
    worth a word and no more."""

    network: list[str] = field(default_factory=list)
    conduct: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.network or self.conduct)


def compare(base: Files, tune: Files, write_out: WriteOut | None = None, *, heads_alike: bool = False) -> Differences:
    """How a tune's files differ from its base's, as the base is with the tune's additions.

    `write_out` writes defaults out; `heads_alike` says that it computes the same whether its head is tied or not.

    Raises:
        Hostile: a file that is no JSON object, or a template that does not end.
    """
    differences = Differences()
    _compare_configs(differences, settings_in(base), settings_in(tune), write_out, heads_alike)
    words = read_words(base, "the base"), read_words(tune, "the tune")
    _compare_ends(differences, base, tune, words[0], words[1] or words[0])
    generation = "generation_config.json"
    _compare_sampling(differences, settings_in(base, generation), settings_in(tune, generation))
    _compare_templates(differences, base, tune)
    _compare_tokenizers(differences, base, tune, *words)
    return differences


# -- config.json -------------------------------------------------------------------------------------------------------


def _compare_configs(
    differences: Differences, base: Config, tune: Config, write_out: WriteOut | None, alike: bool
) -> None:
    if not tune:
        return
    differing, idle = differing_settings(base, tune, write_out)
    differences.network += [
        _sentence(*setting) for setting in differing if setting[0] != "tie_word_embeddings" or not alike
    ]
    differences.notes += [
        f"{_sentence(*each)}: it changes nothing that is computed, and the base's is kept" for each in idle
    ]


Setting = tuple[str, Any, Any]
"""A dotted key, and its value in either config; None where it is not set."""


def differing_settings(
    base: Config, tune: Config, write_out: WriteOut | None = None
) -> tuple[list[Setting], list[Setting]]:
    """The settings by which two configs compute otherwise; and those that differ and do nothing."""
    kinds = base.get("model_type"), tune.get("model_type")
    differing, idle = [("model_type", *kinds)] if kinds[0] != kinds[1] else [], list[Setting]()
    mine, theirs = _settings(base), _settings(tune)
    if mine == theirs:
        return differing, idle
    read: Collection[str] | None = None
    if write_out is not None:
        try:
            (mine_written, read), (theirs_written, more) = write_out(base), write_out(tune)
        except Exception:  # a config that its own kind does not take is compared as it is written
            read = None
        else:
            mine, theirs, read = _settings(mine_written), _settings(theirs_written), {*read, *more}
    for key in sorted(mine.keys() | theirs.keys()):
        before, after = (settings.get(key, _DEFAULTS.get(key)) for settings in (mine, theirs))
        if before != after:
            nothing = _does_nothing(key, mine, theirs) or (read is not None and key.partition(".")[0] not in read)
            (idle if nothing else differing).append((key, before, after))
    return differing, idle


def _settings(config: Mapping[str, Any]) -> Config:
    """A config as dotted keys, without noise and conduct, in one spelling; what is null is not there."""
    flat = {
        key: value
        for key, value in _flat(_one_rope(config))
        if value is not None and not any(_NOISE.fullmatch(k) or _CONDUCT.fullmatch(k) for k in key.split("."))
    }
    return {key: value for key, value in flat.items() if key not in _SIZES and key != "model_type"}


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value.keys() != {"__float__"}:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", _plain(value)


def _plain(value: Any) -> Any:
    """A number that JSON cannot write, as transformers 5 writes it."""
    if isinstance(value, dict) and value.keys() == {"__float__"}:
        return float(str(value["__float__"]).replace("Infinity", "inf"))
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _one_rope(config: Mapping[str, Any]) -> Config:
    """With rope's settings, which releases before 5 write side by side, inside rope_parameters."""
    made = dict(config)
    rope = made.get("rope_parameters") or made.get("rope_scaling") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):  # by kind of layer
        return made
    rope, theta = dict(rope), made.pop("rope_theta", None)
    made.pop("rope_scaling", None)
    if theta is not None:
        rope.setdefault("rope_theta", theta)
    if (share := made.pop("partial_rotary_factor", None)) is not None:
        rope.setdefault("partial_rotary_factor", share)
    if "type" in rope:
        kind = rope.pop("type")
        rope.setdefault("rope_type", kind)
    if rope:
        rope.setdefault("rope_type", "default")
    made["rope_parameters"] = rope
    return made


def _does_nothing(key: str, mine: Config, theirs: Config) -> bool:
    """A setting that the others make idle."""
    both = mine, theirs
    if key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"):
        kinds = [str(value) for c in both for name, value in c.items() if name.endswith("rope_type")]
        return all(kind in _FIXED_ROPE for kind in kinds)
    if key in ("sliding_window", "max_window_layers", "use_sliding_window", "_sliding_window_pattern"):
        layers = [c.get("layer_types") for c in both]
        return all(isinstance(kinds, list) and not any("sliding" in str(kind) for kind in kinds) for kinds in layers)
    return key == "head_dim" and all(_head_dim(c) == _head_dim(theirs) for c in both)


def _head_dim(config: Config) -> Any:
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if "head_dim" in config or type(width) is not int or type(heads) is not int or not heads:
        return config.get("head_dim")
    return width // heads


def _sentence(key: str, base: Any, tune: Any) -> str:
    return f"{key}: {shown(base)} in the base, {shown(tune)} in the tune"


def shown(value: Any) -> str:
    """A setting's value, in a line."""
    if value is None:
        return "not set"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}..."


# -- conduct -----------------------------------------------------------------------------------------------------------


def _compare_ends(differences: Differences, base: Files, tune: Files, mine: Words | None, theirs: Words | None) -> None:
    """Where each stops, by the tokens' text: a tune that stops elsewhere would go on writing here."""
    before, after = _ends(base, mine), _ends(tune, theirs)
    if new := sorted(after - before):
        differences.conduct.append(f"it ends at {_listed(new)}, and the base at {_listed(sorted(before))}")
    elif after and (lost := sorted(before - after)):
        differences.notes.append(f"it names {_listed(sorted(after))} as its end; the base's {_listed(lost)} are kept")
    for kind in ("bos", "pad"):
        tokens = _special(base, mine, kind), _special(tune, theirs, kind)
        if tokens[1] and tokens[0] != tokens[1]:
            differences.notes.append(
                f"its {kind} token is {tokens[1]}, and the base's is {tokens[0] or 'none'}, which is kept"
            )


def _ends(files: Files, words: Words | None) -> set[str]:
    ids: list[Any] = []
    for name in ("generation_config.json", "config.json"):
        value = settings_in(files, name).get("eos_token_id")
        ids += value if isinstance(value, list) else [value]
    texts = {number: token for token, number in words.ids.items()} if words else {}
    ends = {texts.get(number, f"token {number}") for number in ids if type(number) is int and number >= 0}
    named = token_text(settings_in(files, "tokenizer_config.json").get("eos_token"))
    return ends | ({named} if named and (words is None or named in words.ids) else set())


def _special(files: Files, words: Words | None, kind: str) -> str:
    named = token_text(settings_in(files, "tokenizer_config.json").get(f"{kind}_token"))
    number = settings_in(files, "config.json").get(f"{kind}_token_id")
    texts = {number: token for token, number in words.ids.items()} if words else {}
    return named or (texts.get(number, f"token {number}") if type(number) is int else "")


def _listed(words: Collection[str]) -> str:
    return ", ".join(words) or "nothing"


def _compare_sampling(differences: Differences, base: Config, tune: Config) -> None:
    if not tune:
        return
    for key, default in _SAMPLING.items():
        if tune.get("_from_model_config") and tune.get(key) is None:
            continue  # nobody said how to sample: the file is made of config.json
        before, after = ((default if c.get(key) is None else c[key]) for c in (base, tune))
        if before != after:
            differences.conduct.append(_sentence(f"generation_config.json, {key}", before, after))


def _compare_templates(differences: Differences, base: Files, tune: Files) -> None:
    before, after = _template(base), _template(tune)
    if after is None or before == after:
        return
    if before is None:
        differences.conduct.append("it has a chat template, and the base has none")
    elif not writes_alike(before, after):
        differences.conduct.append("its chat template writes conversations otherwise than the base's")


def _template(files: Files) -> str | None:
    return next(chat_templates(files, {"tokenizer_config.json": settings_in(files, "tokenizer_config.json")}), None)


def _compare_tokenizers(
    differences: Differences, base: Files, tune: Files, mine: Words | None, theirs: Words | None
) -> None:
    """Whether the same text becomes the same tokens, by tokenizing some."""
    if mine is None or theirs is None:
        return
    if moved := [token for token, number in theirs.ids.items() if mine.ids.get(token, number) != number]:
        pairs = [f"{token} {mine.ids[token]} for {theirs.ids[token]}" for token in sorted(moved)[:3]]
        differences.notes.append(f"new tokens get numbers of their own here, whoever adds them: {_listed(pairs)}")
    parts = ("normalizer", "pre_tokenizer", "post_processor")
    if all(mine.document.get(part) == theirs.document.get(part) for part in parts):
        return
    before, after = _tokenized(mine), _tokenized(theirs)
    if other := [text for text, one, two in zip(_PROBES, before, after, strict=False) if one != two]:
        differences.conduct.append(f"its tokenizer makes other tokens of {other[0]!r}")


def _tokenized(words: Words) -> list[list[str]]:
    """Some texts as tokens; none where the library is absent or does not read the file."""
    try:
        from tokenizers import Tokenizer

        made = Tokenizer.from_str(json.dumps({**words.document, "truncation": None, "padding": None}))
        return [list(made.encode(text).tokens) for text in _PROBES]
    except Exception:  # the library's own kinds are many, and what it does not read nobody talks to
        return []
