// ggufrope: the C API, see ggufrope.h
// SPDX-License-Identifier: MIT

#include "ggufrope.h"
#include "ggufrope-impl.h"

#include "llama-context.h"
#include "llama-impl.h"
#include "llama-memory.h"
#include "llama-model.h"

#include <algorithm>

uint32_t ggufrope_api_version(void) {
    return GGUFROPE_API_VERSION;
}

const char * ggufrope_method(const struct llama_model * model) {
    return model->rope_spec ? model->rope_spec->method.c_str() : nullptr;
}

size_t ggufrope_n_head_factors(const struct llama_model * model) {
    return ggufrope_count_head_factors(model->hparams);
}

const char * ggufrope_last_error(void) {
    return ggufrope_get_last_error();
}

bool ggufrope_get_head_factors(const struct llama_context * ctx, float * out, size_t n) {
    const size_t expected = ggufrope_n_head_factors(&ctx->get_model());
    if (n != expected) {
        ggufrope_set_last_error(format("head factors: expected room for %zu values, found %zu", expected, n));
        return false;
    }
    std::fill(out, out + n, 1.0f);
    const ggufrope_tables * tables = ctx->get_rope_tables();
    if (tables != nullptr) {
        for (const auto & layer : tables->get_spec().head_factors) {
            out = std::copy(layer.begin(), layer.end(), out);
        }
    }
    return true;
}

static bool is_memory_empty(const struct llama_context * ctx) {
    const llama_memory_t memory = ctx->get_memory();
    for (uint32_t s = 0; memory != nullptr && s < ctx->n_seq_max(); ++s) {
        if (memory->seq_pos_max(s) >= 0) {
            return false;
        }
    }
    return true;
}

bool ggufrope_set_head_factors(struct llama_context * ctx, const float * factors, size_t n) {
    try {
        if (!is_memory_empty(ctx)) {
            ggufrope_fail("head factors can only be set while the context's memory is empty; call llama_memory_clear() first");
        }
        const auto & model  = ctx->get_model();
        const auto * tables = ctx->get_rope_tables();
        auto spec = ggufrope_with_head_factors(model, tables ? &tables->get_spec() : nullptr, factors, n);
        ctx->set_rope_tables(std::make_unique<ggufrope_tables>(model, ctx->get_cparams(), std::move(spec)));
        return true;
    } catch (const std::exception & err) {
        ggufrope_set_last_error(err.what());
        LLAMA_LOG_ERROR("%s: %s\n", __func__, err.what());
        return false;
    }
}
