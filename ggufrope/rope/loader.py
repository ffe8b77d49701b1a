"""Which keys and tensors about rotation the pinned llama.cpp reads, by architecture, beyond those that it always reads.

What it reads must have the one type that it takes, and what it does not read may have any: a tensor that it does not
load, though, makes it refuse the file. A test reads the pinned source again and compares.
"""

from __future__ import annotations

__all__ = [
    "ASSERTS_WHOLE_HEADS",
    "FACTORS_OF_WHOLE_HEADS",
    "LOADS_FREQS",
    "LOADS_LONG_SHORT",
    "LONG_SHORT_IN_ANY_TYPE",
    "PATTERN_WITH_WINDOW",
    "READS_DENSE_LEAD",
    "READS_MLA_LENGTHS",
    "READS_SECTIONS",
    "READS_SLIDING_BASE",
    "READS_WINDOW",
    "READS_YARN_EXTRAS",
    "READS_YARN_LOG_MUL",
    "ROTATES_WHOLE_HEADS",
    "WITHOUT_MODEL",
]


def _of(names: str) -> frozenset[str]:
    return frozenset(names.split())


#: Have a name, and no model: llama.cpp refuses files of theirs.
WITHOUT_MODEL = frozenset({"gptj"})

#: Load ``rope_freqs.weight``, whether they use it or not.
LOADS_FREQS = _of(
    """apertus arcee cogvlm deci dflash eagle3 exaone exaone-moe exaone4 falcon-h1 gemma4 gemma4-assistant granite
    granite_swa granitehybrid granitemoe llada llama llama-embed llama4 minicpm mistral3 nanbeige pangu-embedded
    refact step35"""
)

#: Load ``rope_factors_long.weight`` and ``rope_factors_short.weight``.
LOADS_LONG_SHORT = _of(
    """apertus deci granite granite_swa granitemoe llama llama-embed minicpm minicpm3 mistral3 pangu-embedded phi3
    phimoe refact step35"""
)

#: Of these, the ones that load them whatever ``rope.scaling.type`` is; all others only where it is ``longrope``, and
#: then no ``rope_freqs.weight``.
LONG_SHORT_IN_ANY_TYPE = frozenset({"minicpm3", "phi3", "phimoe"})

#: Take as many factors as half a head has dimensions, however many of them rotate.
FACTORS_OF_WHOLE_HEADS = _of("dflash gemma4 gemma4-assistant phimoe")

#: Refuse a ``rope.dimension_count`` that is not the whole head.
ROTATES_WHOLE_HEADS = frozenset({"deci", "falcon", "llama", "llama-embed"})

#: Load one, and abort when a context is made (``GGML_ASSERT(n_embd_head == n_rot)`` in their graphs).
ASSERTS_WHOLE_HEADS = _of(
    """apertus arcee arctic baichuan chameleon codeshell cogvlm cohere2moe dbrx deepseek dots1 dream ernie4_5
    ernie4_5-moe exaone exaone-moe exaone4 granite granite_swa granitemoe graniteswitch grok grovemoe hunyuan-dense
    hunyuan-moe hunyuan_vl hy_v3 internlm2 jais2 llada llada-moe llama4 maincoder mellum minicpm mistral3 olmo olmo2
    olmoe orion paddleocr pangu-embedded plamo pockettts qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3tts qwen3vl
    qwen3vlmoe rnd1 seed_oss smallthinker smollm3 starcoder2 talkie xverse"""
)

#: Read ``attention.sliding_window``.
READS_WINDOW = _of(
    """afmoe cohere2 cohere2moe deepseek4 dflash dots3note exaone-moe exaone4 gemma-embedding gemma2 gemma3 gemma3n
    gemma4 gemma4-assistant gpt-oss granite_swa laguna lfm2 llama4 maple mellum mimo2 modern-bert muse-glimmer
    olmo2 phi3 plamo3 smallthinker spark2_5 step35"""
)

#: Read its pattern, and the base of sliding layers, only where the file has a window.
PATTERN_WITH_WINDOW = _of("afmoe gemma3 laguna llama4 mellum modern-bert olmo2 plamo3 smallthinker")

#: Read ``rope.freq_base_swa``.
READS_SLIDING_BASE = _of(
    """afmoe cohere2 cohere2moe dots3note exaone-moe exaone4 gemma-embedding gemma2 gemma3 gemma3n gemma4
    gemma4-assistant gpt-oss laguna llama4 maple mellum mimo2 modern-bert muse-glimmer olmo2 plamo3 smallthinker
    spark2_5 step35"""
)

#: Read ``leading_dense_block_count``.
READS_DENSE_LEAD = _of(
    """afmoe bailingmoe bailingmoe2 bailingmoe3 cohere2moe deepseek deepseek2 deepseek2-ocr deepseek32 dots1 dots3note
    ernie4_5-moe exaone-moe glm-dsa glm4moe glm5-next hy_v4 kimi-k3 kimi-linear laguna lfm2moe
    minimax-m3 mistral4"""
)

#: Read ``rope.dimension_sections``.
READS_SECTIONS = _of(
    """bailingmoe3 deepseek32 dflash ernie4_5 ernie4_5-moe glm-dsa glm4 glm4moe hunyuan-dense hunyuan_vl paddleocr
    qwen2vl qwen35 qwen35moe qwen3tts qwen3vl qwen3vlmoe qwen4exp"""
)

#: Read ``attention.key_length_mla`` and ``value_length_mla``.
READS_MLA_LENGTHS = _of(
    """bailingmoe3 deepseek2 deepseek32 dots3note glm-dsa glm5-next hy_v4 kimi-k3 kimi-linear mistral4"""
)

#: Read ``rope.scaling.yarn_ext_factor`` and ``yarn_attn_factor``.
READS_YARN_EXTRAS = frozenset({"grok"})

#: Read ``rope.scaling.yarn_log_multiplier``, whether they use it as ``architectures.READS_YARN_LOG_MUL`` has it or not.
READS_YARN_LOG_MUL = frozenset({"deepseek2", "deepseek32", "mistral3", "mistral4"})
