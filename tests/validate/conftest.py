"""The shipped model with Ms-PoE in every type that the tests need, made once."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from ggufrope.convert.pipeline import ConvertRequest, carry_out


@pytest.fixture(scope="session")
def demo_dir():
    """The Hugging Face directory."""
    return Path(__file__).resolve().parents[2] / "models" / "demo"


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory, demo_dir, runtime_dir):
    """A function of a type, such as ``F32`` or ``Q4_K_M``, and a method: the path of that GGUF."""
    pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
    if find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is missing; run scripts/setup")
    from ggufrope.runtime.programs import quantize

    folder = tmp_path_factory.mktemp("demo-files")

    def demo_file(kind, method="ms-poe", factor=None):
        out = folder / f"{method}-{factor}-{kind}.gguf"
        if out.exists():
            return out
        if kind != "F32":
            quantize(demo_file("F32", method, factor), out, kind)
        elif method == "none":
            carry_out(ConvertRequest(demo_dir, out, "none", outtype="f32"))
        else:
            params = {"factor": factor} if factor else {}
            if method == "ms-poe":
                params["from_wavelength"] = 0  # `spoil` changes ratios of whole heads
            carry_out(ConvertRequest(demo_file("F32", "none"), out, method, params))
        return out

    return demo_file


@pytest.fixture
def one_thread(monkeypatch):
    """Both sides on one thread: on a busy machine two mostly wait for each other."""
    import torch

    from ggufrope.inference.session import open_strict
    from ggufrope.validate import sides, validation

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for module in (validation, sides):
        monkeypatch.setattr(module, "open_strict", partial(open_strict, threads=1))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def spoil(monkeypatch, one_thread):
    """A function that has FILE's side, and not the reference, run with head factors that ``change`` alters."""
    from ggufrope.validate import validation

    right = validation.open_strict

    def spoil(change):
        def opened(*args, **options):
            session = right(*args, **options)
            factors = session.head_factors()
            change(factors)
            session.set_head_factors(factors)
            return session

        monkeypatch.setattr(validation, "open_strict", opened if change else right)

    return spoil
