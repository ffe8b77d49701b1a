// ggufrope: how position-aware each head is, measured inside the graph
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-graph.h"
#include "ggufrope-trace.h"

#include "ggml-cpp.h"

#include <map>
#include <utility>
#include <vector>

struct llama_hparams;
struct llm_graph_params;

// what the layer's attention multiplies Q*K by before the softmax, 1/sqrt(head size) if that cannot be seen
float ggufrope_attention_scale(const llama_hparams & hparams, const ggufrope_graph_edit & graph, const ggufrope_rope_pair & pair);

// For the last token of un-rotated queries [n_embd_head, n_head, n_tokens] against un-rotated keys
// [n_embd_head, n_head_kv, n]: how many keys have more than three times the mean attention. [1, n_head/n_head_kv, n_head_kv]
ggml_tensor * ggufrope_count_outliers(ggml_context * ctx, ggml_tensor * q, ggml_tensor * keys, float scale);

// Scores of the last token that a context has read. Un-rotated keys are kept beside the cache, which only has rotated
// (and possibly quantized) ones: n_embd_k_gqa floats per token and layer.
struct ggufrope_scores {
    ggufrope_scores(const llama_model & model, uint32_t n_ctx) : model(model), n_ctx(n_ctx) {}

    // adds the scores of these layers to a graph
    void add(const llm_graph_params & params, ggufrope_graph_edit & graph, const std::vector<ggufrope_rope_pair> & pairs);

    // by layer, for every query head: how many keys stood out; NAN for layers without scores
    std::vector<std::vector<float>> get_counts() const;

    // share of keys for every layer and query head, NAN for layers without scores; throws before the first batch
    std::vector<float> get() const;

    void add_memory(std::map<ggml_backend_buffer_type_t, size_t> & sizes) const {
        for (const auto & [ctx, buf] : ctxs_bufs) {
            sizes[ggml_backend_buffer_get_type(buf.get())] += ggml_backend_buffer_get_size(buf.get());
        }
    }

private:
    struct layer {
        ggml_tensor * keys   = nullptr; // [n_embd_head, n_head_kv, n_ctx]
        ggml_tensor * counts = nullptr; // [n_head]
    };

    const llama_model & model;
    const uint32_t      n_ctx;

    uint32_t           n_keys = 0; // that the last batch was scored against
    std::vector<layer> layers;     // empty until the first graph
    std::vector<std::pair<ggml_context_ptr, ggml_backend_buffer_ptr>> ctxs_bufs;

    void     allocate(const std::vector<ggufrope_rope_pair> & pairs);
    uint32_t place(const llm_graph_params & params) const;
};
