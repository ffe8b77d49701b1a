"""A saved state loads into a context that rotates alike, and into no other; what refuses says what both sides are."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, entry
from llama_process import Outcome, run_job
from tiny_transformer import TinyModel

from ggufrope.convert.pipeline import ConvertRequest, carry_out

MODEL = TinyModel("llama", freq_base=500000.0)
TOKENS = np.random.default_rng(5).integers(0, 64, 90).tolist()
HEAD, TAIL = ["eval", TOKENS[:70], 0, 0], ["eval", TOKENS[70:], 70, 0]
PAIRS = MODEL.n_rot // 2
FACTORS = {"short_factor": [1.0 + i / PAIRS for i in range(PAIRS)], "long_factor": [1.0 + i for i in range(PAIRS)]}


@dataclass(frozen=True)
class Side:
    """A file, made by ``convert`` with a method and its parameters, and a context on it.

    Attributes:
        method: What ``convert`` is asked for; None: the file as the model came.
        params: The method's.
        context: Fields of ``llama_context_params``.
        is_plain: It rotates as the model was trained to, so its states are the unpatched runtime's.
    """

    method: str | None = None
    params: dict = field(default_factory=dict)
    context: dict = field(default_factory=dict)
    is_plain: bool = False


SIDES = {
    "model": Side(is_plain=True),
    "none": Side("none", is_plain=True),
    "another base": Side("none", {"freq_base": 10000.0}),
    "ntk": Side("ntk", {"factor": 4.0}),
    "linear": Side("linear", {"factor": 4.0}),
    "linear 8": Side("linear", {"factor": 8.0}),
    "yarn": Side("yarn", {"factor": 4.0}),
    "yarn, other betas": Side("yarn", {"factor": 4.0, "beta_fast": 16.0}),
    "llama3": Side("llama3", {"factor": 4.0}),
    "longrope": Side("longrope", {"factor": 4.0, **FACTORS}),
    "dynamic-ntk": Side("dynamic-ntk", {"factor": 4.0}),
    "ms-poe": Side("ms-poe"),
    "ms-poe+yarn": Side("ms-poe+yarn", {"factor": 4.0}),
    "base by flag": Side(context={"rope_freq_base": 40000.0}),
    "scale by flag": Side(context={"rope_freq_scale": 0.5}),
    "yarn by flag": Side(context={"rope_scaling_type": 2, "rope_freq_scale": 0.25, "yarn_orig_ctx": 128}),
}

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sides")
    plain = folder / "model.gguf"
    plain.write_bytes(MODEL.file())
    made: dict[str, Path] = {}
    for number, (name, side) in enumerate(SIDES.items()):
        made[name] = plain
        if side.method:
            made[name] = folder / f"{number}.gguf"
            carry_out(ConvertRequest(plain, made[name], side.method, side.params))
    return made


@pytest.fixture(scope="module")
def run(runtime_dir: Path, files: dict[str, Path]) -> Run:
    def run(name: str, steps: list) -> Outcome:
        outcome = run_job(runtime_dir, files[name], steps, **SIDES[name].context)
        assert not outcome.error, outcome.last_error or outcome.log[-2000:]
        return outcome

    return run


@pytest.fixture(scope="module")
def states(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Both kinds of states of all sides, and the logits that follow each."""
    folder, logits = tmp_path_factory.mktemp("states"), {}
    for name in SIDES:
        steps = [HEAD, ["save", f"{folder}/{name}.whole"], ["save_seq", f"{folder}/{name}.seq", 0], TAIL]
        logits[name] = run(name, steps).arrays[-1]
    return folder, logits


