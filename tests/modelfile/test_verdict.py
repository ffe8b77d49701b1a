"""Who honours a file: derived from what it holds, and what other programs were measured to do with it."""

from __future__ import annotations

import json

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli import main
from ggufrope.convert.conversion import plan, write
from ggufrope.errors import GgufropeError
from ggufrope.methods import method_names
from ggufrope.methods.clex import ClexTable
from ggufrope.modelfile.foreign_runtimes import RUNTIMES, FileKind, Outcome
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.verdict import verdict_of

LISTS = {"short_factor": (1.0,) * 4, "long_factor": (1.0, 2.0, 3.0, 4.0)}
CLEX = ClexTable(tuple(tuple((10000.0 * t) ** (-i / 4) for i in range(4)) for t in range(1, 4)), 64)
OTHER_RAMP = {"factor": 2.0, "beta_fast": 8.0, "beta_slow": 0.05}
BOTH = "the patched llama.cpp (`ggufrope run|serve`); stock llama.cpp "
AS_SOURCE = BOTH + "runs it as the source model, unchanged"

#: What was measured, as it was written down: by runtime, in the order of ``FileKind``.
MEASURED = {
    "xllamacpp 2026.10": "F F F F F A S B R",
    "wllama 3.8.1": "F F F F F A S B R",
    "node-llama-cpp 3.21.1": "F F F F F A S B R",
    "@fugood/llama.node 1.7.15": "F F F F F A S B C",
    "gpt4all 2.8.2": "F F F F F C S B R",
    "ik-llama-cpp-python 0.1.5": "F F F W W C S B R",
    "ctransformers 0.2.27": "F W W R R R S W R",
    "mistralrs 0.9.5": "F F R W F R S R W",
    "transformers 5.23 (gguf_file=)": "F W W W W W S W W",
}


@pytest.fixture
def source(tmp_path):
    """``source(arch, entries, tensors)``: a tiny model as a file."""

    def make(arch="llama", extra=(), tensors=()):
        path = tmp_path / f"{arch}.gguf"
        path.write_bytes(gb.build([*gb.llama_entries(arch), *extra], [*gb.tiny_tensors(), *tensors]))
        return path

    return make


def verdict(path, name, params=None, **options):
    """Of the plan; of the file that is written it has to be the same."""
    made = plan(ModelFile.open(path), name, params or {}, **options)
    out = path.with_name("out.gguf")
    write(made, out)
    assert verdict_of(ModelFile.open(out)) == made.verdict
    return made.verdict


def test_the_matrix_is_what_was_measured():
    assert {str(r): " ".join(r.on(kind).letter.strip("*") for kind in FileKind) for r in RUNTIMES} == MEASURED
    assert [r.name for r in RUNTIMES if r.on(FileKind.LONGROPE) is Outcome.CRASHES] == [
        "gpt4all",
        "ik-llama-cpp-python",
    ]


def test_head_ratios_on_a_base_leave_what_a_program_does_with_the_base(source):
    """So it was measured with YARN, which is why other bases are said to."""
    said = dict(verdict(source(), "ms-poe+yarn", {"factor": 2.0}).foreign)
    assert said == {r: r.on(FileKind.COMPOSED) for r in RUNTIMES}


