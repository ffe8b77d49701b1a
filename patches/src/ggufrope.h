// ggufrope: per-head RoPE frequency factors for llama.cpp
// SPDX-License-Identifier: MIT
//
// C API of the patched libllama. A library without these symbols ignores `ggufrope.*` keys in silence, so programs
// should look for ggufrope_api_version() before they load a file that carries such keys.
//
// A head factor r[l][h] belongs to KV head h of layer l and to all query heads of its group. It divides the rotation
// angle: angle = position * base^(-2i/n_rot) / (base_factor[i] * r[l][h]), so r = 1 changes nothing and r = 2 halves the
// frequency, as linear scaling by 2 does. Arrays are flat and row-major: for every layer from 0 to block_count - 1,
// n_head_kv(layer) floats; n_layer * n_head_kv of them when all layers have the same number of KV heads.

#pragma once

#include "llama.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Version of this interface; raised when a function changes its meaning.
#define GGUFROPE_API_VERSION 1
LLAMA_API uint32_t ggufrope_api_version(void);

// The method that the file declares (`ggufrope.method`, e.g. "ms-poe"); NULL when it has no `ggufrope.*` keys.
// The string lives as long as the model.
LLAMA_API const char * ggufrope_method(const struct llama_model * model);

// Length of the head factor array of this model: the sum of n_head_kv over all layers.
LLAMA_API size_t ggufrope_n_head_factors(const struct llama_model * model);

// Copies the head factors that `ctx` uses to out[0..n); all 1 when it has none.
// n must be ggufrope_n_head_factors(). Returns false on error, see ggufrope_last_error().
LLAMA_API bool ggufrope_get_head_factors(const struct llama_context * ctx, float * out, size_t n);

// Replaces the head factors of `ctx`, also where the file has none; the model and its other contexts keep theirs.
// n must be ggufrope_n_head_factors() and every factor finite and > 0. Refused unless the memory of `ctx` is empty
// (llama_memory_clear), as cached keys would disagree with new queries. Rebuilds the compute graphs: not for hot loops.
// Returns false on error, with the context as it was.
LLAMA_API bool ggufrope_set_head_factors(struct llama_context * ctx, const float * factors, size_t n);

// The last error of this thread, from a function above or from a model or context that failed to load because of its
// `ggufrope.*` keys; an empty string when there was none. Valid until the next call from this thread.
LLAMA_API const char * ggufrope_last_error(void);

#ifdef __cplusplus
}
#endif
