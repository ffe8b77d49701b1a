// ggufrope: what the patched llama.cpp sources call
// SPDX-License-Identifier: MIT

#pragma once

#include "llama.h"

#include "ggml-cpp.h"

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct llama_hparams;
struct llama_cparams;
struct llama_model_loader;
struct llm_graph_params;

// remembers the message for ggufrope_last_error() and throws std::runtime_error
[[noreturn]] void ggufrope_fail(const std::string & message);

void         ggufrope_set_last_error(const std::string & message);
const char * ggufrope_get_last_error();

//
// what a file asks for (host memory, immutable, shared by the model and its contexts)
//

struct ggufrope_spec {
    std::string method;

    std::vector<std::vector<float>> head_factors; // [n_layer_all][n_head_kv(il)]; empty: all 1

    // one static row for all layers: frequency factors [n_rot/2], the longest length it serves and the scale of Q and K
    std::vector<float> length_factors;
    uint32_t           length_point      = 0;
    float              length_attn_scale = 1.0f;

    // for saving the model: the keys as they were read, and the file's own context length
    std::shared_ptr<gguf_context> keys;
    uint32_t                      n_ctx_file = 0;

    bool has_tables(const llama_hparams & hparams) const;

    // true if the rotation of layer il differs from the model's own
    bool wants_table(uint32_t il) const;

    // number of rows of the layer's table: 1 if all its heads agree, else n_head_kv
    size_t n_rows(uint32_t il) const;

    float head_factor(uint32_t il, size_t row) const;
};

// reads and checks the `ggufrope.*` keys; null when the file has none
// removes the sentinel tensor from the loader and sets hparams.n_ctx_train
std::shared_ptr<const ggufrope_spec> ggufrope_load(llama_model_loader & ml, const llama_model & model, llama_hparams & hparams);

// adds the keys that the model was loaded with to a file that is about to be saved
void ggufrope_save(const ggufrope_spec & spec, const std::string & key_context_length, gguf_context * ctx);

// throws if the model cannot be run with these factors at all
void ggufrope_check_model(const llama_model & model, const ggufrope_spec & spec);

// a copy of `spec` (may be null) with other head factors (flat array, see ggufrope.h)
std::shared_ptr<const ggufrope_spec> ggufrope_with_head_factors(
        const llama_model & model, const ggufrope_spec * spec, const float * factors, size_t n);

size_t ggufrope_count_head_factors(const llama_hparams & hparams);

// flat array, see ggufrope.h -> [n_layer_all][n_head_kv(il)]
std::vector<std::vector<float>> ggufrope_split_by_layer(const llama_hparams & hparams, const float * flat);

//
// the tables of one context, on the devices of their layers
//

// One tensor [n_rot/2, n_rows] per layer that wants one: base factors of the layer's own ropes * length row * head factor.
// The base factors (long, short, rope_freqs or none) are only known once a graph exists, so the tables are allocated and
// filled when the first graph of the context is built. Later graphs only refer to them: nothing is uploaded per step.
struct ggufrope_tables {
    ggufrope_tables(const llama_model & model, const llama_cparams & cparams, std::shared_ptr<const ggufrope_spec> spec);

    // finds the ropes of Q and K and points them at their table; throws if a table has no place to go
    void apply(const llm_graph_params & params, ggml_cgraph * gf);

    // the table for a K shift of layer il, or null
    ggml_tensor * get(uint32_t il) const;

    const ggufrope_spec & get_spec() const { return *spec; }

    bool any() const;

    // names the factors that cached K was rotated with, for saved states; empty if it was rotated as in the plain model
    std::string state_tag() const;

    std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const;

private:
    enum rope_role { ROPE_ROLE_NONE, ROPE_ROLE_Q, ROPE_ROLE_K, ROPE_ROLE_QKV, ROPE_ROLE_INDEXER, ROPE_ROLE_SHARED };

    // where a rope's input was projected
    struct origin {
        rope_role role = ROPE_ROLE_NONE;
        uint32_t  il   = 0;
        std::string stopped_at; // for the error message: the first op that could not be followed
    };

    struct site {
        origin        from;
        ggml_tensor * rope;
    };

    struct layer_table {
        ggml_tensor       * table = nullptr;
        const ggml_tensor * base  = nullptr;
    };

    const llama_model & model;

    std::shared_ptr<const ggufrope_spec> spec;

    std::unordered_map<const ggml_tensor *, origin> weights; // projections of Q and K

    std::vector<layer_table> layers; // empty until the first graph
    std::vector<std::pair<ggml_context_ptr, ggml_backend_buffer_ptr>> ctxs_bufs;

    void add_weight(const ggml_tensor * weight, rope_role role, uint32_t il);

    origin            find_origin(const ggml_tensor * rope) const;
    std::vector<site> find_sites(ggml_cgraph * gf) const;
    rope_role         split_qkv(const site & s) const;
    void              check_site(const site & s) const;
    void              check_layers(const std::vector<site> & sites) const;

    void allocate(const std::vector<site> & sites);
    void upload(uint32_t il);
    void log() const;
};

// the tables that the file asks for, or null
std::unique_ptr<ggufrope_tables> ggufrope_make_tables(const llama_model & model, const llama_cparams & cparams);

// empty without tables
std::string ggufrope_state_tag(const ggufrope_tables * tables);

// throws if a saved state with this tag was not made with these tables
void ggufrope_check_state_tag(const ggufrope_tables * tables, const std::string & tag);

// attention scale to pass to a K shift: cached keys carry theirs already, it must not be applied again
float ggufrope_shift_attn_factor(const llama_cparams & cparams, float freq_scale);
