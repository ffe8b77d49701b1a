// ggufrope: what an override of a key (--override-kv) changes
// SPDX-License-Identifier: MIT

#include "ggufrope-override.h"

#include "llama-arch.h"
#include "llama-impl.h"
#include "llama-model-loader.h"

#include <cinttypes>
#include <cstdlib>
#include <utility>

static const float DEFAULT_BASE = 10000.0f; // llama_model_base::load_hparams, for files without the key

// what ropes are made from, as their readers have it (get_key)
static const std::pair<llm_kv, llama_model_kv_override_type> TYPES[] = {
    { LLM_KV_CONTEXT_LENGTH,                    LLAMA_KV_OVERRIDE_TYPE_INT   },
    { LLM_KV_ATTENTION_SLIDING_WINDOW,          LLAMA_KV_OVERRIDE_TYPE_INT   },
    { LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN,  LLAMA_KV_OVERRIDE_TYPE_INT   },
    { LLM_KV_ATTENTION_COMPRESS_ROPE_FREQ_BASE, LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_DIMENSION_COUNT,              LLAMA_KV_OVERRIDE_TYPE_INT   },
    { LLM_KV_ROPE_DIMENSION_COUNT_SWA,          LLAMA_KV_OVERRIDE_TYPE_INT   },
    { LLM_KV_ROPE_DIMENSION_SECTIONS,           LLAMA_KV_OVERRIDE_TYPE_INT   },
    { LLM_KV_ROPE_FREQ_BASE,                    LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_FREQ_BASE_SWA,                LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALE_LINEAR,                 LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_TYPE,                 LLAMA_KV_OVERRIDE_TYPE_STR   },
    { LLM_KV_ROPE_SCALING_FACTOR,               LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_ALPHA,                LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_ATTN_FACTOR,          LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_ORIG_CTX_LEN,         LLAMA_KV_OVERRIDE_TYPE_INT   },
    { LLM_KV_ROPE_SCALING_FINETUNED,            LLAMA_KV_OVERRIDE_TYPE_BOOL  },
    { LLM_KV_ROPE_SCALING_YARN_LOG_MUL,         LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_YARN_EXT_FACTOR,      LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_YARN_ATTN_FACTOR,     LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_YARN_BETA_FAST,       LLAMA_KV_OVERRIDE_TYPE_FLOAT },
    { LLM_KV_ROPE_SCALING_YARN_BETA_SLOW,       LLAMA_KV_OVERRIDE_TYPE_FLOAT },
};

bool ggufrope_override_acts(const llama_model_loader & ml, const llama_model_kv_override & given) {
    const std::string key = given.key;
    const int64_t     id  = gguf_find_key(ml.metadata, given.key);
    const bool is_array   = id >= 0 && gguf_get_kv_type(ml.metadata, id) == GGUF_TYPE_ARRAY;
    const bool sections   = key == ml.llm_kv(LLM_KV_ROPE_DIMENSION_SECTIONS);
    if (is_array && (sections || key == ml.llm_kv(LLM_KV_ATTENTION_SLIDING_WINDOW_PATTERN))) {
        return false; // arrays are read without overrides
    }
    if (id < 0 && sections) {
        return false; // get_key_or_arr looks for overrides of what is there
    }
    for (const auto & [kv, type] : TYPES) {
        if (key == ml.llm_kv(kv)) {
            return given.tag == type;
        }
    }
    return true;
}

bool ggufrope_override_is_own(const llama_model_loader & ml, const llama_model_kv_override & given) {
    const gguf_context * ctx = ml.metadata;
    const int64_t id    = gguf_find_key(ctx, given.key);
    const bool   is_int = given.tag == LLAMA_KV_OVERRIDE_TYPE_INT;
    const bool   is_num = given.tag == LLAMA_KV_OVERRIDE_TYPE_FLOAT || is_int;
    const double value  = is_int ? (double) given.val_i64 : given.val_f64;
    if (id < 0) {
        return is_num && (float) value == DEFAULT_BASE && given.key == ml.llm_kv(LLM_KV_ROPE_FREQ_BASE);
    }
    switch (gguf_get_kv_type(ctx, id)) {
        case GGUF_TYPE_UINT32:  return is_num && value == (double) gguf_get_val_u32(ctx, id);
        case GGUF_TYPE_INT32:   return is_num && value == (double) gguf_get_val_i32(ctx, id);
        case GGUF_TYPE_UINT64:  return is_num && value == (double) gguf_get_val_u64(ctx, id);
        case GGUF_TYPE_FLOAT32: return is_num && (float) value == gguf_get_val_f32(ctx, id);
        case GGUF_TYPE_BOOL:    return given.tag == LLAMA_KV_OVERRIDE_TYPE_BOOL && given.val_bool == gguf_get_val_bool(ctx, id);
        case GGUF_TYPE_STRING:  return given.tag == LLAMA_KV_OVERRIDE_TYPE_STR  && gguf_get_val_str(ctx, id) == std::string(given.val_str);
        default:                return false; // stock reads no overrides of these
    }
}

std::string ggufrope_describe_override(const llama_model_kv_override & given) {
    const std::string start = std::string("--override-kv ") + given.key + "=";
    switch (given.tag) {
        case LLAMA_KV_OVERRIDE_TYPE_INT:   return start + format("int:%" PRId64, given.val_i64);
        case LLAMA_KV_OVERRIDE_TYPE_FLOAT: return start + "float:" + ggufrope_shortest(given.val_f64);
        case LLAMA_KV_OVERRIDE_TYPE_BOOL:  return start + (given.val_bool ? "bool:true" : "bool:false");
        case LLAMA_KV_OVERRIDE_TYPE_STR:   return start + "str:" + given.val_str;
    }
    return start;
}

std::string ggufrope_shortest(float value) {
    std::string res;
    for (int digits = 6; digits <= 9; ++digits) {
        res = format("%.*g", digits, value);
        if (std::strtof(res.c_str(), nullptr) == value) {
            break;
        }
    }
    return res;
}
