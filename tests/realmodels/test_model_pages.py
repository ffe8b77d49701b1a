"""The page on real models, on made-up lines: every sentence follows from them, and changes with them."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest
import result_maker
from real_models import declared_grid
from real_models.declared_grid import declared
from real_models.method_recipes import METHODS
from real_models.model_pages import PICTURE, RESULTS, gather, pages, readme_part, studies_of
from real_models.plain_words import findings

from ggufrope.evals.store import read_results

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
LOST = {0.0: 10, 0.25: 1, 0.5: 1, 0.75: 1, 1.0: 8}  # of 20 texts


def facts(method: str, weights: str = "F16", architecture: str = "llama", trained: int = 8192):
    recipe = METHODS[method]
    name = f"smollm2.{method}.{weights.lower()}.gguf"
    header = f"{name}{architecture}".ljust(64, "0")
    return {
        "name": name, "size": 1000, "architecture": architecture, "method": recipe.method, "params": recipe.params,
        "quantization": weights, "context": trained, "trained": trained, "header": header,
        "weights": weights.ljust(64, "0"),
    }  # fmt: skip


def answers(method, right: dict[float, int], *, weights="F16", kv="f16", length=1024, task="kv-retrieval", n=20, **of):
    """The first texts at each depth are answered."""
    examples = [
        {"name": f"{text}/{depth:g}", "depth": depth, "score": float(text < hits), "output": "x"}
        for text in range(n)
        for depth, hits in right.items()
    ]
    shares = [(d, k / n) for d, k in right.items()]
    by_depth = [{"depth": d, "n": n, "score": p, "low": max(0, p - 0.1), "high": min(1, p + 0.1)} for d, p in shares]
    score = sum(right.values()) / (n * len(right))
    return result_maker.answers(
        task=task, options={"limit": n}, file=facts(method, weights, **of), kv_type=kv, length=length, n=len(examples),
        score=score, low=max(0.0, score - 0.06), high=min(1.0, score + 0.06), by_depth=by_depth, examples=examples,
        cell=f"{method}{weights}{kv}{length}{task}", notes=[],
    )  # fmt: skip


def losses(method: str, plain: float, spread: float = 0.01, weights: str = "F16"):
    means = [plain + spread * (text % 3) for text in range(20)]
    mean = sum(means) / 20
    by_text = [{"tokens": f"{text:016x}", "n": 2047, "mean": m} for text, m in enumerate(means)]
    ranges = [{"start": 0, "end": 2047, "n": 40940, "mean": mean, "low": mean - 0.1, "high": mean + 0.1}]
    return result_maker.positions(
        task="ppl", options={"limit": 20, "text": {"name": "t", "sha256": "0"}}, file=facts(method, weights),
        length=2048, n=20, mean=mean, low=mean - 0.1, high=mean + 0.1, by_position=ranges, by_text=by_text,
        baseline=None, top1=None, cell=f"{method}{weights}ppl", notes=[],
    )  # fmt: skip


def nothing():
    return dict.fromkeys(DEPTHS, 0)


@pytest.fixture
def lines(tmp_path):
    def write(*lines):
        path = tmp_path / "results.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def markdown(path):
    return pages(path)["docs/real-models.md"].decode()


def test_what_breaks_a_model_is_not_to_be_used(lines):
    near = dict(LOST) | {1.0: 7}
    text = markdown(lines(answers("none", LOST), answers("seq", nothing()), answers("seq-w64", near)))
    assert (
        "**leave the file as it is**. No method was shown to answer better (of 2 comparisons, 1 worse, 0 better)."
        in text
    )
    assert (
        "**Not to be used there:** SmolLM2-135M-Instruct, kv-retrieval at 1024 tokens: `ms-poe sequential` −0.210"
        in text
    )
    assert "over all depths: SmolLM2-135M-Instruct, kv-retrieval at 1024 tokens: `ms-poe sequential W=64` " in text
    assert "none finds .50 .05 .05 .05 .40 from the beginning to the end (20 texts)." in text
    assert (
        "Never shown to be better than the untouched model: `ms-poe sequential` (1 comparison, 1 worse), `ms-poe"
        in text
    )


def test_a_place_is_said_once(lines):
    text = markdown(lines(answers("none", LOST), answers("seq", nothing()), answers("uni15", nothing())))
    (line,) = re.findall(r"^- \*\*Not to be used there.*$", text, re.M)
    assert "`ms-poe sequential`" in line and "`uniform 1.5`" in line
    assert line.count("kv-retrieval at 1024 tokens") == 1


def test_a_small_loss_is_no_ruin(lines):
    """Four of 21 answers, in four texts: shown, but it is not all."""
    less = dict(LOST) | {0.0: 6}
    text = markdown(lines(answers("none", LOST), answers("seq", nothing()), answers("seq-w64", less)))
    assert (
        "Shown to answer somewhat worse: SmolLM2-135M-Instruct, kv-retrieval at 1024 tokens: `ms-poe sequential W=64`"
        in text
    )
    assert re.search(r"^- \*\*Not to be used there:\*\* [^`]*: `ms-poe sequential` [^`]*$", text, re.M)


def test_what_mends_a_model_is_said(lines):
    """The same page on other lines says the contrary."""
    mended = dict.fromkeys(DEPTHS, 15)
    text = markdown(lines(answers("none", LOST), answers("seq-w64", mended)))
    assert (
        "**these were shown to answer better** (of 1 comparison, 0 worse, 1 better). `ms-poe sequential W=64` on"
        in text
    )
    assert "leave the file as it is" not in text
    assert "Never shown to be better" not in text
    assert "of 1 method 1 shown to gain, 0 to lose; best: `ms-poe sequential W=64` +0.70" in text


def test_a_floor_says_nothing(lines):
    text = markdown(lines(answers("none", nothing()), answers("seq", nothing())))
    assert "In 1 comparison all were at the ceiling or the floor; those say nothing." in text
    assert "Not to be used" not in text
    assert "never shown to answer worse" not in text


def test_costs_on_plain_text(lines):
    text = markdown(lines(losses("none", 3.0), losses("seq", 3.3, 0.02), losses("seq-w64", 3.003)))
    assert (
        "20 texts of 2048 tokens: the loss of none is 3.010 (2.909–3.110) nats per token; `ms-poe sequential W=64` "
        "+0.1% (not shown); `ms-poe sequential` +10.3%." in text
    )
    assert (
        "Never shown to be better than the untouched model: `ms-poe sequential` (1 comparison, 1 worse), `ms-" in text
    )


def test_a_lower_loss_is_better(lines):
    text = markdown(lines(losses("none", 3.3, 0.02), losses("seq", 3.0)))
    assert "`ms-poe sequential` −9." in text
    assert "Never shown to be better" not in text


def test_weights_and_caches(lines):
    weights = answers("none", LOST, weights="Q8_0"), answers("none", nothing(), weights="Q2_K")
    text = markdown(lines(answers("none", LOST), *weights, answers("none", nothing(), kv="q4_0")))
    assert "Weights in Q8_0: **no loss shown** in 1 comparison with F16." in text
    assert "Weights in Q2_K: **worse** in 1 of 1 comparison; the greatest: SmolLM2-135M-Instruct, kv-retrieval" in text
    assert "KV cache in q4_0: **worse** in 1 of 1 comparison" in text


def test_beyond_the_trained_context(lines):
    every = {0.0: 6, 0.25: 6, 0.5: 6, 0.75: 6, 1.0: 6}
    far = {"length": 16384, "task": "niah", "n": 6}
    text = markdown(lines(answers("none", nothing(), **far), answers("yarn2", every, **far)))
    assert (
        "Beyond the trained context (SmolLM2-135M-Instruct, niah at 16384 tokens): **better than none:** `yarn × 2`"
        in text
    )


def test_what_is_not_measured_is_listed_and_no_more(lines):
    cells = [c for c in declared() if c.piece.part == "middle"]
    text = markdown(lines(answers("none", LOST), answers("seq", LOST)))
    listed = re.search(r"^- `--part middle`, (.*) \((\d+) cells\)$", text, re.M)
    assert int(listed[2]) == len(cells) - 2
    assert "ms-poe sequential F16" not in listed[1]
    assert "ms-poe sequential W=64 F16" in listed[1]
    assert "- `--part beyond`, SmolLM2-135M-Instruct, niah at 16384 tokens: all of it (4 cells)" in text


def test_models_are_kept_apart(lines):
    """The same task on two models: each has a chapter, and no line is compared with the other's."""
    qwen = {"architecture": "qwen2", "trained": 32768}
    path = lines(answers("none", LOST), answers("seq", LOST), answers("none", dict.fromkeys(DEPTHS, 20), **qwen))
    studies = studies_of(read_results(path)[0])
    assert list(studies) == ["smollm2", "qwen2.5-coder"]
    assert [(f.model, f.entry.method, f.overall.value) for f in findings(studies, "method")] == [
        ("smollm2", "ms-poe sequential", 0.0)
    ]
    text = markdown(path)
    assert "\n## SmolLM2-135M-Instruct\n" in text
    assert "\n## Qwen2.5-Coder-0.5B-Instruct\n" in text


