// ggufrope: the ropes of Q and K in a compute graph
// SPDX-License-Identifier: MIT

#pragma once

#include "ggml.h"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

struct llama_model;

enum ggufrope_role {
    GGUFROPE_ROLE_NONE,    // of no projection that is known
    GGUFROPE_ROLE_Q,
    GGUFROPE_ROLE_K,
    GGUFROPE_ROLE_QKV,     // one projection makes Q, K and V
    GGUFROPE_ROLE_INDEXER, // selects keys by itself, its rotation stays as it is
    GGUFROPE_ROLE_SHARED,  // of a projection that several layers share
};

// a rope (or ROPE_BACK), and the projection that its input comes from
struct ggufrope_rope {
    ggml_tensor * node  = nullptr;
    int           index = 0; // of the node in the graph

    ggufrope_role       role       = GGUFROPE_ROLE_NONE;
    uint32_t            il         = 0;
    const ggml_tensor * stopped_at = nullptr; // the last node that could not be followed
};

// the two ropes of a layer whose heads can be scored
struct ggufrope_rope_pair {
    uint32_t      il;
    ggml_tensor * q;
    ggml_tensor * k;

    int index_q; // of the rope of Q in the graph
    int first;   // of the rope that comes first
};

// Looks at graphs, changes nothing: what it says depends on the model's weights and the graph alone.
class ggufrope_tracer {
public:
    explicit ggufrope_tracer(const llama_model & model);

    // all ropes of the graph, in its order
    std::vector<ggufrope_rope> trace(ggml_cgraph * gf) const;

    // of `ropes`, those of Q and K, where a fused projection is told apart if it can be; throws if one is of neither
    std::vector<ggufrope_rope> select_qk(const std::vector<ggufrope_rope> & ropes) const;

    // one pair for each layer whose heads can be scored, by layer
    std::vector<ggufrope_rope_pair> find_pairs(const std::vector<ggufrope_rope> & ropes) const;

private:
    struct weight {
        ggufrope_role role;
        uint32_t      il;
    };

    const llama_model & model;

    std::unordered_map<const ggml_tensor *, weight> weights; // projections of Q and K

    void          add_weight(const ggml_tensor * tensor, ggufrope_role role, uint32_t il);
    ggufrope_rope find_origin(ggml_tensor * node) const;
    ggufrope_role split_qkv(const ggufrope_rope & rope) const;
};
