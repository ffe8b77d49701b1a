// ggufrope: adding nodes to a compute graph that is built already
// SPDX-License-Identifier: MIT

#pragma once

#include "ggml.h"

#include <vector>

// Nodes go in front of a node that is there. They are collected, and the graph is put in order once, when all are known:
// to do it for each would look at the whole graph for each layer, at every step.
class ggufrope_graph_edit {
public:
    explicit ggufrope_graph_edit(ggml_cgraph * gf) : gf(gf), n_old(ggml_graph_n_nodes(gf)) {}

    // adds `node` and what it needs in front of the node that is number `before`; of several, the first stays first
    void insert(ggml_tensor * node, int before);

    // number `index` before anything was added
    ggml_tensor * node(int index) const { return ggml_graph_node(gf, index); }

    int n_nodes() const { return n_old; }

    // puts the graph in order
    void finish();

private:
    // new nodes, which ggml has put at the end of the graph
    struct insertion {
        int before;
        int begin, end;
    };

    ggml_cgraph * gf;
    const int     n_old;

    std::vector<insertion> insertions;
};
