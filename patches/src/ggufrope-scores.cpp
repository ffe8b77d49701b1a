// ggufrope: how position-aware each head is, measured inside the graph
// SPDX-License-Identifier: MIT
//
// Ms-PoE (arXiv 2403.04797) scores a head by the attention of a prompt's last token, with queries and keys as they are
// before the rotation: the share of keys that get more than three times the mean. One row of attention per head is
// computed, so memory is O(context). Ordinary ops only: any backend can run them, the scheduler decides.

#include "ggufrope-scores.h"
#include "ggufrope-error.h"

#include "llama-batch.h"
#include "llama-graph.h"
#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_set>

static const float OUTLIER = 3.0f; // times the mean

float ggufrope_attention_scale(const llama_hparams & hparams, const ggufrope_graph_edit & graph, const ggufrope_rope_pair & pair) {
    std::unordered_set<const ggml_tensor *> follows = { pair.q };
    float scale = 1.0f;
    for (int i = pair.index_q + 1; i < graph.n_nodes(); ++i) {
        const ggml_tensor * node = graph.node(i);
        const bool hit = std::any_of(node->src, node->src + GGML_MAX_SRC,
            [&](const ggml_tensor * src) { return src != nullptr && follows.count(src) > 0; });
        if (!hit) {
            continue;
        }
        follows.insert(node);
        if (node->op == GGML_OP_SCALE || node->op == GGML_OP_SOFT_MAX || node->op == GGML_OP_FLASH_ATTN_EXT) {
            float factor;
            memcpy(&factor, node->op_params, sizeof(float));
            scale *= factor;
        }
        if (node->op == GGML_OP_SOFT_MAX || node->op == GGML_OP_FLASH_ATTN_EXT) {
            return scale;
        }
    }
    return 1.0f/sqrtf(float(hparams.n_embd_head_k(pair.il)));
}

ggml_tensor * ggufrope_count_outliers(ggml_context * ctx, ggml_tensor * q, ggml_tensor * keys, float scale) {
    const int64_t n_kv  = keys->ne[1];
    const int64_t n     = keys->ne[2];
    const int64_t group = q->ne[1]/n_kv;

    ggml_tensor * last = ggml_view_3d(ctx, q, q->ne[0], group, n_kv, q->nb[1], q->nb[1]*group, (q->ne[2] - 1)*q->nb[2]);
    ggml_tensor * kq   = ggml_mul_mat(ctx, ggml_permute(ctx, keys, 0, 2, 1, 3), last); // [n, group, n_kv]
    ggml_mul_mat_set_prec(kq, GGML_PREC_F32);

    ggml_tensor * attention = ggml_soft_max_ext(ctx, kq, nullptr, scale, 0.0f);
    return ggml_sum_rows(ctx, ggml_step(ctx, ggml_scale_bias(ctx, attention, 1.0f, -OUTLIER/float(n))));
}

// the row of the first token of the batch among the kept keys
uint32_t ggufrope_scores::place(const llm_graph_params & params) const {
    const auto & ubatch = params.ubatch;
    bool all_zero = ubatch.n_tokens > 1;
    bool in_order = true;
    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
        all_zero = all_zero && ubatch.pos[i] == 0;
        in_order = in_order && ubatch.pos[i] == ubatch.pos[0] + (llama_pos) i;
    }
    if (all_zero) {
        return n_ctx - std::min(n_ctx, ubatch.n_tokens); // memory is reserved with such a batch
    }
    if (!in_order || ubatch.pos[0] < 0 || (uint32_t) ubatch.pos[0] > n_keys || ubatch.pos[0] + ubatch.n_tokens > n_ctx) {
        ggufrope_fail(format("scores of heads need one text, read from its start in at most %u tokens without gaps; "
            "found %u tokens at position %d after %u", n_ctx, ubatch.n_tokens, ubatch.pos[0], n_keys));
    }
    return ubatch.pos[0];
}

namespace {

// the place of the keys is part of the graph: it is built anew for every batch
struct batch_watch : llm_graph_input_i {
    explicit batch_watch(uint32_t & n_keys) : n_keys(n_keys) {}

    // only called for batches that are computed, not where memory is reserved
    void set_input(const llama_ubatch * ubatch) override {
        n_keys = ubatch->pos[0] + ubatch->n_tokens;
    }

