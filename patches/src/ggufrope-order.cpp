// ggufrope: ratios of heads that follow the prompt
// SPDX-License-Identifier: MIT

#include "ggufrope-order.h"
#include "ggufrope-error.h"

#include "llama-batch.h"
#include "llama-cparams.h"
#include "llama-graph.h"
#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <algorithm>
#include <cstring>
#include <numeric>

ggufrope_prompt_order::ggufrope_prompt_order(
        const llama_model & model, const llama_cparams & cparams, const ggufrope_spec & spec) :
    model(model), spec(spec),
    n_ctx(cparams.n_ctx_seq), n_batch(cparams.n_batch), n_ubatch(cparams.n_ubatch), layers(model.hparams.n_layer_all) {
    if (cparams.n_seq_max > 1) {
        ggufrope_fail(format("'ggufrope.head_order' is per-prompt, which serves one sequence at a time, and this context is made "
            "for %u; start it for one (--parallel 1), or use --override-kv ggufrope.head_order=str:static", cparams.n_seq_max));
    }
}

void ggufrope_prompt_order::add_layer(ggml_context * ctx, uint32_t il, ggml_tensor * table) {
    if (table->ne[1] == 1) {
        return; // its ratios are all the same
    }
    const int64_t n_kv = table->ne[1];
    auto & layer = layers[il];
    layer.table  = table;
    layer.unit   = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, table->ne[0], n_kv);
    layer.steps  = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 1, n_kv);
    layer.ratios = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 1, n_kv);
    layer.minus  = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, n_kv);
}

std::vector<float> ggufrope_prompt_order::sorted(uint32_t il) const {
    std::vector<float> res = spec.head_factors[il];
    std::sort(res.begin(), res.end());
    return res;
}

void ggufrope_prompt_order::upload(uint32_t il, const std::vector<float> & unit) {
    auto & layer = layers[il];
    if (layer.table == nullptr) {
        return;
    }
    layer.unit_row = unit;
    const size_t n_kv = layer.table->ne[1];

    std::vector<float> rows, minus;
    for (size_t h = 0; h < n_kv; ++h) {
        rows.insert(rows.end(), unit.begin(), unit.end());
        minus.push_back(-float(h));
    }
    ggml_backend_tensor_set(layer.unit,  rows.data(),       0, ggml_nbytes(layer.unit));
    ggml_backend_tensor_set(layer.minus, minus.data(),      0, ggml_nbytes(layer.minus));
    ggml_backend_tensor_set(layer.steps, sorted(il).data(), 0, ggml_nbytes(layer.steps));
    set_ratios(il, spec.head_factors[il]);
}

void ggufrope_prompt_order::set_ratios(uint32_t il, const std::vector<float> & ratios) {
    const auto & layer = layers[il];

    std::vector<float> data;
    for (float r : ratios) {
        for (float u : layer.unit_row) {
            data.push_back(u*r);
        }
    }
    ggml_backend_tensor_set(layer.ratios, ratios.data(), 0, ggml_nbytes(layer.ratios));
    ggml_backend_tensor_set(layer.table,  data.data(),   0, ggml_nbytes(layer.table));
}

std::vector<float> ggufrope_prompt_order::get_ratios(uint32_t il) const {
    std::vector<float> res = spec.head_factors[il];
    if (layers[il].table != nullptr) {
        ggml_backend_tensor_get(layers[il].ratios, res.data(), 0, ggml_nbytes(layers[il].ratios));
    }
    return res;
}

std::string ggufrope_prompt_order::get_state() const {
    std::string res;
    for (uint32_t il = 0; il < layers.size(); ++il) {
        if (layers[il].table != nullptr) {
            const std::vector<float> ratios = get_ratios(il);
            res.append((const char *) ratios.data(), ratios.size()*sizeof(float));
        }
    }
    return res;
}

void ggufrope_prompt_order::set_state(const std::string & state) {
    size_t offset = 0;
    std::vector<std::vector<float>> found(layers.size());
    for (uint32_t il = 0; il < layers.size(); ++il) {
        if (layers[il].table != nullptr) {
            found[il].resize(layers[il].table->ne[1]);
            const size_t size = found[il].size()*sizeof(float);
            if (offset + size > state.size()) {
                break;
            }
            memcpy(found[il].data(), state.data() + offset, size);
            auto values = found[il];
            std::sort(values.begin(), values.end());
            if (values != sorted(il)) {
                ggufrope_fail(format("the saved state's order of heads in layer %u is none of this model's ratios", il));
            }
            offset += size;
        }
    }
    if (offset != state.size() || get_state().size() != state.size()) {
        ggufrope_fail(format("the saved state has %zu bytes of head order, expected %zu", state.size(), get_state().size()));
    }
    for (uint32_t il = 0; il < layers.size(); ++il) {
        if (layers[il].table != nullptr) {
            set_ratios(il, found[il]);
        }
    }
}

//
// in the graph
//

ggufrope_prompt_order::order_step ggufrope_prompt_order::step_of(const llama_ubatch & ubatch) const {
    if (in_first_pass) {
        return STEP_SCORE;
    }
    return ubatch.pos[0] == 0 && !is_taken ? STEP_ORDER : STEP_KEEP;
}

// a graph that only uses the order may be used again for another batch that does
struct order_watch : llm_graph_input_i {
    order_watch(const ggufrope_prompt_order & order, bool keeps) : order(order), keeps(keeps) {}

    void set_input(const llama_ubatch *) override {}

    bool can_reuse(const llm_graph_params & params) override {
        return keeps && order.step_of(params.ubatch) == ggufrope_prompt_order::STEP_KEEP;
    }

