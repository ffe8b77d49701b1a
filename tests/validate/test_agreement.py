"""Two GGUF files: the same model or not, rotating alike or not, and in what words that is said. Headers only."""

from __future__ import annotations

import numpy as np
import pytest
from gguf_builder import ARR, F32, STR, U32, build, entry, llama_entries, tiny_llama, tiny_tensors

from ggufrope.convert.pipeline import ConvertRequest, carry_out
from ggufrope.errors import InputError, NotHonouredError, UsageError
from ggufrope.gguf import read_shards
from ggufrope.inference.kv_types import KvCache
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.validate.agreement import require_same_model, rotation_gap
from ggufrope.validate.kv_cache import choose_cache, require_length
from ggufrope.validate.sides import reference_side


@pytest.fixture
def write(tmp_path):
    def write(name, entries=None, tensors=None):
        path = tmp_path / name
        path.write_bytes(build(llama_entries() if entries is None else entries, tensors or tiny_tensors()))
        return path

    return write


def changed(key, *replacement):
    """The tiny model's entries with one key replaced, or left out."""
    start = len(key).to_bytes(8, "little") + key.encode()
    return [*(e for e in llama_entries() if not e.startswith(start)), *replacement]


def tokens(*words):
    return changed("tokenizer.ggml.tokens", entry("tokenizer.ggml.tokens", ARR, words, STR))


def reshaped(name, *shape):
    return [(n, np.zeros(shape, np.float32) if n == name else a) for n, a in tiny_tensors()]


@pytest.mark.parametrize(
    ("entries", "tensors", "said"),
    [
        (llama_entries("qwen2"), None, "architecture llama against qwen2"),
        (tokens("<unk>", "<s>", "</s>"), None, "tokenizer.ggml.tokens has 5 entries against 3"),
        (tokens("<unk>", "<s>", "</s>", "▁a", "c"), None, "entry 4 of tokenizer.ggml.tokens is 'b' against 'c'"),
        (changed("tokenizer.ggml.tokens"), None, "tokenizer.ggml.tokens is a list of 5 against absent"),
        (
            [*llama_entries(), entry("tokenizer.ggml.merges", ARR, ["a b"], STR)],
            None,
            "tokenizer.ggml.merges is absent against a list of 1",
        ),
        (
            changed("tokenizer.ggml.model", entry("tokenizer.ggml.model", STR, "gpt2")),
            None,
            "tokenizer.ggml.model is 'llama' against 'gpt2'",
        ),
        (llama_entries(**{"attention.head_count_kv": 4}), None, "llama.attention.head_count_kv is 2 against 4"),
        (None, reshaped("blk.0.attn_q.weight", 8, 8), "tensor blk.0.attn_q.weight is 7 × 8 against 8 × 8"),
        (None, tiny_tensors()[:-1], "tensor output_norm.weight is 9 against absent"),
    ],
)
def test_other_models_are_refused(write, entries, tensors, said):
    file, other = write("a.gguf"), write("b.gguf", entries, tensors)
    with pytest.raises(InputError, match="are not the same model") as error:
        require_same_model(read_shards(file), read_shards(other))
    assert said in str(error.value)
    with pytest.raises(InputError, match="are not the same model"):
        reference_side(ModelFile.open(file), other, 10)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], ""),
        (
            [("rope.freq_base_swa", F32, 5000.0)],
            "in sliding-window layers pair 3 turns at 0.001 against 0.00168179",
        ),
        ([("rope.scaling.attn_factor", F32, 1.2)], "cos and sin are multiplied by 1 against 1.2"),
    ],
)
def test_layers_with_a_window_are_compared_too(write, keys, said):
    windows = entry("gemma3.attention.sliding_window", U32, 16)
    files = [
        ModelFile.open(write(f"{name}.gguf", [*llama_entries("gemma3", block_count=6), windows, *more]))
        for name, more in (("b", []), ("a", [entry(f"gemma3.{key}", kind, value) for key, kind, value in keys]))
    ]
    found = rotation_gap(files[0].decoded, files[1].decoded)
    assert said in found
    assert bool(found) == bool(said)


def test_names_contexts_and_rope_do_not_make_another_model(write, tmp_path):
    file = write("a.gguf")
    renamed = changed("general.name", entry("general.name", STR, "other"), entry("llama.extra", U32, 7))
    require_same_model(read_shards(file), read_shards(write("b.gguf", renamed)))
    carry_out(ConvertRequest(file, tmp_path / "c.gguf", "llama3", {"factor": 4.0}, require_patched=True))
    require_same_model(read_shards(file), read_shards(tmp_path / "c.gguf"))


