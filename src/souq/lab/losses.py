"""How far a student is from its teacher, in nats a token: the divergences that distillation knows, on whatever the teacher left.

A teacher's word at a position is whole (every token's odds), its likeliest k with one bucket for the rest, or draws.
Without the bucket a student of the likeliest k is taught that nothing else exists, which is itself a loss of the tail
(specs/teacher.md, section 2). All tensors are float32; t positions, V tokens.

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
    (1 - beta) q and beta KL(p, m) + (1 - beta) KL(q, m), which near its ends is beta forward or 1 - beta reverse KL, and
    at 0 and 1 is those whole; skew KL(p, alpha p + (1 - alpha) q) of DistiLLM (Ko et al., arXiv 2402.03898).

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


def likeliest(log_p: Any, k: int) -> tuple[Any, Any]:
    """The k likeliest tokens (t, k), all where there are fewer, and their log-odds with the rest's in the last place (t, k + 1)."""
    top, ids = log_p.topk(min(k, log_p.shape[-1]), -1)
    return ids, torch.cat([top, _rest(top)], -1)


def among(log_q: Any, ids: Any) -> Any:
    """The student's log-odds in the same places: (t, k + 1)."""
    told = log_q.gather(-1, ids)
    return torch.cat([told, _rest(told)], -1)


def draws(log_p: Any, n: int, chance: Any) -> Any:
    """n tokens drawn a position (t, n), with RS-KD (arXiv 2503.16870): unbiased for the forward KL. `chance` is the processor's."""
    return torch.multinomial(log_p.exp().cpu(), n, replacement=True, generator=chance).to(log_p.device)


def sampled(ids: Any, log_q: Any) -> Any:
    """(t,) the cross-entropy of the draws: the forward KL and the teacher's own entropy, which no student changes."""
    return -log_q.gather(-1, ids).mean(-1)


def _rest(told: Any) -> Any:
    return (1 - told.exp().sum(-1, keepdim=True)).clamp(min=TINY).log()


def _mix(log_p: Any, log_q: Any, share: float) -> Any:
    """log(share p + (1 - share) q)."""
    return torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))


def _kl(log_p: Any, log_q: Any) -> Any:
    return (log_p.exp() * (log_p - log_q)).sum(-1)
