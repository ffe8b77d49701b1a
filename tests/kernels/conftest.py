"""A Vulkan runtime and driver, for the tests that execute them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from on_vulkan import CannotRunError, VulkanProcess
from rope_cases import check_fused

from ggufrope.errors import RuntimeLibraryError
from ggufrope.runtime.locate import library_name, locate


@pytest.fixture(scope="session")
def vulkan_dir() -> Path:
    """Libraries of the patched Vulkan build; ``mutations.py`` gives a broken one."""
    try:
        path = Path(os.environ.get("GGUFROPE_VULKAN_LIBRARIES") or locate("vulkan").path)
    except RuntimeLibraryError as error:
        pytest.skip(str(error))
    if not (path / library_name("ggml-vulkan")).exists():
        pytest.skip(f"{path} is no Vulkan build")
    return path


@pytest.fixture(scope="session")
def vulkan(vulkan_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VulkanProcess]:
    """The build with the first device that a Vulkan driver offers."""
    process = VulkanProcess(vulkan_dir, tmp_path_factory.mktemp("vulkan") / "log")
    try:
        process.start()
    except CannotRunError as error:
        pytest.skip(f"{error}; mesa-vulkan-drivers has one for the CPU")
    yield process
    process.close()


@pytest.fixture(scope="session")
def norm_is_fused(vulkan: VulkanProcess) -> bool:
    """Upstream's fused norm has 236 bytes of push constants, 240 as patched; Vulkan guarantees 128."""
    vulkan.fusions()
    vulkan(check_fused, "neox", "plain", True, None, "none")
    return "RMS_NORM_MUL_ROPE" in vulkan.fusions()
