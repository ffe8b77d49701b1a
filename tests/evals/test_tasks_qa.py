"""``ruler-qa``: questions that take one document or several, against the file's own lines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tasks_matrix import DATA, words

from ggufrope.errors import InputError, UsageError
from ggufrope.evals.task import Budget, Example
from ggufrope.evals.tasks import TASKS, make


def line(place: str, answer: str) -> dict[str, Any]:
    """A question over two documents, as HotpotQA has them, and one that came with it."""
    gold = [(f"{place} Hall", f"{place} Hall was built by the {place} family."), (place, f"Its founder was {answer}.")]
    texts = [*gold, (f"{place} road", f"A road to {place} lies in the north, as everybody knows.")]
    ctxs = [{"title": t, "text": x, "isgold": (t, x) in gold} for t, x in texts]
    return {"question": f"who founded the family of {place} Hall", "answers": [answer], "ctxs": ctxs[::-1]}


PLACES = ["Arden", "Brill", "Corve", "Dunlow", "Evers", "Farley", "Goring", "Hadley", "Ilston", "Jarrow"]


@pytest.fixture
def two_hops(tmp_path: Path) -> Path:
    path = tmp_path / "two.jsonl"
    path.write_text("\n".join(json.dumps(line(place, f"{place[::-1]} Smith")) for place in PLACES))
    return path


def ask(length: int, n: int = 10, **options: Any) -> list[Example]:
    return list(make(TASKS["ruler-qa"], options).examples(Budget(length, words), (), n, 0))


def documents(example: Example) -> list[tuple[str, str]]:
    return re.findall(r"^Document \[\d+\] \(([^)]*)\): (.*)$", example.prompt, re.MULTILINE)


def test_all_gold_documents_stand_somewhere(two_hops: Path) -> None:
    places = []
    for example in ask(900, data=two_hops, documents=9):
        [place] = set(re.findall(r"family of (\w+) Hall\?", example.prompt))
        titles = [title for title, _ in documents(example)]
        assert len(titles) == 9 and titles.count(place) == titles.count(f"{place} Hall") == 1
        assert example.answers == (f"{place[::-1]} Smith",)
        assert sum(example.answers[0] in text for _, text in documents(example)) == 1
        places += [titles.index(place), titles.index(f"{place} Hall")]
    assert len(set(places)) >= 6 and {0, 8} & set(places)


def test_numbers_of_documents_follow_each_other() -> None:
    [example] = ask(600, n=1, data=DATA / "mdqa.jsonl")
    numbers = re.findall(r"^Document \[(\d+)\]", example.prompt, re.MULTILINE)
    assert numbers == [str(i) for i in range(1, len(numbers) + 1)] and len(numbers) > 5
    assert example.prompt.rstrip().endswith("?") and example.start


def test_yes_and_no_are_answers_and_bar_no_documents(tmp_path: Path) -> None:
    lines = [{**line(place, f"nobody in {place}"), "answers": ["no"]} for place in PLACES]
    path = tmp_path / "no.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    task: Any = make(TASKS["ruler-qa"], {"data": path, "documents": 20})
    examples = ask(900, data=path, documents=20)
    assert len(examples) == len(PLACES)
    assert [task.score(out, examples[0]) for out in (" No.", "I do not know", "known\nno")] == [1, 0, 0]


def test_a_file_that_cannot_serve(two_hops: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ruler-qa: documents is 1; a question of .*two\.jsonl has 2 that it takes"):
        ask(900, data=two_hops, documents=1)
    with pytest.raises(UsageError, match=r"ruler-qa: documents is 99; .*two\.jsonl has \d+"):
        ask(9000, data=two_hops, documents=99)
    with pytest.raises(UsageError, match=r"ruler-qa: no questions; --data FILE"):
        make(TASKS["ruler-qa"], {})
    alone = tmp_path / "one.jsonl"
    alone.write_text(json.dumps({"question": "q", "answers": ["me"], "ctxs": [{"title": "t", "text": "me"}]}))
    with pytest.raises(InputError, match=r"one\.jsonl: nothing to put beside a question's own document"):
        ask(900, data=alone)
    alone.write_text(json.dumps({"question": "q", "ctxs": []}))
    with pytest.raises(InputError, match=r"one\.jsonl: line 1: no 'answers'; it has question, ctxs"):
        ask(900, data=alone)


def test_of_several_gold_documents_mdqa_moves_the_first(two_hops: Path) -> None:
    task: Any = make(TASKS["mdqa"], {"data": two_hops, "documents": 5})
    orders = [[t for t, _ in documents(e)] for e in task.examples(Budget(900, words), (0.0, 1.0), 1, 0)]
    assert orders[0][0] == orders[1][-1] and orders[0][1:] == orders[1][:-1]
