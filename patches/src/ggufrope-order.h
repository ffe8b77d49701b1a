// ggufrope: ratios of heads that follow the prompt
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-scores.h"
#include "ggufrope-spec.h"

#include <memory>
#include <string>

struct llama_batch_ext;
struct llama_cparams;
struct llama_ubatch;

// What Ms-PoE's program does: at the start of a sequence every layer scores its heads on the prompt and hands its ratios
// out anew. A layer's ratios are those of `ggufrope.head_factors`; only which head gets which one changes.
//
// A prompt in one ubatch is ordered inside its graph, layer by layer. A longer one is read twice: once with the ratios as
// the file has them, to score its last token, and once more with the order that follows. The order stays until the next
// sequence starts at position 0.
struct ggufrope_prompt_order {
    ggufrope_prompt_order(const llama_model & model, const llama_cparams & cparams, const ggufrope_spec & spec);

    // tensors that belong to the table [n_rot/2, n_head_kv] of a layer: four, see ggufrope_table_store::companion
    void add_layer(ggml_context * ctx, uint32_t il, ggml_tensor * table);

    // what the table would be with ratios of 1: the same n_rot/2 numbers for every head
    void upload(uint32_t il, const std::vector<float> & unit);

    // in a graph at the start of a sequence, makes the tables of the ropes from what the graph computes
    void add(const llm_graph_params & params, ggufrope_graph_edit & graph, const std::vector<ggufrope_rope_pair> & pairs);

    // true if this batch starts a sequence that does not fit one ubatch: read it, call end_first_pass, then read it again
    bool begin_first_pass(const llama_batch_ext & batch);
    void end_first_pass(bool ok);

    // ratios in use; the file's where layer il has no order
    std::vector<float> get_ratios(uint32_t il) const;

    // for saved states
    std::string get_state() const;
    void        set_state(const std::string & state);

    void add_memory(std::map<ggml_backend_buffer_type_t, size_t> & sizes) const;

private:
    friend struct order_watch;

    enum order_step { STEP_KEEP, STEP_ORDER, STEP_SCORE };

    struct layer {
        ggml_tensor * table  = nullptr; // null: no order here
        ggml_tensor * unit   = nullptr; // [n_rot/2, n_head_kv]
        ggml_tensor * steps  = nullptr; // [1, n_head_kv] ascending ratios
        ggml_tensor * ratios = nullptr; // [1, n_head_kv] in use
        ggml_tensor * minus  = nullptr; // [n_head_kv] 0, -1, -2, ...
        std::vector<float> unit_row;
    };

    const llama_model   & model;
    const ggufrope_spec & spec;
    const uint32_t        n_ctx, n_batch, n_ubatch;

    std::vector<layer> layers;

    bool     in_first_pass = false;
    bool     is_taken      = false; // by a first pass, for the batch at hand
    uint32_t n_started     = 0;     // tokens of the batch that started the sequence

    std::unique_ptr<ggufrope_scores> scores; // during a first pass

    order_step         step_of(const llama_ubatch & ubatch) const;
    ggml_tensor *      build(ggml_context * ctx, const ggufrope_graph_edit & graph, const ggufrope_rope_pair & pair) const;
    std::vector<float> sorted(uint32_t il) const;
    void               set_ratios(uint32_t il, const std::vector<float> & ratios);
};
