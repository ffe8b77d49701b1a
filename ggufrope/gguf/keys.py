"""Every GGUF key and tensor name that ggufrope reads or writes: each once, with its type, meaning and owner."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KEYS", "OURS", "PREFIX", "REPLACED", "SENTINEL", "Key", "stock"]

#: All of our keys start with this; stock llama.cpp ignores them and its tools carry them along.
PREFIX = "ggufrope."

#: A one-element tensor that makes stock llama.cpp refuse the file (it counts tensors); the patched runtime expects it.
SENTINEL = "ggufrope.requires_patched_runtime"


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: the key; ``{arch}`` stands for ``general.architecture``.
        type: its GGUF type, with the shape of arrays.
        meaning: one sentence.
        ours: whether only the patched runtime reads it.
    """

    name: str
    type: str
    meaning: str
    ours: bool = False


ARCHITECTURE = "general.architecture"
ALIGNMENT = "general.alignment"
FILE_TYPE = "general.file_type"

OF_ARCHITECTURE = "{arch}."
BLOCK_COUNT = "{arch}.block_count"
CONTEXT_LENGTH = "{arch}.context_length"
EMBEDDING_LENGTH = "{arch}.embedding_length"
LEADING_DENSE = "{arch}.leading_dense_block_count"
FULL_ATTENTION_INTERVAL = "{arch}.full_attention_interval"
NEXTN_LAYERS = "{arch}.nextn_predict_layers"

HEAD_COUNT = "{arch}.attention.head_count"
HEAD_COUNT_KV = "{arch}.attention.head_count_kv"
KEY_LENGTH = "{arch}.attention.key_length"
VALUE_LENGTH = "{arch}.attention.value_length"
KEY_LENGTH_SLIDING = "{arch}.attention.key_length_swa"
VALUE_LENGTH_SLIDING = "{arch}.attention.value_length_swa"
KEY_LENGTH_MLA = "{arch}.attention.key_length_mla"
VALUE_LENGTH_MLA = "{arch}.attention.value_length_mla"
SLIDING_WINDOW = "{arch}.attention.sliding_window"
FEED_FORWARD_LENGTH = "{arch}.feed_forward_length"
EXPERT_LENGTH = "{arch}.expert_feed_forward_length"
SHARED_EXPERT_LENGTH = "{arch}.expert_shared_feed_forward_length"
ATTENTION_CAP = "{arch}.attn_logit_softcapping"
FINAL_CAP = "{arch}.final_logit_softcapping"
SLIDING_PATTERN = "{arch}.attention.sliding_window_pattern"
ROPE_PATTERN = "{arch}.attention.rope_pattern"
RECURRENT_LAYERS = "{arch}.attention.recurrent_layers"
SHARED_KV_LAYERS = "{arch}.attention.shared_kv_layers"

SSM_CONV_KERNEL = "{arch}.ssm.conv_kernel"
SSM_INNER_SIZE = "{arch}.ssm.inner_size"
SSM_STATE_SIZE = "{arch}.ssm.state_size"
SSM_GROUP_COUNT = "{arch}.ssm.group_count"
SHORTCONV_CACHE = "{arch}.shortconv.l_cache"
KDA_HEAD_DIM = "{arch}.kda.head_dim"
HRM_STACK = "{arch}.hrm.layers_per_stack"
HRM_CYCLES = "{arch}.hrm.l_cycles"

#: What every key about rotation starts with.
ROPE = "{arch}.rope."
ROPE_DIMENSIONS = "{arch}.rope.dimension_count"
ROPE_DIMENSIONS_SLIDING = "{arch}.rope.dimension_count_swa"
FREQ_BASE = "{arch}.rope.freq_base"
FREQ_BASE_SLIDING = "{arch}.rope.freq_base_swa"
SCALING_TYPE = "{arch}.rope.scaling.type"
SCALING_FACTOR = "{arch}.rope.scaling.factor"
SCALE_LINEAR = "{arch}.rope.scale_linear"
ROPE_SECTIONS = "{arch}.rope.dimension_sections"
SCALING_ALPHA = "{arch}.rope.scaling.alpha"
ORIGINAL_CONTEXT = "{arch}.rope.scaling.original_context_length"
ATTN_FACTOR = "{arch}.rope.scaling.attn_factor"
FINETUNED = "{arch}.rope.scaling.finetuned"
YARN_EXT_FACTOR = "{arch}.rope.scaling.yarn_ext_factor"
YARN_ATTN_FACTOR = "{arch}.rope.scaling.yarn_attn_factor"
YARN_BETA_FAST = "{arch}.rope.scaling.yarn_beta_fast"
YARN_BETA_SLOW = "{arch}.rope.scaling.yarn_beta_slow"
YARN_LOG_MUL = "{arch}.rope.scaling.yarn_log_multiplier"

#: Of a model in several files: how many, and which this is, from 0.
SPLIT_COUNT = "split.count"
SPLIT_NUMBER = "split.no"
#: In the first of them; llama.cpp compares it with what it finds.
SPLIT_TENSORS = "split.tensors.count"

