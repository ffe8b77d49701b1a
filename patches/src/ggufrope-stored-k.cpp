// ggufrope: how a layer's rotated K gets into its cache
// SPDX-License-Identifier: MIT
//
// Cached K can only be rotated anew if what is cached is what the rope gave, apart from its place: traced back from each
// write to a cache through ops that move values, and the Hadamard rotation of quantized caches, to a rope of K.

#include "ggufrope-stored-k.h"

#include <algorithm>
#include <cstring>

// what a write to a cache was traced back to
struct rope_of_k {
    const ggml_tensor * rope = nullptr;

    int64_t n_embd_head = 0;
    int64_t offset      = 0;
};

static bool is_at_start_of_source(const ggml_tensor * view) {
    const ggml_tensor * src = view->src[0];
    return view->view_offs == (src->view_src ? src->view_offs : 0);
}

static rope_of_k find_rope_of_k(const ggml_tensor * t) {
    switch (t->op) {
        case GGML_OP_ROPE:
            return { t, t->ne[0], 0 };
        case GGML_OP_VIEW:
        case GGML_OP_RESHAPE:
            return is_at_start_of_source(t) ? find_rope_of_k(t->src[0]) : rope_of_k();
        case GGML_OP_CONT:
        case GGML_OP_CPY:
        case GGML_OP_DUP:
        case GGML_OP_REPEAT: // the one rotated part that all heads of an uncompressed MLA share
            return find_rope_of_k(t->src[0]);
        case GGML_OP_MUL_MAT: // the Hadamard matrix is an input
            return t->src[0]->flags & GGML_TENSOR_FLAG_INPUT ? find_rope_of_k(t->src[1]) : rope_of_k();
        case GGML_OP_CONCAT: {
            int64_t offset = 0;
            for (int i = 0; i < 2 && t->op_params[0] == 0; ++i) {
                rope_of_k res = find_rope_of_k(t->src[i]);
                if (res.rope) {
                    return { res.rope, t->ne[0], offset + res.offset };
                }
                offset += t->src[i]->ne[0];
            }
            return {};
        }
        default:
            return {};
    }
}

std::vector<ggufrope_stored_k> ggufrope_find_stored_k(ggml_cgraph * gf, const std::vector<ggufrope_rope> & ropes, size_t n_layers) {
    std::vector<ggufrope_stored_k> res(n_layers);
    for (int i = 0; i < ggml_graph_n_nodes(gf); ++i) {
        const ggml_tensor * node = ggml_graph_node(gf, i);
        if (node->op != GGML_OP_SET_ROWS) {
            continue;
        }
        const rope_of_k found = find_rope_of_k(node->src[0]);
        const auto it = std::find_if(ropes.begin(), ropes.end(), [&](const ggufrope_rope & r) { return r.node == found.rope; });
        if (it == ropes.end()) {
            continue;
        }
        auto & stored = res[it->il];
        stored.cache       = node->view_src;
        stored.n_embd_head = found.n_embd_head;
        stored.offset      = found.offset;
        static_assert(sizeof(stored.rope_params) == sizeof(found.rope->op_params), "ggml's op_params");
        memcpy(stored.rope_params, found.rope->op_params, sizeof(stored.rope_params));
    }
    return res;
}
