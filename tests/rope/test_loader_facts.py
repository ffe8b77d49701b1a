"""The facts in rope/loader.py against the pinned llama.cpp source, read afresh, class by class."""

from __future__ import annotations

import re

import pytest

from ggufrope.errors import GgufropeError
from ggufrope.modelfile.loading import RULES, Form
from ggufrope.rope import architectures, loader
from ggufrope.runtime.fetch import source_tree

BODY = re.compile(
    r"^void llama_model_(\w+)::load_arch_(hparams|tensors)\(llama_model_loader ?& ?(?:ml)?\) \{(.*?)^\}", re.S | re.M
)


@pytest.fixture(scope="module")
def bodies():
    """``bodies(arch, "hparams" or "tensors")``: what an architecture's class does there, or else its parent's."""
    try:
        src = source_tree() / "src"
    except GgufropeError as error:
        pytest.skip(f"the pinned source could not be fetched: {error}")
    names = dict(re.findall(r'\{ (LLM_ARCH_\w+),\s+"([^"]+)"', (src / "llama-arch.cpp").read_text()))
    classes, waiting = dict.fromkeys(loader.WITHOUT_MODEL, ""), []
    for line in (src / "llama-model.cpp").read_text().splitlines():
        if case := re.match(r"\s+case (LLM_ARCH_\w+):", line):
            waiting.append(case[1])
        elif made := re.search(r"return new llama_model_(\w+)\(", line):
            classes.update({names[name]: made[1] for name in waiting})
            waiting = []
    graphs = re.compile(r"^llama_model_(\w+)::graph(?:<\w+>)?::graph\(.*?^\}", re.S | re.M)
    headers = "".join(path.read_text() for path in (src / "models").glob("*.h"))
    parents = dict(re.findall(r"struct llama_model_(\w+) : public llama_model_(\w+)", headers))
    structs = dict(re.findall(r"struct llama_model_(\w+) : public \w+ \{(.*?)\n\};", headers, re.S))
    texts = {}
    for path in (src / "models").glob("*.cpp"):
        texts.update({(name, what): body for name, what, body in BODY.findall(path.read_text())})
        for graph in graphs.finditer(path.read_text()):
            texts[graph[1], "graph"] = texts.get((graph[1], "graph"), "") + graph[0]

    def body(arch, what):
        name = classes[arch]
        while (name, what) not in texts and name in structs:
            shared = re.search(r"using graph\s*=\s*llama_model_(\w+)::graph", structs[name])
            name = shared[1] if shared and what == "graph" else parents.get(name, "")
        text = texts.get((name, what), "")
        only = re.search(r"if \(arch == LLM_ARCH_(\w+)\) \{.*?\n    \}", text, re.S)  # a class of several architectures
        return text if only is None or names[f"LLM_ARCH_{only[1]}"] == arch else text.replace(only[0], "")

    assert set(classes) == set(architectures.PAIRING)
    assert {name for name, made in classes.items() if not made} == loader.WITHOUT_MODEL
    return body


def reading(bodies, pattern, what="hparams"):
    return {arch for arch in architectures.PAIRING if re.search(pattern, bodies(arch, what))}


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        (loader.READS_WINDOW, r"get_key\(LLM_KV_ATTENTION_SLIDING_WINDOW,"),
        (loader.READS_SLIDING_BASE, r"get_key\(LLM_KV_ROPE_FREQ_BASE_SWA,"),
        (loader.READS_DENSE_LEAD, r"get_key\(LLM_KV_LEADING_DENSE_BLOCK_COUNT,"),
        (loader.READS_SECTIONS, r"get_key_or_arr\(LLM_KV_ROPE_DIMENSION_SECTIONS, +hparams.rope_sections, 4"),
        (loader.READS_MLA_LENGTHS, r"get_key\(LLM_KV_ATTENTION_KEY_LENGTH_MLA,"),
        (loader.READS_MLA_LENGTHS, r"get_key\(LLM_KV_ATTENTION_VALUE_LENGTH_MLA,"),
        (loader.READS_YARN_EXTRAS, r"get_key\(LLM_KV_ROPE_SCALING_YARN_EXT_FACTOR,"),
        (loader.READS_YARN_EXTRAS, r"get_key\(LLM_KV_ROPE_SCALING_YARN_ATTN_FACTOR,"),
        (loader.READS_YARN_LOG_MUL, r"get_key\(LLM_KV_ROPE_SCALING_YARN_LOG_MUL,"),
        (architectures.READS_YARN_BETA, r"get_key\(LLM_KV_ROPE_SCALING_YARN_BETA_FAST,"),
        (architectures.FINETUNED_MEANS_ROPE, r"get_key\(LLM_KV_ROPE_SCALING_FINETUNED,"),
        (architectures.RECURRENT_MIX.keys(), r"get_key_or_arr\(LLM_KV_ATTENTION_RECURRENT_LAYERS,"),
        (architectures.RECURRENT_MIX.keys(), r"get_key\(LLM_KV_FULL_ATTENTION_INTERVAL,"),
    ],
)
def test_readers_of_keys(bodies, facts, key):
    assert reading(bodies, key) == set(facts)


