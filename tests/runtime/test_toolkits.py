"""Finding a GPU's toolkit: stand-ins for its programs, each saying what the real one prints."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from ggufrope.cli._program import BACKENDS as CHOICES
from ggufrope.errors import BuildError, GgufropeError, UsageError
from ggufrope.runtime.toolkits import BACKENDS, cuda, find_toolkit, vulkan

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")

NVCC = """
case "$*" in
  *--version*) echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
  *--list-gpu-arch*) printf 'compute_75\\ncompute_80\\ncompute_86\\ncompute_89\\ncompute_90\\ncompute_120\\n' ;;
  *--dryrun*) echo "#$ TOP={root}" ;;
  *) exit {has_cublas} ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: nothing but the shell's own programs, and no variable that names a toolkit."""
    for name in ("CUDACXX", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "HIP_PATH", "VULKAN_SDK", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cuda, "_usual_places", list)
    monkeypatch.setattr(cuda, "_DRIVERS", ())
    monkeypatch.setattr(cuda.site, "getsitepackages", lambda: [str(tmp_path / "packages")])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program(tmp_path, "nvidia-smi", "exit 9")
    return tmp_path


def program(root: Path, name: str, text: str) -> Path:
    path = root / "bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('sh') or '/bin/sh'}\n{text}\n")
    path.chmod(0o755)
    return path


def nvcc(root: Path, *, has_cublas: bool = True) -> Path:
    return program(root, "nvcc", NVCC.format(root=root, has_cublas=0 if has_cublas else 1))


def test_the_command_line_offers_every_backend() -> None:
    assert sorted(CHOICES.choices) == sorted(BACKENDS)


