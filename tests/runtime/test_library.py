from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.errors import GgufError, InputError, ParameterError, RuntimeLibraryError, UsageError
from ggufrope.runtime import library
from ggufrope.runtime.api import API_VERSION, Api
from ggufrope.runtime.log import LibraryLog


class FakeFunction:
    """Stands for a C function: ctypes attributes, and a Python body."""

    def __init__(self, body: object) -> None:
        self.body = body

    def __call__(self, *arguments: object) -> object:
        return self.body(*arguments)


def fake_library(version: int = API_VERSION, count: int = 4) -> SimpleNamespace:
    """A libllama that keeps head factors; version 0 is an unpatched one."""
    stored = np.ones(count, np.float32)

    def get(_context: object, out: object, n: int) -> bool:
        ctypes.memmove(out, stored.ctypes.data, 4 * n)
        return n == count

    def put(_context: object, values: object, n: int) -> bool:
        ctypes.memmove(stored.ctypes.data, values, 4 * n)
        return stored[0] < 100

    names: dict[str, object] = {"_name": "/somewhere/libllama.so"}
    if version:
        names |= {
            "ggufrope_api_version": FakeFunction(lambda: version),
            "ggufrope_method": FakeFunction(lambda _model: b"ms-poe"),
            "ggufrope_n_head_factors": FakeFunction(lambda _model: count),
            "ggufrope_get_head_factors": FakeFunction(get),
            "ggufrope_set_head_factors": FakeFunction(put),
            "ggufrope_n_pair_factors": FakeFunction(lambda _model: count),
            "ggufrope_pair_factors_offset": FakeFunction(lambda _model, layer: (0, 1, 1, count)[layer]),
            "ggufrope_get_pair_factors": FakeFunction(get),
            "ggufrope_set_pair_factors": FakeFunction(put),
            "ggufrope_fallback": FakeFunction(lambda _context: b""),
            "ggufrope_n_length_rows": FakeFunction(lambda _model: 0),
            "ggufrope_length_point": FakeFunction(lambda _model, _row: 0),
            "ggufrope_get_length_row": FakeFunction(lambda _context: 0),
            "ggufrope_get_pending_length_row": FakeFunction(lambda context: context),
            "ggufrope_n_layers": FakeFunction(lambda _model: 3),
            "ggufrope_head_factors_offset": FakeFunction(lambda _model, layer: (0, 1, 1, count)[layer]),
            "ggufrope_get_head_order": FakeFunction(lambda _context: b"per-prompt"),
            "ggufrope_set_head_order": FakeFunction(lambda _context, order: order == b"static"),
            "ggufrope_set_length_row": FakeFunction(lambda _context, _row: True),
            "ggufrope_set_length_hint": FakeFunction(lambda _context, _n: None),
            "ggufrope_last_error": FakeFunction(lambda: b"memory is not empty"),
        }
    return SimpleNamespace(**names)


def fake_bindings(lib: SimpleNamespace, fails_with: tuple[str, ...] = ()) -> SimpleNamespace:
    """A ``llama_cpp`` module whose ``Llama`` logs these lines and fails, or returns its arguments."""
    receiver: list[object] = []

    class Llama:
        def __new__(cls, **kwargs: object) -> object:
            for line in fails_with:
                receiver[0](4, line.encode() + b"\n", None)
            if fails_with:
                raise ValueError("Failed to load model from file: x")
            return Opened(kwargs)

    class Opened(dict):
        _ctx = SimpleNamespace(ctx=None)

    return SimpleNamespace(
        llama_cpp=SimpleNamespace(_lib=lib),
        Llama=Llama,
        llama_log_callback=lambda function: function,
        llama_log_set=lambda function, _data: receiver.append(function),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(gb.build([*gb.llama_entries(), gb.entry("ggufrope.version", gb.U32, 1)]))
    return path


def use(monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    monkeypatch.setattr(library, "_log", LibraryLog)


def test_arguments_reach_llama(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fake_bindings(fake_library()))
    assert library.load(model, n_ctx=99, type_k=0) == {
        "model_path": str(model),
        "verbose": False,
        "n_ctx": 99,
        "type_k": 0,
        "yarn_attn_factor": -1.0,
        "yarn_beta_fast": -1.0,
        "yarn_beta_slow": -1.0,
    }


def test_earlier_import_of_an_unpatched_library(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fake_bindings(fake_library(0)))
    with pytest.raises(RuntimeLibraryError, match=r"already imported on the unpatched /somewhere/libllama\.so"):
        library.load(model)


def test_override_with_a_stock_build_runs_plain_files_only(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUFROPE_RUNTIME", "/somewhere")
    use(monkeypatch, fake_bindings(fake_library(0)))
    with pytest.raises(RuntimeLibraryError, match=r"has ggufrope\.\* keys, which the unpatched"):
        library.load(model)
    plain = tmp_path / "plain.gguf"
    plain.write_bytes(gb.build(gb.llama_entries()))
    assert library.load(plain)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            (
                "llama_model_load: error loading model: ggufrope.head_factors: expected 6 values, found 5",
                "llama_model_load_from_file_impl: failed to load model",
            ),
            r"refused it: ggufrope\.head_factors: expected 6 values, found 5; `ggufrope inspect` shows what it says$",
        ),
        (("llama_model_load: error loading model: unknown model architecture: 'x'",), "refused it: unknown model arch"),
        (("",), "refused it: Failed to load model"),
    ],
)
def test_load_errors_carry_the_librarys_reason(
    lines: tuple[str, ...], expected: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, fake_bindings(fake_library(), lines))
    with pytest.raises(InputError, match=expected):
        library.load(model)


