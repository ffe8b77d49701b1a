"""``ggufrope.h``: programs made for version 2, and what version 3 adds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from c_program import run_program
from gguf_builder import ARR, F32, I32, STR, U32, build, entry
from llama_process import Outcome, run_job
from test_runtime_head_factors import RATIOS, with_factors
from test_runtime_length import with_table
from tiny_cache import LengthTable
from tiny_transformer import TinyModel

HERE = Path(__file__).resolve().parent
HEADERS = [HERE / "ggufrope_v2.h", HERE.parents[1] / "patches" / "src" / "ggufrope.h"]
TOKENS = np.random.default_rng(0).integers(3, 64, 120).tolist()
MODEL = TinyModel("llama")
TABLE = LengthTable.growing(MODEL.n_rot, [64, 96, 512])


def run(library: Path, path: Path, steps: list, **context: int) -> Outcome:
    outcome = run_job(library, path, steps, **context)
    assert not outcome.error, outcome.last_error or outcome.log[-2000:]
    return outcome


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.gguf"
    path.write_bytes(MODEL.file(with_table(TABLE, RATIOS), words=True))
    return path


def test_a_program_made_for_version_2_runs(runtime_dir: Path, rows: Path, tmp_path: Path) -> None:
    lines = run_program("api_v2.c", runtime_dir, tmp_path, [rows])
    assert lines[0] == "made for 2, runs on 3"
    assert re.fullmatch(r"method \S+, 6 factors, 12 scores, 3 rows 64 96 512 0", lines[1])
    assert lines[2].startswith("yes get")
    np.testing.assert_allclose([float(x) for x in lines[3].split()], RATIOS.ravel())
    assert lines[4].startswith("no set too few: head factors: expected 6 values")
    assert [line.split(":")[0] for line in lines[5:7]] == ["yes set", "yes get"]
    assert lines[7] == "1 1.625"
    assert lines[8].startswith("yes capture")
    assert lines[9:11] == ["row 0", "row 2"]  # the hint is not in use before the batch
    assert lines[11].startswith("yes scores")
    assert 0 <= float(lines[12]) <= 1
    assert lines[13].startswith("no set with tokens in memory: head factors can only be set while")
    assert lines[14].startswith("no a row that is none: length row: expected one below 3, or -1, found 9")
    assert lines[15].startswith("yes row 2")
    assert lines[16] == "row 2"
    assert lines[17].startswith("yes by length")
    assert lines[18] == "row 0"


def test_nothing_of_version_2_has_changed() -> None:
    """Each of its declarations stands in today's header, word for word."""
    texts = [re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8")) for path in HEADERS]
    old, new = ({" ".join(x.split()) for x in re.findall(r"LLAMA_API[^;]+;", text)} for text in texts)
    assert len(old) == 14
    assert old <= new


#: Of four layers: query heads and KV heads. The second has no attention, the third a product in its place.
RAGGED = ((4, 2), (0, 0), (4, 0), (4, 4))


def ragged() -> bytes:
    """A random model of the architecture whose layers differ in that way (Llama-3.1-Nemotron-51B)."""
    heads, kv = zip(*RAGGED, strict=True)
    numbers = {"context_length": 256, "embedding_length": 128, "block_count": 4, "feed_forward_length": 64}
    numbers |= {"rope.dimension_count": 32, "vocab_size": 64}
    keys = [entry("general.architecture", STR, "deci"), entry("tokenizer.ggml.model", STR, "no_vocab")]
    keys += [entry(f"deci.{name}", U32, number) for name, number in numbers.items()]
    keys += [entry("deci.attention.head_count", ARR, heads, I32), entry("deci.attention.head_count_kv", ARR, kv, I32)]
    keys += [entry("deci.attention.layer_norm_rms_epsilon", F32, 1e-5)]
    shapes = {"token_embd": (64, 128), "output": (64, 128), "output_norm": (128,)}
    for i, (n_head, n_kv) in enumerate(RAGGED):
        layer = {"ffn_norm": (128,), "ffn_gate": (64, 128), "ffn_up": (64, 128), "ffn_down": (128, 64)}
        if n_head:
            layer |= {"attn_norm": (128,), "attn_output": (128, 128)}
        if n_kv:
            layer |= {"attn_q": (128, 128), "attn_k": (32 * n_kv, 128), "attn_v": (32 * n_kv, 128)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    rng = np.random.default_rng(1)
    weights = {name: rng.standard_normal(shape) / 5 for name, shape in shapes.items()}
    weights |= {name: np.ones(128) for name in shapes if name.endswith("norm")}
    return build(keys, [(f"{name}.weight", weight) for name, weight in weights.items()])


def test_offsets_of_layers_that_differ(runtime_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(ragged())
    first, *offsets = run_program("api_offsets.c", runtime_dir, tmp_path, [path])
    assert first == "4 6 12"
    assert offsets == ["0 0", "2 4", "2 4", "2 8", "6 12", "6 12"]


def test_a_factor_at_an_offset_is_that_layers(runtime_dir: Path, tmp_path: Path) -> None:
    """The graph is asked: scores of the last layer's four KV heads are those behind its offset, and its ratio acts."""
    path, read = tmp_path / "model.gguf", ["eval", TOKENS, 0, 0]
    path.write_bytes(ragged())
    steps = [["capture", True], read, ["scores"]]
    for at in (0, 2):  # the first layer's first head, the last layer's first
        steps += [["clear"], ["set", [2.0 if i == at else 1.0 for i in range(6)]], read, ["scores"]]
    arrays = run(runtime_dir, path, steps).arrays
    plain, first, last = arrays[2], arrays[5], arrays[8]
    assert np.isnan(plain).tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert not np.array_equal(plain[8:], first[8:]), "the first layer's ratio changes what the last one reads"
    np.testing.assert_array_equal(plain[8:], last[8:])
    assert not np.array_equal(arrays[1], arrays[7])


def test_the_order_of_heads(runtime_dir: Path, tmp_path: Path) -> None:
    """Set, it is what the file's key would have asked for."""
    path, asked = tmp_path / "model.gguf", tmp_path / "asked.gguf"
    path.write_bytes(MODEL.file(with_factors(RATIOS)))
    asked.write_bytes(MODEL.file(with_factors(RATIOS, entry("ggufrope.head_order", STR, "per-prompt"))))
    read, names = ["eval", TOKENS, 0, 0], ("static", "per-prompt", "static")
    changes = [step for name in names for step in (["clear"], ["set_order", name], ["order"], read, ["get"])]
    found = run(runtime_dir, path, [["order"], read, ["get"], *changes]).arrays
    assert found[0] == "static"
    static, ratios = found[1:3]
    by_prompt, by_prompt_ratios = run(runtime_dir, asked, [read, ["get"]]).arrays
    assert not np.array_equal(by_prompt_ratios, ratios)
    for i, (name, logits, expected) in enumerate(
        zip(names, (static, by_prompt, static), (ratios, by_prompt_ratios, ratios), strict=True)
    ):
        done, order, result, used = found[3 + 4 * i : 7 + 4 * i]
        assert (done, order) == (1, name)
        np.testing.assert_array_equal(used, expected)
        np.testing.assert_array_equal(result, logits)
    assert run(runtime_dir, asked, [["order"]]).arrays[0] == "per-prompt"


@pytest.mark.parametrize(
    ("keys", "steps", "context", "reason"),
    [
        (with_factors(RATIOS), [], {}, "expected 'static', 'per-prompt' or 'per-prompt-rank', found 'best'"),
        (with_factors(RATIOS), [["eval", TOKENS, 0, 0]], {}, "the order of heads can only be set while the context's"),
        ([], [], {}, "head order 'per-prompt' hands out head factors, and this context has none; set them first"),
        (with_table(TABLE, RATIOS), [], {}, "head order 'per-prompt' does not go with several length rows"),
        (with_factors(RATIOS), [], {"n_seq_max": 2}, "serves one sequence at a time"),
    ],
)
def test_orders_that_are_refused(
    runtime_dir: Path, tmp_path: Path, keys: list, steps: list, context: dict, reason: str
) -> None:
    path, name = tmp_path / "model.gguf", "best" if "'best'" in reason else "per-prompt"
    path.write_bytes(MODEL.file(keys))
    *_, done, why, order = run(runtime_dir, path, [*steps, ["set_order", name], ["why"], ["order"]], **context).arrays
    assert done == 0
    assert reason in why[0]
    assert order == "static"


def test_a_program_sets_factors_and_their_order(runtime_dir: Path, tmp_path: Path) -> None:
    path, asked = tmp_path / "model.gguf", tmp_path / "asked.gguf"
    path.write_bytes(MODEL.file())
    asked.write_bytes(MODEL.file(with_factors(RATIOS, entry("ggufrope.head_order", STR, "per-prompt-rank"))))
    steps = [["set", RATIOS.ravel().tolist()], ["set_order", "per-prompt-rank"], ["eval", TOKENS, 0, 0]]
    found = run(runtime_dir, path, steps).arrays
    assert found[0] == found[1] == 1
    np.testing.assert_array_equal(found[2], run(runtime_dir, asked, [["eval", TOKENS, 0, 0]]).arrays[0])


def test_a_pending_row(runtime_dir: Path, rows: Path) -> None:
    """Asked for and not in use: a batch takes it, and a row that serves already is not pending."""
    look, read = [["row"], ["pending"]], lambda first, n: ["eval", TOKENS[first : first + n], first, 0]
    steps = [*look, ["hint", 90], *look, read(0, 10), *look]  # 0 -1, 0 1, 1 -1
    steps += [["hint", 50], *look, ["hint", 120], *look, read(10, 1), *look]  # 1 -1: row 0 is below; 1 2, 2 -1
    steps += [["pin", 0], *look, read(11, 1), *look, ["pin", 0], *look]  # 2 0, 0 -1, 0 -1
    steps += [["pin", 2], *look, ["pin", -1], *look]  # 0 2, 0 -1: the length decides
    steps += [["clear"], ["hint", 90], *look, read(0, 10), ["clear"], ["hint", 20], *look]  # 0 1, 1 0
    found = [int(a[0]) for a in run(runtime_dir, rows, steps).arrays if a.shape == (1,)]
    pairs = [tuple(found[i : i + 2]) for i in range(0, len(found), 2)]
    expected = "0 -1, 0 1, 1 -1, 1 -1, 1 2, 2 -1, 2 0, 0 -1, 0 -1, 0 2, 0 -1, 0 1, 1 0"
    assert pairs == [tuple(map(int, pair.split())) for pair in expected.split(", ")]


def test_a_success_clears_the_last_error(runtime_dir: Path, rows: Path, tmp_path: Path) -> None:
    """In each function that can fail; loading a state is one."""
    state, fail = str(tmp_path / "state"), ["set", [1.0]]
    good = RATIOS.ravel().tolist()
    successes = [["set", good], ["get"], ["set_order", "static"], ["pin", 1], ["capture", False], ["load", state]]
    successes += [["load_seq", state + "_seq"]]
    steps = [["eval", TOKENS[:20], 0, 0], ["save", state], ["save_seq", state + "_seq"], ["clear"]]
    for success in successes:
        steps += [["clear"], fail, ["why"], success, ["why"]]
    whys = [a[0] for a in run(runtime_dir, rows, steps).arrays if a.dtype.kind == "U"]
    assert all("expected 6 values" in why for why in whys[::2])
    assert whys[1::2] == [""] * len(successes)


def test_a_failure_of_another_kind_clears_the_last_error(runtime_dir: Path, rows: Path, tmp_path: Path) -> None:
    """Where none of our code is reached: no such file, a file of another kind, parameters that do not go together."""
    other = tmp_path / "other"
    other.write_bytes(b"no state" * 10)
    fail, refused = ["set", [1.0]], ["reopen", {"rope_freq_base": 5e4}]
    failures = [[load, path] for load in ("load", "load_seq") for path in ("/nope", str(other))]
    steps = [["keep_seq"]]
    for failure in failures:
        steps += [fail, ["why"], failure, ["why"]]
    for settings in ({"model": "/nope"}, {"model": str(other)}, {"type_v": 8, "flash_attn_type": 0}):
        steps += [refused, ["why"], ["reopen", settings], ["why"]]
    answers = [array[0] for array in run(runtime_dir, rows, steps).arrays]
    assert answers[::2] == [0.0] * (len(answers) // 2)
    assert all(answers[1::4])
    assert answers[3::4] == [""] * 7


def test_row_that_is_none(runtime_dir: Path, rows: Path) -> None:
    for row in (3, -2, -5, -(2**31)):
        outcome = run_job(runtime_dir, rows, [["pin", row]])
        assert outcome.error == "step: ggufrope_set_length_row"
        assert outcome.last_error == f"length row: expected one below 3, or -1, found {row}"


def test_a_model_that_loads_clears_it_too(runtime_dir: Path, rows: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(MODEL.file(with_factors(RATIOS[:1])))
    assert "expected 6 f32 values" in run_job(runtime_dir, bad, []).last_error
    lines = run_program("api_v2.c", runtime_dir, tmp_path, [rows])  # reports its own errors only
    assert lines[2] == "yes get: "
