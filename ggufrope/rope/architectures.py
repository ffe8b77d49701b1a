"""What the pinned llama.cpp knows about each architecture's RoPE.

Facts read from the pin (``patches/UPSTREAM``), by the names used in ``general.architecture``; a test reads the pinned
source again and compares. An architecture that is not here is unknown to the runtime too.
"""

from __future__ import annotations

__all__ = [
    "ATTENTION_FOLLOWS_FACTOR",
    "BASE_TIMES_ALPHA",
    "FINETUNED_MEANS_ROPE",
    "IGNORES_SCALING",
    "LONGROPE_TENSORS",
    "NEVER_ROTATES",
    "NO_ROPE_IF_SLIDING",
    "NO_ROPE_LAYERS",
    "ONE_K_HEAD",
    "ONE_ROW",
    "OWN_FACTORS_IN_FULL_ONLY",
    "PAIRING",
    "READS_YARN_BETA",
    "READS_YARN_LOG_MUL",
    "RECURRENT_MIX",
    "REFUSED",
    "ROPE_FREQS_TENSOR",
    "ROPE_IN_DENSE_LEAD",
    "ROPE_IN_SLIDING_ONLY",
    "ROPE_ONLY_WITH_LAYERS",
    "ROPE_PATTERN",
    "SHARED_K_FROM",
    "SLIDES_BY_DEFAULT",
    "SLIDES_ONLY_WITH_LAYERS",
    "SLIDING_ARRAY",
    "SLIDING_BASE_FROM_KEY",
    "SLIDING_BASE_OF_ITS_OWN",
    "SLIDING_PERIOD",
    "SLIDING_PLAIN",
    "SLIDING_ROT_DIM",
    "SLIDING_UNSCALED",
    "YARN_LOG_MUL_IN_TENTHS",
    "knows",
    "pairing",
]

#: Why each architecture rotates the way it does: ``norm`` pairs (2i, 2i+1), ``neox`` pairs (i, i + rot_dim/2),
#: ``mrope``/``imrope`` are neox with several position sections, ``none`` has no RoPE (`llama_model_rope_type`).
PAIRING: dict[str, str] = {
    name: kind
    for kind, names in {
        "norm": """arcee arctic baichuan bailingmoe bailingmoe3 chameleon chatglm cohere2 cohere2moe command-r deci
            deepseek deepseek2 deepseek2-ocr deepseek32 deepseek4 dots3note eagle3 ernie4_5 ernie4_5-moe glm-dsa glm4
            granite granite_swa granitehybrid granitemoe graniteswitch hy_v4 internlm2 llada llama llama-embed llama4
            maincoder minicpm mistral3 mistral4 muse-glimmer nanbeige neo-bert olmo plm pockettts smollm3 starcoder
            xverse""",
        "neox": """afmoe apertus bailingmoe2 bert bitnet codeshell cogvlm dbrx dots1 dream eurobert exaone exaone-moe
            exaone4 falcon falcon-h1 gemma gemma-embedding gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm4moe
            gpt-oss gptneox grok grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 jais2 jina-bert-v3 laguna
            lfm2 lfm2moe llada-moe maple mellum mimo2 minicpm3 minimax-01 minimax-m2 minimax-m3 modern-bert nemotron
            nomic-bert nomic-bert-moe olmo2 olmoe openelm orion pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3
            qwen qwen2 qwen2moe qwen3 qwen3moe qwen3next rnd1 seed_oss smallthinker spark2_5 stablelm starcoder2
            step35 talkie""",
        "mrope": "dflash paddleocr qwen2vl",
        "imrope": "qwen35 qwen35moe qwen3tts qwen3vl qwen3vlmoe qwen4exp",
        "none": """arwkv7 bloom clip glm5-next gpt2 gptj jais jamba jina-bert-v2 kimi-k3 kimi-linear mamba mamba2 mpt
            nemotron_h nemotron_h_moe refact rwkv6 rwkv6qwen2 rwkv7 t5 t5encoder wavtokenizer-dec""",
    }.items()
    for name in names.split()
}

