// ggufrope: the C API, see ggufrope.h
// SPDX-License-Identifier: MIT

#include "ggufrope.h"
#include "ggufrope-order.h"

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

bool ggufrope_get_head_factors(struct llama_context * ctx, float * out, size_t n) {
    const size_t expected = ggufrope_n_head_factors(&ctx->get_model());
    if (n != expected) {
        ggufrope_set_last_error(format("head factors: expected room for %zu values, found %zu", expected, n));
        return false;
    }
    std::fill(out, out + n, 1.0f);
    const ggufrope_tables * tables = ctx->get_rope_tables();
    if (tables != nullptr) {
        const auto & factors = tables->get_spec().head_factors;
        ctx->synchronize();
        for (uint32_t il = 0; il < factors.size(); ++il) {
            const auto layer = tables->get_order() ? tables->get_order()->get_ratios(il) : factors[il];
            out = std::copy(layer.begin(), layer.end(), out);
        }
    }
    return true;
}

static bool is_memory_empty(const struct llama_context * ctx) {
    const llama_memory_t memory = ctx->get_memory();
    const uint32_t n_seq = ctx->get_cparams().kv_unified ? LLAMA_MAX_SEQ : ctx->n_seq_max(); // what decode takes
    for (uint32_t s = 0; memory != nullptr && s < n_seq; ++s) {
        if (memory->seq_pos_max(s) >= 0) {
            return false;
        }
    }
    return true;
}

static void replace_tables(struct llama_context * ctx, std::shared_ptr<const ggufrope_spec> spec, bool scored) {
    auto tables = std::make_unique<ggufrope_tables>(ctx->get_model(), ctx->get_cparams(), std::move(spec));
    if (const auto * old = ctx->get_rope_tables()) {
        tables->wishes = old->wishes;
    }
    if (scored) {
        tables->capture_scores(ctx->get_cparams().n_ctx_seq);
    }
    ctx->set_rope_tables(std::move(tables));
}

bool ggufrope_set_head_factors(struct llama_context * ctx, const float * factors, size_t n) {
    try {
        if (!is_memory_empty(ctx)) {
            ggufrope_fail("head factors can only be set while the context's memory is empty; call llama_memory_clear() first");
        }
        const auto & model  = ctx->get_model();
        const auto * tables = ctx->get_rope_tables();
        auto spec = ggufrope_with_head_factors(model, tables ? &tables->get_spec() : nullptr, factors, n);
        replace_tables(ctx, std::move(spec), tables && tables->get_scores());
        return true;
    } catch (const std::exception & err) {
        ggufrope_set_last_error(err.what());
        LLAMA_LOG_ERROR("%s: %s\n", __func__, err.what());
        return false;
    }
}

bool ggufrope_capture_scores(struct llama_context * ctx, bool enable) {
    try {
        const auto & model  = ctx->get_model();
        const auto * tables = ctx->get_rope_tables();
        if (!is_memory_empty(ctx)) {
            ggufrope_fail("scoring of heads can only be switched while the context's memory is empty; call llama_memory_clear() first");
        }
        if (enable && ctx->n_seq_max() != 1) {
            ggufrope_fail(format("heads are scored for one sequence; the context has n_seq_max = %u", ctx->n_seq_max()));
        }
        if (tables == nullptr && !enable) {
            return true;
        }
        std::vector<float> factors(ggufrope_n_head_factors(&model));
        ggufrope_get_head_factors(ctx, factors.data(), factors.size());
        replace_tables(ctx, ggufrope_with_head_factors(model, tables ? &tables->get_spec() : nullptr, factors.data(), factors.size()), enable);
        return true;
    } catch (const std::exception & err) {
        ggufrope_set_last_error(err.what());
        LLAMA_LOG_ERROR("%s: %s\n", __func__, err.what());
        return false;
    }
}

size_t ggufrope_n_scores(const struct llama_model * model) {
    size_t n = 0;
    for (uint32_t il = 0; il < model->hparams.n_layer_all; ++il) {
        n += model->hparams.n_head(il);
    }
    return n;
}

bool ggufrope_get_scores(struct llama_context * ctx, float * out, size_t n) {
    try {
        const auto * tables = ctx->get_rope_tables();
        if (tables == nullptr || tables->get_scores() == nullptr) {
            ggufrope_fail("heads are not scored in this context; call ggufrope_capture_scores() first");
        }
        ctx->synchronize();
        const std::vector<float> scores = tables->get_scores()->get();
        if (n != scores.size()) {
            ggufrope_fail(format("scores: expected room for %zu values, found %zu", scores.size(), n));
        }
        std::copy(scores.begin(), scores.end(), out);
        return true;
    } catch (const std::exception & err) {
        ggufrope_set_last_error(err.what());
        return false;
    }
}
