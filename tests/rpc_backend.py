"""ggml's RPC backend, compiled on its own beside a built ggml-base, and its server in a process of its own.

Two files of the pinned source, which the series does not touch: building a whole runtime with RPC would take minutes.
Run as a program with a folder of ggml's libraries, the compiled library and ``host:port``, this file is the server.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

from ggufrope.runtime.fetch import source_tree
from ggufrope.runtime.locate import library_name

__all__ = ["add_server", "compile_rpc", "serving"]


def compile_rpc(runtime: Path, folder: Path) -> Path:
    """Compile the client and the server into ``folder`` (9 s of one core); any build of the pin can load the result."""
    ggml, library = source_tree() / "ggml", folder / library_name("ggml-rpc")
    sources = [ggml / "src" / "ggml-rpc" / name for name in ("ggml-rpc.cpp", "transport.cpp")]
    command = ["c++", "-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-DGGML_BACKEND_SHARED", "-DGGML_BACKEND_BUILD"]
    command += ["-DGGML_SHARED", f"-I{ggml / 'include'}", f"-I{ggml / 'src'}", *map(str, sources), "-o", str(library)]
    command += [str(runtime / library_name("ggml-base")), "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-4000:])
    return library


def add_server(libraries: Path, rpc: Path, endpoint: str) -> None:
    """Make the devices of a server known to the ggml in ``libraries``, which this process has loaded or loads now."""
    ggml, client = _load(libraries, rpc)
    client.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
    ggml.ggml_backend_register.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_register(client.ggml_backend_rpc_add_server(endpoint.encode()))


@contextmanager
def serving(libraries: Path, rpc: Path, log: Path) -> Iterator[str]:
    """Where the CPU of ``libraries`` is served, in another process, until the context ends."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", __file__, str(libraries), str(rpc), endpoint]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            with socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield endpoint
    finally:
        process.kill()
        process.wait()


def _load(libraries: Path, rpc: Path) -> tuple[ctypes.CDLL, ctypes.CDLL]:
    # in this order, so that the third finds the libggml-base that is there already
    return ctypes.CDLL(str(libraries / library_name("ggml"))), ctypes.CDLL(str(rpc))


def _serve(libraries: Path, rpc: Path, endpoint: str) -> None:
    ggml, server = _load(libraries, rpc)
    ggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    devices = (ctypes.c_void_p * 1)(ggml.ggml_backend_dev_by_type(0))
    run = server.ggml_backend_rpc_start_server
    run.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    run(endpoint.encode(), None, 1, 1, devices)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
