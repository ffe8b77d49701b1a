"""Every rope type, nesting, null, missing or extra key, and kind of layers, against transformers' own models.

A toy with the settings of a case is converted; ``inspect --json`` must give the frequencies and attention scales that
each layer of transformers' model rotates with (watched in its forward pass), and the runtime's log-probabilities must
be its own, within and beyond the original context. Or the conversion is refused in words, where that is listed.

A few cases run by default, all of them among the slow tests. What they came to is recorded, and shown in
``docs/validation.md``.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
from checkpoint_case import Workbench
from matrix_cases import CASES, Case
from matrix_outcome import MAX_GAP, MAX_KL, Outcome, kind
from matrix_record import REFUSALS, read_record
from published_settings import DISGUISES
from toy_registry import TOYS

from ggufrope.errors import GgufropeError
from ggufrope.runtime.fetch import source_tree


@pytest.fixture(scope="module")
def bench(tmp_path_factory, runtime_dir, stock_dir):
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    if find_spec("llama_cpp") is None:  # which library it loads is not for this process to say
        pytest.skip("llama-cpp-python is missing; run scripts/setup")
    try:
        source = source_tree()
    except GgufropeError as error:
        pytest.skip(f"the pinned source could not be fetched: {error}")
    bench = Workbench(tmp_path_factory.mktemp("checkpoints"), source)
    yield bench
    bench.close()


def check(outcome: Outcome) -> None:
    came_to = kind(outcome)
    assert came_to != "wrong", outcome
    assert not outcome.agrees or outcome.exact, "it says that they agree"
    if came_to in ("refused", "nothing"):
        assert "DIR" in outcome.refused, "which directory?"
        assert "DIR/." not in outcome.refused, "a temporary file is nobody's business"
        assert " --" in outcome.refused or ";" in outcome.refused, "what to do?"
    if came_to == "refused":
        assert any(re.match(pattern, outcome.case) for pattern in REFUSALS), outcome.refused


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name, marks=[pytest.mark.slow] * (not c.core)) for c in CASES])
def test_the_file_is_the_model(bench, case):
    outcome = bench.measure(case)
    check(outcome)
    recorded = kind(read_record()[case.name])
    assert kind(outcome) == recorded, "scripts/checkpoint-matrix renews the record"


@pytest.mark.parametrize("outcome", read_record().values(), ids=lambda o: o.case)
def test_what_is_recorded_is_allowed(outcome):
    check(outcome)


def test_the_record_is_of_all_cases():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert list(read_record()) == names


def test_thirty_architectures_are_exact_in_every_layer():
    exact = [o for o in read_record().values() if o.exact and o.case.endswith(": as it is")]
    assert len({o.architecture for o in exact}) >= 30
    assert len(exact) >= 50


def _scaling(**changed):
    return lambda config: config | {"rope_scaling": config["rope_scaling"] | changed}


#: A model's own configuration, wrong by a little.
MISTAKES = {
    "base": ("qwen3", "yarn", lambda c: c | {"rope_theta": c["rope_theta"] * 1.001}),
    "factor": ("qwen3", "yarn", _scaling(factor=4.01)),
    "original": ("llama", "yarn", _scaling(original_max_position_embeddings=190)),
    "attention": ("qwen3", "yarn", _scaling(attention_factor=1.14)),
    "local base": ("gemma3_text", "published", lambda c: c | {"rope_local_base_freq": 10100.0}),
    "length": ("llama", "dynamic", lambda c: c | {"max_position_embeddings": 255}),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_be_seen(bench, monkeypatch, mistake):
    """0.1% of a base, 0.25% of a factor, 0.12% of an attention scale, 1% of the base of windowed layers, a token."""
    toy, setting, wrong = MISTAKES[mistake]
    (right,) = (c for c in CASES if (c.toy, c.setting, c.disguise) == (toy, setting, ""))
    monkeypatch.setitem(DISGUISES, "wrong", wrong)
    outcome = bench.measure(Case(toy, setting, right.rope, disguise="wrong"))
    assert not outcome.refused
    assert max(outcome.kl) > MAX_KL
    assert mistake == "local base" or max(outcome.gap, outcome.scale_gap) > MAX_GAP


def test_every_toy_has_cases():
    assert {case.toy for case in CASES} == TOYS.keys()