@pytest.mark.parametrize("name", SIDES)
def test_from_all_sides_into_one(run: Run, states: tuple[Path, dict[str, np.ndarray]], name: str) -> None:
    folder, logits = states
    steps: list = []
    for saved in SIDES:
        steps += [["clear"], ["load", f"{folder}/{saved}.whole"], ["why"], TAIL]
        steps += [["clear"], ["load_seq", f"{folder}/{saved}.seq", 0], ["why"], TAIL]
    # TAIL is evaluated after a refusal too: on what the context has, which is nothing
    answers = run(name, steps).arrays
    for (saved, kind), loaded, why, found in zip(
        itertools.product(SIDES, ("whole", "seq")), answers[::3], answers[1::3], answers[2::3], strict=True
    ):
        alike = saved == name or (SIDES[saved].is_plain and SIDES[name].is_plain)
        assert bool(loaded[0]) == alike, f"{kind} of {saved!r} into {name!r}: {why[0]}"
        if alike:
            np.testing.assert_array_equal(found, logits[name])
            assert why[0] == ""
            continue
        # nothing of it came in, and had it, the logits would tell
        assert np.abs(found - logits[name]).max() > 0.5
        if {saved, name} - {"dynamic-ntk", "model", "none"}:  # its first row is plain RoPE
            assert np.abs(logits[saved] - logits[name]).max() > 0.01
        for side in (saved, name):
            expected = "no RoPE scaling" if SIDES[side].is_plain else "base "
            assert expected in why[0], f"{kind} of {saved!r} into {name!r}: {why[0]}"
        assert "process the prompt again" in why[0]


def save(folder: Path) -> list:
    return [["save", f"{folder}.whole"], ["save_seq", f"{folder}.seq", 0]]


def load(folder: Path) -> list:
    """Each kind, the reason if it is refused, and the logits of what follows."""
    kinds = [["load", f"{folder}.whole"], ["load_seq", f"{folder}.seq", 0]]
    return [step for kind in kinds for step in (["clear"], kind, ["why"], TAIL)]


def loaded(outcome: Outcome) -> list[tuple[bool, str, np.ndarray]]:
    """What ``load`` came to, for the two kinds."""
    assert not outcome.error, outcome.log[-2000:]
    arrays = outcome.arrays
    return [(bool(a[0]), str(b[0]), c) for a, b, c in zip(arrays[::3], arrays[1::3], arrays[2::3], strict=True)]


