"""Fixtures that need something from outside the tests: a built runtime, the material in ../shared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ggufrope.errors import RuntimeLibraryError
from ggufrope.runtime.locate import default_backend, locate

ROOT = Path(__file__).resolve().parents[1]
# the tests' limits are for the CPU's arithmetic: a GPU's build, where there is one, must be asked for
os.environ.setdefault("GGUFROPE_BACKEND", default_backend())


def _built(*, stock: bool) -> Path:
    if stock and os.environ.get("GGUFROPE_SANITIZED"):
        pytest.skip("the runtime is sanitized (scripts/check-sanitizers): not the stock build's bits")
    try:
        return locate(stock=stock).path
    except RuntimeLibraryError as error:
        pytest.skip(f"run scripts/{'test' if stock else 'setup'}: {error}")


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
