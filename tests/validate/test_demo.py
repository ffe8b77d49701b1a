"""The shipped model, from its directory to a converted file that the runtime and PyTorch agree on, and the C API."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from validate_path import validate

import ggufrope
from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.runtime import library

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
pytestmark = [
    # found, not imported: the first import decides on which libllama the whole process runs
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.usefixtures("runtime_dir"),
]

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """models/demo as an F32 GGUF with Ms-PoE."""
    out = tmp_path_factory.mktemp("demo") / "ms-poe.gguf"
    carry_out(ConvertRequest(DEMO, out, "ms-poe", {"from_wavelength": 0}, outtype="f32"))
    return out


def test_runtime_and_reference_agree(converted):
    result = validate(converted, DEMO, length=300)
    assert result.passed
    # 4.0e-4 was measured; one ratio off by 0.1% is 1e-1
    assert result.total.max_abs < 2e-3


def test_head_factors_are_the_file_s_and_can_be_set(converted):
    model = ggufrope.load(converted, n_ctx=256, n_threads=1)
    try:
        assert library.method(model) == "ms-poe"
        found = library.head_factors(model).reshape(6, 4)
        assert found[:2] == pytest.approx(np.ones((2, 4)))
        assert found[2:] == pytest.approx(np.tile([1.2, 1.35, 1.5, 1.65], (4, 1)))
        library.set_head_factors(model, np.full(24, 1.5))
        assert library.head_factors(model) == pytest.approx(np.full(24, 1.5))
    finally:
        model.close()
