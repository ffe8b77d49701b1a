#!/usr/bin/env python3
"""Does the self-test of devices notice? Breaks the CPU's or Vulkan's kernels in one place at a time and runs it.

    python tests/kernels/selftest_mutations.py [NAME...]     all of both backends, or those named

Builds libllama once, with Vulkan where glslc is, in a scratch directory (10 minutes of two cores, less where ccache
knows it), and for each mutation the library of its backend alone; then does what ``ggufrope runtime check`` does. It
prints a line for each; exit code 1 if a broken kernel passes, or one that is whole does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1])]

from mutations import MUTATIONS, Mutation  # noqa: E402  (found by the line above)
from on_cpu import CannotCompileError  # noqa: E402  (likewise)

from ggufrope.runtime.build import BuildSpec  # noqa: E402  (likewise)
from ggufrope.runtime.device_check import DeviceCheck, check_devices  # noqa: E402  (likewise)
from ggufrope.runtime.fetch import source_tree  # noqa: E402  (likewise)
from ggufrope.runtime.locate import Runtime  # noqa: E402  (likewise)
from ggufrope.runtime.patch import apply_series  # noqa: E402  (likewise)
from ggufrope.runtime.pin import patches_dir  # noqa: E402  (likewise)
from ggufrope.runtime.toolchain import find_tools  # noqa: E402  (likewise)
from ggufrope.runtime.toolkits import find_toolkit  # noqa: E402  (likewise)

__all__ = ["TRIED", "BrokenBuild", "main"]

_DEVICES = {"cpu": "CPU", "vulkan": "Vulkan0"}
#: Its fusion of a norm with what follows needs more push constants than Mesa 22.3's CPU driver has.
_FUSED_NORM = {"vulkan-fused-norm-row-0", "vulkan-fused-norm-without-factors"}
#: Mutations of the backends that run without a GPU.
TRIED = [name for name, mutation in MUTATIONS.items() if mutation.backend in _DEVICES]


class BrokenBuild:
    """A build of the patched tree in ``folder``, in which one backend at a time can be broken.

    Args:
        folder: Scratch, 1 GB.
        vulkan: Whether Vulkan is in it.

    Raises:
        CannotCompileError: Its compiler's or cmake's own words.
    """

    def __init__(self, folder: Path, *, vulkan: bool) -> None:
        # names as in the runtime's own builds, and paths relative to them: ccache then has most of it
        self.tree, self.build, self.backend = folder / "source", folder / "build", "vulkan" if vulkan else "cpu"
        shutil.copytree(source_tree(), self.tree)
        for path in self.tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        apply_series(patches_dir(), self.tree)
        tools = find_tools()
        self.cmake = str(tools.cmake)
        entries = BuildSpec(self.backend).options(find_toolkit(self.backend))
        options = [f"-D{name}={value}" for name, value in entries.items()]
        options += [] if tools.ninja is None else ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools.ninja}"]
        self._run([self.cmake, "-S", str(self.tree), "-B", str(self.build), *options])
        self.compile("llama")

    def compile(self, target: str) -> None:
        """Build what differs of one target."""
        self._run([self.cmake, "--build", str(self.build), "-j", "2", "--target", target])

    def check(self, backend: str) -> DeviceCheck | None:
        """The self-test of that backend's device; None if it has none here."""
        os.environ.setdefault("GGML_VK_VISIBLE_DEVICES", "0")  # a CPU driver must be named
        devices, _ = check_devices(Runtime(self.build / "bin", "", "", self.backend, ()))
        return next((device for device in devices if device.name == _DEVICES[backend]), None)

    def verdict(self, name: str) -> str:
        """Break it, ask, and mend it again: what was noticed, why nothing was tried, or ``NOT NOTICED``."""
        mutation = MUTATIONS[name]
        path = self.tree / mutation.path
        whole = path.read_text(encoding="utf-8")
        path.write_text(mutation.apply(whole), encoding="utf-8")
        try:
            self.compile(f"ggml-{mutation.backend}")
            device = self.check(mutation.backend)
        except CannotCompileError as error:
            return f"not tried: {error}"
        finally:
            path.write_text(whole, encoding="utf-8")
        return _said(mutation, device, name)

    def mend(self, backend: str) -> DeviceCheck | None:
        """Build the backend as it ships, and ask."""
        self.compile(f"ggml-{backend}")
        return self.check(backend)

    def _run(self, command: list[str]) -> None:
        here = str(self.tree.parent)
        environment = os.environ | {"GIT_CEILING_DIRECTORIES": here, "CCACHE_BASEDIR": here, "CCACHE_NOHASHDIR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise CannotCompileError((done.stdout + done.stderr)[-2000:])


def _said(mutation: Mutation, device: DeviceCheck | None, name: str) -> str:
    if device is None:
        return f"not tried: no {mutation.backend} device"
    bad = [case for case in device.cases if not case.good]
    if device.problem or bad:
        return f"noticed by {len(bad)} of {len(device.cases)} cases: {device.problem or bad[0]}"
    norms = [case for case in device.cases if case.op.startswith("rms_norm")]
    if name in _FUSED_NORM and not any(case.n_fused > case.op.endswith("set_rows") for case in norms):
        return "not tried: this driver does not fuse the norm (too few push constants)"
    return "NOT NOTICED"


def main(names: list[str]) -> int:
    """Try the mutations ``names``, or all of the backends that run here; then the build as it ships."""
    names = names or TRIED
    backends = dict.fromkeys(MUTATIONS[name].backend for name in names)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="selftest-") as folder:
        build = BrokenBuild(Path(folder), vulkan="vulkan" in backends and shutil.which("glslc") is not None)
        for name in names:
            verdict = build.verdict(name)
            missed += verdict.startswith("NOT NOTICED")
            print(f"{name:40} {verdict}", flush=True)
        for backend in backends:
            device = build.mend(backend)
            if device is not None:
                missed += not device.good
                print(f"{backend} as it ships: {device.summary}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