def test_not_a_gguf(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(GgufError, match="text"):
        library.load(tmp_path / "text")


def test_order_rows_and_layers() -> None:
    api = Api(fake_library())
    assert api.layer_offsets(1) == (0, 1, 1, 4)
    assert api.head_order(2) == "per-prompt"
    api.set_head_order(2, "static")
    with pytest.raises(RuntimeLibraryError, match="cannot set the order of heads: memory is not empty"):
        api.set_head_order(2, "per-prompt-rank")
    assert api.pending_length_row(-1) is None
    assert api.pending_length_row(2) == 2


def test_head_factors_round_trip() -> None:
    api = Api(fake_library())
    assert api.head_factors(1, 2).tolist() == [1, 1, 1, 1]
    api.set_head_factors(1, 2, [[1, 2], [3, 4]])
    assert api.head_factors(1, 2).tolist() == [1, 2, 3, 4]
    assert api.method(1) == "ms-poe"


@pytest.mark.parametrize(
    ("factors", "error", "expected"),
    [
        ([1, 2, 3], ParameterError, "3 values, expected 4"),
        ([1, 2, 3, float("nan")], ParameterError, "finite"),
        ([1, 2, 3, 0], ParameterError, "above 0"),
        ([100, 1, 1, 1], RuntimeLibraryError, "memory is not empty"),
    ],
)
def test_bad_head_factors(factors: list[float], error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=expected):
        Api(fake_library()).set_head_factors(1, 2, factors)


@pytest.mark.parametrize(
    ("version", "expected"), [(0, "is not patched"), (1, f"has interface 1, expected {API_VERSION}")]
)
def test_another_interface(version: int, expected: str) -> None:
    with pytest.raises(RuntimeLibraryError, match=expected):
        Api(fake_library(version))


def test_log_is_silent_unless_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    log = LibraryLog(fake_bindings(fake_library()))
    log._receive(2, b"llm_load: much\n", None)
    log._receive(4, b"f: broken", None)
    log._receive(5, b" badly\n", None)
    assert log.reason() == "broken badly"
    assert capsys.readouterr().err == ""
    log.verbose = True
    log._receive(2, b"shown\n", None)
    assert capsys.readouterr().err == "shown\n"


def test_built_libraries_are_what_they_say(runtime_dir: Path, stock_dir: Path) -> None:
    """In processes of their own: two libllamas in one process would share symbols."""
    code = (
        "import sys, ctypes\nfrom ggufrope.runtime.api import api_version\n"
        "from ggufrope.runtime.locate import library_name\n"
        "print(api_version(ctypes.CDLL(f'{sys.argv[1]}/{library_name(\"llama\")}')))"
    )
    for directory, version in ((runtime_dir, str(API_VERSION)), (stock_dir, "0")):
        done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == version


@pytest.mark.skipif(sys.platform != "linux", reason="LD_LIBRARY_PATH")
def test_ld_library_path_cannot_swap_in_another_llama(runtime_dir: Path, stock_dir: Path) -> None:
    env = os.environ | {"LD_LIBRARY_PATH": str(stock_dir)}
    said = subprocess.run(["ldd", runtime_dir / "llama-bench"], env=env, capture_output=True, text=True, check=True)
    assert str(stock_dir) not in said.stdout
    assert str(runtime_dir) in said.stdout


def test_a_closed_model_has_no_factors() -> None:
    closed = SimpleNamespace(_model=SimpleNamespace(model=None), _ctx=SimpleNamespace(ctx=None), model_path="m.gguf")
    calls = (
        library.method, library.head_factors, library.pair_factors, lambda m: library.set_head_factors(m, None),
        lambda m: library.set_pair_factors(m, [1.0]), lambda m: library.set_length_hint(m, 9),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(UsageError, match=r"m\.gguf: this model was closed; load it again"):
            call(closed)


SPINS = """
import os, sys
from ggufrope.runtime.library import bindings
bindings()
assert "LLAMA_CPP_LIB_PATH" not in os.environ
print(os.environ.get("GOMP_SPINCOUNT"), "libgomp" in open("/proc/self/maps").read())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp")
@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=["nothing set", "a number", "a policy"],
)
def test_threads_that_wait_soon_sleep(runtime_dir: Path, given: dict[str, str], spins: str) -> None:
    # spinning through a time slice of another program costs more than the work: what libgomp itself read is asked for
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    env = clean | {"OMP_DISPLAY_ENV": "VERBOSE", "GGUFROPE_RUNTIME": str(runtime_dir)} | given
    done = subprocess.run([sys.executable, "-c", SPINS], env=env, capture_output=True, text=True, check=True)
    kept, openmp = done.stdout.split()
    assert kept == given.get("GOMP_SPINCOUNT", "None")  # for programs that this one starts, nothing has changed
    if openmp == "False":
        pytest.skip("this runtime was built without OpenMP")
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
