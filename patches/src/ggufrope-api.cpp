// ggufrope: the C API, see ggufrope.h
// SPDX-License-Identifier: MIT

#include "ggufrope.h"
#include "ggufrope-context.h"
#include "ggufrope-error.h"
#include "ggufrope-placement.h"
#include "ggufrope-tables.h"

#include "llama-context.h"
#include "llama-impl.h"
#include "llama-memory.h"
#include "llama-model.h"

#include <algorithm>

// Runs what may fail: false and a last error if it did, no last error if it did not.
template <typename function>
static bool guarded(const char * name, const function & body) {
    ggufrope_set_last_error("");
    try {
        body();
        return true;
    } catch (const std::exception & err) {
        ggufrope_set_last_error(err.what());
        LLAMA_LOG_ERROR("%s: %s\n", name, err.what());
        return false;
    }
}

uint32_t ggufrope_api_version(void) {
    return GGUFROPE_API_VERSION;
}

const char * ggufrope_method(const struct llama_model * model) {
    return model->rope_spec ? model->rope_spec->method.c_str() : nullptr;
}

uint32_t ggufrope_n_layers(const struct llama_model * model) {
    return model->hparams.n_layer_all;
}

size_t ggufrope_n_head_factors(const struct llama_model * model) {
    return ggufrope_count_head_factors(model->hparams);
}

size_t ggufrope_head_factors_offset(const struct llama_model * model, uint32_t il) {
    size_t res = 0;
    for (uint32_t i = 0; i < il && i < model->hparams.n_layer_all; ++i) {
        res += model->hparams.n_head_kv(i);
    }
    return res;
}

const char * ggufrope_last_error(void) {
    return ggufrope_get_last_error();
}

bool ggufrope_get_head_factors(struct llama_context * ctx, float * out, size_t n) {
    return guarded(__func__, [&] {
        const size_t expected = ggufrope_n_head_factors(&ctx->get_model());
        if (n != expected) {
            ggufrope_fail(format("head factors: expected an array of %zu values, found %zu", expected, n));
        }
        std::fill(out, out + n, 1.0f);
        const auto * tables = ctx->get_rope().get_tables();
        if (tables != nullptr && !tables->spec->pair_factors.empty()) {
            ggufrope_fail("the factors of heads differ by pair here; call ggufrope_get_pair_factors()");
        }
        if (tables != nullptr) {
            const auto & factors = tables->spec->head_factors;
            ctx->synchronize();
            float * dst = out;
            for (uint32_t il = 0; il < factors.size(); ++il) {
                const auto layer = tables->order ? tables->order->get_ratios(il) : factors[il];
                dst = std::copy(layer.begin(), layer.end(), dst);
            }
        }
    });
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
    if (const auto * old = ctx->get_rope().get_tables()) {
        tables->length.keep_wishes(old->length);
    }
    if (scored) {
        tables->capture_scores(ctx->get_cparams().n_ctx_seq);
    }
    ctx->get_rope().set_tables(std::move(tables));
}

static void check_memory_empty(const struct llama_context * ctx, const char * what) {
    if (!is_memory_empty(ctx)) {
        ggufrope_fail(format("%s while the context's memory is empty; call llama_memory_clear() first", what));
    }
}

bool ggufrope_set_head_factors(struct llama_context * ctx, const float * factors, size_t n) {
    return guarded(__func__, [&] {
        check_memory_empty(ctx, "head factors can only be set");
        const auto * tables = ctx->get_rope().get_tables();
        auto spec = ggufrope_with_head_factors(ctx->get_model(), tables ? tables->spec.get() : nullptr, factors, n);
        replace_tables(ctx, std::move(spec), tables && tables->scores);
    });
}

size_t ggufrope_n_pair_factors(const struct llama_model * model) {
    return ggufrope_count_pair_factors(model->hparams);
}

size_t ggufrope_pair_factors_offset(const struct llama_model * model, uint32_t il) {
    size_t res = 0;
    for (uint32_t i = 0; i < il && i < model->hparams.n_layer_all; ++i) {
        res += model->hparams.n_head_kv(i) * (model->hparams.n_rot(i)/2);
    }
    return res;
}

bool ggufrope_get_pair_factors(struct llama_context * ctx, float * out, size_t n) {
    return guarded(__func__, [&] {
        const auto & model = ctx->get_model();
        const size_t expected = ggufrope_n_pair_factors(&model);
        if (n != expected) {
            ggufrope_fail(format("pair factors: expected an array of %zu values, found %zu", expected, n));
        }
        const auto * tables = ctx->get_rope().get_tables();
        const bool by_pair = tables != nullptr && !tables->spec->pair_factors.empty();
        std::vector<float> heads(ggufrope_n_head_factors(&model));
        if (!by_pair && !ggufrope_get_head_factors(ctx, heads.data(), heads.size())) {
            ggufrope_fail(ggufrope_get_last_error());
        }
        float * dst = out;
        for (uint32_t il = 0; il < model.hparams.n_layer_all; ++il) {
            for (uint32_t h = 0; h < model.hparams.n_head_kv(il); ++h) {
                for (uint32_t i = 0; i < model.hparams.n_rot(il)/2; ++i) {
                    *dst++ = by_pair ? tables->spec->own_factor(il, h, i) : heads[ggufrope_head_factors_offset(&model, il) + h];
                }
            }
        }
    });
}

