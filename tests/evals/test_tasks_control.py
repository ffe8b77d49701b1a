"""The control: what cannot be known is not known, not even by a reader who makes no mistakes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tasks_matrix import DEPTHS, words

from ggufrope.evals.task import AnswerTask, Budget, Example
from ggufrope.evals.tasks import TASKS, make

CONTROLLED = ["niah", "niah-single", "niah-multikey", "kv-retrieval"]


def reader(example: Example) -> str:
    """Looks the key up in the text, as the question asks."""
    key = re.search(r'(?:number of the|key) "?([a-z0-9 -]+?)"?\?', example.prompt.rsplit("\n\n", 1)[1])
    assert key
    value = re.search(rf'{key.group(1)}(?: is |": ")([0-9a-f-]+)', example.prompt.split("\n\n", 1)[1])
    assert value
    return value.group(1)


def values(example: Example) -> list[str]:
    """Every value that the text gives to somebody."""
    return re.findall(r'(?: is |": ")([0-9a-f-]{36}|\d{7})', example.prompt.split("\n\n", 1)[1])


def asked(name: str, n: int = 6, **options: Any) -> tuple[AnswerTask, list[Example]]:
    task = make(TASKS[name], options)
    return task, list(task.examples(Budget(1200, words), DEPTHS, n, 0))


@pytest.mark.parametrize("name", CONTROLLED)
def test_a_reader_without_mistakes_is_right_and_in_the_control_never(name: str) -> None:
    task, plain = asked(name)
    assert [task.score(reader(e), e) for e in plain] == [1.0] * len(plain)
    control, shuffled = asked(name, shuffled=True)
    assert [control.score(reader(e), e) for e in shuffled] == [0.0] * len(shuffled)


@pytest.mark.parametrize("name", CONTROLLED)
def test_the_control_reads_the_same_text(name: str) -> None:
    _, plain = asked(name)
    _, shuffled = asked(name, shuffled=True)
    assert [(e.prompt, e.start, e.draft) for e in plain] == [(e.prompt, e.start, e.draft) for e in shuffled]


@pytest.mark.parametrize("name", CONTROLLED)
def test_one_value_in_all_is_the_wanted_one(name: str) -> None:
    """So that guessing any value of the text is right once in as many times as there are values, or never."""
    task, shuffled = asked(name, shuffled=True)
    for example in shuffled:
        right = [value for value in values(example) if task.score(value, example)]
        assert len(right) == (0 if name == "niah-single" else 1)
        assert len(values(example)) == len(set(values(example))) >= 1


@pytest.mark.parametrize(("keys", "count"), [(1, 4), (3, 2)])
def test_all_values_of_a_key_are_wanted_and_no_others(keys: int, count: int) -> None:
    for example in asked("niah-multivalue", keys=keys, values=count)[1]:
        [key] = re.findall(r"numbers of the ([a-z ]+)\?", example.prompt)
        assert set(example.answers) == set(re.findall(rf"of the {key} is (\d{{7}})\.", example.prompt))
        assert len(example.answers) == count and len(values(example)) == keys * count
