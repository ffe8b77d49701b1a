"""Upstream's toy architectures (``scripts/studies/arch_matrix/toys.cpp``) on the stock and the patched library.

The default suite takes those that differ in how the pass or the converter meets them; all others are slow.
"""

from __future__ import annotations

import pytest
from arch_matrix.driver import NoCompilerError, compile_toys, run_toys, variants
from arch_matrix.page import layout, read_seen, shift

from ggufrope.errors import RuntimeLibraryError
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.rope import architectures
from ggufrope.runtime.locate import locate

FORMS = ("plain", "grouped", "deep")
#: One of each kind: pairings, sliding windows, layers that do not rotate, recurrent layers, one K head, shared layers.
FAST = ("cohere2", "gemma3n", "gemma4", "gpt-oss", "hrm_text", "llama4", "minicpm3", "phi3", "qwen35", "smollm3")
#: Linear scaling has no effect there, or it also changes the attention's scale.
NO_ORACLE = architectures.IGNORES_SCALING | {"glm-dsa"}
#: K is multiplied by weights after its rotation: a K shift is inexact, in stock too.
INEXACT_SHIFT = {"hunyuan-dense", "hunyuan-moe", "maincoder"}
#: ggml looks their GELU up in a table of F16 values, whose steps make 1.6e-2 of what the last bits of a cosine change;
#: with GGML_GELU_FP16 undefined the same toys are at 2.8e-4 and below.
GELU_TABLE = {"codeshell", "pockettts", "starcoder2"}
#: Rounding of logits of about 1, where what is compared changes them by as little as 9e-6 (smallthinker).
ROUNDING = 2e-7
#: The pin cannot run these, or upstream's toy lacks what they need.
NO_TOY = {"bert", "gptj", "jina-bert-v2", "rwkv7", "arwkv7", "rwkv6qwen2", "t5", "t5encoder", *architectures.REFUSED}


@pytest.fixture(scope="module")
def examine(runtime_dir, stock_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    try:
        program = compile_toys(locate(), folder)
    except (NoCompilerError, RuntimeLibraryError) as error:
        pytest.skip(str(error))

    def examine(arch: str, form: str) -> list[dict]:
        found = []
        for moe in variants(program, runtime_dir).get(arch, ()):
            seen = run_toys(program, runtime_dir, "full", arch, moe, form, str(folder))[-1]
            plain = run_toys(program, stock_dir, "stock", arch, moe, form)[-1]
            found.append({**seen, "stock": plain.get("hash"), "variant": moe})
        return found

    return examine


def check(seen: dict, arch: str) -> None:
    """What must hold of one toy."""
    assert "problem" not in seen, seen["problem"]
    assert seen["hash"] == seen["stock"], "stock and patched build differ without factors"
    assert seen["ones"] == seen["hash"], "factors of 1 change something"
    check_facts(seen, arch)
    if "distinct" not in seen:
        return
    assert seen["distinct"] > 1e-6
    if arch not in NO_ORACLE:
        # linear scaling reaches all layers, or those without a window only
        assert min(seen["linear_all"], seen["linear_full"]) < 1e-3 * seen["linear_effect"]
    share = 5e-2 if arch in GELU_TABLE else 1e-2
    if "head_error" in seen:
        # several factors take another cosine than one does; with another head's factor it is about 1
        assert seen["head_error"] < share * seen["head_effect"] + ROUNDING, "a head got another head's factor"
    if "shift_error" in seen and arch not in INEXACT_SHIFT:
        assert seen["shift_error"] < share * seen["shift_effect"] + ROUNDING


def check_page(seen: dict, arch: str) -> None:
    """``docs/architectures.md`` says what this run shows; ``scripts/studies/architectures`` makes it anew."""
    told = read_seen()[f"{arch} {seen['variant']}"]
    if seen["form"] == "deep":
        assert layout(seen) == {name: value for name, value in told.items() if name != "shift"}
    if seen["form"] == "grouped":
        assert shift(seen) == told["shift"]


def check_facts(seen: dict, arch: str) -> None:
    """The converter reads from the toy's keys what the runtime answered."""
    layers = seen["layers"]
    if (
        arch in architectures.REFUSED
        or architectures.pairing(arch) == "none"
        or not any(layer["takes"] for layer in layers)
    ):
        assert not any(layer["takes"] for layer in layers)
        return
    model = ModelFile.open(seen["keys"]).original.model
    assert [model.rotates(i) for i in range(model.n_layer)] == [layer["takes"] for layer in layers]
    assert [model.slides(i) for i in range(model.n_layer)] == [layer["slides"] for layer in layers]
    assert [model.leader(i) for i in range(model.n_layer)] == [layer["owner"] for layer in layers]
    for layer in layers:
        several = layer["takes"] and layer["n_head_kv"] > 1 and not model.mla
        assert layer["several"] == several, layer["error"]
        assert layer["takes"] or layer["n_head_kv"] == 0 or arch in layer["error"], "the error names no architecture"


@pytest.mark.parametrize("form", ["grouped", "deep"])
@pytest.mark.parametrize("arch", FAST)
def test_kinds_of_architectures(examine, arch, form):
    for seen in examine(arch, form):
        check(seen, arch)
        check_page(seen, arch)


def test_layers_that_draft_take_no_factors(examine):
    """The last layer of the deep GLM 4 toy predicts the token after the next."""
    (seen,) = examine("glm4moe", "deep")
    check_facts(seen, "glm4moe")
    *others, last = seen["layers"]
    assert all(layer["several"] for layer in others)
    assert last["error"] == ("layer 7 of architecture glm4moe is a next-token-prediction layer: its factors must be 1")


@pytest.mark.parametrize("arch", ["deepseek2-ocr", pytest.param("deepseek4", marks=pytest.mark.slow)])
def test_refused_in_the_words_of_the_converter(examine, arch):
    """Those of the refused architectures that have a toy."""
    (seen,) = examine(arch, "plain")
    check(seen, arch)
    expected = f"architecture {arch} is not supported: it {architectures.REFUSED[arch]}; all factors must be 1"
    assert {layer["error"] for layer in seen["layers"]} == {expected}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arch", sorted(set(architectures.PAIRING) - NO_TOY - {"clip", "wavtokenizer-dec"}))
def test_every_architecture(examine, arch, form):
    for seen in examine(arch, form):
        check(seen, arch)
        check_page(seen, arch)