@pytest.fixture
def decoded(tmp_path):
    source = tmp_path / "source.gguf"
    source.write_bytes(tiny_llama())

    def decoded(name=None, **params):
        if name is None:
            return ModelFile.open(source)
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}.gguf"
        carry_out(ConvertRequest(source, path, name, params))
        return ModelFile.open(path)

    return decoded


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("none", {}),
        ("ntk", {"factor": 4.0}),
        ("yarn", {"factor": 4.0}),
        ("dynamic-ntk", {"factor": 4.0}),
        ("ms-poe", {"first_layer": 0}),
        ("longrope", {"factor": 4.0, "short_factor": (1, 1, 1, 1), "long_factor": (1, 2, 3, 4)}),
    ],
)
def test_the_same_conversion_twice_rotates_alike(decoded, name, params):
    assert rotation_gap(decoded(name, **params).decoded, decoded(name, **params).decoded) == ""


def test_the_table_counts_not_the_name(decoded):
    assert rotation_gap(decoded().decoded, decoded("none").decoded) == ""
    assert rotation_gap(decoded().decoded, decoded("ntk", factor=1.0).decoded) == ""


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (("ntk", {"factor": 4.0}), (None, {}), "ntk × 4 against none: pair 3 turns at 0.00025 against 0.001"),
        (("linear", {"factor": 2.0}), ("linear", {"factor": 4.0}), "linear × 2 against linear × 4: pair"),
        (
            ("yarn", {"factor": 4.0}),
            ("yarn", {"factor": 4.0, "attention_factor": 1.0}),
            "cos and sin are multiplied by 1.13863 against 1",
        ),
        (
            ("ms-poe", {"first_layer": 0, "from_wavelength": 0}),
            (None, {}),
            "ms-poe against none: the ratio of layer 0, KV head 0 is 1.2 against 1",
        ),
        (
            ("ms-poe", {"first_layer": 0, "from_wavelength": 0}),
            ("ms-poe", {"first_layer": 0, "from_wavelength": 0, "head_order": "reverse"}),
            "layer 0, KV head 0 is 1.2 against 1.5",
        ),
        (
            ("dynamic-ntk", {"factor": 4.0}),
            ("dynamic-ntk", {"factor": 4.0, "slope": 2.0}),
            "pair 3 of row 9 of 9 turns at",
        ),
        (
            ("dynamic-ntk", {"factor": 4.0}),
            ("ntk", {"factor": 4.0}),
            "rows for lengths [64, 76, 91, 108, 128, 152, 181, 215, 256] against (one for all)",
        ),
    ],
)
def test_gaps_in_words(decoded, a, b, said):
    file, other = (decoded(name, **params) for name, params in (a, b))
    assert said in rotation_gap(file.decoded, other.decoded)
    assert rotation_gap(other.decoded, file.decoded)
    with pytest.raises(InputError, match=r"rotates differently from .*--any-method compares them all the same"):
        reference_side(file, other.path, 10)
    reference = reference_side(file, other.path, 10, any_method=True)
    assert said in reference.gap
    assert reference.notes == (f"the methods differ: {reference.gap}",)


def test_another_width_of_rotation(write):
    file, other = (ModelFile.open(write(f"{n}.gguf", llama_entries(**{"rope.dimension_count": n}))) for n in (8, 4))
    assert rotation_gap(file.decoded, other.decoded) == "8 rotated dimensions of each head against 4"


def test_an_order_that_follows_the_prompt_is_refused_on_either_side(decoded):
    plain, ordered = decoded("ms-poe", first_layer=0), decoded("ms-poe", first_layer=0, head_order="per-prompt")
    for file, other in ((plain, ordered), (ordered, plain)):
        with pytest.raises(NotHonouredError, match="orders that are in the file"):
            reference_side(file, other.path, 10)


def test_options_that_mean_nothing(decoded, tmp_path):
    file = decoded()
    with pytest.raises(UsageError, match=r"--as-stored: .* is a GGUF with matrices of its own"):
        reference_side(file, file.path, 10, as_stored=True)
    with pytest.raises(UsageError, match=r"--any-method: .* is a directory"):
        reference_side(file, tmp_path, 10, any_method=True)
    with pytest.raises(InputError, match="nowhere: no such file or directory; give a Hugging Face directory or a GGUF"):
        reference_side(file, tmp_path / "nowhere", 10)
    (tmp_path / "text").write_text("no model")
    with pytest.raises(InputError, match="text"):
        reference_side(file, tmp_path / "text", 10)


def test_cache_settings():
    assert choose_cache() == KvCache("f32", False) == KvCache()
    assert choose_cache("q8_0") == choose_cache("q8_0", True) == KvCache("q8_0", True)
    assert choose_cache("f16", True) == KvCache("f16", True)
    assert str(choose_cache("q4_0")) == "Q4_0 KV cache, flash attention on"
    with pytest.raises(UsageError, match="--kv-type q9: validate knows f32, f16, q8_0, q4_0"):
        choose_cache("q9")
    with pytest.raises(UsageError, match="quantizes V only with flash attention"):
        choose_cache("q4_0", False)


@pytest.mark.parametrize(
    ("length", "said"), [(0, "at least one"), (-3, "at least one"), (2**31, "counts up to 2147483647")]
)
def test_lengths(length, said):
    with pytest.raises(UsageError, match=said):
        require_length(length)
