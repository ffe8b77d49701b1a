// ggufrope: per-head RoPE frequency factors for llama.cpp
// SPDX-License-Identifier: MIT
//
// C API of the patched libllama. A library without these symbols ignores `ggufrope.*` keys in silence, so programs
// should look for ggufrope_api_version() before they load a file that carries such keys.
//
// A head factor r[l][h] belongs to KV head h of layer l and to all query heads of its group. It divides the rotation
// angle: angle = position * base^(-2i/n_rot) / (base_factor[i] * r[l][h]), so r = 1 changes nothing and r = 2 halves the
// frequency, as linear scaling by 2 does. Arrays are flat and row-major: for every layer from 0 to block_count - 1,
// n_head_kv(layer) floats; n_layer * n_head_kv of them when all layers have the same number of KV heads. Where they have
// not, ggufrope_head_factors_offset() says where a layer begins.
//
// Functions that return bool return false on an error, with the context as it was; ggufrope_last_error() says which.

#pragma once

#include "llama.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Version of this interface. What version 2 had is here with the same meaning, so that programs made for it run, but that
// a success now clears ggufrope_last_error(). New in version 3: ggufrope_n_layers, ggufrope_head_factors_offset,
// ggufrope_scores_offset, ggufrope_get_head_order, ggufrope_set_head_order, ggufrope_get_pending_length_row,
// ggufrope_check_device, and the functions of pair factors.
#define GGUFROPE_API_VERSION 3
LLAMA_API uint32_t ggufrope_api_version(void);

// The method that the file declares (`ggufrope.method`, e.g. "ms-poe"); NULL when it has no `ggufrope.*` keys.
// The string lives as long as the model.
LLAMA_API const char * ggufrope_method(const struct llama_model * model);

// Layers that the arrays here go over: all of the file's `block_count`. llama_model_n_layer() leaves out those that
// predict further tokens.
LLAMA_API uint32_t ggufrope_n_layers(const struct llama_model * model);

// Length of the head factor array of this model: the sum of n_head_kv over all layers.
LLAMA_API size_t ggufrope_n_head_factors(const struct llama_model * model);

// Where layer il begins in the head factor array: the factor of its KV head h is at ggufrope_head_factors_offset(il) + h,
// and it has ggufrope_head_factors_offset(il + 1) - ggufrope_head_factors_offset(il) of them. Layers have different
// numbers of KV heads in some models, and none where they do not attend. From the last layer on: the array's length.
LLAMA_API size_t ggufrope_head_factors_offset(const struct llama_model * model, uint32_t il);

// Copies the head factors that `ctx` uses to out[0..n); all 1 when it has none. Where the order of heads follows the
// prompt, they are those of the last prompt, or as in the file before the first one.
// n must be ggufrope_n_head_factors(). Returns false on error, see ggufrope_last_error().
LLAMA_API bool ggufrope_get_head_factors(struct llama_context * ctx, float * out, size_t n);

// Replaces the head factors of `ctx`, also where the file has none; the model and its other contexts keep theirs.
// n must be ggufrope_n_head_factors() and every factor finite and > 0. Refused unless the memory of `ctx` is empty
// (llama_memory_clear), as cached keys would disagree with new queries. Rebuilds the compute graphs: not for hot loops.
// Returns false on error, with the context as it was.
LLAMA_API bool ggufrope_set_head_factors(struct llama_context * ctx, const float * factors, size_t n);

// Length of the pair factor array of this model: n_head_kv(layer) * n_rot(layer)/2 floats for every layer, in this order:
// layer, KV head, pair. A pair factor divides the angle of one pair of one KV head. It takes the place of head factors: a
// context has one kind or the other, or neither.
LLAMA_API size_t ggufrope_n_pair_factors(const struct llama_model * model);

// Where layer il begins in the pair factor array; from the last layer on: the array's length.
LLAMA_API size_t ggufrope_pair_factors_offset(const struct llama_model * model, uint32_t il);

// Copies the pair factors that `ctx` uses to out[0..n): its head factors for each pair where it has such; all 1 when it
// has none. n must be ggufrope_n_pair_factors(). ggufrope_get_head_factors() fails where pairs of a head differ.
LLAMA_API bool ggufrope_get_pair_factors(struct llama_context * ctx, float * out, size_t n);

// Replaces what heads of `ctx` have of their own by pair factors, as ggufrope_set_head_factors() does by head factors.
// Refused where the order of heads follows the prompt.
LLAMA_API bool ggufrope_set_pair_factors(struct llama_context * ctx, const float * factors, size_t n);

// How the factors of a layer are handed out to its heads, as `ggufrope.head_order` has it: "static" (as they stand in the
// array), "per-prompt" or "per-prompt-rank" (anew for each prompt, by the scores of its last token). The string is
// constant.
LLAMA_API const char * ggufrope_get_head_order(const struct llama_context * ctx);

