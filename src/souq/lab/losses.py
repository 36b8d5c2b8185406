"""How far a student is from its teacher, in nats a token: distillation's divergences, on whatever the teacher left.

A teacher's word at a position is whole (every token's odds), its likeliest k with one bucket for the rest, or draws.
Without the bucket a student of the likeliest k is taught that nothing else exists: its tail is cut off, and the odds
it learns are biased (Anshumann et al., "Sparse Logit Sampling", arXiv 2503.16870). All tensors are float32; t
positions, V tokens.

    log_p = torch.log_softmax(teacher_logits, -1)
    divergence("jsd", log_p, log_q, beta=0.5).mean()
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch

from souq.errors import UsageError, nearest

Kind = Literal["forward", "reverse", "jsd", "skew"]
KINDS: tuple[str, ...] = get_args(Kind)
TINY = 1e-12  # odds: so that the rest of a certain teacher has a logarithm


def divergence(kind: str, log_p: Any, log_q: Any, *, beta: float = 0.5, alpha: float = 0.1) -> Any:
    """(t,) from the teacher's log p and the student's log q, both (t, V) and normalised.

    forward KL(p, q); reverse KL(q, p); jsd, generalised as in GKD (Agarwal et al., arXiv 2306.13649): m = beta p +
    (1 - beta) q and beta KL(p, m) + (1 - beta) KL(q, m), which near its ends is beta forward or 1 - beta reverse KL,
    and at 0 and 1 is those whole; skew KL(p, alpha p + (1 - alpha) q) of DistiLLM (Ko et al., arXiv 2402.03898).

    Raises:
        UsageError: no such divergence.
    """
    if kind == "forward" or (kind == "jsd" and beta <= 0):
        return _kl(log_p, log_q)
    if kind == "reverse" or (kind == "jsd" and beta >= 1):
        return _kl(log_q, log_p)
    if kind == "jsd":
        middle = _mix(log_p, log_q, beta)
        return beta * _kl(log_p, middle) + (1 - beta) * _kl(log_q, middle)
    if kind == "skew":
        return _kl(log_p, _mix(log_p, log_q, alpha))
    raise UsageError(f"no divergence {kind!r}{nearest(kind, KINDS)}", hint=f"one of {', '.join(KINDS)}")


def topk(log_p: Any, k: int) -> tuple[Any, Any]:
    """The k likeliest tokens (t, k) int64, all where there are fewer, and their log-odds (t, k + 1).

    The last place has the log-odds of all the rest together.
    """
    top, ids = log_p.topk(min(k, log_p.shape[-1]), -1)
    return ids, torch.cat([top, _rest(top)], -1)


def gather_topk(log_q: Any, ids: Any) -> Any:
    """The student's log-odds of the tokens `ids` (t, k), and in the last place of the rest: (t, k + 1)."""
    chosen = log_q.gather(-1, ids)
    return torch.cat([chosen, _rest(chosen)], -1)


def sample_tokens(log_p: Any, n: int, generator: Any) -> Any:
    """n tokens drawn a position (t, n) int64, as RS-KD does (arXiv 2503.16870): unbiased for the forward KL.

    `generator` is the processor's, wherever the odds are.
    """
    return torch.multinomial(log_p.exp().cpu(), n, replacement=True, generator=generator).to(log_p.device)


def sampled_cross_entropy(ids: Any, log_q: Any) -> Any:
    """(t,) the cross-entropy of the draws `ids` (t, n): the forward KL and an entropy no student changes."""
    return -log_q.gather(-1, ids).mean(-1)


def _rest(log_p: Any) -> Any:
    """The log-odds (t, 1) of all but those given (t, k)."""
    return (1 - log_p.exp().sum(-1, keepdim=True)).clamp(min=TINY).log()


def _mix(log_p: Any, log_q: Any, share: float) -> Any:
    """log(share p + (1 - share) q)."""
    return torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))


def _kl(log_p: Any, log_q: Any) -> Any:
    return (log_p.exp() * (log_p - log_q)).sum(-1)
