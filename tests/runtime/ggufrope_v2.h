// ggufrope.h as it was in version 2 of the interface, kept for api_v2.c
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
#define GGUFROPE_API_VERSION 2
LLAMA_API uint32_t ggufrope_api_version(void);

// The method that the file declares (`ggufrope.method`, e.g. "ms-poe"); NULL when it has no `ggufrope.*` keys.
// The string lives as long as the model.
LLAMA_API const char * ggufrope_method(const struct llama_model * model);

// Length of the head factor array of this model: the sum of n_head_kv over all layers.
LLAMA_API size_t ggufrope_n_head_factors(const struct llama_model * model);

// Copies the head factors that `ctx` uses to out[0..n); all 1 when it has none. Where the order of heads follows the
// prompt, they are those of the last prompt, or as in the file before the first one.
// n must be ggufrope_n_head_factors(). Returns false on error, see ggufrope_last_error().
LLAMA_API bool ggufrope_get_head_factors(struct llama_context * ctx, float * out, size_t n);

// Replaces the head factors of `ctx`, also where the file has none; the model and its other contexts keep theirs.
// n must be ggufrope_n_head_factors() and every factor finite and > 0. Refused unless the memory of `ctx` is empty
// (llama_memory_clear), as cached keys would disagree with new queries. Rebuilds the compute graphs: not for hot loops.
// Returns false on error, with the context as it was.
LLAMA_API bool ggufrope_set_head_factors(struct llama_context * ctx, const float * factors, size_t n);

// Scores of heads, as Ms-PoE orders them by: the share of keys that get more than three times the mean attention from the
// last token of the last batch, with Q and K before their rotation. While `enable` is on, `ctx` keeps the un-rotated keys
// (n_embd_k_gqa floats per token and layer) and scores every batch; a text may be read in several batches from position
// 0 on. Refused unless the memory of `ctx` is empty and n_seq_max is 1. Head factors that are set keep acting.
// Returns false on error, with the context as it was.
LLAMA_API bool ggufrope_capture_scores(struct llama_context * ctx, bool enable);

// Length of the score array of this model: the sum of n_head over all layers.
LLAMA_API size_t ggufrope_n_scores(const struct llama_model * model);

// Copies the scores of the last token to out[0..n): for every layer n_head(layer) floats, in query-head order. NaN for
// layers that cannot be scored: without rotation, with a sliding window, with one rotated K for all heads (MLA).
// n must be ggufrope_n_scores(). Returns false on error, see ggufrope_last_error().
LLAMA_API bool ggufrope_get_scores(struct llama_context * ctx, float * out, size_t n);

// Rows of the file's length table (`ggufrope.length_points`); 0 when it has none. A context uses one row at a time, for
// all its sequences: the first one whose point is no less than the length, which is 1 + the largest position in its
// memory or in the batch that is about to be decoded. When another row comes to serve, cached keys are rotated anew. Rows
// with smaller points come back only when the memory is empty.
LLAMA_API size_t ggufrope_n_length_rows(const struct llama_model * model);

// The longest length that a row serves; 0 if there is no such row.
LLAMA_API uint32_t ggufrope_length_point(const struct llama_model * model, size_t row);

// The row that the memory of `ctx` is rotated by.
LLAMA_API uint32_t ggufrope_get_length_row(const struct llama_context * ctx);

// Makes the next batches of `ctx` use a row, whatever their length; -1 lets it follow the length again.
// Returns false if there is no such row.
LLAMA_API bool ggufrope_set_length_row(struct llama_context * ctx, int32_t row);

// Tells that a prompt will make a sequence of `ctx` n_tokens long, so that all its batches use the same row: call it
// before the first of them. It holds for the next batch, whose row then stays until the memory is empty; the largest of
// several hints counts.
LLAMA_API void ggufrope_set_length_hint(struct llama_context * ctx, uint32_t n_tokens);

// The last error of this thread, from a function above or from a model or context that failed to load because of its
// `ggufrope.*` keys; an empty string when there was none. Valid until the next call from this thread.
LLAMA_API const char * ggufrope_last_error(void);

#ifdef __cplusplus
}
#endif
