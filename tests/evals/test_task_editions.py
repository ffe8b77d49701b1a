"""A task that asks or scores otherwise than before has another ``edition``: old results are not taken for new ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tasks_matrix import CASES

from ggufrope.evals.answer_kind import ANSWERS
from ggufrope.evals.tasks import TASKS, make, record

#: Each task's edition, and the beginning of a sha256 of what it asked when that was written down.
ASKED = {
    "passkey": (1, "f1b0f2fab1b9"),
    "niah": (1, "8914a4242ff6"),
    "niah-single": (1, "888f05121878"),
    "niah-multikey": (1, "7595cb306707"),
    "niah-multivalue": (1, "3505f8ce3466"),
    "niah-multiquery": (1, "309634b88f4f"),
    "niah-needles": (1, "5a6f0825db28"),
    "niah-hop": (1, "7bec8e3db0fa"),
    "babi-where": (1, "68be8a7ef9ee"),
    "babi-who": (1, "d8a3d406b76f"),
    "kv-retrieval": (1, "9ad2a4cc4ef2"),
    "mdqa": (1, "9be8d237170f"),
    "ruler-vt": (1, "2d6bb0daa077"),
    "ruler-cwe": (1, "b436f41eca3f"),
    "ruler-fwe": (1, "1f619b7a06b4"),
    "ruler-qa": (1, "a12e0028575e"),
}


def digest(name: str) -> str:
    """Of all examples of the task's cases: prompts, answers, tokens for them, and a few scores."""
    return hashlib.sha256("\n".join(_said(name)).encode()).hexdigest()[:12]


def _said(name: str) -> Iterator[str]:
    for case in CASES:
        if case.name == name:
            task = case.task()
            for example in case.examples():
                outputs = (example.draft, example.draft.upper(), f"\nsaid {example.draft}s", example.prompt)
                scores = [task.score(output, example) for output in outputs]
                yield json.dumps([dataclasses.asdict(example), task.max_new, scores])


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.kind is ANSWERS])
def test_what_a_task_asks_has_its_edition(name: str) -> None:
    found = (getattr(TASKS[name], "edition", 1), digest(name))
    assert ASKED.get(name) == found, (
        f"{name} asks or scores otherwise than before. Give it an `edition` one higher (the first is 1), so that old "
        f"results are not mixed with new ones, and put {found!r} here; if only cases of the matrix changed, the latter"
    )


def test_an_edition_is_kept_with_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = make(TASKS["niah"], {})
    assert "edition" not in record(task)
    monkeypatch.setattr(TASKS["niah"], "edition", 3, raising=False)
    assert record(task) == {"keys": 12, "shuffled": False, "edition": 3}
