"""Questions over several facts: a solver that reads the story knows the answer, and how many facts it takes."""

from __future__ import annotations

import re
from itertools import islice
from random import Random
from typing import Any

import pytest
from story_solver import run, solve, story
from tasks_matrix import DEPTHS, body, words

from ggufrope.errors import InputError, UsageError
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.tasks import TASKS, make
from ggufrope.evals.tasks.haystack import made_up
from ggufrope.evals.tasks.story import PLACES, THINGS
from ggufrope.evals.tasks.words import NAMES

EVERY = [
    (name, {"facts": facts, "outdated": outdated, "chains": chains})
    for name in ("babi-where", "babi-who")
    for facts in (1, 2, 3)
    for outdated, chains in ((0, 9), (1, 9), (2, 4))
]
by_options = pytest.mark.parametrize(("name", "options"), EVERY, ids=str)


def ask(name: str, length: int = 1300, n: int = 2, depths: Any = DEPTHS, **options: Any) -> list[Example]:
    return list(make(TASKS[name], options).examples(Budget(length, words), depths, n, 0))


def test_the_solver_by_hand() -> None:
    told = "Ann went to the gym. Ann took the map. It rained. Ann gave everything to Bob. Bob moved on to the attic."
    where, who = "Where is the map at the end of the text?", "Who has the map at the end of the text?"
    assert solve(f"x\n\n{told}\n\n{where}").needed == (
        "Ann took the map.", "Ann gave everything to Bob.", "Bob moved on to the attic.",
    )  # fmt: skip
    assert solve(f"x\n\n{told}\n\n{who}").answer == "Bob"
    assert solve(f"x\n\n{told}\n\n{who}").deciding == "Ann gave everything to Bob."
    assert solve(f"x\n\n{told}\n\nWhere is Ann at the end of the text?").needed == ("Ann went to the gym.",)
    assert run(["Ann took the map.", "Ann laid the map aside."], who) == (None, "Ann laid the map aside.")


@by_options
def test_the_solver_finds_the_answer_from_as_many_facts(name: str, options: dict[str, int]) -> None:
    for example in ask(name, **options):
        solution = solve(example.prompt)
        assert (solution.answer,) == example.answers
        assert len(solution.needed) == options["facts"]
        assert solution.deciding == solution.needed[-1]


@by_options
def test_no_other_fact_of_the_chain_gives_the_answer(name: str, options: dict[str, int]) -> None:
    """Who reads only the sentences with the name that is asked for, and not the last fact, is wrong."""
    for example in ask(name, **options):
        facts, asked = story(example.prompt)
        solution = solve(example.prompt)
        before, _ = run(facts[: facts.index(solution.deciding or "")], asked)
        assert before not in example.answers
        if options["outdated"] and options["facts"] == 1:
            subject = re.search(r"(?:Where is|Who has the) (\w+)", asked)
            assert subject and sum(subject[1] in fact for fact in facts) > 1  # something else was true once


@by_options
def test_nobody_is_where_two_stories_meet(name: str, options: dict[str, int]) -> None:
    facts, _ = story(ask(name, n=1, **options)[0].prompt)
    assert len(set(facts)) == len(facts)
    holders: dict[str, str] = {}
    for fact in facts:  # a thing is taken only when nobody has it
        if taken := re.fullmatch(r"(\w+) (?:took|picked up|grabbed) the (\w+)\.", fact):
            assert taken[2] not in holders
            holders[taken[2]] = taken[1]
        elif left := re.fullmatch(r"(\w+) (?:put down|laid|dropped) the (\w+).*", fact):
            assert holders.pop(left[2]) == left[1]


def test_facts_are_spread_over_the_text() -> None:
    """The deciding one at its depth; the others before it, and not beside it."""
    gaps = []
    for example in ask("babi-where", length=3000, n=12, depths=(1.0,), facts=3):
        text, solution = body(example.prompt), solve(example.prompt)
        at = [text.index(sentence) / len(text) for sentence in solution.needed]
        assert at == sorted(at) and at[-1] > 0.98
        gaps.append(at[-1] - at[0])
    assert sum(gaps) / len(gaps) > 0.3


def test_what_is_told_stands_in_no_haystack() -> None:
    ordinary = {w for s in islice(made_up(Random(0)), 3000) for w in re.findall(r"\w+", s.casefold())}
    told = [*PLACES, *THINGS, *(name.casefold() for name in NAMES)]
    assert not set(told) & ordinary
    assert len(set(told)) == len(told) and all(re.fullmatch(r"\w+", word) for word in told)


def test_words_of_a_haystack_are_not_told(tmp_path: Any) -> None:
    path = tmp_path / "h.txt"
    path.write_text("Adele had a violin in the Attic. " * 25)
    for example in ask("babi-where", n=6, haystack=path):
        facts = " ".join(story(example.prompt)[0])
        assert not re.search(r"\b(Adele|violin|attic)\b", facts)
        assert solve(example.prompt).answer == example.answers[0]
    path.write_text(" ".join(f"The {place} is far." for place in [*PLACES, *PLACES[:5]]))
    message = r"babi-where: 2 places are needed, besides those that .*h\.txt mentions itself there are 0; ask for fewer"
    with pytest.raises(UsageError, match=message):
        ask("babi-where", haystack=path)
    with pytest.raises(InputError, match="cannot be read"):
        ask("babi-who", haystack=tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("babi-where", {"facts": 4}, "babi-where: facts is 4; 3 is the most"),
        ("babi-who", {"facts": 0}, "babi-who: facts is 0; 1 is the fewest"),
        ("babi-who", {"outdated": -1}, "babi-who: outdated is -1; 0 is the fewest"),
        ("babi-who", {"chains": 20}, "babi-who: 60 people are needed, there are 48; ask for fewer chains"),
        ("babi-where", {"chains": 26, "facts": 1}, "babi-where: 26 things are needed, there are 25"),
        ("babi-where", {"outdated": 10, "facts": 3}, "babi-where: 21 places are needed, there are 20"),
        ("babi-where", {"chains": 0}, "chains is 0; 1 is the fewest"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(TASKS[name], options)


def test_whoever_lists_every_place_is_right_by_chance_only() -> None:
    task: Any = make(TASKS["babi-where"], {})
    examples = ask("babi-where", n=3)
    assert sum(task.score(f" {', '.join(PLACES)}.", e) for e in examples) < len(examples) / 2
    assert task.score(" hallways", examples[0]) == 0


@pytest.mark.parametrize(("name", "hay"), [("babi-where", "village"), ("babi-who", "sailor"), ("niah-hop", "writer")])
def test_an_answer_from_the_haystack_is_wrong_whatever_follows(name: str, hay: str) -> None:
    task: Any = make(TASKS[name], {})
    [example] = ask(name, n=1, depths=(0.5,))
    assert task.score(f" the {hay}. {example.draft}", example) == 0
    assert task.settled(f" the {hay}. ", example)
    assert task.score(f" the well, and {example.draft}", example) == 1


def test_more_depths_than_chains_take_more_texts() -> None:
    examples = ask("babi-who", n=1, chains=4)
    texts = dict.fromkeys(e.prompt.rsplit("\n\n", 1)[0] for e in examples)
    assert len(texts) == 3 and len(examples) == 9
