"""A GGUF file's vocabulary as a tokenizer.json, and a tokenizer.json as GGUF's vocabulary.

transformers turns vocabularies into tokenizers; how text is split before byte-pair merges is set here by llama.cpp's
name for it, of which transformers knows a part. Written are byte-level BPE and the BPE that stands for sentencepiece's.

    converted(Path("model.gguf"), metadata)["tokenizer.json"]
    for key, value in vocabulary(files, 32_000): ...
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from souq.errors import Hostile

Read = Callable[[str], Any]  # a value of a file's metadata by its name; None where there is none
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # kinds of tokens
SPACE = "\u2581"  # what sentencepiece writes for a blank

# -- how text is split -------------------------------------------------------------------------------------------------

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_PLAIN = _BYTES | {"use_regex": False}


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _digits(single: bool) -> dict[str, Any]:
    return {"type": "Digits", "individual_digits": single}


def _by(*patterns: str) -> dict[str, Any]:
    return _sequence(*map(_split, patterns), _PLAIN)


_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_HANLESS = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]")
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ASCII = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
_SYMBOLS = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HAN = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_FAR_EAST = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_SENTENCES = r" ?[^(\s|[.,!?…。，、।۔،])]+"

# How llama.cpp splits text before its byte-pair merges, by `tokenizer.ggml.pre` (src/llama-vocab.cpp there), in the
# words of a tokenizer.json: the first of names that split alike is the one that is written.
_SPLITS: dict[str, dict[str, Any]] = {
    "gpt-2 default phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe gigachat mpt olmo "
    "jais trillion granite-docling exaone4 modern-bert a.x-4.0 mellum": _BYTES,
    "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2": _sequence(_digits(True), _BYTES),
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe glm4 chatglm-bpe":
        _by(rf"{_ENGLISH}|{_WORD}|\p{{N}}{{1,3}}|{_REST}"),
    "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2":
        _by(rf"{_ENGLISH}|{_WORD}|\p{{N}}|{_REST}"),
    "qwen35": _by(rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
                  r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "tekken": _by(rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_SLASHED}"),
    "gpt-4o llama4 kanana2 talkie minimax-m2":
        _by(rf"{_CASED[0]}{_ENGLISH}?|{_CASED[1]}{_ENGLISH}?|\p{{N}}{{1,3}}|{_SLASHED}"),
    "deepseek-v3 hunyuan-dense joyai-llm": _by(r"\p{N}{1,3}", _HAN, f"{_ASCII}|{_SYMBOLS}"),
    "deepseek-coder": _sequence(
        _split("[\r\n]"), _split(r"\s?\p{L}+"), _split(r"\s?\p{P}+"), _split(_FAR_EAST),
        _digits(True), _PLAIN),
    "falcon": _sequence(
        {"type": "Punctuation", "behavior": "Contiguous"}, _BYTES, _digits(False), _split("[0-9][0-9][0-9]")),
    "bloom poro-chat gpt3-finnish": _by(_SENTENCES),
    "viking": _sequence(_split(_SENTENCES), _digits(True), _PLAIN),
    "seed-coder": _by(rf"{_ENGLISH}|{_WORD}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "bailingmoe bailingmoe2 llada-moe":
        _by(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
    "superbpe": _by(r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
    "deepseek-llm": _by(
        "[\r\n]", r"\s?[[\p{Lu}\p{Ll}\p{Lt}]&&[^\u10d0-\u10ff]]+",
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$", _FAR_EAST, r"\p{N}+"),
    "jais-2": _by(rf"{_ENGLISH}|{_WORD}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|"
                  + "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2")) + r"|\s{1}"),
    "kimi-k2": _by("|".join([
        r"[\p{Han}]+", rf"[^\r\n\p{{L}}\p{{N}}]?{_HANLESS[0]}*{_HANLESS[1]}+{_ENGLISH}?",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_HANLESS[0]}+{_HANLESS[1]}*{_ENGLISH}?", rf"\p{{N}}{{1,3}}|{_REST}"])),
    "exaone-moe": _by(rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
                      r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"),
    "tiny_aya cohere2moe": _by(
        r"\d{1,3}(?=(?:\d{3})*\b)", rf"{_CASED[0]}{_ENGLISH}?|{_CASED[1]}{_ENGLISH}?|\p{{N}}{{1,3}}|{_SLASHED}"),
    "minicpm5": _by(r"\p{N}{1,3}", rf"{_ENGLISH}|{_WORD}|\p{{N}}+|{_REST}"),
    "ufakzeka": _by(rf"{_WORD}|\p{{N}}|{_REST}"),
}  # fmt: skip
PRE_TOKENIZERS = {name: split for names, split in _SPLITS.items() for name in names.split()}
# Where a word that is a token is that token, whatever the merges make of it.
WHOLE_WORDS = {
    "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken",
    "minicpm5",
}  # fmt: skip

BEGINS = WHOLE_WORDS - {"minicpm5"}  # every text, unless a file says otherwise


def essence(settings: Any) -> Any:
    """A pre-tokenizer's settings without what changes offsets alone, or nothing."""
    if isinstance(settings, dict):
        kept = {key: essence(value) for key, value in settings.items() if key != "trim_offsets"}
        if kept.get("type") == "Sequence" and len(parts := kept.get("pretokenizers") or []) == 1:
            return parts[0]
        if kept.get("type") == "Split":
            kept = {"invert": False} | kept
        return kept
    return [essence(item) for item in settings] if isinstance(settings, list) else settings