CASES = [
    ("llama", "none", {}, {}, Outcome.FULL, "stock llama.cpp as well as the patched one", "in full (none)"),
    ("llama", "linear", {"factor": 2.0}, {}, Outcome.FULL, "stock llama.cpp as well as the patched one", "(linear)"),
    ("llama", "ntk", {"factor": 2.0}, {}, Outcome.FULL, "stock llama.cpp as well as the patched one", "in full (ntk)"),
    ("llama", "yarn", {"factor": 2.0}, {}, Outcome.FULL, "stock llama.cpp as well as the patched one", "(yarn)"),
    ("qwen2", "yarn", {"factor": 2.0}, {}, Outcome.FULL, "stock llama.cpp as well as the patched one", "(yarn)"),
    ("llama", "yarn", OTHER_RAMP, {}, Outcome.FULL, "stock llama.cpp as well as the patched one", "in full (yarn)"),
    ("qwen2", "yarn", OTHER_RAMP, {}, Outcome.SOURCE, AS_SOURCE, "as the source model: it ignores the ggufrope keys"),
    ("llama", "llama3", {"factor": 8.0}, {}, Outcome.FULL, "stock llama.cpp as well as the patched one", "(llama3)"),
    ("qwen2", "llama3", {"factor": 8.0}, {}, Outcome.SOURCE, AS_SOURCE, "as the source model"),
    ("llama", "dynamic-ntk", {"factor": 2.0}, {}, Outcome.SOURCE, AS_SOURCE, "as the source model"),
    ("llama", "yarn", {"factor": 2.0, "dynamic": True}, {}, Outcome.SOURCE, AS_SOURCE, "as the source model"),
    ("llama", "ms-poe", {}, {}, Outcome.SOURCE, AS_SOURCE, "as the source model"),
    ("llama", "ms-poe+dynamic-ntk", {"factor": 2.0}, {}, Outcome.SOURCE, AS_SOURCE, "as the source model"),
    ("qwen2", "ms-poe+llama3", {"factor": 8.0}, {}, Outcome.SOURCE, AS_SOURCE, "as the source model"),
    (
        "llama", "ms-poe+yarn", {"factor": 2.0}, {}, Outcome.BASE, BOTH + "runs it as yarn without the head ratios",
        "runs yarn only: it ignores the per-head ratios",
    ),
    (
        "llama", "ms-poe+ntk", {"factor": 2.0}, {}, Outcome.BASE, BOTH + "runs it as ntk without the head ratios",
        "runs the raised base only: it ignores the per-head ratios",
    ),
    (
        "llama", "ms-poe+llama3", {"factor": 8.0}, {}, Outcome.BASE,
        BOTH + "runs it as llama3 without the head ratios",
        "runs the factors in rope_freqs.weight only: it ignores the per-head ratios",
    ),
    (
        "phi3", "longrope", {"factor": 2.0, **LISTS}, {}, Outcome.ALLOCATED,
        BOTH + "runs it as longrope by the allocated context", "runs longrope only: it ignores the length in use",
    ),
    (
        "phi3", "ms-poe+longrope", {"factor": 2.0, **LISTS}, {}, Outcome.ALLOCATED,
        BOTH + "runs it as longrope by the allocated context, without the head ratios",
        "runs longrope only: it ignores the length in use and the per-head ratios",
    ),
    ("qwen2", "longrope", {"factor": 2.0, **LISTS}, {}, Outcome.SOURCE, AS_SOURCE, "as the source model"),
    (
        "llama", "yarn", {"factor": 2.0}, {"require_patched": True}, Outcome.REFUSES, BOTH + "refuses the file",
        "refuses the file (it was converted with --require-patched)",
    ),
    (
        "qwen2", "ms-poe", {}, {"require_patched": True}, Outcome.REFUSES, BOTH + "refuses the file",
        "refuses the file (it was converted with --require-patched)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "name", "params", "options", "stock", "runs_on", "honoured"), CASES)
def test_stock(source, arch, name, params, options, stock, runs_on, honoured):
    found = verdict(source(arch), name, params, **options)
    assert found.stock is stock
    assert found.patched is Outcome.FULL
    assert found.runs_on() == runs_on
    assert honoured in found.honoured_by()["stock"]
    assert found.honoured_by()["patched"] == f"runs it in full ({name})"
    assert bool(found.left_out) == (stock in (Outcome.SOURCE, Outcome.BASE, Outcome.ALLOCATED) or "ms-poe" in name)


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("arch", ["llama", "qwen2", "phi3", "gemma3", "mistral3", "deepseek2"])
def test_a_plan_s_verdict_is_the_file_s(source, arch, name):
    params = {"factor": 2.0} if name not in ("none", "ms-poe", "table") else {}
    if "longrope" in name:
        params |= LISTS
    if "clex" in name:
        params = {"clex_from": CLEX}
    if "table" in name:
        params |= {"factor_table": {"factors": [1.0, 1.1, 0.9, 2.0], "attn_scale": 1.2}}
    try:
        found = verdict(source(arch), name, params)
    except GgufropeError as error:
        assert arch == "deepseek2" and "one rotated K" in str(error)
        return
    assert found.stock in (Outcome.FULL, Outcome.SOURCE, Outcome.BASE, Outcome.ALLOCATED)


def test_a_file_that_keeps_its_source_s_scaling_runs_as_the_source(source):
    path = source(extra=[gb.entry("llama.rope.scaling.type", gb.STR, "yarn"),
                         gb.entry("llama.rope.scaling.factor", gb.F32, 4.0),
                         gb.entry("llama.rope.scaling.original_context_length", gb.U32, 16)])  # fmt: skip
    found = verdict(path, "ms-poe")
    assert found.stock is Outcome.SOURCE
    assert found.means == (FileKind.OURS_ONLY,)
    assert not found.warnings(), "what the source did there is not changed"


def test_a_source_that_makes_no_sense_can_be_replaced(source):
    path = source(
        extra=[
            gb.entry("llama.rope.scaling.type", gb.STR, "linear"),
            gb.entry("llama.rope.scaling.factor", gb.F32, -4.0),
        ]
    )
    with pytest.raises(GgufropeError):
        _ = ModelFile.open(path).decoded
    made = plan(ModelFile.open(path), "yarn", {"factor": 2.0})
    assert made.verdict.stock is Outcome.FULL


SKIP = " accept the longer context and rotate it wrongly, without an error (docs/runtimes.md)"
CRASH = " crash on a file with "


@pytest.mark.parametrize(
    ("arch", "name", "params", "options", "skipped", "crashed"),
    [
        ("llama", "none", {}, {}, "", ""),
        ("llama", "ntk", {"factor": 2.0}, {}, "", ""),
        ("llama", "linear", {"factor": 2.0}, {}, "ctransformers 0.2.27, transformers 5.23 (gguf_file=)", ""),
        ("llama", "yarn", {"factor": 2.0}, {}, "ctransformers 0.2.27, transformers 5.23 (gguf_file=)", ""),
        (
            "llama", "yarn", OTHER_RAMP, {},
            "ik-llama-cpp-python 0.1.5, mistralrs 0.9.5, transformers 5.23 (gguf_file=)", "",
        ),
        ("qwen2", "yarn", OTHER_RAMP, {}, "", ""),
        ("llama", "llama3", {"factor": 8.0}, {}, "ik-llama-cpp-python 0.1.5, transformers 5.23 (gguf_file=)", ""),
        (
            "phi3", "longrope", {"factor": 2.0, **LISTS}, {}, "transformers 5.23 (gguf_file=)",
            "gpt4all 2.8.2, ik-llama-cpp-python 0.1.5",
        ),
        ("llama", "dynamic-ntk", {"factor": 2.0}, {}, "", ""),
        ("llama", "ms-poe", {}, {}, "", ""),
        ("llama", "ms-poe+ntk", {"factor": 2.0}, {}, "", ""),
        ("llama", "ms-poe+yarn", {"factor": 2.0}, {}, "ctransformers 0.2.27, transformers 5.23 (gguf_file=)", ""),
        ("llama", "yarn", {"factor": 2.0}, {"require_patched": True}, "transformers 5.23 (gguf_file=)", ""),
        ("llama", "ntk", {"factor": 2.0}, {"require_patched": True}, "", ""),
        ("llama", "ms-poe", {}, {"require_patched": True}, "", ""),
        # nothing is raised: the context stays what the model was trained for
        ("llama", "linear", {"factor": 2.0, "original_context": 32}, {}, "", ""),
        # but a file that a program cannot survive is one at any context
        (
            "phi3", "longrope", {"factor": 2.0, "original_context": 32, **LISTS}, {}, "",
            "gpt4all 2.8.2, ik-llama-cpp-python 0.1.5",
        ),
        # a ramp as keys was not measured; who skips YaRN altogether skips it with any ramp
        ("mistral3", "yarn", OTHER_RAMP, {}, "ctransformers 0.2.27, transformers 5.23 (gguf_file=)", ""),
    ],
)  # fmt: skip
def test_warnings_are_where_the_context_was_raised_by_what_is_skipped(
    source, arch, name, params, options, skipped, crashed
):
    found = verdict(source(arch), name, params, **options)
    said = found.warnings()
    means = " and ".join(kind.value for kind in found.means).replace(
        " with its usual parameters", ""
    )  # it may have others
    raised = f"context_length is raised to {found.raised_to} by {means}; "
    assert [w for w in said if SKIP in w] == ([raised + skipped + SKIP] if skipped else [])
    assert [w.partition(CRASH)[0] for w in said if CRASH in w] == ([crashed] if crashed else [])
    assert len(said) == bool(skipped) + bool(crashed)


def test_a_sentinel_is_what_was_measured_whatever_else_is_there(source):
    found = dict(verdict(source(), "ms-poe+yarn", {"factor": 2.0}, require_patched=True).foreign)
    assert found == {r: r.on(FileKind.SENTINEL) for r in RUNTIMES}


def test_yarn_s_ramp_as_keys_was_not_measured(source):
    found = verdict(source("mistral3"), "yarn", OTHER_RAMP)
    assert found.stock is Outcome.FULL
    outcomes = {r.name: does for r, does in found.foreign}
    assert outcomes.pop("ctransformers") is outcomes.pop("transformers") is Outcome.WRONG  # whatever the ramp
    assert outcomes.pop("mistralrs") is Outcome.REFUSES
    assert set(outcomes.values()) == {Outcome.NOT_MEASURED}


def test_a_file_s_own_factors_count_with_the_rest(source):
    """Its rope_freqs.weight stays beside YARN's keys: who skips one of the two is wrong about both."""
    found = verdict(source(tensors=[("rope_freqs.weight", np.full(4, 2.0, np.float32))]), "yarn", {"factor": 2.0})
    assert found.means == (FileKind.YARN, FileKind.FACTORS)
    outcomes = {r.name: does for r, does in found.foreign}
    assert outcomes["ik-llama-cpp-python"] is Outcome.WRONG
    assert outcomes["ctransformers"] is Outcome.REFUSES
    assert outcomes["xllamacpp"] is Outcome.FULL


def test_commands_say_it(source, capsys, monkeypatch):
    path = source()
    monkeypatch.chdir(path.parent)
    assert main("convert llama.gguf -o out.gguf -m yarn --factor 2".split()) == 0
    line = (
        "warning: context_length is raised to 128 by yarn; ctransformers 0.2.27, "
        "transformers 5.23 (gguf_file=) accept the longer context and rotate it wrongly, without an error "
        "(docs/runtimes.md)"
    )
    assert line in capsys.readouterr().out.splitlines()
    assert main(["inspect", "out.gguf"]) == 0
    assert line in capsys.readouterr().out.splitlines()
    assert main(["inspect", "out.gguf", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["warnings"] == [line.removeprefix("warning: ")]
    assert [r["name"] for r in found["measured_runtimes"]] == [r.name for r in RUNTIMES]
    outcomes = {r["name"]: r["outcome"] for r in found["measured_runtimes"]}
    assert (outcomes["ctransformers"], outcomes["mistralrs"], outcomes["wllama"]) == ("wrong", "refuses", "full")
    assert main(["inspect", "llama.gguf"]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main("convert llama.gguf -o ntk.gguf -m ntk --factor 2".split()) == 0
    assert "warning" not in capsys.readouterr().out
