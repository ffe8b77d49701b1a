// ggufrope: finding the ropes of Q and K in a compute graph
// SPDX-License-Identifier: MIT
//
// Most of the architectures pass no frequency factors to their ropes, and neither the names of the ropes nor those of
// their inputs can be relied on. What identifies a rope is the weight its input was projected with.

#include "ggufrope-order.h"

#include "llama-hparams.h"
#include "llama-graph.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <cstring>
#include <set>

// rope parameters, see ggml_rope_ext
static const int ROPE_PARAM_N_DIMS      = 1;
static const int ROPE_PARAM_ATTN_FACTOR = 8;

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

ggufrope_tables::origin ggufrope_tables::find_origin(const ggml_tensor * rope) const {
    origin res;
    std::vector<const ggml_tensor *> todo = { rope->src[0] };
    std::set<const ggml_tensor *> seen;
    while (!todo.empty()) {
        const ggml_tensor * t = todo.back();
        todo.pop_back();
        if (t == nullptr || !seen.insert(t).second) {
            continue;
        }
        if (t->op == GGML_OP_MUL_MAT) {
            const ggml_tensor * w = t->src[0]->view_src ? t->src[0]->view_src : t->src[0];
            const auto it = weights.find(w);
            if (it == weights.end()) {
                res.stopped_at = format("a product with '%s'", w->name); // also the A and B of a LoRA, beside the weight
            } else if (res.role == ROPE_ROLE_NONE) {
                res = it->second;
            } else if (res.role != it->second.role || res.il != it->second.il) {
                res.role = ROPE_ROLE_SHARED;
            }
        } else if (is_passed_through(t->op)) {
            todo.insert(todo.end(), t->src, t->src + GGML_MAX_SRC);
        } else if (t->op != GGML_OP_NONE) {
            res.stopped_at = format("op %s of '%s'", ggml_op_desc(t), t->name);
        } else if (const auto it = weights.find(t); it != weights.end() && res.role == ROPE_ROLE_NONE) {
            res = it->second; // the norm of an indexer whose keys come from a cache of their own
        }
    }
    return res;
}

std::vector<ggufrope_tables::site> ggufrope_tables::find_sites(ggml_cgraph * gf) const {
    const std::string arch = model.arch_name();

    std::vector<site> res;
    for (int i = 0; i < ggml_graph_n_nodes(gf); ++i) {
        ggml_tensor * node = ggml_graph_node(gf, i);
        if (node->op != GGML_OP_ROPE && node->op != GGML_OP_ROPE_BACK) {
            continue;
        }
        site s = { find_origin(node), node };
        switch (s.from.role) {
            case ROPE_ROLE_NONE:
                ggufrope_fail(format("architecture %s is not supported: rope '%s' comes from %s, not from a known Q or K projection; "
                    "all factors must be 1", arch.c_str(), node->name, s.from.stopped_at.c_str()));
            case ROPE_ROLE_SHARED:
                ggufrope_fail(format("architecture %s is not supported: rope '%s' comes from a projection that several layers share; "
                    "all factors must be 1", arch.c_str(), node->name));
            case ROPE_ROLE_INDEXER:
                break; // selects keys by itself, its rotation stays as it is
            default:
                s.from.role = split_qkv(s);
                res.push_back(s);
        }
    }
    return res;
}

std::vector<ggufrope_tables::site> ggufrope_tables::with_table(const std::vector<site> & sites) const {
    std::vector<site> res;
    for (const auto & s : sites) {
        if (spec->wants_table(s.from.il)) {
            check_site(s);
            res.push_back(s);
        }
    }
    return res;
}

void ggufrope_tables::note_rotating(const std::vector<site> & sites) {
    for (const auto & s : sites) {
        layers[s.from.il].rotates |= s.from.role != ROPE_ROLE_Q;
    }
    for (uint32_t il = 0; il < layers.size(); ++il) {
        layers[il].rotates = layers[ggufrope_first_alias(model, il)].rotates;
    }
}

