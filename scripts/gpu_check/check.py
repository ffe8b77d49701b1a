"""The whole check: unpack, build, measure, print."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from bench_runtime.model import Shape

from ggufrope.errors import GgufropeError
from ggufrope.runtime.toolkits.toolkit import ask
from gpu_check.measure import Plan, Row, bench_rows, check_rows, logit_rows, make_models, op_row
from gpu_check.pack import unpack
from gpu_check.steps import Clock, StepError, build_both

__all__ = ["check"]

_ROOT = Path(__file__).resolve().parents[2]
#: Seconds for both builds; the rest is for measuring.
_BUILD_LIMIT = 360
_REHEARSAL = Plan(
    "CPU", 0, Shape(n_head_kv=2, n_head=4, n_embd=256, n_layer=3, n_ff=512, n_vocab=1024, n_ctx=1024), (32, 128), 16, 2
)
_GPU = Plan(
    "CUDA0", 99, Shape(n_head_kv=8, n_head=32, n_embd=2048, n_layer=16, n_ff=8192, n_ctx=8192), (512, 4096), 128, 8
)


def check(archive: Path, options: argparse.Namespace) -> int:
    """Run everything in ``options.folder`` and print the table; returns the exit code."""
    clock = Clock(60 * options.minutes)
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="gpu-check-"))).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        version = unpack(archive.absolute(), folder)
        text = (options.text or _ROOT / "README.md").absolute()
        rows, tables, toolkit = _measure(folder, text, clock, rehearse=options.rehearse)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    took = f"{clock.seconds - clock.left:.0f} s in all"
    table = "\n".join([_facts(version, toolkit, took, rehearse=options.rehearse), "", *_HEAD, *map(str, rows)])
    table = "\n\n".join([table, *filter(None, tables)]) + "\n"
    print(table)
    if options.output:
        options.output.write_text(table, encoding="utf-8")
    return 1 if any(row.failed for row in rows) else 0


_HEAD = ("| | stock | patched, no keys | patched, Ms-PoE |", "|---|---|---|---|")


def _measure(folder: Path, text: Path, clock: Clock, *, rehearse: bool) -> tuple[list[Row], list[str], str]:
    """The table's rows, the tables of the self-test, and the toolkit with the architectures that were compiled for."""
    backend, plan = ("cpu", _REHEARSAL) if rehearse else ("cuda", _GPU)
    rows: list[Row] = []
    tables: list[str] = []

    def step(what: str, work: Callable[[], Iterable[Row]]) -> None:
        print(f"{what} ... ({clock.left:.0f} s left)", file=sys.stderr, flush=True)
        try:
            for row in work():
                rows.append(row)  # noqa: PERF402  # those before an error stay
        except (StepError, GgufropeError, OSError, ValueError) as error:  # the other steps still have something to tell
            rows.append(Row(what, "–", f"**failed**: {error}", "–", True))

    print(f"building ... ({clock.left:.0f} s left)", file=sys.stderr, flush=True)
    try:
        builds = build_both(folder, backend, clock, 1e9 if rehearse else _BUILD_LIMIT)
    except StepError as error:
        return [Row("build", "–", f"**failed**: {error}", "–", True)], tables, ""
    took = [f"{seconds:.0f} s" for seconds in builds.seconds]
    rows.append(Row("build, without flash attention", took[0], f"{took[1]} for what differs", "–"))
    step("runtime check", lambda: check_rows(plan, builds, clock, tables))
    step("test-backend-ops", lambda: [op_row(folder, plan, builds, clock)])
    models: dict[str, dict[str, Path]] = {}

    def make() -> list[Row]:
        models.update(make_models(folder, plan, builds, clock))
        return []

    step("random models", make)
    if models:
        step("logits", lambda: logit_rows(folder, plan, builds, models, text, clock))
        step("speed", lambda: bench_rows(folder, plan, builds, models, clock))
    return rows, tables, " ".join([builds.toolkit.version, *builds.toolkit.architectures]).strip()


def _facts(version: str, toolkit: str, took: str, *, rehearse: bool) -> str:
    commit, patches = version.split()
    chip = "a rehearsal on the CPU"
    if not rehearse:
        query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
        name, _, rest = ask(query)[1].partition("\n")[0].partition(", ")
        chip = f"{name} (compute capability, driver: {rest})"
    return f"{chip}; {toolkit or 'no toolkit'}; llama.cpp {commit}, patches {patches}; {took}"
