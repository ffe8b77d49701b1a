"""The demo model as GGUF files, made once."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ggufrope.conversion import Request, carry_out

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"


@pytest.fixture(scope="session")
def demo_file(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``demo_file(method, outtype, **params)``: the demo model with a method; each file is converted once."""
    if find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is missing; run scripts/setup")
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    folder, made = tmp_path_factory.mktemp("demo"), dict[str, Path]()

    def file(method: str | None = None, outtype: str = "f16", **params: Any) -> Path:
        name = "-".join(str(part) for part in (method, outtype, *params.values()))
        if name not in made:
            carry_out(Request(DEMO, folder / f"{name}.gguf", method, params, outtype=outtype))
            made[name] = folder / f"{name}.gguf"
        return made[name]

    return file
