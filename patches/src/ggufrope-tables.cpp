// ggufrope: what one context rotates by
// SPDX-License-Identifier: MIT

#include "ggufrope-tables.h"
#include "ggufrope-check.h"
#include "ggufrope-error.h"
#include "ggufrope-graph.h"
#include "ggufrope-selftest.h"

#include "llama-cparams.h"
#include "llama-graph.h"
#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

static const int ROPE_PARAM_ATTN_FACTOR = 8; // see ggml_rope_ext

ggufrope_tables::ggufrope_tables(
        const llama_model & model, const llama_cparams & cparams, std::shared_ptr<const ggufrope_spec> asked) :
    spec(std::move(asked)), length(*spec), model(model), has_tables(spec->has_tables(model.hparams)), tracer(model) {
    ggufrope_check_model(model, *spec); // once more: which layers share a block shows when the tensors are there
    if (spec->order != GGUFROPE_ORDER_STATIC && !spec->head_factors.empty()) {
        order = std::make_unique<ggufrope_prompt_order>(model, cparams, *spec);
    }
    for (uint32_t il = 0; il < model.hparams.n_layer_all; ++il) {
        aliases.push_back(ggufrope_first_alias(model, il));
    }
}

ggufrope_tables::~ggufrope_tables() = default;

void ggufrope_tables::capture_scores(uint32_t n_ctx) {
    scores = std::make_unique<ggufrope_scores>(model, n_ctx);
}

static void log_active(const llama_model & model, const ggufrope_spec & spec) {
    uint32_t n_heads_all = 0, n_heads = 0, n_layers = 0;
    float r_min = INFINITY, r_max = 0.0f;
    const bool by_pair = !spec.pair_factors.empty();
    for (uint32_t il = 0; il < model.hparams.n_layer(); ++il) {
        const uint32_t n_head_kv = model.hparams.n_head_kv(il);
        uint32_t n = 0;
        for (uint32_t h = 0; h < n_head_kv; ++h) {
            bool differs = false;
            for (uint32_t i = 0; i < (by_pair ? model.hparams.n_rot(il)/2 : 1); ++i) {
                const float r = spec.own_factor(il, h, i);
                if (r != 1.0f) {
                    differs = true;
                    r_min = std::min(r_min, r);
                    r_max = std::max(r_max, r);
                }
            }
            n += differs;
        }
        n_heads_all += n_head_kv;
        n_heads     += n;
        n_layers    += n > 0;
    }
    // warnings, because upstream's programs hide what is less, and a rotation of its own is worth a line
    if (n_heads > 0) {
        LLAMA_LOG_WARN("ggufrope: method %s active: %u of %u KV heads on %u of %u layers, ratios %.3f-%.3f%s\n",
            spec.method.c_str(), n_heads, n_heads_all, n_layers, model.hparams.n_layer(), r_min, r_max, by_pair ? ", by pair" : "");
    }
    const auto & rows = spec.length_rows;
    if (rows.size() == 1) {
        LLAMA_LOG_WARN("ggufrope: method %s active: one row of factors for lengths to %u, attention scale %.4f\n",
            spec.method.c_str(), rows[0].point, rows[0].attn_scale);
    } else if (rows.size() > 1) {
        LLAMA_LOG_WARN("ggufrope: method %s active: %zu rows of factors, the first for lengths to %u, the last to %u\n",
            spec.method.c_str(), rows.size(), rows.front().point, rows.back().point);
    }
}

//
// graphs
//

void ggufrope_tables::apply(const llm_graph_params & params, ggml_cgraph * gf) {
    // the next-token-prediction layers have a graph of their own and no tables
    if (params.gtype == LLM_GRAPH_TYPE_DECODER_MTP) {
        return;
    }
    const bool first = rotating.empty();

    std::vector<ggufrope_rope> all, ropes, with_table; // of the graph; those of Q and K; those of layers with a table
    if (has_tables || order || scores) {
        all = tracer.trace(gf);
    }
    if (has_tables) {
        ropes = tracer.select_qk(all);
    }
    for (const auto & rope : ropes) {
        if (!spec->wants_table(rope.il)) {
            continue;
        }
        ggufrope_check_rope(model, *spec, rope);
        if (!first && (get(rope.il) == nullptr || rope.node->src[2] != bases[rope.il])) {
            ggufrope_fail(format("layer %u of architecture %s: rope '%s' was not there, or had other frequency factors, when the context was created",
                rope.il, model.arch_name().c_str(), rope.node->name));
        }
        with_table.push_back(rope);
    }
    if (has_tables) {
        ggufrope_check_layers(model, *spec, aliases, with_table);
    }
    if (first) {
        test_devices(params.sched, with_table);
        bind(gf, ropes, with_table);
    }
    for (const auto & rope : with_table) {
        float attn_factor;
        memcpy(&attn_factor, rope.node->op_params + ROPE_PARAM_ATTN_FACTOR, sizeof(float));
        attn_factor *= factors(rope.il, length.get_row()).attn_scale;
        memcpy(rope.node->op_params + ROPE_PARAM_ATTN_FACTOR, &attn_factor, sizeof(float));

        rope.node->src[2] = get(rope.il);
        ggml_build_forward_expand(gf, rope.node->src[2]);
    }
    served = with_table;

    if (order || scores) {
        const auto pairs = tracer.find_pairs(all);
        ggufrope_graph_edit graph(gf);
        if (order) {
            order->add(params, graph, pairs);
        }
        if (scores) {
            scores->add(params, graph, pairs);
        }
        graph.finish();
    }
    if (first) {
        log_active(model, *spec);
    }
}

