"""Methods by length on the patched runtime against the full prefill of the reference, below and beyond every switch."""

from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import tiny_checkpoint
from validate_path import validate

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.gguf import read_header
from ggufrope.validate import sides, validation

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")
pytestmark = [
    # found, not imported: the first import decides on which libllama the whole process runs
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is missing; run scripts/setup"),
    pytest.mark.usefixtures("runtime_dir", "_one_thread"),
]
KINDS = ("llama", "qwen2", "qwen3", "phi3")
METHODS = {
    "dynamic-ntk": {"factor": 4.0},
    "dynamic-ntk steep": {"factor": 4.0, "slope": 4.0, "granularity": 1.5},
    "yarn": {"factor": 4.0, "dynamic": True},
    "longrope": {"factor": 4.0},
    "clex": {},
    "ms-poe+dynamic-ntk": {"factor": 4.0, "first_layer": 1},
}
STRETCHES = (0.5, 1.0, None, 1.5, 2.0, 4.0)  # of the original context; None: one token more than it


@pytest.fixture(scope="module")
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "open_strict", partial(validation.open_strict, threads=1))
        yield
    torch.set_num_threads(before)


def with_clex_layer(folder, original, pairs):
    """Give a checkpoint a CLEX layer that learned something."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(3)
    layer = {
        "inv_freq": 10000.0 ** -(torch.arange(pairs) / pairs),
        "proj_func.ode_up_proj": torch.randn(pairs, 4 * pairs) / pairs,
        # the fastest pair keeps its frequency: where it rises, angles grow beyond what float32 knows to 1e-3
        "proj_func.ode_down_proj": 0.01 * torch.randn(4 * pairs, pairs) * torch.arange(pairs) / pairs,
    }
    weights = load_file(folder / "model.safetensors") | {f"model.clex_layer.{n}": t for n, t in layer.items()}
    save_file({n: t.contiguous() for n, t in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    rope = {"type": "clex", "max_factor": 4, "param_factor": 2, "act": "silu", "time_dt": 0.05}
    config |= {"rope_scaling": rope, "rope_theta": 10000.0, "max_position_embeddings": original}
    partial_factor = (config.pop("rope_parameters", None) or {}).get("partial_rotary_factor")
    if partial_factor:
        config["partial_rotary_factor"] = partial_factor
    (folder / "config.json").write_text(json.dumps(config))


def converted(gguf, folder, out, label, original):
    name, params = label.split()[0], dict(METHODS[label])
    n = read_header(gguf).get(f"{read_header(gguf).architecture}.rope.dimension_count") // 2
    if name == "longrope":
        params |= {"short_factor": tuple(np.linspace(1, 1.1, n)), "long_factor": tuple(np.geomspace(1, 4, n))}
    if name == "clex":
        from ggufrope.convert.clex_solver import solve_clex

        with_clex_layer(folder, original, n)
        params["clex_from"] = solve_clex(folder)
    carry_out(ConvertRequest(gguf, out, name, params))
    return out


def lengths(original):
    return [original + 1 if s is None else int(original * s) for s in STRETCHES]


@pytest.mark.parametrize("label", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_tiny_models(tmp_path, kind, label):
    if (kind, label) == ("phi3", "clex"):
        pytest.skip("transformers lets no Phi-3 configuration say clex")
    gguf = tiny_checkpoint.make(kind, tmp_path / "hf", max_position_embeddings=128)
    file = converted(gguf, tmp_path / "hf", tmp_path / "out.gguf", label, 128)
    for length in lengths(128):
        result = validate(file, tmp_path / "hf", length=length)
        assert result.total.max_abs < 1e-3, "\n".join([str(length), *result.lines()])


@pytest.mark.parametrize("label", METHODS)
def test_a_trained_model(shared, tmp_path, label):
    source = shared / "models/stories260K"
    folder = tmp_path / "hf"
    folder.mkdir()
    for path in (source / "hf").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    file = converted(source / "stories260K-f32.gguf", folder, tmp_path / "out.gguf", label, 512)
    for length in lengths(512):
        result = validate(file, folder, length=length)
        assert result.total.max_abs < 1e-3, "\n".join([str(length), *result.lines()])
        assert result.total.mean_kl < 1e-8


def test_the_wrong_row_would_be_noticed(tmp_path, monkeypatch):
    gguf = tiny_checkpoint.make("llama", tmp_path / "hf", max_position_embeddings=128)
    file = converted(gguf, tmp_path / "hf", tmp_path / "out.gguf", "dynamic-ntk", 128)
    assert validate(file, tmp_path / "hf", length=150).total.max_abs < 1e-3
    monkeypatch.setattr(sides, "served_as", lambda _decoded, _length: 182)
    assert validate(file, tmp_path / "hf", length=150).total.max_abs > 1e-2


@pytest.mark.parametrize("label", ["dynamic-ntk", "yarn", "clex"])
def test_within_the_trained_context_nothing_changes(tmp_path, label):
    from ggufrope.inference.session import open_strict

    gguf = tiny_checkpoint.make("llama", tmp_path / "hf", max_position_embeddings=128)
    ids, found = list(range(96)) + list(range(32)), []
    for file in (gguf, converted(gguf, tmp_path / "hf", tmp_path / "out.gguf", label, 128)):
        with open_strict(file, len(ids), chunk=64, threads=1) as session:
            found.append(np.concatenate(list(session.log_probs(ids))))
    assert np.abs(found[0] - found[1]).max() <= 1e-6
