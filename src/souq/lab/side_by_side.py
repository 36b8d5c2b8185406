"""What a model says before a change and after it: the same prompts to two built models.

before, after = build(main), land.built_with(main, pull.offer)
for pair in side_by_side(before, after, ["What is the capital of France?"]):
    print(pair.prompt, pair.before.text, pair.after.text, pair.same)
"""

from __future__ import annotations

from collections.abc import Sequence

from souq.build.model import Built
from souq.lab import lm as lab_model
from souq.lab.chat import Completion, Sampling
from souq.lab.generate import completions
from souq.progress import Progress, quiet
from souq.records import Record

TOKENS = 64


class Pair(Record, frozen=True):
    """One prompt, and what each of two models answers to it."""

    prompt: str
    before: Completion
    after: Completion

    @property
    def same(self) -> bool:
        return self.before.text == self.after.text


def side_by_side(
    before: Built, after: Built, prompts: Sequence[str], *, max_tokens: int = TOKENS, progress: Progress = quiet
) -> list[Pair]:
    """What two built models answer to each prompt, greedily and by the model's own chat template, in their order.

    Each answer comes with how it ended: `finish` is "length" where it was cut after `max_tokens`. The models are
    loaded one after the other, so there is never more than one in memory; a model that did not change is asked once.

    Raises:
        UsageError: the model has no chat template, or a prompt is longer than its context.
    """
    sampling = Sampling(max_tokens=max_tokens)
    old = completions(lab_model.load(before.files, before.weights), prompts, sampling, progress=progress)
    new = old
    if (before.digest, before.files) != (after.digest, after.files):
        new = completions(lab_model.load(after.files, after.weights), prompts, sampling, progress=progress)
    return [Pair(prompt=p, before=b, after=a) for p, b, a in zip(prompts, old, new, strict=True)]
