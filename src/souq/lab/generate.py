"""Let a model answer: batched by length, greedy or sampled, every answer with a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers

from souq.lab.chat import Sampling, Told
from souq.lab.lm import LM, Tokens
from souq.progress import Progress, quiet

BATCH = 32


def answers(
    lm: LM,
    prompts: Sequence[str],
    *,
    max_tokens: int = 32,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    progress: Progress = quiet,
) -> list[str]:
    """One answer a prompt, in the prompts' order.

    With a temperature, answer i is drawn with a generator seeded by seeds[i]: no answer depends on its neighbours.
    """
    asked = [lm.chat([{"role": "user", "content": prompt}]) for prompt in prompts]
    told = {
        i: text
        for batch in in_batches(
            lm, asked, max_tokens=max_tokens, temperature=temperature, seeds=seeds, progress=progress
        )
        for i, text in batch
    }
    return [told[i] for i in range(len(prompts))]


def in_batches(
    lm: LM,
    asked: Sequence[Tokens],
    *,
    max_tokens: int = 32,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    progress: Progress = quiet,
) -> Iterator[list[tuple[int, str]]]:
    """(number, answer) pairs, a batch at a time, so that what is done can be kept; the shortest questions first."""
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    for batch in told(lm, asked, sampling, seeds or range(len(asked)), progress):
        yield [(i, answer.text) for i, answer in batch]


def told(
    lm: LM, asked: Sequence[Tokens], sampling: Sampling, seeds: Sequence[int], progress: Progress = quiet
) -> Iterator[list[tuple[int, Told]]]:
    """The same, with all that shapes an answer and how it ended."""
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    for start in range(0, len(order), BATCH):
        progress("answers", start, len(order))
        chosen = order[start : start + BATCH]
        drawn = _batch(lm, [asked[i] for i in chosen], sampling, [seeds[i] for i in chosen])
        yield [
            (i, Told(text=_text(lm, tokens, sampling.stop).strip(), finish="stop" if ended else "length", tokens=len(tokens), asked=len(asked[i])))
            for i, (tokens, ended) in zip(chosen, drawn, strict=True)
        ]  # fmt: skip
    progress("answers", len(order), len(order))


def _text(lm: LM, tokens: Tokens, stop: Sequence[str]) -> str:
    """What was said before the first of the words that stop it."""
    text = str(lm.tokenizer.decode(tokens, skip_special_tokens=True))
    return text[: min((at for word in stop if (at := text.find(word)) >= 0), default=len(text))]


@torch.inference_mode()
def _batch(lm: LM, asked: Sequence[Tokens], sampling: Sampling, seeds: Sequence[int]) -> list[tuple[Tokens, bool]]:
    """Each answer, and whether it came to its end.

    Left-padded, with a key-value cache; what all begin with (the system prompt) is read once.
    """
    shared = _shared(asked)
    cache = _prefix(lm, asked[0][:shared], len(asked)) if shared else None
    rest = [tokens[shared:] for tokens in asked]
    width = max(map(len, rest))
    pad = [width - len(tokens) for tokens in rest]
    ids = torch.tensor([[lm.end] * n + tokens for n, tokens in zip(pad, rest, strict=True)], device=lm.device)
    mask = torch.tensor([[1] * shared + [0] * n + [1] * (width - n) for n in pad], device=lm.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
    chances = [torch.Generator().manual_seed(seed % (1 << 63)) for seed in seeds]
    drawn: list[Tokens] = [[] for _ in asked]
    speaking = set(range(len(asked)))
    for _ in range(sampling.max_tokens):
        found = lm.net.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = found.past_key_values
        # Contiguous: on a slice of a longer tensor torch computes the head in bf16 three hundred times as slowly.
        last = found.last_hidden_state[:, -1].contiguous()
        following = _next(lm.net.lm_head(last).float().cpu(), sampling, chances)
        for i in sorted(speaking):
            if following[i] == lm.end:
                speaking.discard(i)
            else:
                drawn[i].append(following[i])
                if sampling.stop and _text(lm, drawn[i], sampling.stop) != _text(lm, drawn[i], ()):
                    speaking.discard(i)
        if not speaking:
            break
        ids = torch.tensor([[token] for token in following], device=lm.device)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        positions = positions[:, -1:] + 1
    return [(tokens, i not in speaking) for i, tokens in enumerate(drawn)]


def _shared(asked: Sequence[Tokens]) -> int:
    """How many tokens all begin with; at least one is left for each to read."""
    shortest = min(map(len, asked)) - 1
    return next((i for i in range(shortest) if len({tokens[i] for tokens in asked}) > 1), shortest)


def _prefix(lm: LM, tokens: Tokens, times: int) -> Any:
    cache = lm.net.model(input_ids=torch.tensor([tokens], device=lm.device), use_cache=True).past_key_values
    cache.batch_repeat_interleave(times)
    return cache


def _next(logits: Any, sampling: Sampling, chances: Sequence[Any]) -> list[int]:
    if sampling.temperature <= 0:
        return [int(token) for token in logits.argmax(-1)]
    for warp in _warps(sampling):
        logits = warp(None, logits)
    shares = torch.softmax(logits, -1)
    return [int(torch.multinomial(share, 1, generator=chance)) for share, chance in zip(shares, chances, strict=True)]


def _warps(sampling: Sampling) -> Iterator[Any]:
    """transformers' own, in its own order."""
    yield transformers.TemperatureLogitsWarper(float(sampling.temperature))
    if sampling.top_k > 0:
        yield transformers.TopKLogitsWarper(sampling.top_k)
    if sampling.top_p < 1:
        yield transformers.TopPLogitsWarper(sampling.top_p)
    if sampling.min_p > 0:
        yield transformers.MinPLogitsWarper(sampling.min_p)