// Replaces that order for `ctx` alone. Refused unless the memory of `ctx` is empty; an order by prompt also needs head
// factors (in the file, or set before), n_seq_max = 1 and no more than one length row. Back to "static", heads have the
// factors of the array. Rebuilds the compute graphs.
LLAMA_API bool ggufrope_set_head_order(struct llama_context * ctx, const char * order);

// Scores of heads, as Ms-PoE orders them by: the share of keys that get more than three times the mean attention from the
// last token of the last batch, with Q and K before their rotation. While `enable` is on, `ctx` keeps the un-rotated keys
// (n_embd_k_gqa floats per token and layer) and scores every batch; a text may be read in several batches from position
// 0 on. Refused unless the memory of `ctx` is empty and n_seq_max is 1. Head factors that are set keep acting.
// Returns false on error, with the context as it was.
LLAMA_API bool ggufrope_capture_scores(struct llama_context * ctx, bool enable);

// Length of the score array of this model: the sum of n_head over all layers.
LLAMA_API size_t ggufrope_n_scores(const struct llama_model * model);

// Where layer il begins in the score array; from the last layer on: the array's length.
LLAMA_API size_t ggufrope_scores_offset(const struct llama_model * model, uint32_t il);

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

// The row in use: the one that the memory of `ctx` is rotated by, that of the last batch. Only a batch (or a state that is
// loaded) changes it.
LLAMA_API uint32_t ggufrope_get_length_row(const struct llama_context * ctx);

// The pending row: one that was asked for (ggufrope_set_length_row, ggufrope_set_length_hint) and is not in use yet. The
// next batch takes it, or a larger one if a hint was too short for the batch. -1: nothing was asked for that the row in
// use does not serve, so the length of the next batch decides.
LLAMA_API int32_t ggufrope_get_pending_length_row(const struct llama_context * ctx);

// Makes the next batches of `ctx` use a row, whatever their length; -1 lets it follow the length again. The row is pending
// until the next batch, which rotates cached keys by it.
// Returns false if there is no such row.
LLAMA_API bool ggufrope_set_length_row(struct llama_context * ctx, int32_t row);

// Tells that a prompt will make a sequence of `ctx` n_tokens long, so that all its batches use the same row: call it
// before the first of them. It holds for the next batch, whose row then stays until the memory is empty; the largest of
// several hints counts.
LLAMA_API void ggufrope_set_length_hint(struct llama_context * ctx, uint32_t n_tokens);

// Self-test. Before a context rotates by several rows of factors (one for each KV head), its devices compute small cases,
// which are compared with double precision; one that is wrong takes no such ropes any more in this process. This runs all
// cases of all modes on one device by hand, whatever the self-test knows of it, and changes nothing.
struct ggufrope_check {
    const char * op;      // "rope", "rope_back", "rms_norm + mul + rope + set_rows", ...
    const char * mode;    // "norm", "neox", "mrope", "imrope", "vision"
    const char * type;    // "f32", "f16", "f32 to f16": of what is rotated and of the cache that it goes to
    const char * variant; // "", "yarn", "large"

    const char * verdict; // "passed"; "failed"; "not fused": right, but in several steps where it is one without factors;
                          // "refused": not with several rows, the CPU does it; "no op": not on this device at all
    const char * problem; // why nothing was computed; empty

    double error;         // of the value that is worst for its limit, and that limit; both relative to the largest value
    double limit;

    int32_t n_fused;      // neighbours of the rope that the backend computed together with it
};

typedef void (*ggufrope_check_callback)(const struct ggufrope_check * check, void * user_data);

// Calls `callback` with each case, whose strings live as long as the call. Returns how many failed, were not fused or were
// refused.
LLAMA_API int32_t ggufrope_check_device(ggml_backend_dev_t device, ggufrope_check_callback callback, void * user_data);

// Which ropes of `ctx` run on another device than their layer, because that device has no kernel for a row of factors per
// head, and what that costs, in a sentence; an empty string when there are none. Valid as long as `ctx` keeps its factors.
LLAMA_API const char * ggufrope_fallback(const struct llama_context * ctx);

// Contexts of this process that are created from now on fail where ggufrope_fallback() would say something, as those of
// upstream's programs do with --no-fallback, and all do while the environment has GGUFROPE_NO_FALLBACK=1.
LLAMA_API void ggufrope_set_no_fallback(bool refuse);

// Why the last call of this thread failed that can fail: a function above that returns bool, or loading a model, making a
// context or loading a state (llama_state_*), where its RoPE factors were the reason. An empty string if it succeeded,
// or failed for another reason. Valid until the next such call from this thread.
LLAMA_API const char * ggufrope_last_error(void);

#ifdef __cplusplus
}
#endif
