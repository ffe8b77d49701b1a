"""Measure the demo model, method by method: retrieval by depth and loss by position, in its window and beyond."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from demo_model.text import QUESTION, make_quiz, training_document
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from demo_training.scaling import load_scaled, ms_poe

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRETCHES = (0.5, 1.0, 1.5, 2.0, 4.0)  # prompt lengths, in windows
INSIDE = 4  # times as many documents in the window without scaling, where the model has to be at its best


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the card: the label, how to load the model, and the stretches at which it is measured."""

    label: str
    name: str = "none"
    factor: float = 1.0
    ratios: tuple[float, ...] = ()
    stretches: tuple[float, ...] = STRETCHES


def sequential(low: float, high: float, n: int) -> tuple[float, ...]:
    """``n`` ratios from low to high in equal steps."""
    return tuple(low + (high - low) * i / (n - 1) for i in range(n))


METHODS = (
    Method("none"),
    *(Method(f"{name} × 2", name, 2.0, stretches=(1.0, 1.5, 2.0)) for name in ("linear", "ntk", "yarn")),
    *(Method(f"{name} × 4", name, 4.0, stretches=(1.0, 2.0, 4.0)) for name in ("linear", "ntk", "yarn")),
    Method("uniform 1.2 from layer 2", ratios=(1.2,) * 4, stretches=(1.0, 1.5, 2.0)),
    Method("uniform 1.5 from layer 2", ratios=(1.5,) * 4, stretches=(1.0, 1.5, 2.0)),
    Method("ms-poe 1.2-1.8 on all pairs, in order", ratios=sequential(1.2, 1.8, 4), stretches=(1.0, 1.5, 2.0, 4.0)),
)


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% Wilson score interval of a share."""
    share, square = hits / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


@contextmanager
def applied(method: Method, directory: Path) -> Iterator[LlamaForCausalLM]:
    """The model with ``method`` active."""
    model = load_scaled(directory, method.name, method.factor)
    if not method.ratios:
        yield model
        return
    with ms_poe(model, list(method.ratios)):
        yield model


@torch.no_grad()
def hits_at(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, n_tokens: int, n: int, seed: int) -> list[int]:
    """For each of ``DEPTHS``, how many of ``n`` documents are continued by the right word (greedy, among all tokens).

    The questions of one document stand side by side after it: each sees the document and itself, at the positions it
    would have alone, so that one pass answers them all. Document and question have ``n_tokens`` tokens together.
    """
    size = len(QUESTION) + 1
    n_text = n_tokens - size
    positions, mask = _side_by_side(n_text, size, len(DEPTHS))
    ends = torch.arange(1, len(DEPTHS) + 1) * size + n_text - 1
    hits = torch.zeros(len(DEPTHS), dtype=torch.long)
    for index in range(n):
        rng = random.Random(f"{seed}/{n_tokens}/{index}")
        words, asked = make_quiz(rng, n_text - 1, DEPTHS)
        questions = [word for key, _ in asked for word in (*QUESTION, key)]
        tokens = torch.tensor([tokenizer(" ".join([*words, *questions]))["input_ids"]])
        right = torch.tensor(tokenizer(" ".join(value for _, value in asked), add_special_tokens=False)["input_ids"])
        logits = model(tokens, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=ends).logits
        hits += logits[0].argmax(-1) == right
    return [int(hit) for hit in hits]


def _side_by_side(n_text: int, size: int, n: int) -> tuple[Tensor, Tensor]:
    """Positions [1, T] and mask [1, 1, T, T] (true: may look): ``n`` continuations, ``size`` tokens each."""
    which = torch.cat([torch.full((n_text,), -1), torch.arange(n).repeat_interleave(size)])
    positions = torch.cat([torch.arange(n_text), torch.arange(n_text, n_text + size).repeat(n)])
    visible = (which[None, :] == -1) | (which[None, :] == which[:, None])
    return positions[None], (visible & (positions[None, :] <= positions[:, None]))[None, None]


@torch.no_grad()
def loss_by_position(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, edges: tuple[int, ...], n: int, seed: int
) -> list[float]:
    """Mean negative log-likelihood (nats a token) between the position ``edges``, over ``n`` documents."""
    total = torch.zeros(edges[-1] - 1)
    for index in range(n):
        rng = random.Random(f"{seed}/nll/{index}")
        length = edges[-1]
        text = " ".join(training_document(rng, length - 1, length // 32, length // 32).words)
        tokens = torch.tensor([tokenizer(text)["input_ids"]])
        logits = model(tokens, use_cache=False).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none")
    mean = total / n  # entry i is the loss of the token at position i + 1
    starts = (1, *edges[1:])
    return [mean[start - 1 : end - 1].mean().item() for start, end in zip(starts, edges[1:], strict=False)]


def evaluate(directory: Path, n: int, n_loss: int, seed: int, log: Callable[[str], None]) -> str:
    """The card's tables, as Markdown: ``n`` documents for each length, ``n_loss`` for the loss."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    window = int(tokenizer.model_max_length)
    edges = tuple(int(window * part) for part in (0, 0.5, 1, 1.5, 2, 4))
    accuracy = [
        "| method | length | documents | "
        + " | ".join(f"depth {depth:g}" for depth in DEPTHS)
        + " | all, 95% interval |"
    ]
    accuracy.append("|---" * (len(DEPTHS) + 4) + "|")
    losses = ["| method | " + " | ".join(f"{a}-{b}" for a, b in pairwise(edges)) + " |"]
    losses.append("|---" * len(edges) + "|")
    for method in METHODS:
        with applied(method, directory) as model:
            for stretch in method.stretches:
                count = n * INSIDE if method.label == "none" and stretch <= 1 else n
                accuracy.append(_accuracy_row(model, tokenizer, method, int(window * stretch), count, seed))
                log(accuracy[-1])
            values = loss_by_position(model, tokenizer, edges, n_loss, seed)
            losses.append(f"| {method.label} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
            log(losses[-1])
    return "\n".join(
        [
            "Accuracy (share of right answers), one question for each depth in each document:",
            "",
            *accuracy,
            "",
            f"Negative log-likelihood by position, nats a token, {n_loss} documents:",
            "",
            *losses,
        ]
    )


def _accuracy_row(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, method: Method, n_tokens: int, n: int, seed: int
) -> str:
    hits = hits_at(model, tokenizer, n_tokens, n, seed)
    low, high = wilson(sum(hits), n * len(DEPTHS))
    cells = [method.label, str(n_tokens), str(n), *(f"{hit / n:.3f}" for hit in hits)]
    return f"| {' | '.join(cells)} | {sum(hits) / n / len(DEPTHS):.3f} ({low:.3f}-{high:.3f}) |"
