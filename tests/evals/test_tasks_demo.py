"""Tasks on a real tokenizer and a real model: transformers' own, on models/demo."""

from __future__ import annotations

import pytest
from tasks_matrix import CASES, DEPTHS, Case
from test_tasks_files import DEMO

from ggufrope.evals.task import Budget
from ggufrope.evals.tasks import TASKS, make

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tokenizer():
    found = transformers.AutoTokenizer.from_pretrained(DEMO.parent)
    found.model_max_length = 10**9  # no warnings: nothing is run at these lengths
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_room_is_respected_to_the_token(case: Case, tokenizer) -> None:
    """A tokenizer that knows few words: most become single letters, at borders that depend on their neighbours."""
    budget = Budget(10 * case.length, lambda prompt, start: len(tokenizer(prompt + start)["input_ids"]))
    options = case.options if case.name != "mdqa" else {**case.options, "documents": 8}
    task = make(TASKS[case.name], options)
    if "data" in case.options and case.name != "mdqa":
        budget = Budget(2 * case.length, budget.count)
    left = [budget.left(e.prompt, e.start, task.max_new) for e in task.examples(budget, DEPTHS, 1, 0)]
    assert min(left) >= 0
    assert min(left) < 400 or case.name == "mdqa"  # letters of the longest unit


@pytest.mark.parametrize(("length", "right"), [(256, 9), (512, 9)])
def test_the_demo_model_finds_every_needle(length: int, right: int, tokenizer) -> None:
    """Inside its window of 512 tokens it was measured to find everything (models/demo/README.md)."""
    model = transformers.LlamaForCausalLM.from_pretrained(DEMO.parent, dtype=torch.float32)
    task = make(TASKS["niah"], {"wording": DEMO})
    budget = Budget(length, lambda prompt, start: len(tokenizer(prompt + start)["input_ids"]))
    examples = list(task.examples(budget, DEPTHS, 1, 0))
    ids = torch.tensor([tokenizer(e.prompt + e.start)["input_ids"] for e in examples])  # every word is one token
    assert length - 10 < ids.shape[1] + task.max_new <= length
    with torch.no_grad():
        likeliest = model(ids, logits_to_keep=1).logits[:, -1].argmax(-1)
    outputs = [" " + tokenizer.decode([token]) for token in likeliest]
    assert sum(task.score(output, e) for output, e in zip(outputs, examples, strict=True)) >= right
    control = make(TASKS["niah"], {"wording": DEMO, "shuffled": True})
    asked = control.examples(budget, DEPTHS, 1, 0)
    assert sum(control.score(output, e) for output, e in zip(outputs, asked, strict=True)) == 0
