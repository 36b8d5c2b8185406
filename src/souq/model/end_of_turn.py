"""Which tokens end a turn: what the chat template writes behind an answer, and what the files name.

A model stops at any of them, and learns to write the first. Llama 3, Gemma and Phi name two or three in
generation_config.json, one in tokenizer_config.json, and write one of them; whoever hears only one talks on.

    end_tokens(files, after="<end_of_turn>\\n", number=tokenizer.convert_tokens_to_ids)     # (106, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from souq.model.chat_template import rendered_answer
from souq.model.config import chat_templates, settings_in
from souq.model.tokenizer import read_words, token_text

Files = Mapping[str, bytes]
Number = Callable[[str], int | None]


def end_tokens(files: Files, *, after: str, special: Collection[str], number: Number) -> tuple[int, ...]:
    """The tokens that end a turn, the one to write first.

    `after` is what the template writes behind an answer, `special` the control tokens, `number` a token's number.

    Raises:
        Hostile: a file that is no JSON.
    """
    settings, named = settings_in(files, "tokenizer_config.json"), settings_in(files, "special_tokens_map.json")
    texts = [text for text in (token_text(settings.get("eos_token")), token_text(named.get("eos_token"))) if text]
    ids = [number(text) for text in (*_first(after, special), *texts[:1])]
    # As transformers does: what generates says it, and only where that says nothing, the network's configuration.
    config = settings_in(files, "config.json")
    inner = config.get("text_config")
    for part in (settings_in(files, "generation_config.json"), config, inner if isinstance(inner, dict) else {}):
        if (listed := part.get("eos_token_id")) is not None:
            ids += listed if isinstance(listed, list) else [listed]
            break
    return tuple(dict.fromkeys(end for end in ids if type(end) is int and end >= 0))


def stored_end_tokens(files: Files) -> tuple[int, ...]:
    """The same, read from tokenizer.json and the template as they are stored, by no library that runs them.

    Raises:
        Hostile: a file that breaks its format, or a template that never ends.
    """
    words = read_words(files, "the model")
    objects = {name: settings_in(files, name) for name in files if name.endswith(".json")}
    template = next(chat_templates(files, objects), "")
    settings, named = (objects.get(name, {}) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    tokens = {key: text for key, value in settings.items() if key.endswith("_token") and (text := token_text(value))}
    special = {token for token, entry in words.added.items() if entry.get("special")} if words else set()
    special |= {token_text(value) for key, value in (*settings.items(), *named.items()) if key.endswith("_token")}
    after = rendered_answer(template, tokens) if template else ""
    return end_tokens(files, after=after, special=special, number=words.ids.get if words else lambda text: None)


def _first(after: str, special: Collection[str]) -> Iterator[str]:
    """The control token that a text begins with, blanks apart."""
    begins = [token for token in special if token and after.lstrip().startswith(token)]
    if begins:
        yield max(begins, key=len)
