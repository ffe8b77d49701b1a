"""AMD's ROCm: HIP's compiler, hipBLAS and rocBLAS, and the names of the cards that are here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ggufrope.errors import BuildError, UsageError
from ggufrope.runtime.toolkits.toolkit import Toolkit, ask, first_program

__all__ = ["DEFAULT_ARCHITECTURES", "find_hip"]

#: For a machine without a card: what ROCm 6.1, the oldest that upstream accepts, can compile for and is common.
DEFAULT_ARCHITECTURES = ("gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1101", "gfx1102")
_INSTALL = (
    "install ROCm (Debian/Ubuntu: apt-get install hipcc libhipblas-dev librocblas-dev; Arch: pacman -S rocm-hip-sdk; "
    "else rocm.docs.amd.com) or set ROCM_PATH"
)
_UNTRIED = "ggufrope's patches have never been compiled or run with HIP: check results before you rely on them"


def find_hip(architectures: tuple[str, ...] = ()) -> Toolkit:
    """ROCm with everything that ggml-hip needs of it, from ``ROCM_PATH``, ``HIP_PATH``, ``PATH`` or ``/opt/rocm``.

    Args:
        architectures: Names such as ``gfx1100``; those of the cards here if empty, else ``DEFAULT_ARCHITECTURES``.

    Raises:
        BuildError: ROCm, hipBLAS or rocBLAS is missing; says what to install.
        UsageError: Not the name of an AMD architecture.
    """
    roots = [os.environ.get("ROCM_PATH"), os.environ.get("HIP_PATH"), "PATH", "/opt/rocm"]
    hipconfig = first_program("hipconfig", roots)
    if hipconfig is None:
        raise BuildError(f"hipconfig, of AMD's ROCm, is not in ROCM_PATH, HIP_PATH, PATH or /opt/rocm; {_INSTALL}")
    root, compilers = (ask([str(hipconfig), flag])[1].strip() for flag in ("-R", "-l"))
    compiler = Path(compilers, "clang")
    if not compiler.is_file():
        raise BuildError(f"{hipconfig} -l names {compilers or 'nothing'}, where there is no clang; {_INSTALL}")
    for name in ("hipblas", "rocblas"):
        places = [*Path(root).glob(f"lib*/cmake/{name}"), *Path(root).glob(f"lib/*/cmake/{name}")]
        if not places:
            raise BuildError(f"{name} is missing in {root}; {_INSTALL}")
    chosen, notes = _architectures(architectures)
    options = {"GGML_METAL": "OFF", "GGML_HIP": "ON", "GPU_TARGETS": ";".join(chosen)}
    environment = {"HIPCXX": str(compiler), "HIP_PATH": root, "ROCM_PATH": root}
    version = ask([str(hipconfig), "--version"])[1].strip()
    return Toolkit(f"HIP {version}", chosen, options, environment, (str(Path(root, "lib")),), (*notes, _UNTRIED))


def _architectures(wanted: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for name in wanted:
        if not re.fullmatch(r"gfx[0-9a-f]{3,4}", name):
            raise UsageError(f"--gpu-arch {name}: not an AMD architecture; write gfx1100, as rocminfo shows it")
    if wanted:
        return wanted, ()
    if present := _present():
        return present, ()
    names = ", ".join(DEFAULT_ARCHITECTURES)
    return DEFAULT_ARCHITECTURES, (f"no AMD GPU was found: compiling for {names}; --gpu-arch picks one",)


def _present() -> tuple[str, ...]:
    """Names of the cards here, each once."""
    for name in ("rocminfo", "amdgpu-arch"):
        program = first_program(name, ["PATH", os.environ.get("ROCM_PATH"), "/opt/rocm", "/opt/rocm/llvm"])
        code, text = ask([str(program)]) if program else (-1, "")
        names = set(re.findall(r"\bgfx[0-9a-f]{3,4}\b", text)) - {"gfx000"} if code == 0 else set()
        if names:
            return tuple(sorted(names))
    return ()