#: Load an optional ``rope_freqs.weight`` and hand it to every rope of every layer. (Falcon-H1, LLaDA and Pangu load it
#: and do not; Gemma 4 and Step 3.5 use it in some layers only: those get our own table instead.)
ROPE_FREQS_TENSOR = frozenset(
    {"llama", "deci", "minicpm", "mistral3", "arcee", "apertus", "exaone", "granite", "granitemoe", "granitehybrid"}
    | {"nanbeige", "llama4", "exaone4", "exaone-moe", "granite_swa"}
)

#: Load ``rope_factors_long.weight`` and ``rope_factors_short.weight`` when ``rope.scaling.type`` is ``longrope``.
LONGROPE_TENSORS = frozenset(
    {"llama", "deci", "minicpm", "mistral3", "apertus", "granite", "granitemoe", "phi3", "phimoe", "minicpm3"}
)

#: Read ``rope.scaling.yarn_beta_fast`` and ``yarn_beta_slow``; everywhere else YaRN runs with 32 and 1.
READS_YARN_BETA = frozenset({"grok", "mistral3"})

#: Read ``rope.scaling.yarn_log_multiplier``.
READS_YARN_LOG_MUL = frozenset({"deepseek2", "deepseek32", "mistral3", "mistral4"})

#: Of these, the ones whose files have a tenth of it.
YARN_LOG_MUL_IN_TENTHS = frozenset({"deepseek2", "deepseek32", "mistral4"})

#: Raise the file's base by ``rope.scaling.alpha`` to the power d/(d-2), d being a head's size.
BASE_TIMES_ALPHA = frozenset({"hunyuan-dense", "hunyuan_vl"})

#: Multiply q·k by the square of YaRN's scale, from the file's factor, whatever the type of scaling.
ATTENTION_FOLLOWS_FACTOR = frozenset({"deepseek2", "deepseek32", "glm-dsa", "mistral4"})

#: Default layout of sliding-window layers where the file has no ``attention.sliding_window_pattern``:
#: (period n, dense first). Layer l slides when l % n < n-1, or, dense first, when l % n != 0.
SLIDING_PERIOD: dict[str, tuple[int, bool]] = {
    "afmoe": (4, False),
    "cohere2": (4, False),
    "cohere2moe": (4, True),
    "exaone-moe": (4, False),
    "exaone4": (4, False),
    "gemma-embedding": (6, False),
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gpt-oss": (2, False),
    "laguna": (4, True),
    "llama4": (4, False),
    "mellum": (4, False),
    "modern-bert": (3, True),
    "muse-glimmer": (4, False),
    "olmo2": (4, False),
    "plamo3": (8, False),
    "smallthinker": (4, True),
}

#: Have sliding-window layers where ``attention.sliding_window_pattern`` says so, one entry for each layer.
SLIDING_ARRAY = frozenset({"dots3note", "gemma4", "granite_swa", "maple", "mimo2", "spark2_5", "step35"})

#: Have sliding-window layers even where the file has no ``attention.sliding_window``.
SLIDES_BY_DEFAULT = frozenset({"exaone4", "gemma2", "llama4"})

#: Have sliding-window layers in the size with that many layers only.
SLIDES_ONLY_WITH_LAYERS = {"exaone4": 64}

#: Sliding-window layers have the base ``rope.freq_base_swa``, and the file's where that key is absent. (Those that are
#: neither here nor in the next set have the file's base, whatever that key says.)
SLIDING_BASE_FROM_KEY = frozenset(
    {"afmoe", "gemma2", "gpt-oss", "laguna", "llama4", "maple", "muse-glimmer", "smallthinker", "spark2_5"}
)

#: Sliding-window layers have the base ``rope.freq_base_swa``, and 10000 where that key is absent.
SLIDING_BASE_OF_ITS_OWN = frozenset(
    {"dots3note", "gemma-embedding", "gemma3", "gemma3n", "gemma4", "mimo2", "modern-bert", "plamo3", "step35"}
)

#: Sliding-window layers keep their frequencies whatever factor the file declares, in any type of scaling. What
#: multiplies cos and sin (``rope.scaling.attn_factor``) acts on them all the same.
SLIDING_UNSCALED = frozenset(
    {"gemma-embedding", "gemma3", "gemma3n", "gemma4", "laguna", "mellum", "mimo2", "modern-bert", "muse-glimmer"}
    | {"olmo2", "plamo3", "step35"}
)

