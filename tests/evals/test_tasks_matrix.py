"""What every task must hold, whatever it asks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks_matrix import CASES, DEPTHS, Case, words

from ggufrope.errors import UsageError
from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.tasks import TASKS, make, options

by_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_task_is_in_the_matrix() -> None:
    assert {case.name for case in CASES} == {name for name, task in TASKS.items() if task.kind is ANSWERS}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_documents_itself(name: str) -> None:
    cls = TASKS[name]
    assert cls.name == name
    assert cls.summary and cls.__doc__
    assert cls.paper.startswith("arXiv ") or cls.kind is not ANSWERS
    assert all(field.metadata["help"] for field in options(cls).values())


@by_case
def test_the_same_arguments_give_the_same_examples(case: Case) -> None:
    assert case.examples() == case.examples()
    assert any(case.examples(seed=seed) != case.examples() for seed in (1, 2, 3))


@by_case
def test_a_sample_does_not_depend_on_how_many_there_are(case: Case) -> None:
    few = case.examples(n=1)
    assert [e.answers for e in case.examples(n=3)][: len(few)] == [e.answers for e in few]


@by_case
def test_names_and_depths(case: Case) -> None:
    examples = case.examples(n=3)
    if not case.task().by_depth:
        assert [(e.name, e.depth) for e in examples] == [("0", None), ("1", None), ("2", None)]
        return
    assert {e.name for e in examples} == {f"{i}/{d:g}" for i in range(3) for d in DEPTHS}
    assert all(e.name.split("/")[1] == f"{e.depth:g}" for e in examples)
    assert [e.name.split("/")[0] for e in examples] == [str(i) for i in range(3) for _ in DEPTHS]


@by_case
def test_budget_is_kept_and_filled_to_one_unit(case: Case) -> None:
    task, budget = case.task(), Budget(case.length, words)
    longest = max(words(unit, "") for e in case.examples() for unit in case.units(e.prompt)) + case.slack
    for sample in ("0", "1"):
        mine = [e for e in case.examples() if e.name.split("/")[0] == sample]
        left = [budget.left(e.prompt, e.start, task.max_new) for e in mine]
        assert 0 <= min(left) < longest
        assert max(left) < 2 * longest  # the questions differ in length a little


@by_case
def test_a_token_less_is_not_too_much(case: Case) -> None:
    """Every length just around the edge of one more unit is respected."""
    task = case.task()
    for length in range(case.length, case.length + 12):
        examples = case.examples(n=1, length=length)
        assert min(Budget(length, words).left(e.prompt, e.start, task.max_new) for e in examples) >= 0


@by_case
def test_too_little_room_says_the_smallest_length(case: Case) -> None:
    with pytest.raises(UsageError, match=r"the smallest length is \d+") as error:
        case.examples(n=3, length=10)
    needed = int(str(error.value).split()[-1])
    assert case.examples(n=3, length=needed)
    with pytest.raises(UsageError, match=f"the smallest length is {needed}"):
        case.examples(n=3, length=needed - 1)


@by_case
def test_the_answer_stands_at_its_depth(case: Case) -> None:
    for example in case.examples(n=3):
        if example.depth is None:
            continue
        units = case.units(example.prompt)
        [place] = [i for i, unit in enumerate(units) if case.holds(unit, example)]
        others = sum(map(len, units)) - len(units[place])
        off = sum(map(len, units[:place])) - example.depth * others
        assert abs(off) <= (case.before + 1) * max(map(len, units)), (example.name, off)
        if example.depth in (0, 1):
            assert place == (case.before if example.depth == 0 else len(units) - 1)


@by_case
def test_drafts_score_1_and_wrong_ones_0(case: Case) -> None:
    task = case.task()
    for example in case.examples():
        assert task.score(example.draft, example) == 1
        assert task.score(example.draft + " and more.\n", example) == 1
        for wrong in ("", " ", "\n", " I cannot know that.", "\ufffd"):
            assert task.score(wrong, example) == 0


@by_case
def test_drafts_are_settled_at_the_latest_one_word_later(case: Case) -> None:
    """What makes the right answers cheap: nothing is generated after them."""
    task = case.task()
    for example in case.examples():
        assert task.settled(example.draft + " .\n", example)
        assert not task.settled("", example)


@by_case
@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_settled_scores_stay(case: Case, seed: int) -> None:
    """Random outputs, made of pieces of right answers and of what may follow or stand in their way."""
    task, examples = case.task(), _some(case)
    rng = random.Random(seed)
    example = rng.choice(examples)
    pieces = [
        *_pieces(example),
        *_pieces(rng.choice(examples)),
        " ",
        "\n",
        "",
        "a",
        "the",
        "'",
        ".",
        "7",
        "Σ",
        "\ufffd",
    ]
    output = "".join(rng.choices(pieces, k=rng.randrange(8)))
    if task.settled(output, example):
        for _ in range(5):
            more = output.rstrip("\ufffd") if rng.random() < 0.3 else output  # the character was completed
            more += "".join(rng.choices(pieces, k=rng.randrange(1, 6)))
            assert task.score(more, example) == task.score(output, example), (output, more)


_cache: dict[str, list[Example]] = {}


def _some(case: Case) -> list[Example]:
    if str(case) not in _cache:
        _cache[str(case)] = case.examples()
    return _cache[str(case)]


def _pieces(example: Example) -> list[str]:
    whole = [example.draft, *example.answers]
    return [*whole, *(text[:-1] for text in whole), *(text[: len(text) // 2] for text in whole), " "]


@by_case
def test_questions_about_one_text_follow_each_other(case: Case) -> None:
    """The text is what stands before the question; the same text never comes back later."""
    texts = [e.prompt.rsplit("\n\n", 1)[0] for e in case.examples(n=3)]
    changes = [text for i, text in enumerate(texts) if i == 0 or texts[i - 1] != text]
    assert len(changes) == len(set(changes))


def test_unknown_options_are_named() -> None:
    with pytest.raises(UsageError, match="unknown option 'key': did you mean keys"):
        make(TASKS["niah"], {"key": "3"})


def test_options_are_read_from_text() -> None:
    assert make(TASKS["niah"], {"keys": "3", "shuffled": "true"}) == make(TASKS["niah"], {"keys": 3, "shuffled": True})


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"keys": "many"}, "niah: keys is 'many'; a whole number is needed"),
        ({"shuffled": "perhaps"}, "niah: shuffled is 'perhaps'; true or false is needed"),
        ({"keys": "0"}, "niah: keys is 0; 1 is the fewest"),
        ({"answer-tokens": "0"}, "niah: answer_tokens is 0; 1 is the fewest"),
    ],
)
def test_options_that_make_no_sense(given_options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(TASKS["niah"], given_options)
