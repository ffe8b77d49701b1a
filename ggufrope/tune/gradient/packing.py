"""All questions of a text in one forward pass: the prefix once, and each question seeing the prefix and itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Packable", "PackableQuestion", "PackedMask", "PackedText", "pack"]


class PackableQuestion(Protocol):
    """What is read of a ``TuningQuestion``."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The rest of its prompt behind the prefix."""
        ...

    @property
    def answer(self) -> tuple[int, ...]:
        """The right answer's, one or more."""
        ...


class Packable(Protocol):
    """What is read of a ``TuningText``."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """What all questions are read behind, one token or more."""
        ...

    @property
    def questions(self) -> Sequence[PackableQuestion]:
        """One or more."""
        ...


@dataclass(frozen=True, slots=True)
class PackedMask:
    """What the tokens of a packed text may see, in layers of one kind.

    Attributes:
        n_prefix: tokens of the prefix, which stand first.
        prefix: ``(n_prefix, n_prefix)``, True where a token is seen; None: each sees itself and all before it.
        rest: ``(n - n_prefix, n)``, the same for the questions' tokens; None where there are none.
    """

    n_prefix: int
    prefix: Tensor | None
    rest: Tensor | None

    def additive(self, dtype: torch.dtype) -> Tensor:
        """For classes that add it to their scores: ``(1, 1, n, n)``, 0 where a token is seen."""
        n = self.n_prefix + (0 if self.rest is None else len(self.rest))
        first = torch.ones(self.n_prefix, n, dtype=torch.bool).tril() if self.prefix is None else self.prefix
        first = torch.nn.functional.pad(first[:, : self.n_prefix], (0, n - self.n_prefix))
        seen = first if self.rest is None else torch.cat((first.to(self.rest.device), self.rest))
        return torch.zeros(n, n, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[None, None]


@dataclass(frozen=True, slots=True)
class PackedText:
    """A text's tokens, each read once.

    Attributes:
        tokens: the prefix, then each question's, without the last of its answer, which predicts nothing, ``(n,)``.
        positions: those of a question go on from the prefix, ``(n,)``.
        owners: the question that a token belongs to, -1 in the prefix, ``(n,)``.
        n_prefix: tokens of the prefix.
        rows: of each question, the tokens that predict its answer's, ``(n_answer,)``.
        answers: of each question, the right tokens, ``(n_answer,)``.
    """

    tokens: Tensor
    positions: Tensor
    owners: Tensor
    n_prefix: int
    rows: tuple[Tensor, ...]
    answers: tuple[Tensor, ...]

    def mask(self, window: int | None = None) -> PackedMask:
        """Who sees whom.

        Args:
            window: a token sees those that are fewer positions away than this; None: all before it.
        """
        n = self.n_prefix
        ahead, whole = self.positions[:, None] - self.positions[None, :], window is None or window >= n
        seen = ahead >= 0 if window is None else (ahead >= 0) & (ahead < window)
        own = (self.owners[None, :] == -1) | (self.owners[None, :] == self.owners[:, None])
        prefix = None if whole else seen[:n, :n]
        return PackedMask(n, prefix, (seen & own)[n:] if len(self.tokens) > n else None)


def pack(prefix: Sequence[int], questions: Sequence[PackableQuestion], device: torch.device) -> PackedText:
    """One forward's tokens of a text.

    Args:
        prefix: tokens that all questions are read behind, at least one.
        questions: what each has behind the prefix.
        device: where the tensors shall be.
    """
    tokens, positions, owners = list(prefix), list(range(len(prefix))), [-1] * len(prefix)
    rows, answers = [], []
    for number, question in enumerate(questions):
        behind = (*question.tokens, *question.answer[:-1])
        at = [len(prefix) - 1, *range(len(tokens), len(tokens) + len(behind))]
        tokens += behind
        positions += range(len(prefix), len(prefix) + len(behind))
        owners += [number] * len(behind)
        rows.append(torch.tensor(at[len(question.tokens) :], device=device))
        answers.append(torch.tensor(question.answer, device=device))
    of_tokens, of_positions, of_owners = (torch.tensor(v, device=device) for v in (tokens, positions, owners))
    return PackedText(of_tokens, of_positions, of_owners, len(prefix), tuple(rows), tuple(answers))