#: Of these, the ones where that does not act either.
SLIDING_PLAIN = frozenset({"laguna", "mellum", "olmo2"})

#: Sliding-window layers rotate ``rope.dimension_count_swa`` dimensions where the file has that key.
SLIDING_ROT_DIM = frozenset({"gemma4", "laguna", "maple", "spark2_5", "step35"})

#: ``rope_freqs.weight`` acts in layers without a sliding window only.
OWN_FACTORS_IN_FULL_ONLY = frozenset({"gemma4", "step35"})

#: Rotate in the size with that many layers only; others have ALiBi.
ROPE_ONLY_WITH_LAYERS = {"baichuan": 32}

#: Layers that attend without rotating: (period, offset), layer l when l % period == offset.
NO_ROPE_LAYERS: dict[str, tuple[int, int]] = {
    "afmoe": (4, 3),
    "llama4": (4, 3),
    "smallthinker": (4, 0),
    "smollm3": (4, 3),
}

#: Of these, the ones where all layers rotate in files without sliding-window layers.
NO_ROPE_IF_SLIDING = frozenset({"llama4", "smallthinker"})

#: Rotate in sliding-window layers only, where a file has such layers.
ROPE_IN_SLIDING_ONLY = frozenset({"cohere2", "cohere2moe", "exaone-moe", "exaone4", "maple", "muse-glimmer"})

#: Of these, the ones whose first ``leading_dense_block_count`` layers rotate too.
ROPE_IN_DENSE_LEAD = frozenset({"cohere2moe"})

#: Rotate where ``attention.rope_pattern`` is not 0.
ROPE_PATTERN = frozenset({"granite_swa"})

#: Rotate in no layer where ``rope.scaling.finetuned`` is false.
FINETUNED_MEANS_ROPE = frozenset({"granite", "granitehybrid", "graniteswitch"})

#: Mix recurrent and attention layers; layer l attends when (l + 1) % ``full_attention_interval`` == 0, whose default
#: this is.
RECURRENT_MIX = {"minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4, "qwen4exp": 4}

#: Later layers keep no K of their own and use the K of the last layer of their kind before this one, where there is a
#: number; else ``attention.shared_kv_layers`` counts them from the end.
SHARED_K_FROM: dict[str, int | None] = {"gemma3n": 20, "gemma4": None}

#: All heads of a layer share one rotated K head: one ratio for a layer.
ONE_K_HEAD = frozenset(
    {"bailingmoe3", "deepseek2", "deepseek32", "dots3note", "glm-dsa", "hy_v4", "minicpm3", "mistral4", "plm"}
)

#: Cannot follow the length in the patched runtime, and why: factors that depend on it are refused there.
ONE_ROW: dict[str, str] = {
    name: why
    for why, names in {
        "does not cache K as RoPE leaves it": """hrm_text hunyuan-dense hunyuan-moe hunyuan_vl llama-embed maincoder
            talkie""",
        "keeps its keys in a cache that cannot be rotated anew": "deepseek32 dots3note glm-dsa hy_v4 minimax-m3",
    }.items()
    for name in names.split()
}

#: Rotate with a base of 10000 and no scaling, whatever the file's keys say.
IGNORES_SCALING = frozenset({"cogvlm", "deepseek2-ocr"})

#: Rotate nothing, although llama.cpp's list of pairings has them: positions are learned.
NEVER_ROTATES = frozenset({"starcoder"})

#: Have RoPE by name, and the patched runtime takes no factors for them.
REFUSED: dict[str, str] = {
    "deepseek2-ocr": "rotates with constants of its own, which K shifts do not follow",
    "deepseek4": "also rotates compressed keys, and undoes rotations behind the attention",
    "dflash": "is a draft model, which works on what another model computed",
    "eagle3": "is a draft model, which works on what another model computed",
    "gemma4-assistant": "is a draft model, which works on what another model computed",
    "graniteswitch": "switches adapters by a layer of its own, which was never tried",
}


def knows(arch: str) -> bool:
    """Whether the pinned llama.cpp can load this architecture at all."""
    return arch in PAIRING


def pairing(arch: str) -> str:
    """``norm``, ``neox``, ``mrope``, ``imrope`` or ``none``; ``none`` for an unknown architecture too."""
    return PAIRING.get(arch, "none")
