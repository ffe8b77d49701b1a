// ggufrope: the frequency factor tables of a context
// SPDX-License-Identifier: MIT

#include "ggufrope-impl.h"

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
    const uint32_t n_ctx_max = GGML_PAD(this->spec->length_point, 256); // contexts are padded
    if (!this->spec->length_factors.empty() && cparams.n_ctx_seq > n_ctx_max) {
        ggufrope_fail(format("a context of %u tokens is longer than the %u that 'ggufrope.length_points' covers",
            cparams.n_ctx_seq, this->spec->length_point));
    }
    for (uint32_t il = 0; il < model.layers.size(); ++il) {
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
    }
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
    for (float f : spec->length_factors) {
        add(f);
    }
    add(spec->length_attn_scale);
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

std::map<ggml_backend_buffer_type_t, size_t> ggufrope_tables::memory_breakdown() const {
    std::map<ggml_backend_buffer_type_t, size_t> res;
    for (const auto & [ctx, buf] : ctxs_bufs) {
        ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(buf.get());
        res[buft] += model.hparams.no_alloc
            ? ggml_backend_alloc_ctx_tensors_from_buft_size(ctx.get(), buft)
            : ggml_backend_buffer_get_size(buf.get());
    }
    return res;
}

void ggufrope_tables::allocate(const std::vector<site> & sites) {
    const auto & hparams = model.hparams;

    layers.assign(hparams.n_layer_all, {});
    for (const auto & s : sites) {
        layers[s.from.il].base = s.rope->src[2];
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
                /*.mem_size   =*/ hparams.n_layer_all*ggml_tensor_overhead(),
                /*.mem_buffer =*/ NULL,
                /*.no_alloc   =*/ true,
            };
            ctx_map[buft] = ggml_init(params);
            ctxs_bufs.emplace_back(ctx_map[buft], nullptr);
        }
        layer.table = ggml_new_tensor_2d(ctx_map[buft], GGML_TYPE_F32, hparams.n_rot(s.from.il)/2, n_rows);
        ggml_format_name(layer.table, "ggufrope_factors_l%u", s.from.il);
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
        if (layers[il].table != nullptr) {
            upload(il);
        }
    }
}

void ggufrope_tables::upload(uint32_t il) {
    const auto & layer = layers[il];
    const size_t n     = layer.table->ne[0];
    const size_t n_row = layer.table->ne[1];

    std::vector<float> base(n, 1.0f);
    if (layer.base != nullptr) {
        ggml_backend_tensor_get(layer.base, base.data(), 0, n*sizeof(float));
    }

    std::vector<float> data(n*n_row);
    for (size_t row = 0; row < n_row; ++row) {
        const float r = spec->head_factor(il, row);
        for (size_t i = 0; i < n; ++i) {
            data[row*n + i] = base[i] * (spec->length_factors.empty() ? r : r*spec->length_factors[i]);
        }
    }
    ggml_backend_tensor_set(layer.table, data.data(), 0, data.size()*sizeof(float));
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
    if (!spec->length_factors.empty()) {
        LLAMA_LOG_WARN("ggufrope: method %s active: one row of factors for lengths to %u, attention scale %.4f\n",
            spec->method.c_str(), spec->length_point, spec->length_attn_scale);
    }
    if (n_heads == 0 && spec->length_factors.empty()) {
        LLAMA_LOG_INFO("ggufrope: method %s: the model's standard keys serve it\n", spec->method.c_str());
    }
}

float ggufrope_shift_attn_factor(const llama_cparams & cparams, float freq_scale) {
    // the kernel multiplies by this when YaRN is on
    return cparams.yarn_ext_factor != 0.0f ? 1.0f/(1.0f + 0.1f*logf(1.0f/freq_scale)) : 1.0f;
}