def test_no_lines_at_all(tmp_path):
    made = pages(tmp_path / "none.jsonl")
    assert set(made) == {"docs/real-models.md", "docs/real-models.html"}
    assert made["docs/real-models.md"].decode().count("all of it") > 15
    assert readme_part(tmp_path / "none.jsonl") == "Nothing was measured on real models yet.\n"


def test_the_picture_and_the_readme(lines):
    path = lines(answers("none", LOST), answers("seq", nothing()), answers("uni15", nothing()))
    drawn = ET.fromstring(pages(path)[PICTURE])
    words = ["".join(t.itertext()) for t in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "SmolLM2-135M-Instruct, kv-retrieval, 1024 tokens, 20 texts" in words
    assert "ms-poe sequential" in words
    assert "uniform 1.5" not in words  # few enough to see
    text = readme_part(path)
    assert text.startswith(f"![SmolLM2-135M-Instruct, kv-retrieval, 1024 tokens, 20 texts]({PICTURE})\n")
    assert "| `none` | 0.21 (0.15–0.27) | .50 .05 .05 .05 .40 |  |\n" in text
    assert "| `ms-poe sequential` | 0.00 (0.00–0.06) | 0 0 0 0 0 | −0.05 (−0.15 to 0.00) |\n" in text


def test_only_declared_cells_are_taken_over_and_the_latest_counts(lines, tmp_path, monkeypatch):
    target = tmp_path / "docs" / "results.jsonl"
    old, new = answers("none", nothing()), answers("none", LOST) | {"finished": "2027-01-01T00:00:00Z", "cell": "n"}
    other = answers("none", LOST, length=777)
    few = answers("seq", LOST, n=20) | {"options": {"limit": 4}}
    ends = answers("rank", {0.0: 10, 1.0: 8})
    assert gather([lines(new, other, few, ends, old, answers("code", LOST))], target) == 2
    found, _ = read_results(target)
    assert [(r.file.name, r.score) for r in found] == [("smollm2.none.f16.gguf", 0.21), ("smollm2.code.f16.gguf", 0.21)]
    before = target.read_bytes()
    assert gather([lines(old)], target) == 2
    assert target.read_bytes() == before


def test_an_option_of_a_task_makes_another_cell(lines, tmp_path):
    ends = {"task": "mdqa", "length": 2048}
    first = answers("none", {0.0: 1, 0.5: 1, 1.0: 1}, **ends)
    with_option = first | {"options": {"limit": 20, "question_first": True}}
    without = first | {"options": {"limit": 20, "question_first": False}}
    assert gather([lines(without)], tmp_path / "a.jsonl") == 0
    assert gather([lines(with_option)], tmp_path / "b.jsonl") == 1


def test_the_committed_lines_are_cells_of_the_grid():
    """Nothing stands on the page that the grid would not measure again."""
    results, torn = read_results(RESULTS)
    assert results
    assert not torn
    cells = declared_grid.declared()
    assert [r.file.name for r in results if not any(c.measured_by(r) for c in cells)] == []
