// ggufrope: the ropes of Q and K in a compute graph
// SPDX-License-Identifier: MIT
//
// Most of the architectures pass no frequency factors to their ropes, and neither the names of the ropes nor those of
// their inputs can be relied on. What identifies a rope is the weight its input was projected with.

#include "ggufrope-trace.h"
#include "ggufrope-error.h"
#include "ggufrope-spec.h"

#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <algorithm>
#include <map>
#include <utility>

ggufrope_tracer::ggufrope_tracer(const llama_model & model) : model(model) {
    for (uint32_t il = 0; il < model.layers.size(); ++il) {
        if (ggufrope_first_alias(model, il) != il) {
            continue;
        }
        const auto & layer = model.layers[il];
        add_weight(layer.wq,        GGUFROPE_ROLE_Q,   il);
        add_weight(layer.wq_b,      GGUFROPE_ROLE_Q,   il); // MLA
        add_weight(layer.wk,        GGUFROPE_ROLE_K,   il);
        add_weight(layer.wkv_a_mqa, GGUFROPE_ROLE_K,   il); // MLA
        add_weight(layer.wqkv,      GGUFROPE_ROLE_QKV, il);
        add_weight(layer.indexer_attn_q_b, GGUFROPE_ROLE_INDEXER, il);
        add_weight(layer.indexer_attn_k,   GGUFROPE_ROLE_INDEXER, il);
        add_weight(layer.index_q_proj,     GGUFROPE_ROLE_INDEXER, il);
        add_weight(layer.index_k_proj,     GGUFROPE_ROLE_INDEXER, il);
        add_weight(layer.index_k_norm,     GGUFROPE_ROLE_INDEXER, il);
    }
}

void ggufrope_tracer::add_weight(const ggml_tensor * tensor, ggufrope_role role, uint32_t il) {
    if (tensor == nullptr) {
        return;
    }
    auto [it, is_new] = weights.emplace(tensor, weight { role, il });
    if (!is_new) {
        it->second.role = GGUFROPE_ROLE_SHARED;
    }
}

// ops between a projection and its rope that keep heads apart
static bool is_passed_through(enum ggml_op op) {
    switch (op) {
        case GGML_OP_VIEW:
        case GGML_OP_RESHAPE:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
        case GGML_OP_CONT:
        case GGML_OP_CPY:
        case GGML_OP_DUP:
        case GGML_OP_NORM:
        case GGML_OP_RMS_NORM:
        case GGML_OP_L2_NORM:
        case GGML_OP_GROUP_NORM:
        case GGML_OP_ADD:
        case GGML_OP_MUL:
        case GGML_OP_DIV:
        case GGML_OP_SCALE:
        case GGML_OP_CLAMP:
        case GGML_OP_CONCAT:
            return true;
        default:
            return false;
    }
}

ggufrope_rope ggufrope_tracer::find_origin(ggml_tensor * node) const {
    ggufrope_rope res;
    res.node = node;

    std::vector<const ggml_tensor *> todo = { node->src[0] };
    std::vector<const ggml_tensor *> seen; // a handful: a search is quicker than a set
    while (!todo.empty()) {
        const ggml_tensor * t = todo.back();
        todo.pop_back();
        if (t == nullptr || std::find(seen.begin(), seen.end(), t) != seen.end()) {
            continue;
        }
        seen.push_back(t);
        if (t->op == GGML_OP_MUL_MAT) {
            const auto it = weights.find(t->src[0]->view_src ? t->src[0]->view_src : t->src[0]);
            if (it == weights.end()) {
                res.stopped_at = t; // also the A and B of a LoRA, beside the weight
            } else if (res.role == GGUFROPE_ROLE_NONE) {
                res.role = it->second.role;
                res.il   = it->second.il;
            } else if (res.role != it->second.role || res.il != it->second.il) {
                res.role = GGUFROPE_ROLE_SHARED;
            }
        } else if (is_passed_through(t->op)) {
            todo.insert(todo.end(), t->src, t->src + GGML_MAX_SRC);
        } else if (t->op != GGML_OP_NONE) {
            res.stopped_at = t;
        } else if (const auto it = weights.find(t); it != weights.end() && res.role == GGUFROPE_ROLE_NONE) {
            res.role = it->second.role; // the norm of an indexer whose keys come from a cache of their own
            res.il   = it->second.il;
        }
    }
    return res;
}

std::vector<ggufrope_rope> ggufrope_tracer::trace(ggml_cgraph * gf) const {
    std::vector<ggufrope_rope> res;
    for (int i = 0; i < ggml_graph_n_nodes(gf); ++i) {
        ggml_tensor * node = ggml_graph_node(gf, i);
        if (node->op == GGML_OP_ROPE || node->op == GGML_OP_ROPE_BACK) {
            res.push_back(find_origin(node));
            res.back().index = i;
        }
    }
    return res;
}

