"""Fixtures that need something from outside the tests: a built runtime, the material in ../shared."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from message_rules import FOR_PROGRAMMERS, flaws

from ggufrope import cli
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import GgufropeError, RuntimeLibraryError
from ggufrope.runtime.locate import default_backend, locate

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "models" / "demo"
PACKAGE = ROOT / "ggufrope"
# the tests' limits are for the CPU's arithmetic: a GPU's build, where there is one, must be asked for
os.environ.setdefault("GGUFROPE_BACKEND", default_backend())


def _built(*, stock: bool) -> Path:
    if stock and os.environ.get("GGUFROPE_SANITIZED"):
        pytest.skip("the runtime is sanitized (scripts/check-sanitizers): not the stock build's bits")
    try:
        return locate(stock=stock).path
    except RuntimeLibraryError as error:
        pytest.skip(f"run scripts/{'test' if stock else 'setup'}: {error}")


@pytest.fixture(autouse=True)
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every error that the package raises while a test runs, and every one that reaches the command line, is read."""
    wrong: list[str] = []
    report = cli._report

    def read(self: GgufropeError, *arguments: object) -> None:
        Exception.__init__(self, *arguments)
        place = Path(sys._getframe(1).f_code.co_filename)
        if PACKAGE in place.parents and str(place.relative_to(PACKAGE)) not in FOR_PROGRAMMERS:
            wrong.extend(f"{arguments[0]}: {flaw}" for flaw in flaws(str(arguments[0])))

    def reported(error: BaseException) -> int:
        if isinstance(error, GgufropeError):
            given = sys._getframe(1).f_locals["arguments"]
            wrong.extend(f"{error}: {flaw}" for flaw in flaws(str(error), [str(part) for part in given]))
        return report(error)

    monkeypatch.setattr(GgufropeError, "__init__", read)
    monkeypatch.setattr(cli, "_report", reported)
    yield
    if wrong:
        pytest.fail("\n".join(dict.fromkeys(wrong)))


@pytest.fixture(autouse=True)
def idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command says must not depend on what else runs beside the tests; who tests that gives a load."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)


@pytest.fixture(scope="session")
def runtime_dir() -> Path:
    """Libraries and programs of the patched build."""
    return _built(stock=False)


@pytest.fixture(scope="session")
def stock_dir() -> Path:
    """Libraries and programs of the unpatched build of the same pin."""
    return _built(stock=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Test material that is not part of the repository: oracles, models, texts."""
    path = Path(os.environ.get("GGUFROPE_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"{path} is absent; it holds captured outputs of other programs (GGUFROPE_SHARED names it)")
    return path


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
            carry_out(ConvertRequest(DEMO, folder / f"{name}.gguf", method, params, outtype=outtype))
            made[name] = folder / f"{name}.gguf"
        return made[name]

    return file
