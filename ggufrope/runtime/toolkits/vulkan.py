"""Vulkan: headers, loader, a shader compiler and the SPIR-V headers. One build serves every card."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from ggufrope.errors import BuildError, UsageError
from ggufrope.runtime.toolkits.toolkit import Toolkit, ask, first_program

__all__ = ["find_vulkan"]

_INSTALL = (
    "install Vulkan's development files (Debian/Ubuntu: apt-get install libvulkan-dev glslc spirv-headers; Fedora: dnf "
    "install vulkan-loader-devel glslc spirv-headers-devel; Arch: pacman -S vulkan-headers vulkan-icd-loader shaderc "
    "spirv-headers; else vulkan.lunarg.com, whose VULKAN_SDK is looked at)"
)


def find_vulkan(architectures: tuple[str, ...] = ()) -> Toolkit:
    """What ggml-vulkan is compiled with, from ``VULKAN_SDK``, ``PATH`` and the compiler's own directories.

    Args:
        architectures: Must be empty: the driver compiles the shaders for the card that it has.

    Raises:
        BuildError: Something is missing; says what, and what to install.
        UsageError: Architectures were given.
    """
    if architectures:
        raise UsageError("--gpu-arch: a Vulkan build runs on every GPU; omit it")
    sdk = os.environ.get("VULKAN_SDK")
    glslc = first_program("glslc", [sdk, "PATH"])
    if glslc is None:
        raise BuildError(f"glslc, the shader compiler, is not in VULKAN_SDK or PATH; {_INSTALL}")
    header = _header_version(sdk)
    if not _loader(sdk):
        raise BuildError(f"Vulkan's loader library is missing; {_INSTALL}")
    if not _spirv(sdk):
        raise BuildError(f"the SPIR-V headers are missing; {_INSTALL}")
    compiler = ask([str(glslc), "--version"])[1].partition("\n")[0].strip()
    options = {"GGML_METAL": "OFF", "GGML_VULKAN": "ON", "Vulkan_GLSLC_EXECUTABLE": str(glslc)}
    return Toolkit(f"Vulkan headers {header}, {compiler}", (), options)


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def _header_version(sdk: str | None) -> str:
    """The headers' revision, such as ``239``."""
    if sys.platform == "win32":
        return Path(sdk).name if sdk else "?"
    include = [f"-I{sdk}/include"] if sdk else []
    text = "#include <vulkan/vulkan.hpp>\nheader_version = VK_HEADER_VERSION\n"
    code, answer = ask([*_compiler(), "-x", "c++", "-E", "-P", *include, "-"], text=text)
    match = re.search(r"header_version = (\d+)", answer)
    if code != 0 or match is None:
        raise BuildError(f"Vulkan's headers are missing (no vulkan/vulkan.hpp); {_INSTALL}")
    return match[1]


def _loader(sdk: str | None) -> bool:
    if sys.platform == "win32":
        return bool(sdk)
    folders = [f"-L{sdk}/lib"] if sdk else []
    with tempfile.TemporaryDirectory(prefix="ggufrope-") as folder:
        out = str(Path(folder, "out"))
        return ask([*_compiler(), "-x", "c++", "-", *folders, "-lvulkan", "-o", out], text="int main() {}\n")[0] == 0


def _spirv(sdk: str | None) -> bool:
    """Whether the package's own description is there, which cmake looks for."""
    roots = [Path(root) for root in (sdk, "/usr", "/usr/local", "/opt/homebrew") if root]
    roots += [Path(root) for root in os.environ.get("CMAKE_PREFIX_PATH", "").split(os.pathsep) if root]
    patterns = ("share/cmake/SPIRV-Headers", "lib*/cmake/SPIRV-Headers", "lib/*/cmake/SPIRV-Headers", "cmake")
    return any((path / "SPIRV-HeadersConfig.cmake").is_file() for r in roots for p in patterns for path in r.glob(p))
