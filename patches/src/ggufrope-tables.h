// ggufrope: what one context rotates by
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-length.h"
#include "ggufrope-order.h"
#include "ggufrope-scores.h"
#include "ggufrope-spec.h"
#include "ggufrope-store.h"
#include "ggufrope-stored-k.h"
#include "ggufrope-trace.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

struct llama_cparams;
struct llm_graph_params;

// One table [n_rot/2, n_rows] per layer that wants one: base factors of the layer's own ropes * length row * head factor.
// The base factors (long, short, rope_freqs or none) are only known once a graph exists, so the tables are allocated and
// filled when the first graph of the context is built. Later graphs only refer to them: nothing is uploaded per step,
// only when another length row comes to serve.
//
// The parts: a tracer finds the ropes, a store holds the tables, a length says which row they have, an order which head has
// which ratio, scores measure heads. This puts them together.
struct ggufrope_tables {
    ggufrope_tables(const llama_model & model, const llama_cparams & cparams, std::shared_ptr<const ggufrope_spec> spec);
    ~ggufrope_tables();

    const std::shared_ptr<const ggufrope_spec> spec;

    ggufrope_length length;

    std::unique_ptr<ggufrope_prompt_order> order;  // null: the order of heads is static
    std::unique_ptr<ggufrope_scores>       scores; // null: heads are not scored

    bool        is_placed = false; // true once the devices of the ropes were looked at
    std::string fallback;          // which of them run on another device than their layer, in a sentence

    // from the next graph on, score the heads for the last token of every batch
    void capture_scores(uint32_t n_ctx);

    // finds the ropes of Q and K and points them at their table; throws if a table has no place to go
    void apply(const llm_graph_params & params, ggml_cgraph * gf);

    // those of the last graph, which must still be there
    const std::vector<ggufrope_rope> & get_ropes() const { return served; }

    // true if some layer rotates otherwise than in the plain model
    bool any() const { return has_tables; }

    // true if cached K may have to be rotated anew
    bool follows_length() const;

    // uploads the tables of another row; the caller sees to cached K and to graphs that exist
    void set_length_row(uint32_t row);

    // the table for a K shift of layer il, or null
    ggml_tensor * get(uint32_t il) const { return store.get(il); }

    // false if the graph does not rotate the K of layer il: then a K shift must not do so either
    bool rotates(uint32_t il) const;

    // what layer il rotates by under a length row, where it has a table
    const ggufrope_layer_factors & factors(uint32_t il, uint32_t row) const { return store.factors(il, row); }

    // null if layer il has no table
    const ggufrope_stored_k * get_stored_k(uint32_t il) const;

    std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const;

private:
    const llama_model & model;

    const bool            has_tables;
    const ggufrope_tracer tracer;

    ggufrope_table_store store;

    std::vector<ggufrope_rope> served; // ropes of the last graph that have a table

    std::vector<uint32_t> aliases; // [n_layer_all]: the first layer that runs the same block

    // what the first graph showed, by layer; empty before it
    std::vector<const ggml_tensor *> bases; // factors of the layer's own ropes
    std::vector<ggufrope_stored_k>   stored_k;
    std::vector<bool>                rotating;

    void test_devices(ggml_backend_sched_t sched, const std::vector<ggufrope_rope> & with_table) const;

    // makes the tables for a graph with these ropes of Q and K, of which `with_table` get one
    void bind(ggml_cgraph * gf, const std::vector<ggufrope_rope> & ropes, const std::vector<ggufrope_rope> & with_table);

    std::vector<float> read_base(uint32_t il) const;
};