// for messages: where the way from a rope to its projection ended
static std::string describe(const ggml_tensor * stopped_at) {
    if (stopped_at == nullptr) {
        return "";
    }
    if (stopped_at->op == GGML_OP_MUL_MAT) {
        const ggml_tensor * w = stopped_at->src[0]->view_src ? stopped_at->src[0]->view_src : stopped_at->src[0];
        return format("a product with '%s'", w->name);
    }
    return format("op %s of '%s'", ggml_op_desc(stopped_at), stopped_at->name);
}

std::vector<ggufrope_rope> ggufrope_tracer::select_qk(const std::vector<ggufrope_rope> & ropes) const {
    std::vector<ggufrope_rope> res;
    for (const auto & rope : ropes) {
        switch (rope.role) {
            case GGUFROPE_ROLE_NONE:
                ggufrope_fail(format("architecture %s is not supported: rope '%s' comes from %s, not from a known Q or K projection; "
                    "all factors must be 1", model.arch_name().c_str(), rope.node->name, describe(rope.stopped_at).c_str()));
            case GGUFROPE_ROLE_SHARED:
                ggufrope_fail(format("architecture %s is not supported: rope '%s' comes from a projection that several layers share; "
                    "all factors must be 1", model.arch_name().c_str(), rope.node->name));
            case GGUFROPE_ROLE_INDEXER:
                break;
            default:
                res.push_back(rope);
                res.back().role = split_qkv(rope);
        }
    }
    return res;
}

// Q and K of a fused projection can be told apart where they have different numbers of heads
ggufrope_role ggufrope_tracer::split_qkv(const ggufrope_rope & rope) const {
    const uint32_t n_head    = model.hparams.n_head(rope.il);
    const uint32_t n_head_kv = model.hparams.n_head_kv(rope.il);
    if (rope.role != GGUFROPE_ROLE_QKV || n_head == n_head_kv) {
        return rope.role;
    }
    return rope.node->ne[1] == n_head ? GGUFROPE_ROLE_Q : GGUFROPE_ROLE_K;
}

// where a fused projection was cut: queries come first
static size_t view_offset(const ggml_tensor * t) {
    while (t != nullptr && t->op != GGML_OP_MUL_MAT) {
        if (t->op == GGML_OP_VIEW) {
            return t->view_offs;
        }
        t = t->src[0];
    }
    return 0;
}

std::vector<ggufrope_rope_pair> ggufrope_tracer::find_pairs(const std::vector<ggufrope_rope> & ropes) const {
    const auto & hparams = model.hparams;

    std::map<uint32_t, std::vector<const ggufrope_rope *>> found;
    for (const auto & rope : ropes) {
        const bool is_qk = rope.role == GGUFROPE_ROLE_Q || rope.role == GGUFROPE_ROLE_K || rope.role == GGUFROPE_ROLE_QKV;
        if (is_qk && rope.node->op == GGML_OP_ROPE) {
            found[rope.il].push_back(&rope);
        }
    }

    std::vector<ggufrope_rope_pair> res;
    for (const auto & [il, both] : found) {
        if (both.size() != 2 || il >= hparams.n_layer() || hparams.is_swa(il)) {
            continue;
        }
        const ggufrope_rope * rope_q = both[0];
        const ggufrope_rope * rope_k = both[1];
        const bool fused   = rope_q->role == GGUFROPE_ROLE_QKV;
        const bool k_first = fused ? view_offset(rope_q->node) > view_offset(rope_k->node) : rope_q->role == GGUFROPE_ROLE_K;
        if (k_first) {
            std::swap(rope_q, rope_k);
        }
        const ggml_tensor * q = rope_q->node->src[0];
        const ggml_tensor * k = rope_k->node->src[0];

        const int64_t n_head    = hparams.n_head(il);
        const int64_t n_head_kv = hparams.n_head_kv(il);
        const bool as_expected =
            q->type == GGML_TYPE_F32 && q->ne[1] == n_head    && q->ne[0] == k->ne[0] && q->ne[3] == 1 &&
            k->type == GGML_TYPE_F32 && k->ne[1] == n_head_kv && q->ne[2] == k->ne[2] && k->ne[3] == 1 &&
            n_head % n_head_kv == 0  && rope_q->node->view_src == nullptr && rope_k->node->view_src == nullptr &&
            k->ne[0] == hparams.n_embd_head_k(il) && (fused || rope_q->role != rope_k->role);
        if (as_expected) {
            res.push_back({ il, rope_q->node, rope_k->node, rope_q->index, std::min(rope_q->index, rope_k->index) });
        }
    }
    return res;
}
