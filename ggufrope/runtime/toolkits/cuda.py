"""NVIDIA's toolkit: nvcc, cuBLAS, and the compute capability of the cards that are here."""

from __future__ import annotations

import os
import re
import site
import sys
from pathlib import Path

from ggufrope.errors import BuildError, UsageError
from ggufrope.runtime.toolkits.toolkit import Toolkit, ask, first_program

__all__ = ["DEFAULT_ARCHITECTURES", "find_cuda"]

#: For a machine without a card: machine code for common ones, code that the driver finishes for those between.
#: Upstream's own list; those that the installed nvcc does not know are left out.
DEFAULT_ARCHITECTURES = (
    "61-virtual",
    "70-virtual",
    "75-virtual",
    "80-virtual",
    "86-real",
    "89-real",
    "90-virtual",
    "120a-real",
    "121a-real",
)
_UNTRIED = "the patched CUDA kernels have never run on a GPU: check results before you rely on them"
_DRIVERS = ("/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1")
_INSTALL = (
    "install NVIDIA's CUDA toolkit (Debian/Ubuntu: apt-get install nvidia-cuda-toolkit; Arch: pacman -S cuda; "
    "else developer.nvidia.com/cuda-downloads) or set CUDA_HOME"
)


def find_cuda(architectures: tuple[str, ...] = ()) -> Toolkit:
    """Find nvcc with everything that ggml-cuda needs of it.

    The first of these that has it: ``CUDACXX``, ``CUDA_HOME``, ``CUDA_PATH``, ``PATH``, the usual places.

    Args:
        architectures: Compute capabilities, such as ``86`` or ``8.6``; those of the cards here if empty, and
            ``DEFAULT_ARCHITECTURES`` without a card.

    Raises:
        BuildError: The toolkit or cuBLAS is missing, or it cannot compile for this card; says what to install.
        UsageError: Not a compute capability.
    """
    nvcc = _nvcc()
    release, version = _version(nvcc)
    known = {name.removeprefix("compute_") for name in ask([str(nvcc), "--list-gpu-arch"])[1].split()}
    chosen, notes = _architectures(architectures, known, release)
    options = {
        "GGML_METAL": "OFF",
        "GGML_CUDA": "ON",
        # for models spread over cards in tensor split mode, which the patches refuse
        "GGML_CUDA_NCCL": "OFF",
        "CMAKE_CUDA_COMPILER": str(nvcc),
        "CMAKE_CUDA_ARCHITECTURES": ";".join(chosen),
    }
    cublas, library_dirs = _cublas(nvcc, release)
    options |= cublas | _driver(nvcc)
    return Toolkit(f"CUDA {version}", chosen, options, {}, library_dirs, (*notes, _UNTRIED))


def _nvcc() -> Path:
    compiler = os.environ.get("CUDACXX")
    if compiler:
        if program := first_program(compiler, ["PATH"]):
            return program
        raise BuildError(f"CUDACXX is {compiler}, where there is no program; unset it or name nvcc")
    places = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "PATH", *_usual_places()]
    if program := first_program("nvcc", places):
        return program
    raise BuildError(f"nvcc, the CUDA compiler, is not in CUDA_HOME, CUDA_PATH, PATH or /usr/local/cuda; {_INSTALL}")


def _usual_places() -> list[str]:
    """The links that installers make, then the versions themselves, newest first."""
    beside = Path("/usr/local").glob("cuda-*")
    versions = sorted(beside, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)], reverse=True)
    return ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", *map(str, versions)]


def _version(nvcc: Path) -> tuple[str, str]:
    """Such as ``("13.0", "13.0.88")``."""
    text = ask([str(nvcc), "--version"])[1]
    match = re.search(r"release (\d+\.\d+)(?:, V([\d.]+))?", text)
    if match is None:
        raise BuildError(f"{nvcc} --version does not answer as nvcc does; {_INSTALL}")
    return match[1], match[2] or match[1]


