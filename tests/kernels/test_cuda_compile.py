"""The patched rope.cu through nvcc, where there is one: compiled and assembled, not run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from on_cpu import patched_tree

from ggufrope.runtime.fetch import source_tree

#: Turing to Blackwell.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
_HERE = Path(__file__).resolve().parent


def run_nvcc(ggml: Path, architecture: int, *options: str) -> str:
    """Compile ``rope.cu`` with upstream's flags and ``options``; what the compiler said.

    ``cublas_v2.h`` comes from ``cuda_stubs``: rope.cu calls nothing of it, and the toolkit's may be missing.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no nvcc")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=False).stdout.split()
    if f"sm_{architecture}" not in known:
        pytest.skip(f"this nvcc does not know sm_{architecture}")
    include = [f"-I{folder}" for folder in (_HERE / "cuda_stubs", ggml / "include", ggml / "src")]
    command = [nvcc, "-std=c++17", "-O3", "-use_fast_math", "-extended-lambda", f"-arch=sm_{architecture}", *include]
    command += [*options, str(ggml / "src" / "ggml-cuda" / "rope.cu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


@pytest.fixture(scope="module")
def ggml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patched_tree(tmp_path_factory.mktemp("nvcc") / "tree") / "ggml"


@pytest.mark.parametrize(
    "architecture", [pytest.param(a, marks=[] if a in {75, 120} else pytest.mark.slow) for a in ARCHITECTURES]
)
def test_rope_compiles_and_can_be_launched(ggml: Path, tmp_path: Path, architecture: int) -> None:
    """The 65536 registers of a multiprocessor must serve the 1024 threads of the fused norm's largest block."""
    said = run_nvcc(ggml, architecture, "-Xptxas", "-v", "-c", "-o", str(tmp_path / "rope.o"))
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == 48
    assert max(registers) <= 64


@pytest.mark.slow
def test_kernels_without_factors_are_stocks(ggml: Path, tmp_path: Path) -> None:
    """The same PTX instructions in the same order, in all 24."""
    patched, stock = (
        _without_factors(root, tmp_path / name) for name, root in (("p.ptx", ggml), ("s.ptx", source_tree() / "ggml"))
    )
    assert len(patched) == 24
    assert patched == stock


def _without_factors(ggml: Path, target: Path) -> dict[str, list[str]]:
    """Instructions of each kernel whose template argument ``has_ff``, the last ``bool``, is false.

    Named without the parameter list; numbers of registers and places of parameters are left out.
    """
    run_nvcc(ggml, 90, "-ptx", "-o", str(target))
    found = {}
    for name, body in re.findall(r"\.entry (\w+)\(.*?\)\n(.*?)\n\}", target.read_text(), re.DOTALL):
        kernel = name.split("Ev")[0]
        if re.search(r"Lb0E[^L]*$", kernel):
            text = re.sub(r"\[\w+_param_\d+(\+\d+)?\]", "[parameter]", body)
            lines = re.sub(r"(%[a-z]+|\$L__BB)\d+", r"\1", text).splitlines()
            found[kernel] = [line.strip() for line in lines if line.strip()[:1] not in {"", ".", "/"}]
    return found
