"""Let a model answer: batched by length, greedy or sampled, every answer with a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers

from souq.lab.chat import Completion, Completions, Sampling
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
    chats = [lm.chat_tokens([{"role": "user", "content": prompt}]) for prompt in prompts]
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    batches = generate_batches(lm, chats, sampling, seeds or range(len(chats)), progress)
    texts = {i: answer.text for batch in batches for i, answer in batch}
    return [texts[i] for i in range(len(prompts))]


def generate_batches(
    lm: LM, prompts: Sequence[Tokens], sampling: Sampling, seeds: Sequence[int], progress: Progress = quiet
) -> Completions:
    """(number of the prompt, its answer) pairs, a batch at a time, so that what is done can be kept.

    The shortest prompts come first; answer i is drawn with a generator seeded by seeds[i].
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), BATCH):
        progress("answers", start, len(order))
        numbers = order[start : start + BATCH]
        decoded = _decode(lm, [prompts[i] for i in numbers], sampling, [seeds[i] for i in numbers])
        yield [
            (
                i,
                Completion(
                    text=_text(lm, tokens, sampling.stop).strip(),
                    finish="stop" if ended else "length",
                    completion_tokens=len(tokens),
                    prompt_tokens=len(prompts[i]),
                ),
            )
            for i, (tokens, ended) in zip(numbers, decoded, strict=True)
        ]
    progress("answers", len(order), len(order))


def _text(lm: LM, tokens: Tokens, stop: Sequence[str]) -> str:
    """What was written before the first of the words that stop it."""
    text = str(lm.tokenizer.decode(tokens, skip_special_tokens=True))
    return text[: min((at for word in stop if (at := text.find(word)) >= 0), default=len(text))]


@torch.inference_mode()
def _decode(lm: LM, prompts: Sequence[Tokens], sampling: Sampling, seeds: Sequence[int]) -> list[tuple[Tokens, bool]]:
    """Each answer, and whether it came to its end."""
    # 1. What all prompts begin with (the system prompt) is read once, into a key-value cache for every row.
    shared = _shared(prompts)
    cache = _prefix(lm, prompts[0][:shared], len(prompts)) if shared else None
    # 2. The rest is padded on the left, so that every row's next token stands in the last place.
    rest = [tokens[shared:] for tokens in prompts]
    width = max(map(len, rest))
    pad = [width - len(tokens) for tokens in rest]
    ids = torch.tensor([[lm.eos_id] * n + tokens for n, tokens in zip(pad, rest, strict=True)], device=lm.device)
    mask = torch.tensor([[1] * shared + [0] * n + [1] * (width - n) for n in pad], device=lm.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
    generators = [torch.Generator().manual_seed(seed % (1 << 63)) for seed in seeds]
    written: list[Tokens] = [[] for _ in prompts]
    unfinished, ends = set(range(len(prompts))), frozenset(lm.end_ids)
    for _ in range(sampling.max_tokens):
        # 3. One forward pass over what is new.
        output = lm.net.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        # Contiguous: on a slice of a longer tensor torch computes the head in bf16 three hundred times as slowly.
        last = output.last_hidden_state[:, -1].contiguous()
        # 4. One token a row, drawn by the row's own generator.
        drawn = _next(lm.net.lm_head(last).float().cpu(), sampling, generators)
        # 5. A row ends with its turn's last token, or at a stop word; the others go on.
        for i in sorted(unfinished):
            if drawn[i] in ends:
                unfinished.discard(i)
            else:
                written[i].append(drawn[i])
                if sampling.stop and _text(lm, written[i], sampling.stop) != _text(lm, written[i], ()):
                    unfinished.discard(i)
        if not unfinished:
            break
        # 6. What was drawn is read next.
        ids = torch.tensor([[token] for token in drawn], device=lm.device)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        positions = positions[:, -1:] + 1
    return [(tokens, i not in unfinished) for i, tokens in enumerate(written)]


def _shared(prompts: Sequence[Tokens]) -> int:
    """How many tokens all begin with; at least one is left for each to read."""
    shortest = min(map(len, prompts)) - 1
    return next((i for i in range(shortest) if len({tokens[i] for tokens in prompts}) > 1), shortest)


def _prefix(lm: LM, tokens: Tokens, times: int) -> Any:
    cache = lm.net.model(input_ids=torch.tensor([tokens], device=lm.device), use_cache=True).past_key_values
    cache.batch_repeat_interleave(times)
    return cache


def _next(logits_BV: Any, sampling: Sampling, generators: Sequence[Any]) -> list[int]:
    if sampling.temperature <= 0:
        return [int(token) for token in logits_BV.argmax(-1)]
    for warp in _warps(sampling):
        logits_BV = warp(None, logits_BV)
    odds_BV = torch.softmax(logits_BV, -1)
    return [int(torch.multinomial(odds, 1, generator=own)) for odds, own in zip(odds_BV, generators, strict=True)]


def _warps(sampling: Sampling) -> Iterator[Any]:
    """transformers' own, in its own order."""
    yield transformers.TemperatureLogitsWarper(float(sampling.temperature))
    if sampling.top_k > 0:
        yield transformers.TopKLogitsWarper(sampling.top_k)
    if sampling.top_p < 1:
        yield transformers.TopPLogitsWarper(sampling.top_p)
    if sampling.min_p > 0:
        yield transformers.MinPLogitsWarper(sampling.min_p)
