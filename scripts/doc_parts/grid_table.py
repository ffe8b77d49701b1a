"""What ``scripts/grid`` measured (``docs/results/results.jsonl``) as pages, and as the table in README.md."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ggufrope.evals.results import Result
from ggufrope.report import write_report
from ggufrope.report.comparison import compare
from ggufrope.report.study import Group, study, texts

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "results.jsonl"
TITLE = "Long-context evaluation"
#: A row's name for readers, and the method and quantization whose results it holds.
ROWS = (
    ("`none`", "none", "F16"),
    ("`ms-poe` on all pairs, calibrated", "ms-poe", "F16"),
    ("the same in Q4_K_M", "ms-poe", "Q4_K_M"),
    ("`ntk` × 4", "ntk × 4", "F16"),
    ("`dynamic-ntk` × 4", "dynamic-ntk × 4", "F16"),
    ("`yarn` × 4", "yarn × 4", "F16"),
)


def report_pages() -> dict[str, bytes]:
    """``docs/results.*`` by their paths, as ``ggufrope report`` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("results.html", "results.md")]
        write_report([RESULTS], outputs, TITLE)
        return {f"docs/{output.name}": output.read_bytes() for output in outputs}


def readme_table() -> str:
    """Shares of facts found, by method and length."""
    (group,) = (group for group in study([RESULTS]).groups if group.any.task == "niah")
    first, *others = group.lengths
    lines = [f"| F16 | {first} tokens | {' | '.join(map(str, others))} |", "|---" * (len(group.lengths) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(_cells(group, method, kind))} |" for name, method, kind in ROWS]
    return "\n".join([*lines, "", f"({_perfect(group)}) {_quantized(group)}"]) + "\n"


def _cells(group: Group, method: str, quantization: str) -> Iterator[str]:
    (entry,) = (e for e in group.entries if (e.method, e.quantization) == (method, quantization))
    for length in group.lengths:
        result = group.cells[entry, length]
        yield "1.00" if result.score == 1 else f"{_share(result.score)} ({_interval(result)})"


def _interval(result: Result) -> str:
    return f"{_share(result.low)}-{_share(result.high)}"


def _share(value: float | None) -> str:
    if value is None:
        raise SystemExit(f"{RESULTS}: a score without a number; the table in README.md has no words for it")
    return f"{value:.2f}".removeprefix("0")


def _perfect(group: Group) -> str:
    """What a perfect score says: Wilson's interval for the number of texts, which all of them share."""
    said = {f"all of {texts(r)} texts, {_interval(r)}" for r in group.cells.values() if r.score == 1}
    if len(said) != 1:
        raise SystemExit(f"{RESULTS}: perfect scores of different kinds: {', '.join(sorted(said)) or 'none'}")
    return f"1.00 without an interval: {said.pop()}."


def _quantized(group: Group) -> str:
    """How often quantized files were told apart from those that they were made from."""
    comparisons = compare(group, "quantization")
    kinds = " or ".join(dict.fromkeys(c.entry.quantization for c in comparisons))
    differences = [difference for c in comparisons for difference in c.by_length.values()]
    shown = sum(difference.shown for difference in differences)
    if shown:
        return f"Quantizing to {kinds} showed a difference in {shown} of {len(differences)} comparisons."
    return f"Quantizing to {kinds} showed no difference in any of {len(differences)} comparisons."
