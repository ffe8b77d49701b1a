"""How likely right tokens are, without holding logits of all tokens, or the output matrix, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["log_probs_and_margins"]

#: Numbers of a chunk: of its rows of the output matrix, and of its logits, 64 MB in float32.
_NUMBERS = 2**24


def log_probs_and_margins(
    hidden: Tensor, answers: Tensor, logits: Callable[[Tensor, slice], Tensor], n_vocab: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of right tokens, and what they have more than the likeliest other one, ``(n,)`` each.

    Differentiable; backward computes each chunk's logits once more.

    Args:
        hidden: what predicts each of them, ``(n, n_embd)``.
        answers: the right tokens, ``(n,)``.
        logits: of a part of the vocabulary, from ``hidden`` and which part, ``(n, part)``.
        n_vocab: tokens of the vocabulary.
    """
    norm = right = other = torch.full(answers.shape, -torch.inf, device=hidden.device)
    for part in _parts(n_vocab, max(hidden.shape)):
        found = checkpoint(_of_part, hidden, answers, logits, part, use_reentrant=False)
        norm = torch.logaddexp(norm, found[0])
        right, other = torch.maximum(right, found[1]), torch.maximum(other, found[2])
    return right - norm, right - other


def _parts(n_vocab: int, width: int) -> Iterator[slice]:
    step = max(2, _NUMBERS // width)
    return (slice(start, min(start + step, n_vocab)) for start in range(0, n_vocab, step))


def _of_part(
    hidden: Tensor, answers: Tensor, logits: Callable[[Tensor, slice], Tensor], part: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithm of the sum of a part's exponentials, the right token's logit and the largest of others.

    -inf where the right token, or every other one, is in another part.
    """
    found = logits(hidden, part)
    found = found.to(torch.promote_types(found.dtype, torch.float32))
    here = torch.arange(part.start, part.stop, device=answers.device)[None, :] == answers[:, None]
    right = found.masked_fill(~here, -torch.inf).amax(-1)
    return found.logsumexp(-1), right, found.masked_fill(here, -torch.inf).amax(-1)
