"""What a file claims becomes what the reference computes: names and parameters, never our tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gguf_builder import build, llama_entries, tiny_llama, tiny_tensors

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import InputError, ParameterError, UsageError
from ggufrope.gguf import TypedValue, ValueType, keys, read_header, rewrite
from ggufrope.methods import METHODS
from ggufrope.modelfile.decoded import decode
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.modelfile.original import Source
from ggufrope.reference.spec import PARAMETERS
from ggufrope.validate.claim import claim_of, served_as
from ggufrope.validate.token_ids import random_ids, text_ids


@pytest.fixture
def spec_of(tmp_path):
    source = tmp_path / "source.gguf"
    source.write_bytes(tiny_llama())

    def spec_of(name=None, **params):
        path = source
        if name:
            path = tmp_path / "out.gguf"
            carry_out(ConvertRequest(source, path, name, params, overwrite=True))
        return claim_of(ModelFile.open(path)).reference

    return spec_of


def test_a_file_without_our_keys_claims_what_its_configuration_says(spec_of):
    spec = spec_of()
    assert (spec.method, spec.head_ratios) == (None, ())


def test_base_methods_pass_on_their_parameters(spec_of):
    spec = spec_of("yarn", factor=4.0, beta_fast=20.0)
    assert spec.method == "yarn"
    assert spec.params["factor"] == 4.0
    assert spec.params["beta_fast"] == 20.0
    assert not spec.per_head


@pytest.mark.parametrize("name", ["dynamic-ntk", "ms-poe+dynamic-ntk", "yarn"])
def test_the_row_that_serves_says_whose_frequencies_to_expect(tmp_path, spec_of, name):
    dynamic = {"dynamic": True} if name == "yarn" else {}
    assert spec_of(name, factor=4.0, granularity=2.0, **dynamic).by_length
    decoded = decode(Source(read_header(tmp_path / "out.gguf")))
    served = {length: served_as(decoded, length) for length in (1, 64, 65, 128, 129, 256)}
    assert served == {1: 64, 64: 64, 65: 128, 128: 128, 129: 256, 256: 256}
    assert not spec_of("yarn", factor=4.0).by_length
    assert served_as(decode(Source(read_header(tmp_path / "out.gguf"))), 100) is None


def test_ms_poe_keeps_the_model_s_scaling(spec_of):
    spec = spec_of("ms-poe", first_layer=0)
    assert spec.method is None
    assert spec.per_head


def test_ms_poe_over_a_base(spec_of):
    spec = spec_of("ms-poe+ntk", factor=2.0, first_layer=0, min_ratio=1.25, max_ratio=1.25, from_wavelength=0)
    assert (spec.method, dict(spec.params)) == ("ntk", {"factor": 2.0})
    assert spec.head_ratios[0] == tuple(np.full(len(spec.head_ratios[0]), np.float32(1.25)))
    assert "ntk (factor 2), head ratios 1.25 to 1.25" in spec.describe()


def test_the_reference_knows_every_base_method():
    """A method that it does not know is an error of ``validate``, so a new one must come with its reference."""
    assert METHODS.keys() - {"table", "ms-poe"} == PARAMETERS.keys()


def changed(tmp_path, method=None, params=None, original=None):
    """A copy of ``out.gguf`` with other bookkeeping keys."""
    header = read_header(tmp_path / "out.gguf")
    put = {} if method is None else {keys.METHOD: TypedValue(ValueType.STRING, method)}
    put |= {} if params is None else {keys.PARAMS: TypedValue(ValueType.STRING, json.dumps(params))}
    put |= {} if original is None else {keys.ORIGINAL: TypedValue(ValueType.STRING, json.dumps(original))}
    rewrite(header, tmp_path / "changed.gguf", set=put)
    return ModelFile.open(tmp_path / "changed.gguf")


@pytest.mark.parametrize(
    ("method", "params", "said"),
    [
        ("no-such", {}, r"changed\.gguf: ggufrope\.params: the reference has no method 'no-such'"),
        ("linear", {"factor": "4"}, "factor is '4'; a finite number above 0 is needed"),
        ("linear", {"factor": 4.0, "slope": 1.0}, "takes no slope"),
        ("ms-poe+linear", {"base": 4}, "base is 4; an object is needed"),
        ("ms-poe", {"first_layer": "two"}, "invalid literal"),
        ("ms-poe", {"spacing": "wide"}, "spacing 'wide'"),
        ("ms-poe", {"head_order": "by-name"}, "head order 'by-name'"),
    ],
)
def test_what_the_reference_does_not_have_is_refused_with_the_file_s_name(tmp_path, spec_of, method, params, said):
    spec_of("none")
    with pytest.raises(ParameterError, match=said) as refused:
        claim_of(changed(tmp_path, method, params))
    assert str(refused.value).startswith(str(tmp_path / "changed.gguf"))


@pytest.mark.parametrize("name", ["yarn", "ms-poe+yarn"])
def test_a_method_that_was_read_from_the_checkpoint_leaves_it_to_the_checkpoint(tmp_path, spec_of, name):
    spec_of(name, factor=4.0)
    by_name = claim_of(ModelFile.open(tmp_path / "out.gguf"))
    assert (by_name.source, by_name.reference.method, by_name.method.method) == ("name", "yarn", "yarn")
    assert by_name.text.endswith("; asked for by name")
    record = json.loads(read_header(tmp_path / "out.gguf").get(keys.ORIGINAL))
    found = claim_of(changed(tmp_path, original=record | {"method_from": "checkpoint"}))
    assert (found.source, found.reference.method, found.method.method) == ("checkpoint", None, "yarn")
    assert found.reference.head_ratios == by_name.reference.head_ratios
    assert found.text.endswith("; read from the checkpoint")


def test_the_model_s_own_factors_stay_where_the_original_has_them(tmp_path):
    """Not where the checkpoint asks for llama3: for some families the converter writes no such tensor."""
    for tensors, own in (([], False), ([("rope_freqs.weight", np.full(4, 2, np.float32))], True)):
        path = tmp_path / f"{own}.gguf"
        path.write_bytes(build(llama_entries("llama"), [*tiny_tensors(), *tensors]))
        carry_out(ConvertRequest(path, tmp_path / "out.gguf", "linear", {"factor": 2.0}, overwrite=True))
        assert claim_of(ModelFile.open(tmp_path / "out.gguf")).reference.own_factors is own


def test_types_of_matrices_only(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(tiny_llama())
    assert ModelFile.open(path).weight_types == ("F32",)


class ByteTokenizer:
    """Stands for a loaded model: a byte is a token, with a first one before them."""

    n_vocab, first_token = 300, 299

    def tokens(self, text, *, whole=False, special=False):
        assert not special, "a text is data: names of special tokens in it mean nothing"
        return [299, *text.encode()] if whole else list(text.encode())


def test_ids(tmp_path):
    model, text = ByteTokenizer(), tmp_path / "t.txt"
    text.write_bytes(b"abcd" * 10)
    assert text_ids(model, text, 5) == [299, 97, 98, 99, 100]
    assert text_ids(model, text, 41)[-1] == 100
    with pytest.raises(UsageError, match="has 41 tokens, --length 42 needs more"):
        text_ids(model, text, 42)
    with pytest.raises(InputError, match="cannot be read"):
        text_ids(model, tmp_path / "none.txt", 5)
    (tmp_path / "t.gz").write_bytes(b"\x1f\x8babcdefgh")
    with pytest.raises(InputError, match=r"t\.gz: not UTF-8 text \(byte 1\); convert or unpack it first"):
        text_ids(model, tmp_path / "t.gz", 5)
    ids = random_ids(model, 1000)
    assert ids == random_ids(model, 1000)
    assert ids != random_ids(model, 1000, seed=1)
    assert ids[0] == 299
    assert len(ids) == 1000
    assert 0 <= min(ids) < max(ids) < 300