@pytest.mark.parametrize("name", [name for name, side in SIDES.items() if side.is_plain])
def test_unscaled_states_are_the_unpatched_ones(
    run: Run, stock_dir: Path, files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """To the byte; so those of an unpatched runtime load, and it loads ours."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    direct = run(name, [HEAD, *save(ours), TAIL]).arrays[-1]
    assert not run_job(stock_dir, files[name], [HEAD, *save(theirs)]).error
    for kind in ("whole", "seq"):
        assert Path(f"{ours}.{kind}").read_bytes() == Path(f"{theirs}.{kind}").read_bytes()
    for ok, _, found in loaded(run(name, load(theirs))):
        assert ok
        np.testing.assert_array_equal(found, direct)


@pytest.mark.parametrize("name", ["linear", "ms-poe", "base by flag"])
def test_states_without_a_tag_do_not_load_where_there_is_one(
    run: Run, stock_dir: Path, files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """An unpatched runtime does not say how it rotated, and it refuses ours."""
    state, tagged, context = tmp_path / "state", tmp_path / "tagged", SIDES[name].context
    assert not run_job(stock_dir, files[name], [HEAD, *save(state)], **context).error
    for ok, why, _ in loaded(run(name, load(state))):
        assert not ok
        assert "no RoPE scaling, or by a runtime that does not say" in why
    run(name, [HEAD, *save(tagged)])
    steps = [["load", f"{tagged}.whole"], ["load_seq", f"{tagged}.seq", 0]]
    assert [a[0] for a in run_job(stock_dir, files[name], steps, **context).arrays] == [0, 0]


def scaled(**numbers: float | str) -> list[bytes]:
    """Upstream's keys, as somebody else's converter writes them."""
    names = {"type": STR, "factor": F32, "original_context_length": U32, "attn_factor": F32}
    return [entry(f"llama.rope.scaling.{name}", names[name], value) for name, value in numbers.items()]


FOREIGN = {
    "plain": ([], []),
    "linear": (scaled(type="linear", factor=4.0), []),
    "without a type": (scaled(factor=3.0), []),
    "the old key": ([entry("llama.rope.scale_linear", F32, 2.0)], []),
    "yarn": (scaled(type="yarn", factor=4.0, original_context_length=128), []),
    "attention factor": (scaled(attn_factor=1.25), []),
    "rope_freqs": ([], [("rope_freqs.weight", np.linspace(1, 4, PAIRS, dtype=np.float32))]),
}


def test_files_that_others_scaled(runtime_dir: Path, tmp_path: Path) -> None:
    """Without any key of ours."""
    path, direct = tmp_path / "model.gguf", {}
    for name, parts in FOREIGN.items():
        path.write_bytes(MODEL.file(*parts))
        direct[name] = run_job(runtime_dir, path, [HEAD, *save(tmp_path / name), TAIL]).arrays[-1]
    for name, parts in FOREIGN.items():
        path.write_bytes(MODEL.file(*parts))
        outcome = run_job(runtime_dir, path, [step for saved in FOREIGN for step in load(tmp_path / saved)])
        for (saved, _), (ok, why, found) in zip(itertools.product(FOREIGN, range(2)), loaded(outcome), strict=True):
            assert ok == (saved == name), f"{saved} into {name}: {why}"
            assert np.array_equal(found, direct[saved]) == (saved == name)


#: What ``llama_context_params`` may change of YaRN; True: nothing comes of it, since YaRN's own replaces it.
CHANGES = {
    "rope_freq_base": (40000.0, False),
    "rope_freq_scale": (0.125, False),
    "yarn_orig_ctx": (64, False),
    "yarn_ext_factor": (0.5, False),
    "yarn_beta_fast": (4.0, False),
    "yarn_beta_slow": (0.25, False),
    "yarn_attn_factor": (1.5, True),
}


def test_each_parameter_of_a_context_counts(runtime_dir: Path, tmp_path: Path) -> None:
    path, state = tmp_path / "model.gguf", tmp_path / "state"
    path.write_bytes(MODEL.file(scaled(type="yarn", factor=4.0, original_context_length=128)))
    direct = run_job(runtime_dir, path, [HEAD, *save(state), TAIL]).arrays[-1]
    for name, (value, alike) in CHANGES.items():
        own = run_job(runtime_dir, path, [HEAD, TAIL], **{name: value}).arrays[-1]
        assert np.array_equal(own, direct) == alike, name
        for ok, why, _ in loaded(run_job(runtime_dir, path, load(state), **{name: value})):
            assert ok == alike, f"{name}: {why}"


def test_long_and_short_factors_that_the_context_chooses(runtime_dir: Path, tmp_path: Path) -> None:
    """A file of stock's own: the size of the context decides which factors its keys were rotated by."""
    model = TinyModel("phi3", n_ctx=512)
    pairs = np.arange(model.n_rot // 2, dtype=np.float32)
    tensors = [("rope_factors_long.weight", 1 + pairs), ("rope_factors_short.weight", 1 + pairs / 8)]
    path, sizes, direct = tmp_path / "model.gguf", (256, 512, 768), {}
    path.write_bytes(model.file([entry("phi3.rope.scaling.original_context_length", U32, 256)], tensors))
    for size in sizes:
        direct[size] = run_job(runtime_dir, path, [HEAD, *save(tmp_path / str(size)), TAIL], n_ctx=size).arrays[-1]
    for size in sizes:
        outcome = run_job(runtime_dir, path, [step for x in sizes for step in load(tmp_path / str(x))], n_ctx=size)
        for (saved, _), (ok, why, found) in zip(itertools.product(sizes, range(2)), loaded(outcome), strict=True):
            alike = (saved > 256) == (size > 256)
            assert ok == alike, f"{saved} into {size}: {why}"
            assert np.allclose(found, direct[saved], atol=1e-5) == alike
            if not alike:
                assert "rope_factors_long.weight 1 to 8" in why
                assert "rope_factors_short.weight 1 to 1.875" in why


def test_factor_that_a_flag_takes_back(runtime_dir: Path, tmp_path: Path) -> None:
    """A file's linear scaling that ``--rope-freq-scale 1`` undoes rotates as the plain file does."""
    plain, linear, state = tmp_path / "plain.gguf", tmp_path / "linear.gguf", str(tmp_path / "state")
    plain.write_bytes(MODEL.file())
    linear.write_bytes(MODEL.file(scaled(type="linear", factor=4.0)))
    direct = run_job(runtime_dir, plain, [HEAD, ["save_seq", state], TAIL]).arrays[-1]
    loaded, found = run_job(runtime_dir, linear, [["load_seq", state], TAIL], rope_freq_scale=1.0).arrays
    assert loaded[0] == 1
    np.testing.assert_array_equal(found, direct)


def test_rows_in_place_of_long_and_short_factors_do_not_care_for_the_context(runtime_dir: Path, tmp_path: Path) -> None:
    """Several rows by length replace the choice by the context's size, so states go from one size to another."""
    model = TinyModel("phi3")
    n = model.n_rot // 2
    rows = [entry("ggufrope.length_points", ARR, [256, 512], U32)]
    rows += [entry("ggufrope.length_factors", ARR, [1.0] * n + [2.0] * n, F32)]
    rows += [entry("ggufrope.length_attn_scale", ARR, [1.0, 1.0], F32)]
    rows += [entry("ggufrope.version", U32, 1), entry("ggufrope.method", STR, "longrope")]
    rows += [entry("phi3.rope.scaling.original_context_length", U32, 256)]
    tensors = [(f"rope_factors_{x}.weight", np.full(n, f, np.float32)) for x, f in (("long", 4), ("short", 1.5))]
    path, state = tmp_path / "model.gguf", str(tmp_path / "state")
    path.write_bytes(model.file(rows, tensors))
    direct = run_job(runtime_dir, path, [HEAD, ["save_seq", state], TAIL], n_ctx=256).arrays[-1]
    loaded, found = run_job(runtime_dir, path, [["load_seq", state], TAIL], n_ctx=512).arrays
    assert loaded[0] == 1
    np.testing.assert_allclose(found, direct, atol=1e-5)


@pytest.mark.parametrize("kind", ["", "_seq"])
@pytest.mark.parametrize("name", ["model", "yarn", "dynamic-ntk"])
def test_damaged_states_are_refused(
    run: Run, states: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, name: str, kind: str
) -> None:
    """Cut short and overwritten where the tag is: no crash, and no gigabytes for a length that is not one."""
    whole = (states[0] / f"{'yarn' if name == 'model' else name}.{'seq' if kind else 'whole'}").read_bytes()
    start = 12  # behind magic, version and the number of tokens
    random, steps = np.random.default_rng(7), []
    damaged = [whole[:n] for n in (*range(start, start + 48, 3), len(whole) // 2, len(whole) - 1)]
    for place in range(start, start + 40, 4):
        damaged.append(whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :])
        damaged.append(whole[:place] + random.bytes(16) + whole[place + 16 :])
    for number, data in enumerate(damaged):
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        steps += [[f"load{kind}", str(path)]]
    before, *answers, after, _, last = run(name, [["peak"], *steps, ["peak"], ["clear"], HEAD, TAIL]).arrays
    changed_text = [i for i, a in enumerate(answers) if a[0] == 1]
    for number in changed_text:  # only the text, which is for people, may differ
        assert name != "model"
        assert damaged[number][: start + 12] == whole[: start + 12] or not kind
        assert len(damaged[number]) == len(whole)
    assert after[0] < before[0] + 1000
    np.testing.assert_allclose(last, states[1][name], atol=1e-6)


@pytest.mark.parametrize("n_seq", [1, 26])
@pytest.mark.parametrize("name", ["model", "yarn"])
def test_tags_of_older_versions_are_refused(
    runtime_dir: Path, files: dict[str, Path], tmp_path: Path, name: str, n_seq: int
) -> None:
    """Up to interface 2 a tag began with its length, 26; a state may begin so without: with its number of streams."""
    state, sizes = tmp_path / "state", {"n_seq_max": n_seq, "n_ctx": 256 * n_seq}
    direct = run_job(runtime_dir, files[name], [HEAD, *save(state), TAIL], **sizes).arrays[-1]
    ok, _, found = loaded(run_job(runtime_dir, files[name], load(state), **sizes))[1]
    assert ok
    np.testing.assert_array_equal(found, direct)
    old, head = b" ggufrope:0123456789abcdef", 12  # behind magic, version and the number of tokens
    for kind, string in (("whole", b"llama" + old), ("seq", old)):
        file = Path(f"{state}.{kind}")
        data = file.read_bytes()
        file.write_bytes(data[:head] + struct.pack("<I", len(string)) + string + data[head:])
    for ok, why, _ in loaded(run_job(runtime_dir, files[name], load(state), **sizes)):
        assert not ok
        assert "those of an older ggufrope" in why
