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
    assert readers | {"mistral4"} == architectures.READS_YARN_LOG_MUL, "mistral4 is of deepseek2's class"
    tenths = {p.stem for p in (src / "models").glob("*.cpp") if "rope_yarn_log_mul /= 0.1f" in p.read_text()}
    assert tenths | {"mistral4"} == architectures.YARN_LOG_MUL_IN_TENTHS


def test_attention_that_follows_the_factor(src):
    found = {p.stem for p in (src / "models").glob("*.cpp") if "attn_factor_org * (1.0f + 0.1f" in p.read_text()}
    assert found | {"mistral4"} == architectures.ATTENTION_FOLLOWS_FACTOR


def test_bases_raised_by_alpha(src):
    found = {p.stem for p in (src / "models").glob("*.cpp") if "hparams.rope_scaling_alpha" in p.read_text()}
    assert found == {"hunyuan-vl"}, "and hunyuan-dense, whose class is derived from it"


def _loaders(src, tensor):
    files = {"granitemoe": "granite-moe", "granitehybrid": "granite-hybrid", "granite_swa": "granite-swa"}
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


#: Have layers with a sliding window, by the stem of their source file; ``deepseek4`` and drafts are refused.
WINDOWED = {"openai-moe": "gpt-oss", "granite-swa": "granite_swa", "spark2-5": "spark2_5"}
OUT_OF_REACH = {"deepseek4", "dflash", "gemma4-assistant", "lfm2moe", "phi3"}  # the last two load no pattern


@pytest.fixture(scope="module")
def windowed(src):
    """The sources of architectures with sliding-window layers, by architecture, without comments."""
    text = {p.stem: re.sub(r"//[^\n]*", "", p.read_text()) for p in (src / "models").glob("*.cpp")}
    found = {a: t for a, t in text.items() if "LLM_KV_ATTENTION_SLIDING_WINDOW" in t and a not in OUT_OF_REACH}
    return {WINDOWED.get(a, a): t for a, t in found.items()}


def test_every_architecture_with_windows_is_known(windowed):
    assert set(windowed) == {*architectures.SLIDING_PERIOD, *architectures.SLIDING_ARRAY, "lfm2"}


def test_bases_of_sliding_layers(windowed):
    """Whose ropes are given the windows' base, and what that is without a key; the rest have the file's."""
    own = re.compile(r"get_rope_freq_base ?\(cparams, il\)|is_swa_il \? hparams.rope_freq_base_train_swa")
    reads = {a for a, t in windowed.items() if own.search(t)}
    inherits = {a for a, t in windowed.items() if re.search(r"base_train_swa\s*= hparams.rope_freq_base_train;", t)}
    assert all("LLM_KV_ROPE_FREQ_BASE_SWA" in windowed[a] for a in reads)
    assert reads & inherits == architectures.SLIDING_BASE_FROM_KEY
    assert reads - inherits == architectures.SLIDING_BASE_OF_ITS_OWN


def test_scales_of_sliding_layers(windowed):
    own = re.compile(r"get_rope_freq_scale ?\(cparams, il\)|is_swa_il \? hparams.rope_freq_scale_train_swa")
    inherits = re.compile(r"scale_train_swa\s*= hparams.rope_freq_scale_train;")
    bare = re.compile(r"freq_base, 1\.0,\s*0\.0, 1\.0,|attn_factor_l = is_swa_il \? 1\.0f : attn_factor")
    plain = {a for a, t in windowed.items() if bare.search(t)}
    unscaled = {a for a, t in windowed.items() if own.search(t) and not inherits.search(t)}
    assert plain == architectures.SLIDING_PLAIN
    assert plain | unscaled == architectures.SLIDING_UNSCALED


def test_rotated_dimensions_and_own_factors_of_sliding_layers(windowed):
    turns = {a for a, t in windowed.items() if re.search(r"hparams.n_rot\(il\)|\? hparams.n_rot_swa", t)}
    assert turns == architectures.SLIDING_ROT_DIM
    without = re.compile(
        r"is_swa \? nullptr : model.get_rope_factors|if \(!hparams.is_swa\(il\)\) \{\s+freq_factors = "
    )
    assert {a for a, t in windowed.items() if without.search(t)} == architectures.OWN_FACTORS_IN_FULL_ONLY


def test_other_layers_without_rope(src):
    text = {p.stem: p.read_text() for p in (src / "models").glob("*.cpp")}
    assert {
        a.replace("-", "_") for a, t in text.items() if "LLM_KV_ATTENTION_ROPE_PATTERN" in t
    } == architectures.ROPE_PATTERN
    switched = {a for a, t in text.items() if "rope_pattern.end(), rope_finetuned" in t}
    assert switched == {"granite", "granite-hybrid", "granite-switch"}
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


def test_architectures_of_one_row_are_those_that_were_tried():
    """docs/architectures.md has what the runtime said of each architecture's toy (tests/archs)."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \|.*\| one row only: (?:layer \d+ )?([^|]+?) \|", page, re.MULTILINE)
    assert dict(rows) == architectures.ONE_ROW