bool ggufrope_set_pair_factors(struct llama_context * ctx, const float * factors, size_t n) {
    return guarded(__func__, [&] {
        check_memory_empty(ctx, "pair factors can only be set");
        const auto * tables = ctx->get_rope().get_tables();
        auto spec = ggufrope_with_pair_factors(ctx->get_model(), tables ? tables->spec.get() : nullptr, factors, n);
        replace_tables(ctx, std::move(spec), tables && tables->scores);
    });
}

const char * ggufrope_get_head_order(const struct llama_context * ctx) {
    const auto * tables = ctx->get_rope().get_tables();
    return ggufrope_order_name(tables ? tables->spec->order : GGUFROPE_ORDER_STATIC);
}

bool ggufrope_set_head_order(struct llama_context * ctx, const char * order) {
    return guarded(__func__, [&] {
        check_memory_empty(ctx, "the order of heads can only be set");
        const auto * tables = ctx->get_rope().get_tables();
        auto spec = ggufrope_with_order(ctx->get_model(), tables ? tables->spec.get() : nullptr, order ? order : "");
        replace_tables(ctx, std::move(spec), tables && tables->scores);
    });
}

bool ggufrope_capture_scores(struct llama_context * ctx, bool enable) {
    return guarded(__func__, [&] {
        const auto & model  = ctx->get_model();
        const auto * tables = ctx->get_rope().get_tables();
        check_memory_empty(ctx, "scoring of heads can only be switched");
        if (enable && ctx->n_seq_max() != 1) {
            ggufrope_fail(format("heads are scored for one sequence; the context has n_seq_max = %u", ctx->n_seq_max()));
        }
        if (tables == nullptr && !enable) {
            return;
        }
        if (tables != nullptr && !tables->spec->pair_factors.empty()) {
            replace_tables(ctx, tables->spec, enable);
            return;
        }
        std::vector<float> factors(ggufrope_n_head_factors(&model));
        ggufrope_get_head_factors(ctx, factors.data(), factors.size());
        replace_tables(ctx, ggufrope_with_head_factors(model, tables ? tables->spec.get() : nullptr, factors.data(), factors.size()), enable);
    });
}

size_t ggufrope_n_scores(const struct llama_model * model) {
    return ggufrope_scores_offset(model, model->hparams.n_layer_all);
}

size_t ggufrope_scores_offset(const struct llama_model * model, uint32_t il) {
    size_t res = 0;
    for (uint32_t i = 0; i < il && i < model->hparams.n_layer_all; ++i) {
        res += model->hparams.n_head(i);
    }
    return res;
}

bool ggufrope_get_scores(struct llama_context * ctx, float * out, size_t n) {
    return guarded(__func__, [&] {
        const auto * tables = ctx->get_rope().get_tables();
        if (tables == nullptr || tables->scores == nullptr) {
            ggufrope_fail("heads are not scored in this context; call ggufrope_capture_scores() first");
        }
        ctx->synchronize();
        const std::vector<float> scores = tables->scores->get();
        if (n != scores.size()) {
            ggufrope_fail(format("scores: expected an array of %zu values, found %zu", scores.size(), n));
        }
        std::copy(scores.begin(), scores.end(), out);
    });
}

const char * ggufrope_fallback(const struct llama_context * ctx) {
    const auto * tables = ctx->get_rope().get_tables();
    return tables ? tables->fallback.c_str() : "";
}

void ggufrope_set_no_fallback(bool refuse) {
    ggufrope_refuse_fallback(refuse);
}

size_t ggufrope_n_length_rows(const struct llama_model * model) {
    return model->rope_spec ? model->rope_spec->length_rows.size() : 0;
}

uint32_t ggufrope_length_point(const struct llama_model * model, size_t row) {
    return row < ggufrope_n_length_rows(model) ? model->rope_spec->length_rows[row].point : 0;
}

uint32_t ggufrope_get_length_row(const struct llama_context * ctx) {
    const auto * tables = ctx->get_rope().get_tables();
    return tables ? tables->length.get_row() : 0;
}

int32_t ggufrope_get_pending_length_row(const struct llama_context * ctx) {
    const auto * tables = ctx->get_rope().get_tables();
    return tables ? tables->length.pending(!is_memory_empty(ctx)) : -1;
}

bool ggufrope_set_length_row(struct llama_context * ctx, int32_t row) {
    return guarded(__func__, [&] {
        const size_t n = ggufrope_n_length_rows(&ctx->get_model());
        if (row < -1 || row >= (int64_t) n) {
            ggufrope_fail(format("length row: expected one below %zu, or -1, found %d", n, row));
        }
        if (auto * tables = ctx->get_rope().get_tables()) {
            tables->length.pin(row);
        }
    });
}

void ggufrope_set_length_hint(struct llama_context * ctx, uint32_t n_tokens) {
    if (auto * tables = ctx->get_rope().get_tables()) {
        tables->length.hint(n_tokens);
    }
}
