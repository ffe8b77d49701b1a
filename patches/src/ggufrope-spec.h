// ggufrope: what a file or a program asks for (host memory, immutable, shared by the model and its contexts)
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-factors.h"

#include "gguf.h"

#include <memory>
#include <string>
#include <vector>

struct llama_hparams;
struct llama_model;

// what serves sequences of up to `point` tokens that are too long for the row before
struct ggufrope_length_row {
    uint32_t           point = 0;
    std::vector<float> factors;           // [n_rot/2]
    float              attn_scale = 1.0f; // of the rotated dimensions of Q and K
};

enum ggufrope_order {
    GGUFROPE_ORDER_STATIC,
    GGUFROPE_ORDER_PROMPT,      // as the Ms-PoE program orders heads, anew for each prompt
    GGUFROPE_ORDER_PROMPT_RANK, // as the paper's text does
};

// as `ggufrope.head_order` has it
const char * ggufrope_order_name(ggufrope_order order);

// false if there is none of this name
bool ggufrope_find_order(const std::string & name, ggufrope_order & order);

struct ggufrope_spec {
    std::string method;

    ggufrope_order order = GGUFROPE_ORDER_STATIC;

    // What KV heads have of their own: one factor for each, or in its place one for each of their pairs. Empty: all 1.
    std::vector<std::vector<float>> head_factors; // [n_layer_all][n_head_kv(il)]
    std::vector<std::vector<float>> pair_factors; // [n_layer_all][n_head_kv(il) * n_rot(il)/2]
    std::vector<size_t>             n_own_pairs;  // [n_layer_all] n_rot(il)/2, beside pair factors

    std::vector<ggufrope_length_row> length_rows;    // by increasing point; empty: none
    std::vector<bool>                follows_length; // [n_layer_all]: the layers that the rows are for
    bool                             names_length_layers = false; // true if the file says so, layer by layer

    bool overrides_ropes = false; // true if the program overrides keys that ropes are made from, which needs that there is no table

    // for saving the model: the keys as they were read, and the file's own context length
    std::shared_ptr<gguf_context> keys;
    uint32_t                      n_ctx_file = 0;
    std::shared_ptr<ggml_context> sentinel; // with the tensor that keeps unpatched runtimes from loading; null: none

    void set_pair_factors(const llama_hparams & hparams, const float * flat); // see ggufrope.h

    bool has_tables(const llama_hparams & hparams) const;

    // true if the rotation of layer il differs from the model's own
    bool wants_table(uint32_t il) const;

    // number of rows of the layer's table: 1 if all its heads agree, else n_head_kv
    size_t n_rows(uint32_t il) const;

    // the factor of pair i of KV head `row`
    float own_factor(uint32_t il, size_t row, size_t i) const;

    // true if some KV head of layer il has another factor than 1
    bool has_own_factors(uint32_t il) const;

    // true if length rows are for layer il
    bool is_length_layer(uint32_t il) const;

    // how many tables there are by length, 1 without length rows
    size_t n_lengths() const;

    // index of the row for sequences of n_tokens; the last one serves whatever is longer
    uint32_t length_row(uint32_t n_tokens) const;

    // what layer il rotates by under a length row, where `base` [n_rot/2] are the factors of the layer's own ropes
    ggufrope_layer_factors layer_factors(uint32_t il, size_t length, const std::vector<float> & base) const;

    // the row [n_rot/2] of a head whose own factors are 1
    std::vector<float> unit_factors(uint32_t il, size_t length, const std::vector<float> & base) const;
};

// throws if the model cannot be run with these factors at all
void ggufrope_check_model(const llama_model & model, const ggufrope_spec & spec);

// the layer whose cached K layer il attends to: itself in nearly all models
uint32_t ggufrope_k_owner(const llama_hparams & hparams, uint32_t il);

// the first layer that has the same projections of Q and K: itself, unless blocks are run several times
uint32_t ggufrope_first_alias(const llama_model & model, uint32_t il);

// a copy of `spec` (may be null) with other head factors (flat array, see ggufrope.h)
std::shared_ptr<const ggufrope_spec> ggufrope_with_head_factors(
        const llama_model & model, const ggufrope_spec * spec, const float * factors, size_t n);

// a copy of `spec` (may be null) that hands them out in another order
std::shared_ptr<const ggufrope_spec> ggufrope_with_order(const llama_model & model, const ggufrope_spec * spec, const std::string & order);

size_t ggufrope_count_head_factors(const llama_hparams & hparams);

size_t ggufrope_count_pair_factors(const llama_hparams & hparams);

// a copy of `spec` (may be null) with pair factors in place of head factors (flat array, see ggufrope.h)
std::shared_ptr<const ggufrope_spec> ggufrope_with_pair_factors(
        const llama_model & model, const ggufrope_spec * spec, const float * factors, size_t n);

// flat array, see ggufrope.h -> [n_layer_all][n_head_kv(il)]
std::vector<std::vector<float>> ggufrope_split_by_layer(const llama_hparams & hparams, const float * flat);

// flat array, see ggufrope.h -> [n_layer_all][n_head_kv(il) * n_rot(il)/2]
std::vector<std::vector<float>> ggufrope_split_pairs_by_layer(const llama_hparams & hparams, const float * flat);
