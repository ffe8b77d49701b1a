// ggufrope: what llama_context calls
// SPDX-License-Identifier: MIT

#include "ggufrope-context.h"
#include "ggufrope-error.h"
#include "ggufrope-options.h"
#include "ggufrope-placement.h"
#include "ggufrope-tables.h"
#include "ggufrope-tag.h"

#include "llama-context.h"
#include "llama-cparams.h"
#include "llama-graph.h"
#include "llama-impl.h"
#include "llama-memory.h"
#include "llama-model.h"

ggufrope_context::ggufrope_context(llama_context & ctx) : ctx(ctx) {}

ggufrope_context::~ggufrope_context() = default;

void ggufrope_context::check_params(const llama_context_params & params) const {
    ggufrope_check_params(ctx.model, params, ctx.cparams);
}

void ggufrope_context::make_tables() {
    ggufrope_set_last_error("");
    const auto & model = ctx.model;
    const auto * other = ctx.cparams.ctx_other ? ctx.cparams.ctx_other->rope.get_tables() : nullptr;
    if (model.arch == LLM_ARCH_GEMMA4_ASSISTANT && other && other->any()) {
        ggufrope_fail("this draft model reads the K cache of a model with per-head RoPE factors, which is not supported yet");
    }
    if (model.rope_spec) {
        tables = std::make_unique<ggufrope_tables>(model, ctx.cparams, model.rope_spec);
    }
}

void ggufrope_context::check_placement(const llama_memory_context_i * mctx) {
    if (!tables || !tables->any() || tables->is_placed || ctx.model.hparams.no_alloc) {
        return;
    }
    const uint32_t n_seqs = ctx.cparams.n_seq_max;
    if (!ctx.graph_reserve(n_seqs, n_seqs, n_seqs, mctx, true)) {
        return; // the next graph fails likewise, and it is said there
    }
    const std::string found = ggufrope_find_fallback(ctx.model, ctx.sched.get(), tables->get_ropes());
    if (!found.empty() && ggufrope_refuses_fallback()) {
        ggufrope_fail("--no-fallback: " + found + "; run it without that option, or with these layers on another device (-ngl, --device)");
    }
    if (!found.empty()) {
        LLAMA_LOG_WARN("ggufrope: %s; --no-fallback makes this an error\n", found.c_str());
    }
    tables->fallback  = found;
    tables->is_placed = true;
}

void ggufrope_context::set_tables(std::unique_ptr<ggufrope_tables> others) {
    ctx.synchronize();

    tag.reset();
    tables.swap(others);
    ctx.sched_need_reserve = true;
    try {
        ctx.sched_reserve();
    } catch (...) {
        tables.swap(others);
        ctx.sched_need_reserve = true;
        ctx.sched_reserve();
        throw;
    }
}

std::map<ggml_backend_buffer_type_t, size_t> ggufrope_context::memory_breakdown() const {
    return tables ? tables->memory_breakdown() : std::map<ggml_backend_buffer_type_t, size_t>();
}

//
// batches
//

ggml_cgraph * ggufrope_context::build_graph(const llm_graph_params & params) {
    try {
        return ctx.model.build_graph(params);
    } catch (const std::exception & err) {
        LLAMA_LOG_ERROR("process_ubatch: failed to build graph: %s\n", err.what());
        return nullptr;
    }
}

// The batch is read again after this: it is counted then, and callbacks and samplers see it then. The time is spent on the
// batch, so it counts.
int ggufrope_context::decode_aside(const llama_batch_ext & batch) {
    ctx.synchronize(); // what is queued is counted as it would have been

    const int64_t t_start_us   = ggml_time_us();
    const auto    t_eval_us    = ctx.t_eval_us, t_p_eval_us = ctx.t_p_eval_us;
    const auto    n_eval       = ctx.n_eval,    n_p_eval    = ctx.n_p_eval;
    const auto    n_reused     = ctx.n_reused;
    const auto    cb_eval      = ctx.cparams.cb_eval;
    ctx.cparams.cb_eval = nullptr;

    std::map<llama_seq_id, llama_sampler *> samplers; // drawing numbers in between would change what they draw
    samplers.swap(ctx.sampling.samplers);

    const int ret = ctx.decode(batch);
    ctx.synchronize();

    samplers.swap(ctx.sampling.samplers);
    ctx.cparams.cb_eval = cb_eval;
    ctx.n_reused        = n_reused;
    ctx.n_eval          = n_eval;
    ctx.n_p_eval        = n_p_eval;
    ctx.t_eval_us       = t_eval_us;
    ctx.t_p_eval_us     = t_p_eval_us;

    ctx.t_compute_start_us = ret == 0 ? t_start_us : 0;
    return ret;
}

int ggufrope_context::read_first(const llama_batch_ext & batch) {
    if (!tables || !tables->order || !tables->order->begin_first_pass(batch)) {
        return 0;
    }
    const int ret = decode_aside(batch);
    tables->order->end_first_pass(ret == 0);
    if (ret == 0) {
        ctx.memory->clear(false);
    }
    return ret;
}

bool ggufrope_context::prepare_shift(uint32_t il, ggml_tensor ** factors) const {
    if (!tables) {
        return true;
    }
    if (ggml_tensor * table = tables->get(il)) {
        *factors = table;
    }
    return tables->rotates(il);
}
