"""Loading a directory: completely or not at all; and the settings that a spec turns into."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_checkpoint

from ggufrope.errors import CheckpointError, ParameterError, UnsupportedModelError
from ggufrope.reference import ReferenceSpec

pytest.importorskip("transformers", reason="pip install 'ggufrope[torch]'")


@pytest.fixture(scope="module")
def forward():
    from ggufrope.reference import forward

    return forward


@pytest.fixture
def folder(tmp_path):
    tiny_checkpoint.make("llama", tmp_path)
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_nothing_there(forward, tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        forward.load_reference(tmp_path)


def test_broken_configuration(forward, folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot read config\.json"):
        forward.load_reference(folder)


def test_no_weights(forward, folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot load it"):
        forward.load_reference(folder)


def test_truncated_weights(forward, folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot load it"):
        forward.load_reference(folder)


def test_weights_of_another_depth_are_not_made_up(forward, folder):
    edit(folder, num_hidden_layers=4)
    with pytest.raises(CheckpointError, match=r"missing keys in the weights: model\.layers\.3"):
        forward.load_reference(folder)


def test_a_model_without_rope_settings_takes_no_method(forward, folder):
    edit(folder, model_type="gpt2", rope_parameters=None)
    with pytest.raises(UnsupportedModelError, match="cannot replace the scaling of 'gpt2'"):
        forward.load_reference(folder, ReferenceSpec("none"))
    with pytest.raises(CheckpointError, match="missing keys"):  # as it is, it would do
        forward.load_reference(folder)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (("spiral", {}), "no method 'spiral'"),
        (("linear", {"beta_fast": 1}), "takes no beta_fast"),
        (("linear", {"factor": "4"}), "factor is '4'; a finite number above 0 is needed"),
        (("linear", {"factor": 0}), "factor is 0; a finite number above 0"),
        (("yarn", {"truncate": 1}), "truncate is 1; true or false"),
        (("longrope", {"long_factor": 2.0}), "long_factor is 2.0; a list of numbers"),
        (("longrope", {"long_factor": [1.0, -1.0]}), "a list of numbers is needed"),
        ((None, {"factor": 2.0}), "parameters without a method"),
    ],
)
def test_specs_that_make_no_sense(spec, said):
    with pytest.raises(ParameterError, match=said):
        ReferenceSpec(*spec)


def test_rounding_touches_matrices_only(forward, folder):
    plain, rounded = forward.load_reference(folder), forward.load_reference(folder, stored="float16")
    for (name, a), b in zip(plain.named_parameters(), rounded.parameters(), strict=True):
        left, right = a.detach().numpy(), b.detach().numpy()
        want = left.astype(np.float16).astype(np.float32) if left.ndim > 1 else left
        assert np.array_equal(want, right), name


def test_heads_normed_after_their_projection_are_rotated_by_the_class_itself(forward, tmp_path):
    """Phi's optional norms stand between projection and rotation, where the formulas written out do not look."""
    tiny_checkpoint.make("phi", tmp_path, qk_layernorm=True)
    ids = list(range(3, 90))

    def run(spec):
        return np.concatenate(list(forward.logits(forward.load_reference(tmp_path, spec), ids)))

    linear, plain = run(ReferenceSpec("linear", {"factor": 1.7})), run(ReferenceSpec())
    assert np.abs(run(ReferenceSpec(head_ratios=((1.7, 1.7),) * 3)) - linear).max() < 1e-3
    assert np.abs(linear - plain).max() > 0.1


def test_chunks_do_not_matter(forward, folder):
    model, ids = forward.load_reference(folder), list(range(90))
    whole, parts = (np.concatenate(list(forward.log_probs(model, ids, n))) for n in (90, 7))
    assert np.allclose(whole, parts, atol=1e-5)
    assert np.allclose(np.exp(whole).sum(axis=1), 1)


def test_a_llama3_model_s_own_frequencies_stay_under_another_method(forward, folder):
    own = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    plain = forward.load_reference(folder).base_model.rotary_emb.inv_freq
    edit(folder, rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, **own})
    llama3 = forward.load_reference(folder).base_model.rotary_emb.inv_freq
    assert not np.allclose(plain, llama3)
    for spec, divisor in ((ReferenceSpec("none"), 1.0), (ReferenceSpec("linear", {"factor": 3.0}), 3.0)):
        got = forward.load_reference(folder, spec).base_model.rotary_emb.inv_freq
        assert np.allclose(got, llama3 / divisor, rtol=1e-6)
    lists = {"short_factor": [1.0] * 16, "long_factor": [2.0] * 16, "factor": 2.0}
    with pytest.raises(UnsupportedModelError, match="no reference"):
        forward.load_reference(folder, ReferenceSpec("longrope", lists))


def test_ntk_base_stretches_the_slowest_pair_by_the_factor():
    from ggufrope.reference.scaling import ntk_base

    for base, factor, dim in ((10000.0, 4.0, 128), (500000.0, 16.0, 64), (10000.0, 2.0, 8)):
        slowest = (dim - 2) / dim
        assert ntk_base(base, factor, dim) ** slowest == pytest.approx(factor * base**slowest)