void ggufrope_tables::check_site(const site & s) const {
    const auto &   hparams = model.hparams;
    const uint32_t il      = s.from.il;
    const int64_t  n_head  = s.rope->ne[1];

    const std::string where = format("layer %u of architecture %s: rope '%s'", il, model.arch_name().c_str(), s.rope->name);
    if (s.rope->op != GGML_OP_ROPE) {
        ggufrope_fail(where + " is undone later, which is not supported");
    }
    const int n_dims = s.rope->op_params[ROPE_PARAM_N_DIMS];
    if (n_dims != (int) hparams.n_rot(il)) {
        ggufrope_fail(format("%s rotates %d dimensions, expected %u", where.c_str(), n_dims, hparams.n_rot(il)));
    }
    if (spec->n_rows(il) > 1 && n_head != hparams.n_head(il) && n_head != hparams.n_head_kv(il)) {
        ggufrope_fail(format("%s has %lld heads, expected %u or %u: only one factor for the whole layer is possible here",
            where.c_str(), (long long) n_head, hparams.n_head(il), hparams.n_head_kv(il)));
    }
    if (spec->n_rows(il) > 1 && hparams.n_head(il) % hparams.n_head_kv(il) != 0) {
        ggufrope_fail(format("%s: %u heads cannot be divided among %u KV heads", where.c_str(), hparams.n_head(il), hparams.n_head_kv(il)));
    }
    const ggml_tensor * base = s.rope->src[2];
    if (base != nullptr && (base->type != GGML_TYPE_F32 || base->ne[0] < n_dims/2 || base->ne[1] != 1 || base->op != GGML_OP_NONE)) {
        ggufrope_fail(where + " has frequency factors of an unexpected shape");
    }
    if (!layers.empty() && (layers[il].table == nullptr || base != layers[il].base)) {
        ggufrope_fail(where + " was not there, or had other frequency factors, when the context was created");
    }
}

// Q and K of a fused projection can be told apart where they have different numbers of heads
ggufrope_tables::rope_role ggufrope_tables::split_qkv(const site & s) const {
    const uint32_t n_head    = model.hparams.n_head(s.from.il);
    const uint32_t n_head_kv = model.hparams.n_head_kv(s.from.il);
    if (s.from.role != ROPE_ROLE_QKV || n_head == n_head_kv) {
        return s.from.role;
    }
    return s.rope->ne[1] == n_head ? ROPE_ROLE_Q : ROPE_ROLE_K;
}

// every layer with a table must rotate both its queries and its keys by it
void ggufrope_tables::check_layers(const std::vector<site> & sites) const {
    struct found_in_layer {
        int n_q = 0, n_k = 0, n_qkv = 0;
        const ggml_tensor * base = nullptr;
    };
    std::vector<found_in_layer> found(model.hparams.n_layer_all);
    for (const auto & s : sites) {
        auto & f = found[s.from.il];
        if (f.n_q + f.n_k + f.n_qkv > 0 && f.base != s.rope->src[2]) {
            ggufrope_fail(format("layer %u of architecture %s: Q and K have different frequency factors",
                s.from.il, model.arch_name().c_str()));
        }
        f.base   = s.rope->src[2];
        f.n_q   += s.from.role == ROPE_ROLE_Q;
        f.n_k   += s.from.role == ROPE_ROLE_K;
        f.n_qkv += s.from.role == ROPE_ROLE_QKV;
    }
    for (uint32_t il = 0; il < model.hparams.n_layer(); ++il) {
        const auto & f     = found[ggufrope_first_alias(model, il)];
        const bool   none  = f.n_q + f.n_k + f.n_qkv == 0;
        const bool   has_k = f.n_k > 0 || ggufrope_k_owner(model.hparams, il) != il; // whose own table is checked
        if (!spec->wants_table(il) || (f.n_q > 0 && has_k) || f.n_qkv >= 2) {
            continue;
        }
        // a length row is for all layers that rotate; head factors name their layers
        if (none && spec->n_rows(il) == 1 && spec->head_factor(il, 0) == 1.0f) {
            continue;
        }
        ggufrope_fail(format("layer %u of architecture %s: %s, so its factors would not apply; set them to 1 for this layer",
            il, model.arch_name().c_str(), none ? "no rotated Q and K found" : "only one of rotated Q and K found"));
    }
}

void ggufrope_tables::apply(const llm_graph_params & params, ggml_cgraph * gf) {
    // the next-token-prediction layers have a graph of their own and no tables
    if (params.gtype == LLM_GRAPH_TYPE_DECODER_MTP) {
        return;
    }
    const bool first = layers.empty();
    if (spec->has_tables(model.hparams)) {
        const auto all   = find_sites(gf);
        const auto sites = with_table(all);
        check_layers(sites);
        if (first) {
            allocate(sites);
            find_stored_k(gf, sites);
            note_rotating(all);
        }
        for (const auto & s : sites) {
            float attn_factor;
            memcpy(&attn_factor, s.rope->op_params + ROPE_PARAM_ATTN_FACTOR, sizeof(float));
            attn_factor *= attn_scale(s.from.il, length_row);
            memcpy(s.rope->op_params + ROPE_PARAM_ATTN_FACTOR, &attn_factor, sizeof(float));

            s.rope->src[2] = layers[s.from.il].table;
            ggml_build_forward_expand(gf, s.rope->src[2]);
        }
    } else if (first) {
        layers.resize(model.hparams.n_layer_all);
    }
    if (order) {
        order->add(params, gf, find_pairs(gf));
    }
    if (scores) {
        scores->add(params, gf, find_pairs(gf));
    }
    if (first) {
        log();
    }
}
