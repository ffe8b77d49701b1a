// ggufrope: the frequency factor tables of a context
// SPDX-License-Identifier: MIT

#include "ggufrope-order.h"

#include "llama-context.h"
#include "llama-cparams.h"
#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

ggufrope_tables::ggufrope_tables(
        const llama_model & model, const llama_cparams & cparams, std::shared_ptr<const ggufrope_spec> spec) :
    model(model), spec(std::move(spec)) {
    ggufrope_check_model(model, *this->spec); // once more: which layers share a block shows when the tensors are there
    const auto & rows = this->spec->length_rows;
    if (!rows.empty() && cparams.n_ctx_seq > GGML_PAD(rows.back().point, 256)) { // contexts are padded
        ggufrope_fail(format("a context of %u tokens is longer than the %u that 'ggufrope.length_points' covers; "
            "ask for at most that (-c, n_ctx), or convert with a larger --context", cparams.n_ctx_seq, rows.back().point));
    }
    if (this->spec->order != GGUFROPE_ORDER_STATIC && !this->spec->head_factors.empty()) {
        order = std::make_unique<ggufrope_prompt_order>(model, cparams, *this->spec);
    }
    for (uint32_t il = 0; il < model.layers.size(); ++il) {
        if (ggufrope_first_alias(model, il) != il) {
            continue;
        }
        const auto & layer = model.layers[il];
        add_weight(layer.wq,        ROPE_ROLE_Q,   il);
        add_weight(layer.wq_b,      ROPE_ROLE_Q,   il); // MLA
        add_weight(layer.wk,        ROPE_ROLE_K,   il);
        add_weight(layer.wkv_a_mqa, ROPE_ROLE_K,   il); // MLA
        add_weight(layer.wqkv,      ROPE_ROLE_QKV, il);
        add_weight(layer.indexer_attn_q_b, ROPE_ROLE_INDEXER, il);
        add_weight(layer.indexer_attn_k,   ROPE_ROLE_INDEXER, il);
        add_weight(layer.index_q_proj,     ROPE_ROLE_INDEXER, il);
        add_weight(layer.index_k_proj,     ROPE_ROLE_INDEXER, il);
        add_weight(layer.index_k_norm,     ROPE_ROLE_INDEXER, il);
    }
}

ggufrope_tables::~ggufrope_tables() = default;

void ggufrope_tables::capture_scores(uint32_t n_ctx) {
    scores = std::make_unique<ggufrope_scores>(model, n_ctx);
}

void ggufrope_tables::add_weight(const ggml_tensor * weight, rope_role role, uint32_t il) {
    if (weight == nullptr) {
        return;
    }
    auto [it, is_new] = weights.emplace(weight, origin { role, il, "" });
    if (!is_new) {
        it->second.role = ROPE_ROLE_SHARED;
    }
}

std::unique_ptr<ggufrope_tables> ggufrope_make_tables(const llama_model & model, const llama_cparams & cparams) {
    const ggufrope_tables * other = cparams.ctx_other ? cparams.ctx_other->get_rope_tables() : nullptr;
    if (model.arch == LLM_ARCH_GEMMA4_ASSISTANT && other && other->any()) {
        ggufrope_fail("this draft model reads the K cache of a model with per-head RoPE factors, which is not supported yet");
    }
    return model.rope_spec ? std::make_unique<ggufrope_tables>(model, cparams, model.rope_spec) : nullptr;
}

bool ggufrope_tables::any() const {
    return spec->has_tables(model.hparams);
}

std::string ggufrope_tables::state_tag() const {
    uint64_t hash = 0xcbf29ce484222325; // FNV-1a
    const auto add = [&hash](float value) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof(bits));
        hash = (hash ^ bits) * 0x100000001b3;
    };
    for (uint32_t il = 0; il < model.hparams.n_layer_all; ++il) {
        for (uint32_t h = 0; h < model.hparams.n_head_kv(il); ++h) {
            add(spec->head_factor(il, h));
        }
    }
    for (const auto & row : spec->length_rows) {
        std::for_each(row.factors.begin(), row.factors.end(), add);
        add(row.attn_scale);
        hash = (hash ^ row.point) * 0x100000001b3;
    }
    if (order) {
        add(float(spec->order));
    }
    return any() ? format(" ggufrope:%016llx", (unsigned long long) hash) : "";
}

