"""What methods declare of themselves: that it fits their fields, each other, and what the package does with it."""

from __future__ import annotations

from dataclasses import fields

import gguf_builder as gb
import numpy as np
import pytest

from ggufrope.cli._plan_text import lines as plan_lines
from ggufrope.convert.conversion import plan
from ggufrope.convert.trained_layers import SOLVERS
from ggufrope.errors import NotHonouredError, UnknownMethodError
from ggufrope.methods import METHODS, PLAIN, composing_methods, front_method, method_names, scaling_method
from ggufrope.methods.parameter_files import READERS
from ggufrope.modelfile.model_file import ModelFile
from ggufrope.planning import plan_context

CLASSES = pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gb.tiny_llama())
    return ModelFile.open(path)


def test_names_and_their_parts():
    assert method_names() == [
        "none", "linear", "ntk", "dynamic-ntk", "yarn", "llama3", "longrope", "clex", "table", "ms-poe",
        "table+linear", "table+ntk", "table+dynamic-ntk", "table+yarn", "table+llama3", "table+longrope", "table+clex",
        "ms-poe+linear",
        "ms-poe+ntk", "ms-poe+dynamic-ntk", "ms-poe+yarn", "ms-poe+llama3", "ms-poe+longrope", "ms-poe+clex",
    ]  # fmt: skip
    assert [cls.name for cls in composing_methods()] == ["table", "ms-poe"]
    for name in method_names():
        front, _, base = name.partition("+")
        assert (front_method(name).name, scaling_method(name).name) == (front, base or front)
    for name in ("ms-poe+none", "ms-poe+ms-poe", "yarn+linear", "ms-poe+", "+yarn", "table+ms-poe"):
        for part in (front_method, scaling_method):
            with pytest.raises(UnknownMethodError):
                part(name)


@CLASSES
def test_traits_name_parameters_that_the_method_has(cls):
    own, traits = {f.name: f for f in fields(cls)}, cls.traits
    assert set(traits.hf_parameters) <= own.keys()
    assert set(traits.lists) <= own.keys()
    assert not traits.reaches_factor or {"factor", "original_context"} <= own.keys()
    assert not traits.calibrated or {*traits.calibrated, "head_ratios"} <= own.keys()
    for variant in traits.variants:
        assert all(str(own[name].type) == "bool" and value is True for name, value in variant.items()), "plan has flags"
    assert {f.metadata["kind"] for f in own.values() if "kind" in f.metadata} <= READERS.keys()


@CLASSES
def test_a_trained_layer_has_a_solver_and_tensors(cls):
    layers = [f.name for f in fields(cls) if f.metadata.get("kind") == "layer"]
    assert layers == ([cls.traits.trained_layer] if cls.traits.trained_layer else [])
    assert bool(cls.traits.layer_tensors) == bool(layers)
    assert set(layers) <= SOLVERS.keys()


@CLASSES
def test_what_composes_says_how_and_over_what(cls):
    assert (
        bool(cls.traits.puts_on_top) == bool(cls.traits.suggested_bases) == any(f.name == "base" for f in fields(cls))
    )
    assert {f"{cls.name}+{base}" for base in cls.traits.suggested_bases} <= set(method_names())
    assert not cls.traits.keeps_scaling or cls.traits.keeps_context


def test_a_type_of_hugging_face_means_one_method():
    kinds = [kind for cls in METHODS.values() for kind in cls.traits.hf_types]
    assert len(kinds) == len(set(kinds))
    assert all(kind == kind.lower() for kind in kinds), "they are looked up in lower case"


def test_which_methods_keep_the_trained_context(tiny):
    for name in METHODS:
        keeps = METHODS[name].traits.keeps_context
        assert keeps == (name in (PLAIN, "table", "ms-poe"))
        if keeps:
            own = {"factor_table": [1.0, 1.1, 1.2, 1.3]} if METHODS[name].traits.brings_file else {}
            assert plan(tiny, name, own).context == 64


def test_plan_lists_variants_and_says_how_short_texts_are_rotated(tmp_path):
    path, arch = tmp_path / "lists.gguf", "phi3"
    lists = [(f"rope_factors_{n}.weight", np.array(v, np.float32)) for n, v in
             (("short", [1, 1, 1.2, 1.2]), ("long", [1, 2, 3, 4]))]  # fmt: skip
    scaling = [
        gb.entry(f"{arch}.rope.scaling.type", gb.STR, "longrope"),
        gb.entry(f"{arch}.rope.scaling.original_context_length", gb.U32, 32),
    ]
    path.write_bytes(gb.build([*gb.llama_entries(arch), *scaling], [*gb.tiny_tensors(), *lists]))
    own = next(o for o in plan_context(ModelFile.open(path), 64).options if o.by_length)
    assert (own.name, own.by_length, own.short_texts) == ("longrope", True, "its short list")
    assert "rotates by the length in use: its short list up to the trained context" in "\n".join(
        plan_lines(plan_context(ModelFile.open(path), 64))
    )
    path.write_bytes(gb.tiny_llama())
    short = {o.name: o.short_texts for o in plan_context(ModelFile.open(path), 128).options if o.by_length}
    assert short["yarn --dynamic"] == short["dynamic-ntk"] == "plain"


@pytest.mark.parametrize("base", ["dynamic-ntk", "yarn"])
def test_heads_are_not_ordered_per_prompt_where_rows_follow_the_length(tiny, base):
    params = {"factor": 4.0, "head_order": "per-prompt", **({"dynamic": True} if base == "yarn" else {})}
    with pytest.raises(NotHonouredError, match="does not order heads per prompt where frequencies follow the length"):
        plan(tiny, f"ms-poe+{base}", params)
    assert plan(tiny, "ms-poe+linear", {"factor": 4.0, "head_order": "per-prompt"}).needs_patched
