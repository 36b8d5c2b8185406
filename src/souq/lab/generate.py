"""Let a model answer: batched by length, greedy or sampled, every answer with a seed of its own; or while one listens.

answers(lm, ["What is the capital of France?"])
speak(lm, lm.chat_tokens(turns), Sampling(max_tokens=256), say=lambda text: print(text, end=""))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, takewhile
from typing import Any

import torch
import transformers

from souq.errors import UsageError
from souq.lab.chat import Completion, Completions, Sampling
from souq.lab.lm import LM, Tokens
from souq.lab.packing import in_its_tables, packs
from souq.progress import Progress, quiet

BATCH = 32
Heard = Callable[[Sequence[int]], object]
"""Told the tokens that were drawn, one a row, as they are drawn."""


def _nobody(drawn: Sequence[int]) -> None:
    """Nobody listens."""


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

    Raises:
        UsageError: a prompt is longer than the model's context.
    """
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    return [answer.text for answer in completions(lm, prompts, sampling, seeds=seeds, progress=progress)]


def completions(
    lm: LM,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    seeds: Sequence[int] | None = None,
    progress: Progress = quiet,
) -> list[Completion]:
    """One answer a prompt, in the prompts' order, with how it ended and what it took.

    Raises:
        UsageError: a prompt is longer than the model's context.
    """
    chats = [lm.chat_tokens([{"role": "user", "content": prompt}]) for prompt in prompts]
    batches = generate_batches(lm, chats, sampling, seeds or range(len(chats)), progress)
    given = {i: answer for batch in batches for i, answer in batch}
    if refused := next((answer for answer in given.values() if answer.finish == "refused"), None):
        raise UsageError(refused.because, hint="ask in fewer words")
    return [given[i] for i in range(len(prompts))]


def _refused(length: int, context: int) -> Completion:
    because = f"a question of {length:,} tokens, and the model's context has {context:,}"
    return Completion(text="", finish="refused", completion_tokens=0, prompt_tokens=length, because=because)


def speak(lm: LM, prompt: Tokens, sampling: Sampling, say: Callable[[str], object], *, seed: int = 0) -> Completion:
    """One answer, said piece by piece as it is written: the pieces joined are its text, and that is what
    `generate_batches` gives.

    Raises:
        UsageError: the prompt is longer than the model's context.
    """
    ends, written, spoken = frozenset(lm.end_ids), Tokens(), 0

    def heard(drawn: Sequence[int]) -> None:
        nonlocal spoken
        if drawn[0] in ends:
            return
        written.append(drawn[0])
        text = _text(lm, written, ()).strip()  # what trails may be blanks before a word, or blanks at the end
        if text.endswith("\ufffd"):  # half a character: the rest comes with the next token
            return
        say(text[spoken:])
        spoken = max(spoken, len(text))

    (((_, answer),),) = generate_batches(lm, [prompt], sampling, [seed], heard=heard)
    if answer.finish == "refused":
        raise UsageError(answer.because, hint="ask in fewer words")
    say(answer.text[spoken:])
    return answer


def generate_batches(
    lm: LM,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    seeds: Sequence[int],
    progress: Progress = quiet,
    *,
    heard: Heard = _nobody,
) -> Completions:
    """(number of the prompt, its answer) pairs, a batch at a time, so that what is done can be kept.

    The shortest prompts come first; answer i is drawn with a generator seeded by seeds[i]. A prompt that leaves no room
    in the model's context is refused.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    long = [i for i in order if lm.context and len(prompts[i]) >= lm.context]
    if long:
        order = order[: -len(long)]
        yield [(i, _refused(len(prompts[i]), lm.context)) for i in long]
    decode, batches = (_decode, _batches(order)) if packs(lm.net) else (_generate, _of_one_length(prompts, order))
    done = 0
    for numbers in batches:
        progress("answers", done, len(order))
        done += len(numbers)
        with in_its_tables(lm.net):
            decoded = decode(lm, [prompts[i] for i in numbers], sampling, [seeds[i] for i in numbers], heard)
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


def _batches(order: Sequence[int]) -> list[Sequence[int]]:
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def _of_one_length(prompts: Sequence[Tokens], order: Sequence[int]) -> list[Sequence[int]]:
    """Batches without padding, which a network that carries a state would read."""
    groups = [list(group) for _, group in groupby(order, key=lambda i: len(prompts[i]))]
    return [batch for group in groups for batch in _batches(group)]


def _text(lm: LM, tokens: Tokens, stop: Sequence[str]) -> str:
    """What was written before the first of the words that stop it."""
    text = str(lm.tokenizer.decode(tokens, skip_special_tokens=True))
    return text[: min((at for word in stop if (at := text.find(word)) >= 0), default=len(text))]


@torch.inference_mode()
def _decode(
    lm: LM, prompts: Sequence[Tokens], sampling: Sampling, seeds: Sequence[int], heard: Heard = _nobody
) -> list[tuple[Tokens, bool]]:
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
        # The last place by a list, which copies it: on a slice torch's head in bf16 is three hundred times as slow.
        last = torch.tensor([ids.shape[1] - 1])
        output = lm.net(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=last,
        )  # fmt: skip
        cache = output.past_key_values
        # 4. One token a row, drawn by the row's own generator.
        drawn = _next(output.logits[:, -1].float().cpu(), sampling, generators)
        heard(drawn)
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
    ids = torch.tensor([tokens], device=lm.device)
    cache = lm.net(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(times)
    return cache


@torch.inference_mode()
def _generate(
    lm: LM, prompts: Sequence[Tokens], sampling: Sampling, seeds: Sequence[int], heard: Heard = _nobody
) -> list[tuple[Tokens, bool]]:
    """What `_decode` does, for prompts of one length, through transformers' own loop: it knows every kind of state."""
    draw = _Draw(sampling, [torch.Generator().manual_seed(seed % (1 << 63)) for seed in seeds], heard)
    written = lm.net.generate(
        input_ids=torch.tensor(prompts, device=lm.device),
        attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.long, device=lm.device),
        generation_config=transformers.GenerationConfig(
            max_new_tokens=sampling.max_tokens, do_sample=False, eos_token_id=list(lm.end_ids), pad_token_id=lm.eos_id
        ),
        logits_processor=transformers.LogitsProcessorList([draw]),
    )[:, len(prompts[0]) :].tolist()
    return [_ended(lm, tokens, sampling.stop) for tokens in written]


def _ended(lm: LM, tokens: Tokens, stop: Sequence[str]) -> tuple[Tokens, bool]:
    """What was written up to its turn's end or a stop word, and whether it came to either."""
    ends = frozenset(lm.end_ids)
    kept = list(takewhile(lambda token: token not in ends, tokens))
    for n in range(1, len(kept) + 1 if stop else 0):
        if _text(lm, kept[:n], stop) != _text(lm, kept[:n], ()):
            return kept[:n], True
    return kept, len(kept) < len(tokens)


class _Draw(transformers.LogitsProcessor):  # type: ignore[misc]
    """Leaves each row the token that its own generator drew."""

    def __init__(self, sampling: Sampling, generators: Sequence[Any], heard: Heard) -> None:
        self._sampling, self._generators, self._heard = sampling, generators, heard

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        tokens = _next(scores.float().cpu(), self._sampling, self._generators)
        self._heard(tokens)
        drawn = torch.tensor(tokens, device=scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn[:, None], 0.0)


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
