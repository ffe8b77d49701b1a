"""Every task, some of its options, and how to find in a prompt where the answer stands: for the shared matrix."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from story_solver import solve

from ggufrope.evals.task import AnswerTask, Budget, Example
from ggufrope.evals.tasks import TASKS, make

DATA = Path(__file__).parent / "data"
DEPTHS = tuple(i / 8 for i in range(9))


def words(prompt: str, start: str) -> int:
    """A tokenizer that a test can check by hand: words, and every sign of punctuation."""
    return len(re.findall(r"\w+|[^\w\s]", prompt + start)) + 1  # 1: the start token


@dataclass(frozen=True)
class Case:
    """A task with options, and a length in ``words`` that it fits in.

    ``units`` cuts a prompt into the units that fill it, in order; ``holds`` says whether one of them holds the answer.
    """

    name: str
    length: int
    options: dict[str, Any] = field(default_factory=dict)
    units: Callable[[str], list[str]] = lambda prompt: re.findall(r"[^.!?]+[.!?]\s*", body(prompt))
    holds: Callable[[str, Example], bool] = lambda unit, example: all(a in unit for a in example.answers)
    slack: int = 0  # tokens by which a unit may be longer than the longest seen
    before: int = 0  # units that have to stand before the answer's, since the answer takes them, too

    def task(self) -> AnswerTask:
        return make(TASKS[self.name], self.options)

    def examples(self, n: int = 2, seed: int = 0, length: int | None = None) -> list[Example]:
        return list(self.task().examples(Budget(length or self.length, words), DEPTHS, n, seed))

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={Path(str(v)).name}" for k, v in self.options.items())])


def body(prompt: str) -> str:
    """What stands between the first and the last paragraph."""
    return prompt.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]


def lines(prompt: str) -> list[str]:
    return body(prompt).split("\n")


def asked_key(unit: str, example: Example) -> bool:
    key = re.search(r'key "([^"]+)"', example.prompt.rsplit("\n\n", 1)[1])
    return key is not None and f'"{key.group(1)}": ' in unit


def with_pass_key(prompt: str) -> list[str]:
    """Sentences; the two that say the pass key are one."""
    return re.findall(r"The pass key is [^.]+\. [^.]+\. ?|[^.]+\. ?", body(prompt))


def listed(prompt: str) -> list[str]:
    return re.findall(r"\d+\. \S+", body(prompt))


def decides(unit: str, example: Example) -> bool:
    return unit.strip() == solve(example.prompt).deciding


CASES = [
    Case("passkey", 600, units=with_pass_key),
    Case("passkey", 400, {"digits": 9}, units=with_pass_key),
    Case("niah", 1500),
    Case("niah", 700, {"keys": 2}),
    Case("niah", 700, {"keys": 20}),
    Case("niah-single", 900),
    Case("niah-multikey", 900),
    Case("niah-multivalue", 900),
    Case("niah-multivalue", 900, {"keys": 3, "values": 2}),
    Case("niah-single", 900, {"haystack": DATA / "haystack.txt"}),
    Case("niah-multiquery", 900),
    Case("niah-multiquery", 900, {"keys": 6, "queries": 2}),
    Case("niah-needles", 400),
    Case("niah-hop", 900),
    Case("niah-hop", 900, {"hops": 0, "people": 4}),
    Case("niah-hop", 900, {"haystack": DATA / "haystack.txt", "hops": 1}),
    Case("babi-where", 900, {"facts": 1}, holds=decides, before=1),
    Case("babi-where", 1200, {"outdated": 2}, holds=decides, before=3),
    Case("babi-where", 1200, {"facts": 3}, holds=decides, before=4),
    Case("babi-who", 900, {"facts": 1, "outdated": 0, "chains": 3}, holds=decides),
    Case("babi-who", 900, holds=decides, before=3),
    Case("babi-who", 1200, {"facts": 3}, holds=decides, before=4),
    Case("kv-retrieval", 900, units=lines, holds=asked_key),
    Case("kv-retrieval", 900, {"data": DATA / "kv.jsonl"}, units=lines, holds=asked_key),
    Case(
        "mdqa",
        600,
        {"data": DATA / "mdqa.jsonl"},
        units=lines,
        holds=lambda unit, example: any(f" {answer} " in unit for answer in example.answers),
    ),
    Case("ruler-vt", 600),
    Case("ruler-vt", 800, {"chains": 3, "hops": 2}),
    Case("ruler-cwe", 3000, units=listed, slack=16),
    Case("ruler-cwe", 900, {"frequent": 5, "rare": 1, "common": 4}, units=listed, slack=0),
    Case("ruler-qa", 600, {"data": DATA / "mdqa.jsonl"}, units=lines),
    Case("ruler-fwe", 600, units=lambda prompt: body(prompt).split(), slack=6),
]
