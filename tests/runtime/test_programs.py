from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import gguf_builder as gb
import pytest

from ggufrope.cli import main
from ggufrope.errors import InputError, OutputError, RuntimeLibraryError, UsageError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.runtime import library, programs
from ggufrope.runtime.locate import Runtime

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are scripts with #!")

COPY = """#!{python}
import pathlib, sys
source, output, kind = sys.argv[-3:]
print("[   1/   2] output.weight")
data = pathlib.Path(source).read_bytes()
pathlib.Path(output).write_bytes({expression})
sys.exit({code})
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A "patched" runtime whose programs print their arguments."""
    root = tmp_path / "runtime"
    root.mkdir()
    made = Runtime(root, "abc", "p", "cpu", ())
    for name in ("llama-completion", "llama-cli", "llama-server", "llama-bench"):
        script(root / name, f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    monkeypatch.setattr(library, "locate", lambda backend=None: made)
    monkeypatch.setattr(library, "api_version", lambda _library: 1)
    monkeypatch.setattr(library.ctypes, "CDLL", lambda _path: None)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(gb.build([*gb.llama_entries(), gb.entry("ggufrope.version", gb.U32, 1)]))
    return path


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def quantizer(runtime: Runtime, expression: str = "data", code: int = 0) -> None:
    script(runtime.path / "llama-quantize", COPY.format(python=sys.executable, expression=expression, code=code))


@pytest.mark.parametrize(
    ("name", "program", "fixed"),
    [
        ("run", "llama-completion", ["-no-cnv"]),
        ("chat", "llama-cli", []),
        ("serve", "llama-server", []),
        ("bench", "llama-bench", []),
    ],
)
def test_upstreams_options_pass_untouched(
    name: str, program: str, fixed: list[str], runtime: Runtime, model: Path
) -> None:
    command = programs.command_line(name, ModelFile.open(model), ["-p", "a b", "--flag"])
    assert command == [str(runtime.path / program), "-m", str(model), *fixed, "-p", "a b", "--flag"]


@pytest.mark.parametrize("line", ["run", "run --chat", "serve", "bench"])
@pytest.mark.parametrize("option", ["", "--no-fallback"])
def test_fallback_can_be_refused(
    line: str, option: str, runtime: Runtime, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the environment, as llama-bench does not know the others' option; upstream's options are untouched."""
    seen: list[tuple[str, list[str]]] = []

    def start(command: list[str]) -> int:
        seen.append((os.environ["GGUFROPE_NO_FALLBACK"], command[-2:]))
        return 0

    monkeypatch.setenv("GGUFROPE_NO_FALLBACK", "0")
    monkeypatch.setattr(programs, "start", start)
    assert main([*line.split(), str(model), *option.split(), "--", "-n", "4"]) == 0
    assert seen == [("1" if option else "0", ["-n", "4"])]


def test_exit_code_and_output_are_the_programs(runtime: Runtime, model: Path) -> None:
    command = programs.command_line("run", ModelFile.open(model), ["-n", "4"])
    code = "import sys; from ggufrope.runtime.programs import start; sys.exit(start(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr  # exec replaces the process, so it has one of its own here
    assert done.stdout == f"['-m', '{model}', '-no-cnv', '-n', '4']\n"


def test_unpatched_library_is_refused_for_our_files_only(
    runtime: Runtime, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "api_version", lambda _library: 0)
    with pytest.raises(RuntimeLibraryError, match=r"ggufrope\.\* keys, which the unpatched .* would ignore"):
        programs.command_line("serve", ModelFile.open(model))
    plain = tmp_path / "plain.gguf"
    plain.write_bytes(gb.build(gb.llama_entries()))
    assert programs.command_line("serve", ModelFile.open(plain))


def test_ratios_by_pair_have_a_static_order_only(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "pairs.gguf"
    factors = gb.entry("ggufrope.pair_factors", gb.ARR, [1.5] * 24, gb.F32)
    path.write_bytes(gb.build([*gb.llama_entries(), gb.entry("ggufrope.version", gb.U32, 3), factors]))
    file = ModelFile.open(path)
    assert programs.command_line("run", file, head_order="static") == programs.command_line("run", file)
    with pytest.raises(UsageError, match=r"pairs\.gguf differ by pair .* convert it with --from-wavelength 0"):
        programs.command_line("run", file, head_order="per-prompt")


def test_quantize_keeps_our_keys(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    quantizer(runtime)
    steps: list[tuple[int, int, str]] = []
    programs.quantize(model, tmp_path / "out.gguf", "Q8_0", progress=lambda *step: steps.append(step))
    assert (tmp_path / "out.gguf").read_bytes() == model.read_bytes()
    assert steps == [(1, 2, "output.weight")]


@pytest.mark.parametrize(
    ("expression", "code", "error", "expected"),
    [
        ("data.replace(b'ggufrope.version', b'ggufrope.versio_')", 0, OutputError, "changed a ggufrope"),
        ("data.replace((64).to_bytes(4, 'little'), (99).to_bytes(4, 'little'), 1)", 0, OutputError, "changed llama."),
        ("(print('main: invalid ftype Q9'), data)[1]", 1, UsageError, "does not know Q8_0"),
        ("(print('error: tensor is odd'), data)[1]", 1, InputError, "error: tensor is odd"),
    ],
)
def test_quantize_failures_leave_the_old_output(
    expression: str, code: int, error: type[Exception], expected: str, runtime: Runtime, model: Path, tmp_path: Path
) -> None:
    quantizer(runtime, expression, code)
    (tmp_path / "out.gguf").write_text("old")
    with pytest.raises(error, match=expected):
        programs.quantize(model, tmp_path / "out.gguf", "Q8_0")
    assert (tmp_path / "out.gguf").read_text() == "old"
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_quantize_onto_itself_or_nowhere(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    quantizer(runtime)
    with pytest.raises(OutputError, match="is the same file as "):
        programs.quantize(model, model, "Q8_0")
    with pytest.raises(OutputError, match="its directory does not exist; create"):
        programs.quantize(model, tmp_path / "gone" / "out.gguf", "Q8_0")