std::string ggufrope_state_tag(const ggufrope_tables * tables) {
    return tables ? tables->state_tag() : "";
}

void ggufrope_check_state_tag(const ggufrope_tables * tables, const std::string & tag) {
    const std::string expected = ggufrope_state_tag(tables);
    if (tag != expected) {
        ggufrope_fail(format("the saved state was made with other RoPE factors ('%s') than this context has ('%s')",
            tag.c_str(), expected.c_str()));
    }
}

ggml_tensor * ggufrope_tables::get(uint32_t il) const {
    return il < layers.size() ? layers[il].table : nullptr;
}

bool ggufrope_tables::rotates(uint32_t il) const {
    return !any() || il >= layers.size() || layers[il].rotates;
}

std::map<ggml_backend_buffer_type_t, size_t> ggufrope_tables::memory_breakdown() const {
    std::map<ggml_backend_buffer_type_t, size_t> res;
    for (const auto & [ctx, buf] : ctxs_bufs) {
        ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(buf.get());
        res[buft] += model.hparams.no_alloc
            ? ggml_backend_alloc_ctx_tensors_from_buft_size(ctx.get(), buft)
            : ggml_backend_buffer_get_size(buf.get());
    }
    if (scores) {
        scores->add_memory(res);
    }
    if (order) {
        order->add_memory(res);
    }
    return res;
}

void ggufrope_tables::allocate(const std::vector<site> & sites) {
    const auto & hparams = model.hparams;

    layers.assign(hparams.n_layer_all, {});
    for (const auto & s : sites) {
        auto & layer = layers[s.from.il];
        layer.base = s.rope->src[2];
        layer.base_values.assign(hparams.n_rot(s.from.il)/2, 1.0f);
        // LongRoPE: several rows by length replace the choice of short or long factors by the size of the context
        const auto & own = model.layers[s.from.il];
        const bool is_choice = layer.base != nullptr && (layer.base == own.rope_long || layer.base == own.rope_short);
        const bool is_chosen = is_choice && spec->is_length_layer(s.from.il) && spec->length_rows.size() > 1;
        if (layer.base != nullptr && !is_chosen && !hparams.no_alloc) {
            ggml_backend_tensor_get(layer.base, layer.base_values.data(), 0, layer.base_values.size()*sizeof(float));
        }
    }

    std::map<ggml_backend_buffer_type_t, ggml_context *> ctx_map;
    for (const auto & s : sites) {
        auto & layer = layers[s.from.il];
        if (layer.table != nullptr) {
            continue;
        }
        const int64_t n_rows = spec->n_rows(s.from.il);
        ggml_backend_buffer_type_t buft = model.select_buft_rope(s.from.il, n_rows);
        if (ctx_map.count(buft) == 0) {
            ggml_init_params params = {
                /*.mem_size   =*/ 5*hparams.n_layer_all*ggml_tensor_overhead(),
                /*.mem_buffer =*/ NULL,
                /*.no_alloc   =*/ true,
            };
            ctx_map[buft] = ggml_init(params);
            ctxs_bufs.emplace_back(ctx_map[buft], nullptr);
        }
        layer.table = ggml_new_tensor_2d(ctx_map[buft], GGML_TYPE_F32, hparams.n_rot(s.from.il)/2, n_rows);
        ggml_format_name(layer.table, "ggufrope_factors_l%u", s.from.il);
        if (order) {
            order->add_layer(ctx_map[buft], s.from.il, layer.table);
        }
    }

    for (uint32_t il = 0; il < layers.size(); ++il) {
        layers[il] = layers[ggufrope_first_alias(model, il)];
    }

    for (auto & [ctx, buf] : ctxs_bufs) {
        ggml_backend_buffer_type_t buft = nullptr;
        for (const auto & it : ctx_map) {
            buft = it.second == ctx.get() ? it.first : buft;
        }
        if (hparams.no_alloc) {
            buf.reset(ggml_backend_buft_alloc_buffer(buft, 0)); // only sizes are asked for
            for (ggml_tensor * t = ggml_get_first_tensor(ctx.get()); t != nullptr; t = ggml_get_next_tensor(ctx.get(), t)) {
                t->buffer = buf.get();
            }
        } else {
            buf.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), buft));
        }
        if (!buf) {
            ggufrope_fail("failed to allocate the buffer of the RoPE factors");
        }
        ggml_backend_buffer_set_usage(buf.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    }

    for (uint32_t il = 0; il < layers.size() && !hparams.no_alloc; ++il) {
        if (layers[il].table != nullptr && ggufrope_first_alias(model, il) == il) {
            upload(il);
        }
    }
}

