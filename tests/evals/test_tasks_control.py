"""The control: what cannot be known is not known, not even by a reader who makes no mistakes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tasks_matrix import DEPTHS, words

from ggufrope.errors import UsageError
from ggufrope.evals.task import AnswerTask, Budget, Example
from ggufrope.evals.tasks import TASKS, make

CONTROLLED = ["niah", "niah-single", "niah-multikey", "niah-needles", "kv-retrieval"]


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


@pytest.mark.parametrize(("keys", "queries"), [(4, 4), (9, 3), (1, 1)])
def test_values_of_all_keys_asked_for_are_wanted_in_their_order(keys: int, queries: int) -> None:
    for example in asked("niah-multiquery", keys=keys, queries=queries)[1]:
        told = dict(re.findall(r"number of the ([a-z ]+) is (\d{7})\.", example.prompt))
        [listed] = re.findall(r"code numbers of these: ([a-z, ]+)\?", example.prompt)
        assert [told[key] for key in listed.split(", ")] == list(example.answers)
        assert len(told) == keys and len(example.answers) == queries


def test_a_share_of_several_values_is_a_score() -> None:
    task, examples = asked("niah-multiquery", n=1)
    a, _, c, _ = examples[0].answers
    assert task.score(f" {c} and 1234567, {a}", examples[0]) == 0.5
    assert task.max_new == 4 * 32


def test_a_text_of_needles_holds_nothing_else() -> None:
    for example in asked("niah-needles", n=2)[1]:
        text = example.prompt.split("\n\n")[1]
        facts = re.findall(r"The code number of the ([a-z ]+) is (\d{7})\.", text)
        assert len(" ".join(f"The code number of the {k} is {v}." for k, v in facts)) == len(text)
        assert len(dict(facts)) == len({v for _, v in facts}) == len(facts) > 50
    for example in asked("niah-needles", n=1, keys=9)[1]:
        assert len(values(example)) == 9
    with pytest.raises(UsageError, match="niah-needles: keys is 1; one fact has no others around it"):
        make(TASKS["niah-needles"], {"keys": 1})
    with pytest.raises(UsageError, match="queries is 5, and keys 4: only what is told can be asked for"):
        make(TASKS["niah-multiquery"], {"queries": 5})


@pytest.mark.parametrize(("keys", "count"), [(1, 4), (3, 2)])
def test_all_values_of_a_key_are_wanted_and_no_others(keys: int, count: int) -> None:
    for example in asked("niah-multivalue", keys=keys, values=count)[1]:
        [key] = re.findall(r"numbers of the ([a-z ]+)\?", example.prompt)
        assert set(example.answers) == set(re.findall(rf"of the {key} is (\d{{7}})\.", example.prompt))
        assert len(example.answers) == count and len(values(example)) == keys * count
