"""Let a model answer: batched by length, greedy or sampled, every answer with a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers

from souq.asks import Finish, Sampling, Told
from souq.lab.model import LM, Tokens
from souq.progress import Progress, quiet

BATCH = 32
ENGINE = f"transformers {transformers.__version__}"  # what records of provenance call this


def answers(
    lm: LM, prompts: Sequence[str], *, max_tokens: int = 32, temperature: float = 0.0, seeds: Sequence[int] | None = None,
    progress: Progress = quiet,
) -> list[str]:  # fmt: skip
    """One answer a prompt, in the prompts' order.

    With a temperature, answer i is drawn with a generator seeded by seeds[i]: no answer depends on its neighbours.
    """
    asked = [lm.chat([{"role": "user", "content": prompt}]) for prompt in prompts]
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    told = {i: said.text for batch in in_batches(lm, asked, sampling, seeds=seeds, progress=progress) for i, said in batch}  # fmt: skip
    return [told[i] for i in range(len(prompts))]


def in_batches(
    lm: LM, asked: Sequence[Tokens], sampling: Sampling, *, seeds: Sequence[int] | None = None, progress: Progress = quiet
) -> Iterator[list[tuple[int, Told]]]:  # fmt: skip
    """(number, answer) pairs, a batch at a time, so that what is done can be kept; the shortest questions first."""
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    drawn_by = seeds or range(len(asked))
    for start in range(0, len(order), BATCH):
        progress("answers", start, len(order))
        chosen = order[start : start + BATCH]
        drawn = _batch(lm, [asked[i] for i in chosen], sampling, [drawn_by[i] for i in chosen])
        yield [(i, _told(lm, asked[i], tokens, sampling)) for i, tokens in zip(chosen, drawn, strict=True)]
    progress("answers", len(order), len(order))


def _told(lm: LM, asked: Tokens, tokens: Tokens, sampling: Sampling) -> Told:
    """Cut at the first of the texts that stop it, if one was said."""
    text = lm.tokenizer.decode(tokens, skip_special_tokens=True)
    ends = [at for word in sampling.stop if (at := text.find(word)) >= 0]
    finish: Finish = "stop" if ends or len(tokens) < sampling.max_tokens else "length"
    return Told(text=text[: min(ends)].strip() if ends else text.strip(), finish=finish, tokens=len(tokens), asked=len(asked))  # fmt: skip


@torch.inference_mode()
def _batch(lm: LM, asked: Sequence[Tokens], sampling: Sampling, seeds: Sequence[int]) -> list[Tokens]:
    """Left-padded, with a key-value cache; what all begin with (the system prompt) is read once."""
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
        told = lm.net.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = told.past_key_values
        # Contiguous: on a slice of a longer tensor torch computes the head in bf16 three hundred times as slowly.
        last = told.last_hidden_state[:, -1].contiguous()
        following = _next(lm.net.lm_head(last).float().cpu(), sampling, chances)
        for i in sorted(speaking):
            if following[i] == lm.end:
                speaking.discard(i)
            else:
                drawn[i].append(following[i])
        if not speaking:
            break
        ids = torch.tensor([[token] for token in following], device=lm.device)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        positions = positions[:, -1:] + 1
    return drawn


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
    shares = _left(torch.softmax(logits / sampling.temperature, -1), sampling)
    return [int(torch.multinomial(share, 1, generator=chance)) for share, chance in zip(shares, chances, strict=True)]


def _left(shares: Any, sampling: Sampling) -> Any:
    """Odds (rows, V) without what the settings leave out: the k likeliest, the nucleus of p, at least min_p of the likeliest."""
    if sampling.top_k:
        least = shares.topk(min(sampling.top_k, shares.shape[-1]), -1).values[:, -1:]
        shares = shares.where(shares >= least, 0.0)
    if sampling.top_p < 1:
        ranked, order = shares.sort(-1, descending=True)
        before = ranked.cumsum(-1) - ranked  # the likeliest has nothing before it, and stays
        shares = torch.zeros_like(shares).scatter(-1, order, ranked.where(before < sampling.top_p, 0.0))
    if sampling.min_p:
        shares = shares.where(shares >= sampling.min_p * shares.amax(-1, keepdim=True), 0.0)
    return shares