# -- in ----------------------------------------------------------------------------------------------------------------


def converted(path: Path, read: Read) -> dict[str, bytes]:
    """tokenizer.json and what is beside it, by transformers; none where the file holds no vocabulary.

    Raises:
        Hostile: a vocabulary that is damaged, or of a kind or with a way to split that nobody here knows.
    """
    model = read("tokenizer.ggml.model")
    if model in (None, "none"):
        return {}
    _sound(path.name, read)
    kind = str(read("tokenizer.ggml.pre") or "default")
    if model == "gpt2" and kind not in PRE_TOKENIZERS:
        raise Hostile(
            f"{path.name} splits text as {kind!r}; souq knows {', '.join(PRE_TOKENIZERS)}",
            hint="name the model's Hugging Face folder instead",
        )
    files = _by_transformers(path, str(model))
    if model != "gpt2":
        return files  # sentencepiece splits nothing before
    tokenizer = json.loads(files["tokenizer.json"]) | {"pre_tokenizer": PRE_TOKENIZERS[kind]}
    if kind in WHOLE_WORDS:
        tokenizer["model"]["ignore_merges"] = True
    if kind in BEGINS and read("tokenizer.ggml.add_bos_token") is None:
        _begin(tokenizer, read("tokenizer.ggml.bos_token_id"))
    _unfill(tokenizer)
    return files | {"tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()}


def _begin(tokenizer: dict[str, Any], number: int | None) -> None:
    """With a beginning before every text, as llama.cpp has it where such a file does not speak of it."""
    text = next((token for token, each in tokenizer["model"]["vocab"].items() if each == number), None)
    if text is not None:
        first, rest = {"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        second = [{"SpecialToken": {"id": text, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing", "single": [first, rest], "pair": [first, rest, *second],
            "special_tokens": {text: {"id": text, "ids": [number], "tokens": [text]}},
        }  # fmt: skip


def _unfill(tokenizer: dict[str, Any]) -> None:
    """Without the tokens by which converters fill a vocabulary up to the embedding's rows: no tokenizer has them."""
    filling = {text for text, number in tokenizer["model"]["vocab"].items() if text == f"[PAD{number}]"}
    if filling:
        tokenizer["model"]["vocab"] = {k: v for k, v in tokenizer["model"]["vocab"].items() if k not in filling}
        tokenizer["added_tokens"] = [each for each in tokenizer["added_tokens"] if each["content"] not in filling]


def _sound(name: str, read: Read) -> None:
    """Everything that is wrong with a vocabulary, at once."""
    tokens = read("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise Hostile(f"{name} holds a tokenizer without tokens", hint="download it again, or convert it anew")
    known, wrong = set(tokens), []
    if len(known) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        wrong.append(f"{len(tokens) - len(known)} tokens stand there twice, such as {twice[:40]!r}")
    for key in ("scores", "token_type"):
        values = read(f"tokenizer.ggml.{key}")
        if values is not None and (not isinstance(values, list) or len(values) != len(tokens)):
            wrong.append(f"{key} are not one for each of {len(tokens):,} tokens")
    merges = read("tokenizer.ggml.merges") or []
    if not isinstance(merges, list) or not all(isinstance(merge, str) and merge.count(" ") == 1 for merge in merges):
        wrong.append("its merges are not pairs of tokens")
    elif lost := [merge for merge in merges if not {*(parts := merge.split(" ")), "".join(parts)} <= known]:
        wrong.append(f"{len(lost)} merges name tokens it does not have, such as {lost[0][:40]!r}")
    if not merges and read("tokenizer.ggml.model") == "gpt2":
        wrong.append("a byte-level BPE without merges")
    for key in ("bos", "eos", "unknown", "padding", "eot"):
        number = read(f"tokenizer.ggml.{key}_token_id")
        if number is not None and not (isinstance(number, int) and 0 <= number < len(tokens)):
            wrong.append(f"{key}_token_id is {number}, of {len(tokens):,} tokens")
    if wrong:
        raise Hostile(
            f"{name}: its vocabulary is damaged: {'; '.join(wrong)}", hint="download it again, or convert it anew"
        )


def _by_transformers(path: Path, model: str) -> dict[str, bytes]:
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        # Alone in a folder: what lies beside the file is not asked for. Not through AutoTokenizer, which first asks for
        # a configuration, and knows fewer architectures than vocabularies.
        alone, made = Path(folder) / "alone", Path(folder) / "made"
        alone.mkdir()
        (alone / "model.gguf").symlink_to(path.resolve())
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(alone), gguf_file="model.gguf")
        except Exception as error:  # the library raises whatever it meets, a bare Exception among it
            reason = f"{type(error).__name__}: {error}"[:200]
            raise Hostile(
                f"{path.name}: transformers makes no tokenizer of its {model} vocabulary ({reason})",
                hint="name the model's Hugging Face folder instead",
            ) from error
        tokenizer.save_pretrained(made)
        return {file.name: file.read_bytes() for file in sorted(made.iterdir()) if file.is_file()}


# -- out ---------------------------------------------------------------------------------------------------------------


# Normal forms are what llama.cpp leaves out of what it takes: nearly all text is in NFC as it is.
_PASSED_OVER = (None, {"type": "NFC"}, {"type": "Sequence", "normalizers": []})


def refused(files: Mapping[str, bytes]) -> str:
    """Why a tokenizer cannot be written to GGUF; empty where it can."""
    tokenizer = json.loads(files["tokenizer.json"])
    if (algorithm := tokenizer["model"].get("type")) != "BPE":
        return f"a tokenizer of type {algorithm!r}; souq writes BPE to GGUF"
    if _sentencepiece(tokenizer):
        return ""
    if _name(tokenizer) is None:
        return "this tokenizer splits text in a way souq has no llama.cpp name for"
    if (normalizer := tokenizer.get("normalizer")) not in (
        None,
        {"type": "NFC"},
        {"type": "Sequence", "normalizers": []},
    ):
        return f"this tokenizer changes text before it splits it ({str(normalizer)[:60]}), which llama.cpp does not"
    return ""


def _sentencepiece(tokenizer: Mapping[str, Any]) -> bool:
    return bool(tokenizer["model"].get("byte_fallback"))


def _name(tokenizer: Mapping[str, Any]) -> str | None:
    """The name by which llama.cpp knows how text is split before the merges."""
    settings, whole = essence(tokenizer.get("pre_tokenizer")), bool(tokenizer["model"].get("ignore_merges"))
    names = [name for name, known in PRE_TOKENIZERS.items() if essence(known) == settings]
    return next((name for name in names if (name in WHOLE_WORDS) == whole), names[0] if names else None)


def vocabulary(files: Mapping[str, bytes], size: int) -> Iterator[tuple[str, Any]]:
    """What GGUF says of a tokenizer, in the order in which it is written: (method of the writer, its argument)."""
    tokenizer, settings = json.loads(files["tokenizer.json"]), json.loads(files.get("tokenizer_config.json", b"{}"))
    model, added = tokenizer["model"], tokenizer.get("added_tokens", [])
    names = {number: token for token, number in model["vocab"].items()} | {t["id"]: t["content"] for t in added}
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    plain = _sentencepiece(tokenizer)
    yield "tokenizer_model", "llama" if plain else "gpt2"
    yield "tokenizer_pre", "default" if plain else _name(tokenizer)
    yield "token_list", [names.get(i, f"[PAD{i}]") for i in range(size)]
    if plain:
        yield "token_scores", _scores([names.get(i, "") for i in range(size)], merges)
    yield "token_types", _types(names, added, model if plain else {}, size)
    if not plain:
        yield "token_merges", [" ".join(merge) for merge in merges]
    yield "add_bos_token", _begins(tokenizer, settings)
    yield "add_space_prefix", plain and _prefixed(tokenizer)


def _types(
    names: Mapping[int, str], added: Sequence[Mapping[str, Any]], model: Mapping[str, Any], size: int
) -> list[int]:
    """Special tokens are control tokens there; added ones that are not special are found whole in the text."""
    control = {token["id"] for token in added if token["special"]}
    whole = {token["id"] for token in added if not token["special"]}
    unknown = model.get("unk_token")

    def kind(number: int) -> int:
        name = names.get(number)
        if model and name is not None and name == unknown:
            return UNKNOWN
        if number in control or name is None:
            return CONTROL
        if model and len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            return BYTE
        return USER_DEFINED if number in whole else NORMAL

    return [kind(number) for number in range(size)]


def _scores(tokens: Sequence[str], merges: Sequence[Sequence[str]]) -> list[float]:
    """Sentencepiece joins the pair whose whole has the highest score, which is the merge that comes first."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge), rank)
    return [-float(ranks[token]) if token in ranks else -1e9 if len(token) > 1 else 0.0 for token in tokens]


def _begins(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether transformers puts a beginning before every text."""
    after = tokenizer.get("post_processor") or {}
    for part in after.get("processors", [after]):
        if part.get("type") == "TemplateProcessing":
            return bool(part.get("single")) and "SpecialToken" in part["single"][0]
    return bool(settings.get("add_bos_token"))


def _prefixed(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a blank is put before a text."""
    text = json.dumps([tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")])
    return '"Prepend"' in text or '"prepend_scheme": "always"' in text or '"prepend_scheme": "first"' in text
