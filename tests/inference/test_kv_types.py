"""The table of types of cached K and V, and the rule for flash attention."""

from __future__ import annotations

import re

import pytest

from ggufrope.cli import main
from ggufrope.errors import UsageError
from ggufrope.gguf.ggml_types import GGML_TYPES, tensor_nbytes
from ggufrope.inference.kv_types import KV_TYPES, CacheWords, KvCache
from ggufrope.inference.opening import InferenceSettings
from ggufrope.planning.memory import PLANNED_TYPES


def test_names_and_sizes_are_ggml_s():
    for name, kind in KV_TYPES.items():
        assert GGML_TYPES[kind.ggml_type].name.lower() == name
        assert kind.nbytes(256) == tensor_nbytes((256,), kind.ggml_type)
    assert [name for name, kind in KV_TYPES.items() if kind.quantized] == ["q8_0", "q4_0"]
    assert PLANNED_TYPES == ("f16", "q8_0", "q4_0")


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_flash_attention_is_on_only_where_a_quantized_v_needs_it(kv_type):
    quantized = kv_type.startswith("q")
    assert KvCache.choose(kv_type) == KvCache(kv_type, quantized)
    assert KvCache.choose(kv_type, True) == KvCache(kv_type, True)
    assert InferenceSettings.choose(kv_type, 1, None).flash_attn is quantized
    if quantized:
        with pytest.raises(UsageError, match=f"kv_type {kv_type}: llama.cpp needs flash attention for a quantized V"):
            KvCache.choose(kv_type, False)
    else:
        assert KvCache.choose(kv_type, False) == KvCache(kv_type, False)


def test_refusals_are_in_the_caller_s_words():
    words = CacheWords("--kv-type {kv_type}; there are {known}", "--flash-attn off; not with {kv_type}")
    with pytest.raises(UsageError, match=r"^--kv-type q9; there are f32, f16, q8_0, q4_0$"):
        KvCache.choose("q9", None, words)
    with pytest.raises(UsageError, match=r"^--flash-attn off; not with q4_0$"):
        KvCache.choose("q4_0", False, words)


@pytest.mark.parametrize("command", ["eval", "validate"])
def test_help_names_every_type(capsys, command):
    assert main([command, "--help"]) == 0
    assert set(re.findall(r"\b[a-z]{1,2}\d+(?:_\d)?\b", capsys.readouterr().out)) == set(KV_TYPES)