    uint32_t & n_keys;
};

}

void ggufrope_scores::add(
        const llm_graph_params & params, ggufrope_graph_edit & graph, const std::vector<ggufrope_rope_pair> & pairs) {
    if (layers.empty()) {
        allocate(pairs);
    }
    params.res->add_input(std::make_unique<batch_watch>(n_keys));

    ggml_context * ctx   = params.res->get_ctx();
    const uint32_t begin = place(params);
    for (const auto & pair : pairs) {
        const auto &  layer = layers[pair.il];
        ggml_tensor * q     = pair.q->src[0];
        ggml_tensor * k     = pair.k->src[0];
        if (layer.keys == nullptr) {
            ggufrope_fail(format("layer %u had no rotated Q and K when the context was created", pair.il));
        }
        const float scale = ggufrope_attention_scale(model.hparams, graph, pair);

        ggml_tensor * keys = layer.keys;
        ggml_tensor * kept = ggml_cpy(ctx, k,
            ggml_view_3d(ctx, keys, keys->ne[0], keys->ne[1], k->ne[2], keys->nb[1], keys->nb[2], begin*keys->nb[2]));
        ggml_tensor * seen = ggml_view_3d(ctx, keys, keys->ne[0], keys->ne[1], begin + k->ne[2], keys->nb[1], keys->nb[2], 0);

        ggml_tensor * counts = ggufrope_count_outliers(ctx, q, seen, scale);
        ggml_tensor * out    = ggml_cpy(ctx, ggml_reshape_1d(ctx, counts, ggml_nelements(counts)), layer.counts);

        graph.insert(kept, pair.first);
        graph.insert(out,  pair.first);
    }
}

void ggufrope_scores::allocate(const std::vector<ggufrope_rope_pair> & pairs) {
    if (pairs.empty()) {
        ggufrope_fail(format("architecture %s has no layer whose heads can be scored", model.arch_name().c_str()));
    }
    layers.assign(model.hparams.n_layer_all, {});

    std::map<ggml_backend_buffer_type_t, ggml_context *> ctx_map;
    for (const auto & pair : pairs) {
        ggml_backend_buffer_type_t buft = model.select_buft(pair.il);
        if (ctx_map.count(buft) == 0) {
            ctx_map[buft] = ggml_init({ 2*pairs.size()*ggml_tensor_overhead(), nullptr, true });
            ctxs_bufs.emplace_back(ctx_map[buft], nullptr);
        }
        const ggml_tensor * q = pair.q->src[0];
        const ggml_tensor * k = pair.k->src[0];
        auto & layer = layers[pair.il];
        layer.keys   = ggml_new_tensor_3d(ctx_map[buft], GGML_TYPE_F32, k->ne[0], k->ne[1], n_ctx);
        layer.counts = ggml_new_tensor_1d(ctx_map[buft], GGML_TYPE_F32, q->ne[1]);
        ggml_format_name(layer.keys,   "ggufrope_keys_l%u",   pair.il);
        ggml_format_name(layer.counts, "ggufrope_counts_l%u", pair.il);
    }
    for (auto & [ctx, buf] : ctxs_bufs) {
        for (const auto & [buft, of_buft] : ctx_map) {
            if (of_buft == ctx.get()) {
                buf.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), buft));
            }
        }
        if (!buf) {
            ggufrope_fail(format("no memory for the un-rotated keys of %u tokens", n_ctx));
        }
        ggml_backend_buffer_clear(buf.get(), 0);
    }
}

std::vector<std::vector<float>> ggufrope_scores::get_counts() const {
    if (n_keys == 0) {
        ggufrope_fail("there are no scores yet: nothing was read since scoring was switched on");
    }
    std::vector<std::vector<float>> res;
    for (uint32_t il = 0; il < model.hparams.n_layer_all; ++il) {
        res.emplace_back(model.hparams.n_head(il), NAN);
        if (il < layers.size() && layers[il].counts != nullptr) {
            ggml_backend_tensor_get(layers[il].counts, res[il].data(), 0, res[il].size()*sizeof(float));
        }
    }
    return res;
}

std::vector<float> ggufrope_scores::get() const {
    std::vector<float> res;
    for (const auto & counts : get_counts()) {
        for (float count : counts) {
            res.push_back(count/float(n_keys));
        }
    }
    return res;
}
