"""The texts of a run: of each step, of the selection split, and plain text for the report."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ggufrope.errors import UsageError
from ggufrope.tune.plain_text import PlainText
from ggufrope.tune.report_split import ReportCell
from ggufrope.tune.searcher import KEEP
from ggufrope.tune.split_seeds import REPORT, SELECT, TRAIN, split_seed
from ggufrope.tune.tuning_texts import TuningText

__all__ = ["GoalTexts", "RunTexts", "SelectionGroup", "TextMaker"]

#: ``texts_of`` with a tokenizer and a chat template: task, length, depths, n, seed, lead.
TextMaker = Callable[[Any, int, "tuple[float, ...]", int, int, "str | None"], Sequence[TuningText]]

#: Tokens of a short plain text; a long one is as long as the tasks' texts.
_SHORT = 256
#: Every so many steps the plain text is a long one: it costs as much as a text with questions.
_LONG_EVERY = 4
#: Plain texts of a length for the selection, and for the report at most; and the fewest that a split must have.
_SELECTED, _REPORTED, _FEWEST = 8, 20, 4


@dataclass(frozen=True, slots=True)
class GoalTexts:
    """Where a goal's texts come from.

    Attributes:
        task: the task's name.
        weight: how much it counts.
        parts: the task by split; None: plain text that is to be predicted.
        depths: where answers stand; empty for tasks without.
        lead: what the model writes before an answer (``answer_form``).
    """

    task: str
    weight: float
    parts: dict[str, Any] | None
    depths: tuple[float, ...]
    lead: str | None = None


@dataclass(frozen=True, slots=True)
class SelectionGroup:
    """Texts of the selection split of one task and length."""

    task: str
    length: int
    weight: float
    plain: bool
    texts: tuple[TuningText, ...]


@dataclass(frozen=True, slots=True)
class RunTexts:
    """All texts of a run; called with a step, that step's (``searcher.TextsFor``).

    Attributes:
        goals: what is tuned for.
        plain: the text files.
        make: makes texts with questions.
        lengths: of them, in tokens.
        seed: of the run.
        step_texts: texts with questions of a step.
        select_texts: texts of the selection split, of each task and length.
    """

    goals: tuple[GoalTexts, ...]
    plain: tuple[PlainText, ...]
    make: TextMaker
    lengths: tuple[int, ...]
    seed: int
    step_texts: int
    select_texts: int

    def __call__(self, step: int) -> list[TuningText]:
        """The texts of a step: of a task and length by lot, tasks by their weights; and a plain text to keep."""
        chosen = [self._of_step(step, place) for place in range(self.step_texts)]
        return [*chosen, self._kept(step)]

    def _of_step(self, step: int, place: int) -> TuningText:
        seed = split_seed(self.seed, TRAIN, step * self.step_texts + place)
        rng = random.Random(seed)
        goal = rng.choices(self.goals, [goal.weight for goal in self.goals])[0]
        length = rng.choice(self.lengths)
        if goal.parts is None:
            return rng.choice(self._trained_on(length)).texts(TRAIN, length=length, n=1, seed=seed)[0]
        return self.make(goal.parts[TRAIN], length, goal.depths, 1, seed, goal.lead)[0]

    def _kept(self, step: int) -> TuningText:
        seed = split_seed(self.seed, "keep", step)
        length = self.kept_lengths[-1 if step % _LONG_EVERY == 0 else 0]
        text = random.Random(seed).choice(self._trained_on(length)).texts(TRAIN, length=length, n=1, seed=seed)[0]
        return replace(text, name=KEEP + text.name)

    def _trained_on(self, length: int) -> list[PlainText]:
        """The files that have a text of ``length`` tokens for training; ``require_enough``: there is one."""
        return [plain for plain in self.plain if len(plain.parts[TRAIN]) >= length]

    @property
    def kept_lengths(self) -> tuple[int, ...]:
        """Tokens of a short and of a long plain text."""
        longest = max(self.lengths)
        return tuple(sorted({min(_SHORT, longest), longest}))

    def selection(self) -> list[SelectionGroup]:
        """The texts of the selection split, task by task and length by length."""
        seed, groups = split_seed(self.seed, SELECT), []
        for goal in self.goals:
            for length in self.lengths:
                if goal.parts is None:
                    texts: Sequence[TuningText] = self.plain_texts(SELECT, length, self.select_texts)
                else:
                    texts = self.make(goal.parts[SELECT], length, goal.depths, self.select_texts, seed, goal.lead)
                weight = goal.weight / len(self.lengths)
                groups.append(SelectionGroup(goal.task, length, weight, goal.parts is None, tuple(texts)))
        return groups

    def selection_kept(self) -> dict[int, tuple[TuningText, ...]]:
        """Plain texts of the selection split by length."""
        return {length: self.plain_texts(SELECT, length, _SELECTED) for length in self.kept_lengths}

    def report_kept(self, length: int) -> tuple[TuningText, ...]:
        """Plain texts of the report split, of ``length`` tokens."""
        return self.plain_texts(REPORT, length, _REPORTED)

    def selection_cell(self, cell: ReportCell, goal: GoalTexts, limit: int) -> ReportCell:
        """A goal's cell of the report as one of the selection split."""
        if goal.parts is None:
            return replace(cell, texts=self.plain_texts(SELECT, cell.length, limit), limit=limit)
        return replace(cell, task=goal.parts[SELECT], seed=split_seed(self.seed, SELECT), limit=limit)

    def plain_texts(self, split: str, length: int, n: int) -> tuple[TuningText, ...]:
        """At most ``n`` plain texts of ``length`` tokens from all files alike."""
        shares = [min(plain.most(split, length), -(-n // len(self.plain))) for plain in self.plain]
        seed = split_seed(self.seed, split)
        found = [
            plain.texts(split, length=length, n=share, seed=seed)
            for plain, share in zip(self.plain, shares, strict=True)
            if share
        ]
        return tuple(text for texts in found for text in texts)[:n]

    def require_enough(self) -> None:
        """Refuse plain text that is too short for the splits.

        Raises:
            UsageError: says how many tokens there are, and how many would do.
        """
        length = self.kept_lengths[-1]
        shortest = min((TRAIN, SELECT, REPORT), key=lambda split: self._most(split, length))
        if self._most(shortest, length) >= _FEWEST:
            return
        tokens = sum(len(part) for plain in self.plain for part in plain.parts.values())
        share = sum(len(plain.parts[shortest]) for plain in self.plain) / max(tokens, 1)
        needed = round(_FEWEST * length / max(share, 0.01))
        names = ", ".join(str(plain.path) for plain in self.plain)
        raise UsageError(
            f"{names}: {tokens} tokens of plain text are too few: {shortest} gets {share:.0%} of them, and needs "
            f"{_FEWEST} texts of {length}; give a longer --text, of {needed} tokens or more, or a smaller --length"
        )

    def _most(self, split: str, length: int) -> int:
        return sum(plain.most(split, length) for plain in self.plain)
