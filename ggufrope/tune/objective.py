"""What a table is judged by while it is sought: how improbable right answers are, the worst depth weighing as all.

A right answer's improbability is the *sum* over its tokens, in nats: tokens that the ones before give away (all but the
first few of a UUID) add nothing, so it is ruled by those that tell the right answer from others, as greedy decoding is.
A mean over the tokens would hardly move. Over the depths of a text, half the weight is on their mean and half on a soft
maximum, so that a depth that gets better cannot pay for one that is lost.

All functions take numpy's arrays, or torch's with ``xp=torch``, and are differentiable there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["answer_loss", "excess", "mean_and_worst", "objective"]


def answer_loss(log_probs: Any) -> Any:
    """How improbable an answer is, in nats; 0 for certain.

    Args:
        log_probs: ``(tokens,)``, of the right tokens, each behind the right ones before it.
    """
    return -log_probs.sum()


def mean_and_worst(losses: Any, xp: Any = np) -> Any:
    """Half the mean, half the soft maximum (log-mean-exp), of ``(n,)`` losses in nats.

    Equal losses give that loss; one that is worse than the rest by some nats counts for half the value.
    """
    top = losses.max()
    soft = top + xp.log(xp.exp(losses - top).mean())
    return 0.5 * losses.mean() + 0.5 * soft


def objective(texts: Sequence[Sequence[Any]], xp: Any = np) -> Any:
    """What several texts with their questions amount to, in nats; less is better.

    Args:
        texts: for each text, the ``log_probs`` of each of its questions. Where all texts have as many questions, the
            questions of one place in the texts are taken for those of one depth, and averaged before the depths are
            compared: the worst depth is one that is worst for many texts. Else each text is judged by itself.
        xp: numpy, or torch.

    Raises:
        ValueError: no text, or one without a question.
    """
    if not texts or not all(texts):
        raise ValueError("an objective of no questions; give texts that have some")
    losses = [xp.stack([answer_loss(one) for one in text]) for text in texts]
    if len({len(text) for text in texts}) == 1:
        return mean_and_worst(sum(losses) / len(losses), xp)
    return sum(mean_and_worst(one, xp) for one in losses) / len(losses)


def excess(loss: Any, untouched: Any, allow: float) -> Any:
    """By how much a plain-text loss exceeds what is allowed, in nats a token; 0 where it does not.

    Args:
        loss: with the candidate, in nats a token.
        untouched: without, on the same tokens.
        allow: relative rise that is free: 0.01 is 1%.
    """
    above = loss - untouched * (1 + allow)
    return above * (above > 0)