TOKENIZER_MODEL = "tokenizer.ggml.model"
TOKENIZER_PRE = "tokenizer.ggml.pre"
TOKENS = "tokenizer.ggml.tokens"
MERGES = "tokenizer.ggml.merges"
BOS_TOKEN = "tokenizer.ggml.bos_token_id"
EOS_TOKEN = "tokenizer.ggml.eos_token_id"
#: Templates with names have theirs behind it, after a point.
CHAT_TEMPLATE = "tokenizer.chat_template"

TOKEN_EMBEDDING = "token_embd.weight"
SUFFIX = ".weight"
OUTPUT = "output.weight"  # absent where it is the token embedding
#: Of the first layer; StableLM's settings show in whether it has them.
FIRST_Q_BIAS, FIRST_FFN_NORM = "blk.0.attn_q.bias", "blk.0.ffn_norm.weight"
BLOCK_PREFIX = "blk."
#: Of every layer, behind ``blk.N.``.
ATTN_Q, ATTN_K = "attn_q.weight", "attn_k.weight"
ROPE_FREQS = "rope_freqs.weight"
ROPE_SHORT = "rope_factors_short.weight"
ROPE_LONG = "rope_factors_long.weight"

VERSION = PREFIX + "version"
METHOD = PREFIX + "method"
PARAMS = PREFIX + "params"
CONTEXT = PREFIX + "context_length"
HEAD_FACTORS = PREFIX + "head_factors"
HEAD_ORDER = PREFIX + "head_order"
PAIR_FACTORS = PREFIX + "pair_factors"
LENGTH_POINTS = PREFIX + "length_points"
LENGTH_FACTORS = PREFIX + "length_factors"
LENGTH_ATTN_SCALE = PREFIX + "length_attn_scale"
LENGTH_LAYERS = PREFIX + "length_layers"
ORIGINAL = PREFIX + "original"
PADDING = PREFIX + "padding"

KEYS = (
    Key(CONTEXT_LENGTH, "u32", "context in tokens; raised only when stock llama.cpp can use the longer one"),
    Key(FREQ_BASE, "f32", "base of the frequencies (rope_theta)"),
    Key(SCALING_TYPE, "str", "none, linear, yarn or longrope; absent means linear"),
    Key(SCALING_FACTOR, "f32", "the scaling's factor"),
    Key(ORIGINAL_CONTEXT, "u32", "context before scaling; llama.cpp falls back to context_length without it"),
    Key(ATTN_FACTOR, "f32", "multiplies cos and sin, on top of YaRN's own 1 + 0.1 ln(factor)"),
    Key(YARN_BETA_FAST, "f32", "fast end of YaRN's ramp; few architectures read it"),
    Key(YARN_BETA_SLOW, "f32", "slow end of YaRN's ramp; few architectures read it"),
    Key(SPLIT_TENSORS, "i32", "tensors in all files of a split model, with those that were added"),
    Key(
        VERSION,
        "u32",
        "version of this contract: 3 beside ggufrope.pair_factors, else 2 beside ggufrope.length_layers, else 1",
        ours=True,
    ),
    Key(METHOD, "str", "the method's name, e.g. ms-poe+yarn", ours=True),
    Key(PARAMS, "str (JSON)", "the method's parameters, for people", ours=True),
    Key(CONTEXT, "u32", "the context that the method aims at; taken as the trained one", ours=True),
    Key(HEAD_FACTORS, "f32[sum of n_head_kv over layers]", "position divisor of each layer's KV heads", ours=True),
    Key(
        HEAD_ORDER,
        "str",
        "how a layer's ratios are assigned to its heads: static, per-prompt or per-prompt-rank",
        ours=True,
    ),
    Key(
        PAIR_FACTORS,
        "f32[sum of n_head_kv · rot_dim/2 over layers]",
        "in place of head_factors: frequency divisor of each pair of each layer's KV heads",
        ours=True,
    ),
    Key(LENGTH_POINTS, "u32[n]", "increasing lengths; row k serves (point[k-1], point[k]]", ours=True),
    Key(LENGTH_FACTORS, "f32[n · rot_dim/2]", "divisors of each row", ours=True),
    Key(LENGTH_ATTN_SCALE, "f32[n]", "what multiplies cos and sin in each row", ours=True),
    Key(
        LENGTH_LAYERS,
        "bool[layers]",
        "the layers that the row is for; absent: those that rotate and have no sliding window",
        ours=True,
    ),
    Key(ORIGINAL, "str (JSON)", "what strip needs to restore the source byte for byte", ours=True),
    Key(PADDING, "u8[n]", "zeros: padding that the next edit may take, so that the data need not move", ours=True),
)

OURS = tuple(k.name for k in KEYS if k.ours)

#: Upstream's scaling keys: a base method replaces all of them, so that no leftover of an earlier scaling acts.
REPLACED = (
    SCALING_TYPE,
    SCALING_FACTOR,
    SCALE_LINEAR,
    ORIGINAL_CONTEXT,
    ATTN_FACTOR,
    FINETUNED,
    YARN_EXT_FACTOR,
    YARN_ATTN_FACTOR,
    YARN_BETA_FAST,
    YARN_BETA_SLOW,
    YARN_LOG_MUL,
)


def stock(template: str, arch: str) -> str:
    """``template`` with the architecture filled in."""
    return template.replace("{arch}", arch)