    const ggufrope_prompt_order & order;
    const bool keeps;
};

// the layer's table for the prompt in this graph; also written to where later graphs find it
ggml_tensor * ggufrope_prompt_order::build(
        ggml_context * ctx, const ggufrope_graph_edit & graph, const ggufrope_rope_pair & pair) const {
    const auto &  layer = layers[pair.il];
    const int64_t n_kv  = layer.table->ne[1];

    const float   scale  = ggufrope_attention_scale(model.hparams, graph, pair);
    ggml_tensor * counts = ggufrope_count_outliers(ctx, pair.q->src[0], pair.k->src[0], scale); // [1, group, n_kv]
    counts = ggml_sum_rows(ctx, ggml_reshape_2d(ctx, counts, counts->ne[1], n_kv));

    // whole numbers, exact in f32: of heads with equal counts the first one comes first, as in a stable sort
    ggml_tensor * keys  = ggml_add(ctx, ggml_scale(ctx, ggml_reshape_1d(ctx, counts, n_kv), float(n_kv)), layer.minus);
    ggml_tensor * order = ggml_argsort(ctx, keys, GGML_SORT_ORDER_DESC);

    // the program reads argsort as if it were each head's rank; the paper's text means the rank
    ggml_tensor * ratios = spec.order == GGUFROPE_ORDER_PROMPT_RANK
        ? ggml_set_rows(ctx, layer.ratios, layer.steps, order)
        : ggml_cpy(ctx, ggml_get_rows(ctx, layer.steps, order), layer.ratios);

    return ggml_cpy(ctx, ggml_mul(ctx, layer.unit, ratios), layer.table);
}

void ggufrope_prompt_order::add(
        const llm_graph_params & params, ggufrope_graph_edit & graph, const std::vector<ggufrope_rope_pair> & pairs) {
    const order_step step = step_of(params.ubatch);
    params.res->add_input(std::make_unique<order_watch>(*this, step == STEP_KEEP));
    if (step == STEP_SCORE) {
        scores->add(params, graph, pairs);
    }
    if (step != STEP_ORDER) {
        return;
    }
    std::vector<bool> done(layers.size());
    for (const auto & pair : pairs) {
        if (layers[pair.il].table != nullptr) {
            ggml_tensor * table = build(params.res->get_ctx(), graph, pair);
            graph.insert(table, pair.first);
            pair.q->src[2] = table;
            pair.k->src[2] = table;
            done[pair.il]  = true;
        }
    }
    for (uint32_t il = 0; il < layers.size(); ++il) {
        if (layers[il].table != nullptr && !done[il]) {
            ggufrope_fail(format("layer %u of architecture %s: its heads cannot be scored, so they cannot be ordered for each "
                "prompt; convert with one ratio for this layer, or with a static order", il, model.arch_name().c_str()));
        }
    }
}

//
// prompts of several ubatches
//

bool ggufrope_prompt_order::begin_first_pass(const llama_batch_ext & batch) {
    const bool any = std::any_of(layers.begin(), layers.end(), [](const layer & l) { return l.table != nullptr; });
    if (in_first_pass || !any) {
        return false; // this is it, or there is nothing to hand out
    }
    is_taken = false;
    const uint32_t n     = batch.tokens.size();
    const bool     start = n > 0 && batch.tokens[0].pos[0] == 0;
    if (!start && n > 1 && n_started == n_batch && batch.tokens[0].pos[0] == (llama_pos) n_batch) {
        LLAMA_LOG_WARN("ggufrope: the prompt is longer than a batch: its first %u tokens decided the order of heads; "
            "--batch-size sets how many are read at once\n", n_batch);
    }
    n_started = start ? n : 0;
    if (!start || n <= n_ubatch) {
        return false;
    }
    for (uint32_t il = 0; il < layers.size(); ++il) {
        if (layers[il].table != nullptr) {
            set_ratios(il, spec.head_factors[il]);
        }
    }
    scores = std::make_unique<ggufrope_scores>(model, n_ctx);
    in_first_pass = true;
    return true;
}

void ggufrope_prompt_order::end_first_pass(bool ok) {
    in_first_pass = false;
    if (ok) {
        const auto counts = scores->get_counts();
        for (uint32_t il = 0; il < layers.size(); ++il) {
            if (layers[il].table == nullptr) {
                continue;
            }
            const size_t n_kv  = layers[il].table->ne[1];
            const size_t group = counts[il].size()/n_kv;
            std::vector<float> sums(n_kv);
            for (size_t h = 0; h < n_kv; ++h) {
                sums[h] = std::accumulate(counts[il].begin() + h*group, counts[il].begin() + (h + 1)*group, 0.0f);
            }
            std::vector<size_t> best_first(n_kv);
            std::iota(best_first.begin(), best_first.end(), 0);
            std::stable_sort(best_first.begin(), best_first.end(), [&](size_t a, size_t b) { return sums[a] > sums[b]; });

            const auto steps = sorted(il);
            std::vector<float> ratios(n_kv);
            for (size_t i = 0; i < n_kv; ++i) {
                if (spec.order == GGUFROPE_ORDER_PROMPT_RANK) {
                    ratios[best_first[i]] = steps[i];
                } else {
                    ratios[i] = steps[best_first[i]];
                }
            }
            set_ratios(il, ratios);
        }
        is_taken = true;
    }
    scores.reset();
}

void ggufrope_prompt_order::add_memory(std::map<ggml_backend_buffer_type_t, size_t> & sizes) const {
    if (scores) {
        scores->add_memory(sizes);
    }
}