def _architectures(wanted: tuple[str, ...], known: set[str], release: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The architectures to compile for, in cmake's words, and what to tell the user."""
    if wanted:
        return tuple(_normal(name) for name in wanted), ()
    present = _present()
    if not present:
        chosen = tuple(name for name in DEFAULT_ARCHITECTURES if not known or re.split(r"\D", name)[0] in known)
        note = f"no NVIDIA GPU was found: compiling for {', '.join(chosen)}, which takes long; --gpu-arch picks one"
        return chosen, (note,)
    for name in present:
        if known and name not in known:
            numbers = sorted(int(n) for n in known if n.isdigit())
            change = "an older" if int(name) < numbers[0] else "a newer"
            raise BuildError(
                f"this card has compute capability {name[:-1]}.{name[-1]}, which CUDA {release} cannot compile for "
                f"(it knows {numbers[0]} to {numbers[-1]}); install {change} CUDA toolkit and set CUDA_HOME"
            )
    return tuple(f"{name}-real" for name in present), ()


def _normal(name: str) -> str:
    match = re.fullmatch(r"(?:sm_|compute_)?(\d{1,2})\.?(\d)([af]?)(-real|-virtual)?", name)
    if match is None:
        raise UsageError(f"--gpu-arch {name}: not a compute capability; write 86 or 8.6, as nvidia-smi shows it")
    return f"{match[1]}{match[2]}{match[3]}{match[4] or '-real'}"


def _present() -> list[str]:
    """Compute capabilities of the cards here without the dot, each once; empty without a driver."""
    smi = first_program("nvidia-smi", ["PATH", "/usr/lib/wsl/lib", "/usr/local/nvidia"])
    code, text = ask([str(smi), "--query-gpu=compute_cap", "--format=csv,noheader"]) if smi else (-1, "")
    capabilities = (
        [line.strip() for line in text.splitlines() if re.fullmatch(r"\d+\.\d", line.strip())] if code == 0 else []
    )
    return sorted({name.replace(".", "") for name in capabilities}, key=int)


def _cublas(nvcc: Path, release: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Options and run-time directories for cuBLAS: the toolkit's own, else that of the Python package."""
    if ask([str(nvcc), "-x", "cu", "-E", "-", "-o", os.devnull], text="#include <cublas_v2.h>\n")[0] == 0:
        return {}, _library_dirs(nvcc)
    major = release.partition(".")[0]
    for packages in [*site.getsitepackages(), site.getusersitepackages(), *sys.path]:
        for folder in (Path(packages, "nvidia", f"cu{major}"), Path(packages, "nvidia", "cublas")):
            library = folder / "lib" / f"libcublas.so.{major}"
            if library.is_file() and (folder / "include" / "cublas_v2.h").is_file():
                options = {"CUDA_cublas_LIBRARY": str(library), "CMAKE_CUDA_FLAGS": f"-I{folder / 'include'}"}
                return options, (*_library_dirs(nvcc), str(library.parent))
    package = "nvidia-cublas" if int(major) >= 13 else f"nvidia-cublas-cu{major}"
    raise BuildError(
        f"CUDA {release} is here without cuBLAS (no cublas_v2.h); install it with the whole toolkit, with apt-get "
        f"install libcublas-dev-{release.replace('.', '-')}, or with {Path(sys.executable).name} -m pip install "
        f"'{package}=={release}.*'"
    )


def _library_dirs(nvcc: Path) -> tuple[str, ...]:
    """Where the toolkit's shared libraries are: programs must find them also where the system's loader does not."""
    root = _root(nvcc)
    return tuple(str(path) for path in (root / "lib64", root / "lib") if any(path.glob("libcudart.so*")))[:1]


def _root(nvcc: Path) -> Path:
    """Where the toolkit is, also when nvcc is a script or a link that stands elsewhere."""
    match = re.search(r"^#\$ TOP=(.+)$", ask([str(nvcc), "--dryrun", "-x", "cu", "-E", "-"])[1], re.MULTILINE)
    return Path(match[1].strip()).resolve() if match else nvcc.resolve().parents[1]


def _driver(nvcc: Path) -> dict[str, str]:
    """ggml-cuda's memory pool links the driver's library: the toolkit's stub, the driver itself, or do without."""
    root = _root(nvcc)
    places = [root / "lib64/stubs", *root.glob("targets/*/lib/stubs"), *Path("/usr/lib").glob("*-linux-gnu")]
    if sys.platform == "win32" or any((place / "libcuda.so").exists() for place in places):
        return {}
    listed = re.search(r"libcuda\.so\.1 .*=> (\S+)", ask([_ldconfig(), "-p"])[1])
    for candidate in [*([listed[1]] if listed else []), *_DRIVERS]:
        if Path(candidate).exists():
            return {"CUDA_cuda_driver_LIBRARY": candidate}
    return {"GGML_CUDA_NO_VMM": "ON"}


def _ldconfig() -> str:
    """The program is often outside an ordinary user's ``PATH``."""
    return str(first_program("ldconfig", ["PATH", "/"], folder="sbin") or "ldconfig")
