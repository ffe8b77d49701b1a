"""Options that say otherwise than a file whose factors are relative to its own keys: refused, with both sides named.

Through llama.cpp's C API, which every program and binding stands on; programs: ``test_contradiction_programs.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, entry
from llama_process import Outcome, run_job
from test_runtime_head_factors import RATIOS, length_row, with_factors
from test_runtime_length import TOKENS, with_table
from tiny_cache import LengthTable
from tiny_transformer import TinyModel

MODEL = TinyModel("llama")
NONE, LINEAR, YARN = 0, 1, 2  # enum llama_rope_scaling_type
SLOW = np.linspace(1, 3, MODEL.n_rot // 2, dtype=np.float32)
BASE = "llama.rope.freq_base"
EVAL = ["eval", TOKENS[:100], 0, 0]
REFUSED = re.compile(r"(?:failed to initialize the context|error loading model): (.*)")
ORDER = "ggufrope.head_order"


def scaling(**keys: Any) -> list[bytes]:
    kinds = {"type": STR, "factor": F32, "attn_factor": F32, "original_context_length": U32}
    return [entry(f"llama.rope.scaling.{name}", kinds[name], value) for name, value in keys.items()]


YARN_KEYS = scaling(type="yarn", factor=3.0, original_context_length=128)
PAIRS = np.repeat(RATIOS[:, :, None], MODEL.n_rot // 2, axis=2)
#: Files with a table: by head, by head and pair, by length, one row for all lengths, and by head on top of upstream's
#: yarn and of rows.
TABLES = {
    "heads": with_factors(RATIOS),
    "pairs": [
        entry("ggufrope.version", U32, 3),
        entry("ggufrope.method", STR, "ms-poe"),
        entry("ggufrope.pair_factors", ARR, PAIRS.ravel().tolist(), F32),
    ],
    "lengths": with_table(LengthTable.growing(MODEL.n_rot, [64, 96, 512])),
    "row": with_factors(np.ones((3, 2)), *length_row(SLOW, 1.0)),
    "scale": with_factors(np.ones((3, 2)), *length_row(np.ones_like(SLOW), 1.25)),
    "heads on yarn": with_factors(RATIOS, *YARN_KEYS),
    "heads on lengths": with_table(LengthTable.growing(MODEL.n_rot, [64, 512]), RATIOS),
}
#: Files that stock's keys serve: their flags are stock's.
PLAIN = {
    "no keys": [],
    "stock's yarn": YARN_KEYS,
    "yarn": [entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "yarn"), *YARN_KEYS],
    "ones": with_factors(np.ones((3, 2))),
}

#: A parameter, its option as it is named in the error, and the key.
PARAMETERS = [
    ({"rope_freq_base": 20000.0}, "--rope-freq-base 20000 ", BASE),
    ({"rope_freq_scale": 0.25}, "--rope-freq-scale 0.25 or --rope-scale 4 ", "llama.rope.scaling.factor"),
    ({"rope_scaling_type": NONE}, "--rope-scaling none ", "llama.rope.scaling.type"),
    ({"rope_scaling_type": LINEAR}, "--rope-scaling linear ", "llama.rope.scaling.type"),
    ({"yarn_orig_ctx": 100}, "--yarn-orig-ctx 100 ", "llama.rope.scaling.original_context_length"),
    ({"yarn_ext_factor": 0.5}, "--yarn-ext-factor 0.5 ", "llama.rope.scaling.yarn_ext_factor"),
    ({"yarn_attn_factor": 1.5}, "--yarn-attn-factor 1.5 ", "llama.rope.scaling.yarn_attn_factor"),
    ({"yarn_beta_fast": 16.0}, "--yarn-beta-fast 16 ", "llama.rope.scaling.yarn_beta_fast"),
    ({"yarn_beta_slow": 2.0}, "--yarn-beta-slow 2 ", "llama.rope.scaling.yarn_beta_slow"),
]
#: What a file with a table cannot have overridden.
OVERRIDES: dict[str, int | float | str | bool] = {
    BASE: 20000.0,
    "llama.rope.freq_base_swa": 20000.0,
    "llama.rope.dimension_count": 16,
    "llama.rope.scale_linear": 2.0,
    "llama.rope.scaling.type": "linear",
    "llama.rope.scaling.factor": 2.0,
    "llama.rope.scaling.attn_factor": 1.5,
    "llama.rope.scaling.original_context_length": 64,
    "llama.rope.scaling.finetuned": True,
    "llama.context_length": 512,
    "llama.attention.sliding_window": 64,
    "ggufrope.version": 2,
    "ggufrope.method": "yarn",
    "ggufrope.params": "{}",
    "ggufrope.context_length": 512,
    "ggufrope.head_factors": 1.0,
    "ggufrope.length_points": 512,
    "ggufrope.unheard_of": 1,
}


def run(library: Path, tmp_path: Path, extra: list[bytes], steps: list | None = None, **context: Any) -> Outcome:
    path = tmp_path / "model.gguf"
    path.write_bytes(MODEL.file(extra))
    return run_job(library, path, [EVAL] if steps is None else steps, **context)


def logits(library: Path, tmp_path: Path, extra: list[bytes], *given: dict) -> list[np.ndarray]:
    """Of one model opened with each of these settings."""
    outcome = run(library, tmp_path, extra, [step for settings in given for step in (["reopen", settings], EVAL)])
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    return outcome.arrays[1::2]


def refusals(library: Path, tmp_path: Path, extra: list[bytes], given: list[dict]) -> list[str]:
    """Why each of these settings was refused: one line in the log for each, and no method is said to be active."""
    outcome = run(library, tmp_path, extra, [["reopen", settings] for settings in given])
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    assert [float(answer[0]) for answer in outcome.arrays] == [0.0] * len(given)
    said = REFUSED.findall(outcome.log)
    assert len(said) == len(given)
    assert outcome.last_error == said[-1]
    assert len([line for line in warnings(outcome) if " active" in line]) <= 2  # of the opening before these
    return said


def warnings(outcome: Outcome) -> list[str]:
    return [line for line in outcome.log.splitlines() if line.startswith("ggufrope: ")]


@pytest.mark.parametrize("table", TABLES)
def test_parameters_are_refused(runtime_dir: Path, tmp_path: Path, table: str) -> None:
    refused = [case for case in PARAMETERS if table == "heads on yarn" or case[0] != {"rope_scaling_type": NONE}]
    said = refusals(runtime_dir, tmp_path, TABLES[table], [given for given, _, _ in refused])
    own = {"heads": "head_factors", "heads on yarn": "head_factors", "pairs": "pair_factors"}
    factors = f"ggufrope.{own.get(table, 'length_factors')}"
    for (given, option, key), text in zip(refused, said, strict=True):
        assert text.startswith(f"{option}({next(iter(given))}) contradicts '{key}' ("), text
        assert f"this file's '{factors}' (method ms-poe) are relative to its own keys; run it without" in text


def test_all_parameters_that_contradict_are_named(runtime_dir: Path, tmp_path: Path) -> None:
    given = {"rope_freq_base": 5e4, "rope_freq_scale": 0.5, "rope_scaling_type": YARN, "yarn_orig_ctx": 256}
    [said] = refusals(runtime_dir, tmp_path, TABLES["heads"], [given])
    assert said == (
        "--rope-scaling yarn (rope_scaling_type) contradicts 'llama.rope.scaling.type' (not in this file, which means "
        "no scaling), "
        "--rope-freq-base 50000 (rope_freq_base) contradicts 'llama.rope.freq_base' (10000 in this file), "
        "--rope-freq-scale 0.5 or --rope-scale 2 (rope_freq_scale) contradicts 'llama.rope.scaling.factor' (not in "
        "this file, which means 1): "
        "this file's 'ggufrope.head_factors' (method ms-poe) are relative to its own keys; run it without that, or "
        "convert the model again with what you want (ggufrope convert)"
    )


@pytest.mark.parametrize("table", TABLES)
def test_overrides_are_refused(runtime_dir: Path, tmp_path: Path, table: str) -> None:
    """Before a key is read: a type of scaling that does not exist would end stock in an assertion."""
    given = [{"overrides": {key: value}} for key, value in OVERRIDES.items()]
    for key, text in zip(OVERRIDES, refusals(runtime_dir, tmp_path, TABLES[table], given), strict=True):
        assert text.startswith(f"--override-kv {key}=")
        assert f"contradicts '{key}' (" in text
        assert "run it without" in text


def test_what_the_file_says_itself_is_no_contradiction(runtime_dir: Path, tmp_path: Path) -> None:
    third = float(np.float32(1) / np.float32(3))
    expected, *found = logits(
        runtime_dir,
        tmp_path,
        TABLES["heads on yarn"],
        {},
        {"rope_freq_base": 10000.0, "rope_freq_scale": third, "rope_scaling_type": YARN},
        {"yarn_orig_ctx": 128, "yarn_ext_factor": 1.0, "yarn_attn_factor": 1.0},
        {"yarn_beta_fast": 32.0, "yarn_beta_slow": 1.0},
        {"overrides": {BASE: 10000.0, "llama.rope.scaling.factor": 3.0, "llama.rope.scaling.type": "yarn"}},
        {"overrides": {BASE: 10000, "llama.context_length": 256, "ggufrope.method": "ms-poe", "ggufrope.version": 1}},
        {"overrides": {"llama.attention.causal": True}},  # no rope is made from it
    )
    for each in found:
        np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize("table", ["heads", "lengths"])
def test_no_scaling_is_what_a_file_without_scaling_says(runtime_dir: Path, tmp_path: Path, table: str) -> None:
    expected, found = logits(runtime_dir, tmp_path, TABLES[table], {}, {"rope_scaling_type": NONE})
    np.testing.assert_array_equal(found, expected)


def test_base_that_the_file_leaves_out(runtime_dir: Path, tmp_path: Path) -> None:
    """llama.cpp means 10000 then, so that this contradicts nothing."""
    path, left_out = tmp_path / "model.gguf", tmp_path / "left-out.gguf"
    path.write_bytes(MODEL.file(TABLES["heads"]))
    data = path.read_bytes()
    assert data.count(BASE.encode()) == 1
    left_out.write_bytes(data.replace(BASE.encode(), b"llama.rope.freq_bass"))
    steps = [EVAL, ["reopen", {"overrides": {BASE: 10000.0}}], EVAL, ["reopen", {"overrides": {BASE: 2e4}}]]
    outcome = run_job(runtime_dir, left_out, steps)
    assert not outcome.error, outcome.last_error
    assert [outcome.arrays[1][0], outcome.arrays[3][0]] == [1.0, 0.0]
    np.testing.assert_array_equal(outcome.arrays[2], outcome.arrays[0])


def test_override_of_another_type_is_refused_beside_a_table(runtime_dir: Path, tmp_path: Path) -> None:
    """llama.cpp would ignore it, and the answer says nothing of that."""
    given = [{"overrides": {"llama.rope.scaling.factor": value}} for value in (2, True, "2")]
    for text in refusals(runtime_dir, tmp_path, TABLES["heads on yarn"], given):
        assert "contradicts 'llama.rope.scaling.factor' (3 in this file)" in text


def test_model_is_named(runtime_dir: Path, tmp_path: Path) -> None:
    """A program may have two: its own and a draft."""
    name = [entry("general.name", STR, "Small One")]
    given = [{"rope_freq_base": 2e4}, {"overrides": {BASE: 2e4}}]
    for text in refusals(runtime_dir, tmp_path, [*TABLES["heads"], *name], given):
        assert "'ggufrope.head_factors' of model 'Small One'" in text
    [said] = refusals(runtime_dir, tmp_path, [*TABLES["lengths"], *name], [{"n_ctx": 1024}])
    assert "the 512 that 'ggufrope.length_points' of model 'Small One' covers" in said


@pytest.mark.parametrize("file", PLAIN)
def test_without_a_table_options_are_stocks_to_the_bit(
    runtime_dir: Path, stock_dir: Path, tmp_path: Path, file: str
) -> None:
    given = [
        {},
        *(given for given, _, _ in PARAMETERS),
        {"rope_scaling_type": YARN, "rope_freq_scale": 0.25, "yarn_orig_ctx": 64, "yarn_ext_factor": 0.7},
        {"overrides": {BASE: 20000.0, "llama.context_length": 512}},
        {"overrides": {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0}},
    ]
    expected = logits(stock_dir, tmp_path, PLAIN[file], *given)
    for found, right in zip(logits(runtime_dir, tmp_path, PLAIN[file], *given), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    differs = [np.abs(each - expected[0]).max() > 1e-3 for each in expected]
    assert sum(differs) >= 5  # options do something, so that they can be seen to be ignored


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "the model's standard keys serve it"),
        ({"rope_scaling_type": YARN}, "the model's standard keys serve it"),
        (
            {"rope_scaling_type": NONE},
            "does not act as the file has it: --rope-scaling none (rope_scaling_type) "
            "contradicts 'llama.rope.scaling.type' (yarn in this file)",
        ),
        ({"overrides": {BASE: 2e4}}, "does not act as the file has it: its keys are overridden (--override-kv)"),
        # llama.cpp ignores what is of another type than it reads the key as
        ({"overrides": {"llama.rope.scaling.factor": 2}}, "the model's standard keys serve it"),
        ({"overrides": {"llama.rope.scaling.factor": True, BASE: "1"}}, "the model's standard keys serve it"),
        ({"overrides": {"llama.rope.scaling.original_context_length": 64.0}}, "the model's standard keys serve it"),
        ({"overrides": {"llama.rope.dimension_sections": 8}}, "the model's standard keys serve it"),
    ],
)
def test_a_method_that_is_overridden_is_not_said_to_act(
    runtime_dir: Path, tmp_path: Path, given: dict, why: str
) -> None:
    outcome = run(runtime_dir, tmp_path, PLAIN["yarn"], [], **given)
    said = [line for line in warnings(outcome) if "yarn" in line]
    assert [line.removeprefix("ggufrope: method yarn").lstrip(": ") for line in said] == [why]


def test_context_of_a_file_without_a_table_can_be_overridden(runtime_dir: Path, tmp_path: Path) -> None:
    """With ``ggufrope.context_length`` beside it, too, which was read after it."""
    extra = [*PLAIN["yarn"], entry("ggufrope.context_length", U32, 384)]
    for overrides, n_ctx in ({}, 384), ({"llama.context_length": 300}, 300):
        outcome = run(runtime_dir, tmp_path, extra, n_ctx=0, overrides=overrides)
        assert not outcome.error
        assert f"n_ctx                 = {-(-n_ctx // 256) * 256}\n" in outcome.log
        assert f"n_ctx_train           = {n_ctx}\n" in outcome.log


def test_order_of_heads_can_be_overridden(runtime_dir: Path, tmp_path: Path) -> None:
    """Also in a file that leaves it at ``static`` by saying nothing, where the override was ignored."""
    orders = ["static", "per-prompt", "per-prompt-rank"]
    given = [{"overrides": {ORDER: order}} for order in orders]
    found = logits(runtime_dir, tmp_path, TABLES["heads"], *given)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    for order, right in zip(orders, found, strict=True):
        said, *others = logits(runtime_dir, tmp_path, [*TABLES["heads"], entry(ORDER, STR, order)], {}, *given)
        np.testing.assert_array_equal(said, right)
        for each, expected in zip(others, found, strict=True):
            np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize(
    ("file", "value", "reason"),
    [
        (TABLES["heads"], "sorted", "key 'ggufrope.head_order': expected 'static', 'per-prompt' or .* found 'sorted'"),
        (
            TABLES["heads"],
            1,
            "--override-kv ggufrope.head_order=int:1: expected a string, as in --override-kv ggufrope",
        ),
        (
            PLAIN["yarn"],
            "static",
            "--override-kv ggufrope.head_order=str:static: this file has no 'ggufrope.head_factors'",
        ),
        (
            [],
            "per-prompt",
            "--override-kv ggufrope.head_order=str:per-prompt: this file has no 'ggufrope.head_factors'",
        ),
    ],
)
def test_order_that_cannot_be(runtime_dir: Path, tmp_path: Path, file: list, value: str | int, reason: str) -> None:
    [said] = refusals(runtime_dir, tmp_path, file, [{"overrides": {ORDER: value}}])
    assert re.match(reason, said)


def test_factors_of_a_program_are_relative_to_its_own_options(runtime_dir: Path, tmp_path: Path) -> None:
    outcome = run(runtime_dir, tmp_path, [], [["set", RATIOS.ravel().tolist()], EVAL], rope_freq_base=20000.0)
    assert outcome.arrays[0].tolist() == [1.0]
    other = TinyModel("llama", freq_base=20000.0)
    np.testing.assert_allclose(outcome.arrays[1], other.logits(TOKENS[:100], RATIOS), atol=1e-4)


def test_context_is_named_as_it_was_asked_for(runtime_dir: Path, tmp_path: Path) -> None:
    cases = {
        "a context of 513 tokens": {"n_ctx": 513},
        "a context of 1025 tokens": {"n_ctx": 1025},
        "a context of 2052 tokens, 768 for each of 4 sequences,": {"n_ctx": 2052, "n_seq_max": 4},
        "a context of 700 tokens": {"n_ctx": 700, "n_seq_max": 2, "kv_unified": True},
    }
    said = refusals(runtime_dir, tmp_path, TABLES["lengths"], list(cases.values()))
    rest = (
        "is longer than the 512 that 'ggufrope.length_points' covers; ask for at most that (-c, n_ctx), or convert with"
    )
    assert said == [f"{asked} {rest} a larger --context" for asked in cases]


def test_rows_are_told_from_one_on(runtime_dir: Path, tmp_path: Path) -> None:
    """When a text becomes longer, and with a state."""
    state = str(tmp_path / "state")
    steps = [["eval", TOKENS[:n], p, 0] for n, p in ((64, 0), (10, 64), (40, 74))]
    outcome = run(
        runtime_dir, tmp_path, TABLES["lengths"], [*steps, ["save", state], ["clear"], ["reopen", {}], ["load", state]]
    )
    assert outcome.arrays[-1].tolist() == [1.0]
    second, third = "ggufrope: row 2 of 3, for lengths to 96", "ggufrope: row 3 of 3, for lengths to 512"
    assert [line for line in warnings(outcome) if ": row " in line] == [second, third, third]


def test_array_in_place_of_a_number(runtime_dir: Path, tmp_path: Path) -> None:
    """llama.cpp reads no override of an array: it would be ignored."""
    key = "llama.rope.dimension_sections"
    extra = [*TABLES["heads"], entry(key, ARR, [8, 8, 8, 8], U32)]
    [said] = refusals(runtime_dir, tmp_path, extra, [{"overrides": {key: 8}}])
    assert f"contradicts '{key}' (an array of 4 in this file)" in said