def test_readers_of_the_pattern(bodies):
    arrays = {rule.readers for rule in RULES if rule.form is Form.ARRAY}
    periods = {rule.readers for rule in RULES if rule.form is Form.PATTERN}
    assert arrays == {frozenset(reading(bodies, r"get_arr\(LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN,"))}
    assert periods == {frozenset(reading(bodies, r"load_swa_pattern\("))}
    with_window = r"(n_swa > 0\)|\} else) \{\s+(?:[^}]*;\s+(//[^\n]*\s+)*)?load_swa_pattern"
    assert reading(bodies, with_window) == loader.PATTERN_WITH_WINDOW


def test_loaders_of_tensors(bodies):
    freqs, lists = (reading(bodies, rf"LLM_TENSOR_ROPE_{name}", "tensors") for name in ("FREQS", "FACTORS_LONG"))
    assert freqs == loader.LOADS_FREQS
    assert lists == loader.LOADS_LONG_SHORT
    typed = reading(bodies, r"if \(hparams.rope_scaling_type_train == LLAMA_ROPE_SCALING_TYPE_LONGROPE\)", "tensors")
    assert lists - typed == loader.LONG_SHORT_IN_ANY_TYPE
    other = reading(bodies, r"LLM_TENSOR_ROPE_FACTORS_SHORT[^;]*;\s+\}\s+else \{\s+layer.rope_freqs", "tensors")
    assert freqs & lists == other, "the one or the others"
    whole = r"LLM_TENSOR_ROPE_(FREQS|FACTORS_LONG),\s+\"weight\", i\), \{ ?n_embd_head(_k)? ?/"
    assert reading(bodies, whole, "tensors") == loader.FACTORS_OF_WHOLE_HEADS


def test_graphs_that_assert_whole_heads(bodies):
    asserts = reading(bodies, r"\n\s*GGML_ASSERT\(n_embd_head == n_rot", "graph")
    assert asserts - loader.ROTATES_WHOLE_HEADS == loader.ASSERTS_WHOLE_HEADS


def test_what_every_architecture_reads(bodies):
    """Of ``load_hparams``: the type of each variable that a rule is about."""
    text = (source_tree() / "src" / "llama-model.cpp").read_text()
    start = text.index("void llama_model_base::load_hparams")
    body = text[start : text.index("\n}\n", start)]
    spelled = (source_tree() / "src" / "llama-arch.cpp").read_text()
    names = {name: key for key, name in re.findall(r'\{ (LLM_KV_\w+),\s+"%s\.([\w.]+)"', spelled)}
    for rule in RULES:
        if rule.readers is not None:
            continue
        key = names[rule.key.removeprefix("{arch}.")]
        assert re.search(rf"ml\.get_key{'_or_arr' if rule.form is Form.EACH else ''}\({key},", body), key
    whole = re.search(r"if \(([^)]*)\) \{\s+if \(hparams.n_rot_full != ", body)
    read = {name.lower().replace("_", "-") for name in re.findall(r"LLM_ARCH_(\w+)", whole[1])}
    assert read == loader.ROTATES_WHOLE_HEADS
