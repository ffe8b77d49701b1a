// ggufrope: what llama_context calls
// SPDX-License-Identifier: MIT

#include "ggufrope-context.h"
#include "ggufrope-error.h"
#include "ggufrope-rerotate.h"
#include "ggufrope-tables.h"

#include "llama-context.h"
#include "llama-cparams.h"
#include "llama-graph.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-memory.h"
#include "llama-model.h"

ggufrope_context::ggufrope_context(llama_context & ctx) : ctx(ctx) {}

ggufrope_context::~ggufrope_context() = default;

void ggufrope_context::make_tables() {
    const auto & model = ctx.model;
    const auto * other = ctx.cparams.ctx_other ? ctx.cparams.ctx_other->rope.get_tables() : nullptr;
    if (model.arch == LLM_ARCH_GEMMA4_ASSISTANT && other && other->any()) {
        ggufrope_fail("this draft model reads the K cache of a model with per-head RoPE factors, which is not supported yet");
    }
    if (model.rope_spec) {
        tables = std::make_unique<ggufrope_tables>(model, ctx.cparams, model.rope_spec);
    }
}

void ggufrope_context::set_tables(std::unique_ptr<ggufrope_tables> others) {
    ctx.synchronize();

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

int ggufrope_context::read_first(const llama_batch_ext & batch) {
    if (!tables || !tables->order || !tables->order->begin_first_pass(batch)) {
        return 0;
    }
    const int ret = ctx.decode(batch);
    ctx.synchronize();
    tables->order->end_first_pass(ret == 0);
    if (ret == 0) {
        ctx.memory->clear(false);
    }
    return ret;
}

bool ggufrope_context::prepare_shift(uint32_t il, float freq_scale, ggml_tensor ** factors, float * attn_factor) const {
    if (!tables) {
        return true;
    }
    if (ggml_tensor * table = tables->get(il)) {
        *factors = table;
    }
    // cached keys carry their attention scale already, it must not be applied again
    *attn_factor = ggufrope_attn_factor(1.0f, ctx.cparams.yarn_ext_factor, freq_scale);
    return tables->rotates(il);
}

//
// saved states
//

std::string ggufrope_context::state_tag() const {
    return tables ? tables->state_tag() : "";
}

void ggufrope_context::write_state(llama_io_write_i & io) const {
    if (tables && tables->follows_length()) {
        const uint32_t row = tables->length.get_row();
        io.write(&row, sizeof(row));
    }
    if (tables && tables->order) {
        io.write_string(tables->order->get_state());
    }
}

void ggufrope_context::read_state(llama_io_read_i & io) {
    uint32_t row = 0;
    if (tables && tables->follows_length()) {
        io.read(&row, sizeof(row));
        const size_t n_rows = tables->spec->length_rows.size();
        if (row >= n_rows) {
            ggufrope_fail(format("the saved state was made with length row %u, there are %zu", row, n_rows));
        }
    }
    row_read = row;
    if (tables && tables->order) {
        std::string state;
        io.read_string(state);
        tables->order->set_state(state);
    }
}

void ggufrope_context::write_seq_state(llama_io_write_i & io) const {
    const std::string tag = state_tag();
    if (!tag.empty()) {
        io.write_string(tag);
        write_state(io);
    }
}

void ggufrope_context::read_seq_state(llama_io_read_i & io) {
    const std::string expected = state_tag();
    if (expected.empty()) {
        return;
    }
    std::string tag;
    io.read_string(tag);
    if (tag != expected) {
        ggufrope_fail(format("the saved state was made with other RoPE factors ('%s') than this context has ('%s')",
            tag.c_str(), expected.c_str()));
    }
    read_state(io);
}