// every device that may be given a rope of several rows proves that it can; it must be known before tables are placed
void ggufrope_tables::test_devices(ggml_backend_sched_t sched, const std::vector<ggufrope_rope> & with_table) const {
    std::vector<ggufrope_rope_case> cases;
    for (const auto & rope : with_table) {
        const int64_t n_rows = spec->n_rows(rope.il);
        if (n_rows > 1) {
            cases.push_back(ggufrope_case_like(rope.node, n_rows));
        }
    }
    if (cases.empty()) {
        return;
    }
    std::vector<ggml_backend_dev_t> devices;
    for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); ++i) {
        devices.push_back(ggml_backend_get_device(ggml_backend_sched_get_backend(sched, i)));
    }
    ggufrope_test_devices(devices, cases);
}

void ggufrope_tables::bind(
        ggml_cgraph * gf, const std::vector<ggufrope_rope> & ropes, const std::vector<ggufrope_rope> & with_table) {
    const uint32_t n_layers = model.hparams.n_layer_all;

    stored_k = ggufrope_find_stored_k(gf, with_table, n_layers);
    bases.assign(n_layers, nullptr);
    rotating.assign(n_layers, false);
    for (const auto & rope : ropes) {
        rotating[rope.il] = rotating[rope.il] || rope.role != GGUFROPE_ROLE_Q;
    }
    for (uint32_t il = 0; il < n_layers; ++il) {
        rotating[il] = rotating[aliases[il]];
    }
    if (with_table.empty()) {
        return;
    }

    std::vector<uint32_t> layers; // in the order of the graph
    for (const auto & rope : with_table) {
        bases[rope.il] = rope.node->src[2];
        if (std::find(layers.begin(), layers.end(), rope.il) == layers.end()) {
            layers.push_back(rope.il);
        }
    }
    ggufrope_factor_table values(spec->n_lengths(), n_layers);
    for (uint32_t il = 0; il < n_layers; ++il) {
        if (std::find(layers.begin(), layers.end(), aliases[il]) == layers.end()) {
            continue;
        }
        const auto base = read_base(aliases[il]);
        for (size_t row = 0; row < spec->n_lengths(); ++row) {
            values.at(row, il) = spec->layer_factors(il, row, base);
        }
    }
    store.allocate(model, std::move(values), layers, aliases, [&](ggml_context * ctx, uint32_t il, ggml_tensor * table) {
        if (order) {
            order->add_layer(ctx, il, table);
        }
    });
    std::sort(layers.begin(), layers.end());
    for (const uint32_t il : layers) {
        store.upload(il, length.get_row());
        if (order && !model.hparams.no_alloc) {
            order->upload(il, spec->unit_factors(il, length.get_row(), read_base(il)));
        }
    }
}

// the factors of the layer's own ropes; 1 where they have none
std::vector<float> ggufrope_tables::read_base(uint32_t il) const {
    std::vector<float> res(model.hparams.n_rot(il)/2, 1.0f);
    // LongRoPE: several rows by length replace the choice of short or long factors by the size of the context
    const ggml_tensor * base = bases[il];
    const auto & own = model.layers[il];
    const bool is_choice = base != nullptr && (base == own.rope_long || base == own.rope_short);
    const bool is_chosen = is_choice && spec->is_length_layer(il) && spec->length_rows.size() > 1;
    if (base != nullptr && !is_chosen && !model.hparams.no_alloc) {
        ggml_backend_tensor_get(base, res.data(), 0, res.size()*sizeof(float));
    }
    return res;
}

//
// length, K shifts, states
//

bool ggufrope_tables::follows_length() const {
    return spec->length_rows.size() > 1 && any();
}

void ggufrope_tables::set_length_row(uint32_t row) {
    length.set_row(row);
    for (uint32_t il = 0; il < aliases.size(); ++il) {
        if (get(il) != nullptr && spec->is_length_layer(il)) {
            store.upload(il, row);
        }
    }
}

bool ggufrope_tables::rotates(uint32_t il) const {
    return !any() || il >= rotating.size() || rotating[il];
}

const ggufrope_stored_k * ggufrope_tables::get_stored_k(uint32_t il) const {
    return get(il) ? &stored_k[il] : nullptr;
}

std::map<ggml_backend_buffer_type_t, size_t> ggufrope_tables::memory_breakdown() const {
    std::map<ggml_backend_buffer_type_t, size_t> res;
    store.add_memory(res);
    if (scores) {
        scores->add_memory(res);
    }
    if (order) {
        order->add_memory(res);
    }
    return res;
}