class TestCuda:
    def test_the_cards_that_are_here(self, place: Path) -> None:
        compiler = nvcc(place)
        program(place, "nvidia-smi", "printf '8.6\\n9.0\\n8.6\\n'")
        found = find_toolkit("cuda")
        assert found.architectures == ("86-real", "90-real")
        assert found.version == "CUDA 13.0.88"
        assert found.options["CMAKE_CUDA_ARCHITECTURES"] == "86-real;90-real"
        assert found.options["CMAKE_CUDA_COMPILER"] == str(compiler)
        assert found.notes == (cuda._UNTRIED,)

    def test_no_card(self, place: Path) -> None:
        nvcc(place)
        found = find_toolkit("cuda")
        expected = ("75-virtual", "80-virtual", "86-real", "89-real", "90-virtual", "120a-real")  # what it knows
        assert found.architectures == expected
        assert "no NVIDIA GPU was found" in found.notes[0]

    @pytest.mark.parametrize("name", ["86", "8.6", "sm_86", "86-real"])
    def test_chosen_architecture(self, name: str, place: Path) -> None:
        nvcc(place)
        assert find_toolkit("cuda", (name,)).architectures == ("86-real",)

    @pytest.mark.parametrize("name", ["gfx1100", "ampere", "8"])
    def test_no_architecture(self, name: str, place: Path) -> None:
        nvcc(place)
        with pytest.raises(UsageError, match=f"--gpu-arch {name}: not a compute capability"):
            find_toolkit("cuda", (name,))

    @pytest.mark.parametrize(("card", "word"), [("6.1", "an older"), ("12.9", "a newer")])
    def test_card_that_this_nvcc_cannot_compile_for(self, card: str, word: str, place: Path) -> None:
        nvcc(place)
        program(place, "nvidia-smi", f"echo {card}")
        with pytest.raises(BuildError, match=rf"capability {card}, .* \(it knows 75 to 120\); install {word} CUDA"):
            find_toolkit("cuda")

    def test_missing(self, place: Path) -> None:
        with pytest.raises(BuildError, match=r"nvcc.* is not in CUDA_HOME.*nvidia-cuda-toolkit.*set CUDA_HOME"):
            find_toolkit("cuda")

    def test_cuda_home_wins(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nvcc(place)
        other = nvcc(place / "other")
        monkeypatch.setenv("CUDA_HOME", str(place / "other"))
        assert find_toolkit("cuda").options["CMAKE_CUDA_COMPILER"] == str(other)
        monkeypatch.setenv("CUDACXX", str(place / "no" / "nvcc"))
        with pytest.raises(BuildError, match=r"CUDACXX is .*, where there is no program"):
            find_toolkit("cuda")

    def test_an_nvcc_that_is_something_else(self, place: Path) -> None:
        program(place, "nvcc", "echo hello")
        with pytest.raises(BuildError, match="does not answer as nvcc does"):
            find_toolkit("cuda")

    def test_cublas_missing_and_then_from_the_python_package(self, place: Path) -> None:
        nvcc(place, has_cublas=False)
        with pytest.raises(BuildError, match=r"without cuBLAS .*libcublas-dev-13-0, .*'nvidia-cublas==13\.0\.\*'"):
            find_toolkit("cuda")
        package = place / "packages" / "nvidia" / "cu13"
        for name in ("include/cublas_v2.h", "lib/libcublas.so.13"):
            (package / name).parent.mkdir(parents=True)
            (package / name).touch()
        found = find_toolkit("cuda")
        assert found.options["CUDA_cublas_LIBRARY"] == str(package / "lib" / "libcublas.so.13")
        assert found.options["CMAKE_CUDA_FLAGS"] == f"-I{package / 'include'}"
        assert found.library_dirs[-1] == str(package / "lib")

    def test_the_drivers_library(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nvcc(place)
        if not list(Path("/usr/lib").glob("*-linux-gnu/libcuda.so")):
            program(place, "ldconfig", "true")
            assert find_toolkit("cuda").options["GGML_CUDA_NO_VMM"] == "ON"
            library = place / "libcuda.so.1"
            library.touch()
            monkeypatch.setattr(cuda, "_DRIVERS", (str(library),))
            assert find_toolkit("cuda").options["CUDA_cuda_driver_LIBRARY"] == str(library)
        (place / "lib64" / "stubs").mkdir(parents=True)
        (place / "lib64" / "stubs" / "libcuda.so").touch()
        assert not {"GGML_CUDA_NO_VMM", "CUDA_cuda_driver_LIBRARY"} & set(find_toolkit("cuda").options)


class TestHip:
    @pytest.fixture
    def rocm(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        root = place / "rocm"
        answers = f'case "$1" in -R) echo {root} ;; -l) echo {root}/llvm/bin ;; *) echo 6.4.1 ;; esac'
        program(root, "hipconfig", answers)
        program(root / "llvm", "clang", "true")
        for name in ("hipblas", "rocblas"):
            (root / "lib" / "cmake" / name).mkdir(parents=True)
        monkeypatch.setenv("ROCM_PATH", str(root))
        return root

    def test_the_cards_that_are_here(self, rocm: Path) -> None:
        program(rocm, "rocminfo", "printf '  Name: AMD Ryzen\\n  Name:   gfx1100\\n  Name: amdgcn--gfx1100\\n'")
        found = find_toolkit("hip")
        assert found.architectures == ("gfx1100",)
        assert found.options["GPU_TARGETS"] == "gfx1100"
        assert found.environment["HIPCXX"] == str(rocm / "llvm" / "bin" / "clang")
        assert found.version == "HIP 6.4.1"
        assert ["never been compiled" in note for note in found.notes] == [True]

    def test_no_card(self, rocm: Path) -> None:
        found = find_toolkit("hip")
        assert "gfx1030" in found.architectures
        assert "no AMD GPU was found" in found.notes[0]
        assert find_toolkit("hip", ("gfx1201",)).architectures == ("gfx1201",)
        with pytest.raises(UsageError, match="not an AMD architecture"):
            find_toolkit("hip", ("86",))

    def test_missing(self, place: Path) -> None:
        with pytest.raises(BuildError, match=r"hipconfig, of AMD's ROCm, .* hipcc libhipblas-dev librocblas-dev"):
            find_toolkit("hip")

    def test_missing_parts(self, rocm: Path) -> None:
        (rocm / "lib" / "cmake" / "rocblas").rmdir()
        with pytest.raises(BuildError, match="rocblas is missing in"):
            find_toolkit("hip")
        (rocm / "llvm" / "bin" / "clang").unlink()
        with pytest.raises(BuildError, match="where there is no clang"):
            find_toolkit("hip")


class TestVulkan:
    @pytest.fixture
    def parts(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """What the compiler says to the headers, and to the loader."""
        program(place, "glslc", "echo shaderc v2023.2")
        program(place, "c++", 'case "$*" in *-E*) echo "header_version = 239" ;; esac')
        monkeypatch.setattr(vulkan, "_spirv", lambda _sdk: True)
        return {}

    def test_found(self, parts: object) -> None:
        found = find_toolkit("vulkan")
        assert found.version == "Vulkan headers 239, shaderc v2023.2"
        assert found.options["GGML_VULKAN"] == "ON"

    @pytest.mark.parametrize(
        ("broken", "expected"),
        [
            ("glslc", "glslc, the shader compiler, is not in"),
            ("headers", "headers are missing"),
            ("loader", "loader library is missing"),
            ("spirv", "SPIR-V headers are missing"),
        ],
    )
    def test_missing(
        self, broken: str, expected: str, parts: object, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if broken == "glslc":
            (place / "bin" / "glslc").unlink()
        elif broken == "headers":
            program(place, "c++", "exit 1")
        elif broken == "loader":
            program(place, "c++", 'case "$*" in *-E*) echo "header_version = 239" ;; *) exit 1 ;; esac')
        else:
            monkeypatch.setattr(vulkan, "_spirv", lambda _sdk: False)
        with pytest.raises(BuildError, match=rf"{expected}.*apt-get install libvulkan-dev glslc spirv-headers"):
            find_toolkit("vulkan")


@pytest.mark.parametrize(("backend", "word"), [("cpu", "is for cuda and hip"), ("vulkan", "runs on every GPU")])
def test_architectures_where_there_are_none(backend: str, word: str) -> None:
    with pytest.raises(GgufropeError, match=word):
        find_toolkit(backend, ("86",))
