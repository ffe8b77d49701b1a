"""``kv-retrieval``: the value of one key in a JSON object full of random keys and values."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ggufrope.errors import InputError, UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.task_kind import TaskKind
from ggufrope.evals.tasks.fitting import Sample, filled
from ggufrope.evals.tasks.placing import nearest
from ggufrope.evals.tasks.records import read_records
from ggufrope.evals.tasks.scoring import share_found, share_found_settled
from ggufrope.evals.tasks.task_options import at_least_one
from ggufrope.methods.protocol import option

__all__ = ["KvRetrieval"]

Pair = tuple[str, str]
Record = tuple[Pair, tuple[Pair, ...]]  # the gold pair, and all pairs

_PREAMBLE = "Below is a JSON object. You will be asked for the value of one of its keys.\n\n"
_QUESTION = '\n\nWhat is the value of the key "{key}"?\n'
_START = "The value is:"
_DATA = {
    "help": "JSON Lines (gzip or plain) with ordered_kv_records, key, value, as lost-in-the-middle publishes them",
    "kind": "file",
    "parts": "records",
}


@dataclass(frozen=True, slots=True)
class KvRetrieval:
    """A JSON object of random UUIDs, and the value of one key is asked for; right when it stands in the answer.

    Lost in the Middle's key-value retrieval (arXiv 2307.03172), in other words. Made here, one object serves all
    depths: another of its keys is asked for at each. From the authors' file (``data``), every example has its own gold
    pair, which is moved to each depth among the other pairs; without ``keys`` the length is filled with pairs of the
    file's next examples, or not all of its own are taken.

    ``shuffled`` is a control: the expected answer is the value of the next pair, which the question does not ask for.
    """

    kind: ClassVar[TaskKind[Any]] = ANSWERS
    name: ClassVar[str] = "kv-retrieval"
    summary: ClassVar[str] = "the value of one key in a JSON object of random UUIDs"
    paper: ClassVar[str] = "arXiv 2307.03172"
    by_depth: ClassVar[bool] = True

    keys: int | None = option(None, "pairs in the object; default: as many as fit the length")
    shuffled: bool = option(False, "control: expect the next key's value, which the question does not ask for")
    data: Path | None = field(default=None, metadata=_DATA)
    answer_tokens: int = option(64, "tokens an answer may take")

    def __post_init__(self) -> None:
        at_least_one(self.name, keys=self.keys, answer_tokens=self.answer_tokens)
        if self.keys == 1:
            raise UsageError(f"{self.name}: keys is 1; there is nothing to look up in one pair, 2 is the fewest")

    @property
    def max_new(self) -> int:
        """Tokens an answer may take."""
        return self.answer_tokens

    def examples(self, budget: Budget, depths: Sequence[float], n: int, seed: int) -> Iterator[Example]:
        """See ``AnswerTask``."""
        if self.data is None:
            return filled(self.name, budget, lambda index: self._made_up(depths, seed, index), n, self.max_new)
        records = read_records(self.data, _record)
        order = random.Random(f"kv-retrieval {seed}").sample(range(len(records)), len(records))

        def sample(index: int) -> Sample:
            return self._published(records, order[index], depths, index)

        return filled(self.name, budget, sample, min(n, len(order)), self.max_new)

    def _made_up(self, depths: Sequence[float], seed: int, index: int) -> Sample:
        rng = random.Random(f"kv-retrieval {seed} {index}")
        pairs: list[Pair] = []

        def write(n: int) -> list[Example]:
            pairs.extend((_uuid(rng), _uuid(rng)) for _ in range(n - len(pairs)))
            return [self._example(pairs[:n], nearest(depth, n), depth, index) for depth in depths]

        return Sample(write, least=self.keys or 2, most=self.keys)

    def _published(self, records: Sequence[Record], which: int, depths: Sequence[float], index: int) -> Sample:
        gold, others = _with_distractors(records, which)
        if not others:
            raise InputError(f"{self.data}: nothing to put beside a question's own pair; a file with more is needed")
        if self.keys is not None and self.keys > len(others) + 1:
            raise UsageError(f"{self.name}: keys is {self.keys}; {self.data} has {len(others) + 1} pairs")

        def write(n: int) -> list[Example]:
            examples = []
            for depth in depths:
                place = nearest(depth, n)
                pairs = [*others[:place], gold, *others[place : n - 1]]
                examples.append(self._example(pairs, place, depth, index))
            return examples

        return Sample(write, least=self.keys or 2, most=self.keys or len(others) + 1)

    def _example(self, pairs: Sequence[Pair], place: int, depth: float, index: int) -> Example:
        key, value = pairs[place]
        wanted = pairs[(place + 1) % len(pairs)][1] if self.shuffled else value
        return Example(
            name=f"{index}/{depth:g}",
            depth=depth,
            prompt=_PREAMBLE + _as_json(pairs) + _QUESTION.replace("{key}", key),
            start=_START,
            answers=(wanted,),
            draft=f' "{value}"',
        )

    def score(self, output: str, example: Example) -> float:
        """1 when the value stands in the output."""
        return share_found(output, example.answers)

    def settled(self, output: str, example: Example) -> bool:
        """Whether the value has been found."""
        return share_found_settled(output, example.answers)


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _as_json(pairs: Sequence[Pair]) -> str:
    return "{" + ",\n ".join(f'"{key}": "{value}"' for key, value in pairs) + "}"


def _record(value: dict[str, Any]) -> Record:
    """The gold pair and all pairs of a line."""
    key, gold = value["key"], value["value"]
    pairs = tuple((str(k), str(v)) for k, v in value["ordered_kv_records"])
    if (key, gold) not in pairs:
        raise ValueError(f"its key {key!r} with its value is not among ordered_kv_records")
    return (key, gold), pairs


def _with_distractors(records: Sequence[Record], first: int) -> tuple[Pair, list[Pair]]:
    """The gold pair of a record, and the other pairs: its own, then those of the records that follow."""
    gold = records[first][0]
    others: dict[str, str] = {}
    for step in range(len(records)):
        others.update(records[(first + step) % len(records)][1])
    others.pop(gold[0])
    return gold, list(others.items())