void ggufrope_tables::upload(uint32_t il) {
    const auto data = factors(il, length_row);
    ggml_backend_tensor_set(layers[il].table, data.data(), 0, data.size()*sizeof(float));

    if (order) {
        std::vector<float> unit = layers[il].base_values;
        for (size_t i = 0; i < unit.size() && spec->is_length_layer(il); ++i) {
            unit[i] *= spec->length_rows[length_row].factors[i];
        }
        order->upload(il, unit);
    }
}

std::vector<float> ggufrope_tables::factors(uint32_t il, uint32_t row) const {
    std::vector<float> res;
    for (size_t h = 0; h < spec->n_rows(il); ++h) {
        const float r = spec->head_factor(il, h);
        for (size_t i = 0; i < layers[il].base_values.size(); ++i) {
            const float f = spec->is_length_layer(il) ? r*spec->length_rows[row].factors[i] : r;
            res.push_back(layers[il].base_values[i] * f);
        }
    }
    return res;
}

float ggufrope_tables::attn_scale(uint32_t il, uint32_t row) const {
    return spec->is_length_layer(il) ? spec->length_rows[row].attn_scale : 1.0f;
}

void ggufrope_tables::log() const {
    uint32_t n_heads_all = 0, n_heads = 0, n_layers = 0;
    float r_min = INFINITY, r_max = 0.0f;
    for (uint32_t il = 0; il < model.hparams.n_layer(); ++il) {
        const uint32_t n_head_kv = model.hparams.n_head_kv(il);
        uint32_t n = 0;
        for (uint32_t h = 0; h < n_head_kv; ++h) {
            const float r = spec->head_factor(il, h);
            if (r != 1.0f) {
                n += 1;
                r_min = std::min(r_min, r);
                r_max = std::max(r_max, r);
            }
        }
        n_heads_all += n_head_kv;
        n_heads     += n;
        n_layers    += n > 0;
    }
    // warnings, because upstream's programs hide what is less, and a rotation of its own is worth a line
    if (n_heads > 0) {
        LLAMA_LOG_WARN("ggufrope: method %s active: %u of %u KV heads on %u of %u layers, ratios %.3f-%.3f\n",
            spec->method.c_str(), n_heads, n_heads_all, n_layers, model.hparams.n_layer(), r_min, r_max);
    }
    const auto & rows = spec->length_rows;
    if (rows.size() == 1) {
        LLAMA_LOG_WARN("ggufrope: method %s active: one row of factors for lengths to %u, attention scale %.4f\n",
            spec->method.c_str(), rows[0].point, rows[0].attn_scale);
    } else if (rows.size() > 1) {
        LLAMA_LOG_WARN("ggufrope: method %s active: %zu rows of factors, the first for lengths to %u, the last to %u\n",
            spec->method.c_str(), rows.size(), rows.front().point, rows.back().point);
    }
    if (n_heads == 0 && rows.empty()) {
        LLAMA_LOG_INFO("ggufrope: method %s: the model's standard keys serve it\n", spec->method.c_str());
    }
}

float ggufrope_shift_attn_factor(const llama_cparams & cparams, float freq_scale) {
    // the kernel multiplies by this when YaRN is on
    return cparams.yarn_ext_factor != 0.0f ? 1.0f/(1.0f + 0.1f*logf(1.0f/freq_scale)) : 1.0f;
}
