"""The facts in architectures.py against the pinned llama.cpp source, read afresh."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ggufrope.errors import GgufropeError
from ggufrope.rope import architectures
from ggufrope.runtime.fetch import source_tree

PATCHES = Path(__file__).resolve().parents[2] / "patches"


@pytest.fixture(scope="module")
def src():
    try:
        return source_tree() / "src"
    except GgufropeError as error:
        pytest.skip(f"the pinned source could not be fetched: {error}")


@pytest.fixture(scope="module")
def names(src):
    text = (src / "llama-arch.cpp").read_text()
    return {k: v for k, v in re.findall(r"\{ (LLM_ARCH_\w+),\s+\"([^\"]+)\"", text) if v != "(unknown)"}


def test_pairing_is_what_llama_model_rope_type_returns(src, names):
    text = (src / "llama-model.cpp").read_text()
    body = text[text.index("llama_rope_type llama_model_rope_type") :]
    body = body[: body.index("\n}\n")]
    found, waiting = {}, []
    for line in body.splitlines():
        if case := re.match(r"\s+case (LLM_ARCH_\w+):", line):
            waiting.append(case[1])
        elif (kind := re.search(r"return .*?LLAMA_ROPE_TYPE_(\w+);", line)) and waiting:
            found.update({names[a]: kind[1].lower() for a in waiting if a in names})
            if not re.search(r"if \(", line):
                waiting = []
    # dflash returns by its file's keys; the last return in its case is what the loop above kept
    different = {a for a in names.values() if architectures.PAIRING.get(a) != found.get(a)} - {"dflash"}
    assert not different
    assert set(architectures.PAIRING) == set(names.values())


def test_sliding_periods(src, names):
    called = {}
    for path in (src / "models").glob("*.cpp"):
        text = path.read_text()
        if call := re.search(r"load_swa_pattern\(ml, (\d+)(?:, (?:/\*[^*]*\*/ ?)?(true|false))?\)", text):
            called[path.stem] = (int(call[1]), call[2] == "true")
    files = {"gpt-oss": "openai-moe"}
    assert {files.get(a, a): v for a, v in architectures.SLIDING_PERIOD.items()} == called


def test_yarn_beta_readers(src):
    readers = {p.stem for p in (src / "models").glob("*.cpp") if "LLM_KV_ROPE_SCALING_YARN_BETA_FAST" in p.read_text()}
    assert readers == architectures.READS_YARN_BETA
    assert "LLM_KV_ROPE_SCALING_YARN_BETA_FAST" not in (src / "llama-model.cpp").read_text()


def test_yarn_log_multiplier_readers(src):
    readers = {p.stem for p in (src / "models").glob("*.cpp") if "(LLM_KV_ROPE_SCALING_YARN_LOG_MUL" in p.read_text()}
    assert readers == architectures.READS_YARN_LOG_MUL


def _loaders(src, tensor):
    files = {"granitemoe": "granite-moe", "granitehybrid": "granite-hybrid"}
    loading = {p.stem for p in (src / "models").glob("*.cpp") if tensor in p.read_text()}
    return lambda arch: files.get(arch, arch) in loading


def test_tensor_loaders(src):
    loads_freqs, loads_long = _loaders(src, "LLM_TENSOR_ROPE_FREQS"), _loaders(src, "LLM_TENSOR_ROPE_FACTORS_LONG")
    assert all(loads_freqs(a) for a in architectures.ROPE_FREQS_TENSOR)
    assert all(loads_long(a) for a in architectures.LONGROPE_TENSORS)


def test_layers_without_rope(src):
    text = {p.stem: p.read_text() for p in (src / "models").glob("*.cpp")}
    assert {a for a, t in text.items() if "n_no_rope_layer_step" in t} == set(architectures.NO_ROPE_LAYERS)
    for arch, layers in architectures.NO_ROPE_LAYERS.items():
        tested = re.search(r"use_rope = [^;]*?(\(il \+ 1\)|\bil) % hparams.n_no_rope_layer_step != 0", text[arch])
        assert layers == (4, 3 if tested[1] == "(il + 1)" else 0), arch  # 4 is the default of n_no_rope_layer_step
    always = {
        a for a in architectures.NO_ROPE_LAYERS if re.search(r"n_no_rope_layer_step = hparams.n_layer\(\)", text[a])
    }
    assert always == architectures.NO_ROPE_IF_SLIDING
    default = re.compile(r"full_attn_interval = (\d+);[^;]*LLM_KV_FULL_ATTENTION_INTERVAL")
    found = {a: int(m[1]) for a, t in text.items() if (m := default.search(t))}
    assert found == architectures.RECURRENT_MIX


def test_sliding_arrays(src):
    """Those that read the pattern as an array and know no default."""
    read = re.compile(r"get_arr\(LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN,\s*hparams.is_swa_impl\);")
    readers = {p.stem.replace("-", "_") for p in (src / "models").glob("*.cpp") if read.search(p.read_text())}
    assert readers - {"dflash", "gemma4_assistant"} == {a.replace("-", "_") for a in architectures.SLIDING_ARRAY}


def test_other_layers_without_rope(src):
    text = {p.stem: p.read_text() for p in (src / "models").glob("*.cpp")}
    assert {
        a.replace("-", "_") for a, t in text.items() if "LLM_KV_ATTENTION_ROPE_PATTERN" in t
    } == architectures.ROPE_PATTERN
    switched = {a for a, t in text.items() if "rope_pattern.end(), rope_finetuned" in t}
    assert switched == {"granite", "granite-hybrid", "granite-switch"}  # granite.cpp serves granitemoe too
    assert "graniteswitch" in architectures.REFUSED
    in_lead = {a for a, t in text.items() if re.search(r"force_rope = .*n_layer_dense_lead", t)}
    assert in_lead == architectures.ROPE_IN_DENSE_LEAD
    assert re.search(r"case 32: type = LLM_TYPE_7B", text["baichuan"])
    assert "if (hparams.n_layer() == 64)" in text["exaone4"]
    assert not re.search(r"ggml_rope", text["starcoder"])


def test_layers_that_share_k(src):
    memory = (src / "llama-model.cpp").read_text()
    names = re.search(r"if \(arch == LLM_ARCH_(\w+) \|\| arch == LLM_ARCH_(\w+)\) \{\s+reuse = ", memory)
    assert {n.lower() for n in names.groups()} == set(architectures.SHARED_K_FROM)
    assert "n_layer_kv_from_start = 20;" in (src / "models" / "gemma3n.cpp").read_text()


def test_scaling_is_ignored_where_the_rope_is_told_nothing(src):
    plain = {p.stem for p in (src / "models").glob("*.cpp") if re.search(r"= ggml_rope\(", p.read_text())}
    fixed = {p.stem for p in (src / "models").glob("*.cpp") if "freq_base, 1, 0, 1, 0, 0)" in p.read_text()}
    assert (plain, fixed) == ({"cogvlm"}, {"deepseek2"})  # deepseek2.cpp serves deepseek2-ocr, which is meant
    assert {"cogvlm", "deepseek2-ocr"} == architectures.IGNORES_SCALING


def test_refused_architectures_are_those_of_the_runtime(names):
    text = (PATCHES / "src" / "ggufrope-spec.cpp").read_text(encoding="utf-8")
    body = text[text.index("why_not(llm_arch arch)") : text.index("static void check_same_factors")]
    found, waiting = {}, []
    for line in body.splitlines():
        if case := re.search(r"case (LLM_ARCH_\w+):", line):
            waiting.append(names[case[1]])
        elif reason := re.search(r'return "(.*)";', line):
            found.update(dict.fromkeys(waiting, reason[1]))
            waiting = []
    assert found == architectures.REFUSED
