// ggufrope: which row of a length table serves a context, and keeping cached K in step with it
// SPDX-License-Identifier: MIT
//
// All keys of a context are rotated by one row: that of its longest sequence. When a batch makes it longer than the row
// serves, cached K is rotated anew before the batch is computed. Rows only go back when nothing is cached.

#include "ggufrope.h"
#include "ggufrope-impl.h"

#include "llama-batch.h"
#include "llama-context.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-kv-cache.h"
#include "llama-memory.h"
#include "llama-model.h"

#include <algorithm>

static std::vector<llama_kv_cache *> get_caches(const llama_memory_ptr & memory) {
    return memory ? memory->get_kv_caches() : std::vector<llama_kv_cache *>();
}

static bool has_cells(const std::vector<llama_kv_cache *> & caches, const ggufrope_cell_filter & selected) {
    for (const auto * cache : caches) {
        for (uint32_t s = 0; s < cache->get_n_stream(); ++s) {
            const auto & cells = cache->get_cells(s);
            for (uint32_t i = 0; i < cells.used_max_p1(); ++i) {
                if (!cells.is_empty(i) && selected(cells, i)) {
                    return true;
                }
            }
        }
    }
    return false;
}

// -1 if nothing is cached
static llama_pos get_last_pos(const std::vector<llama_kv_cache *> & caches) {
    llama_pos res = -1;
    for (const auto * cache : caches) {
        const uint32_t n_seq = cache->get_n_stream() == 1 ? LLAMA_MAX_SEQ : cache->get_n_stream();
        for (uint32_t s = 0; s < n_seq; ++s) {
            res = std::max(res, cache->seq_pos_max(s));
        }
    }
    return res;
}

bool ggufrope_tables::follows_length() const {
    return spec->length_rows.size() > 1 && any();
}

void ggufrope_tables::set_length_row(uint32_t row) {
    length_row = row;
    for (uint32_t il = 0; il < layers.size() && !model.hparams.no_alloc; ++il) {
        if (layers[il].table != nullptr && spec->is_length_layer(il)) {
            upload(il);
        }
    }
}

void ggufrope_write_length_row(const ggufrope_tables * tables, llama_io_write_i & io) {
    if (tables && tables->follows_length()) {
        const uint32_t row = tables->get_length_row();
        io.write(&row, sizeof(row));
    }
}

uint32_t ggufrope_read_length_row(const ggufrope_tables * tables, llama_io_read_i & io) {
    uint32_t row = 0;
    if (tables && tables->follows_length()) {
        io.read(&row, sizeof(row));
        if (row >= tables->get_spec().length_rows.size()) {
            ggufrope_fail(format("the saved state was made with length row %u, there are %zu", row, tables->get_spec().length_rows.size()));
        }
    }
    return row;
}

//
// llama_context
//

void llama_context::rope_check_length() const {
    if (!rope_tables || !rope_tables->follows_length() || cparams.ctx_type == LLAMA_CONTEXT_TYPE_MTP) {
        return;
    }
    const std::string arch = model.arch_name();
    if (model.hparams.n_pos_per_embd() > 1 && model.hparams.rope_sections[3] != 0) {
        // text has position 0 there
        ggufrope_fail(format("architecture %s rotates a fourth section of positions: only one length point is possible", arch.c_str()));
    }
    const auto caches = get_caches(memory);
    if (model.arch == LLM_ARCH_GEMMA4_ASSISTANT || (memory && caches.empty())) {
        ggufrope_fail(format("architecture %s keeps its keys in a cache that cannot be rotated anew: only one length point is possible",
            arch.c_str()));
    }
    uint32_t n_layers = 0;
    for (uint32_t il = 0; il < model.hparams.n_layer(); ++il) {
        const auto * stored = rope_tables->get_stored_k(il);
        if (!stored || !rope_tables->get_spec().is_length_layer(il)) {
            continue;
        }
        n_layers += 1;
        if (ggufrope_first_alias(model, il) != il) {
            ggufrope_fail(format("layer %u of architecture %s runs the block of another layer: only one length point is possible",
                il, arch.c_str()));
        }
        if (ggufrope_k_owner(model.hparams, il) != il) {
            continue; // its keys are those of a layer that is checked, and follow the length as that one does
        }
        const auto holds_it = [&](const llama_kv_cache * cache) {
            const auto ids = cache->get_layer_ids();
            return std::count(ids.begin(), ids.end(), il) > 0 && cache->get_k_storage(il) == stored->cache;
        };
        if (memory && std::none_of(caches.begin(), caches.end(), holds_it)) {
            ggufrope_fail(format("layer %u of architecture %s does not cache K as RoPE leaves it: only one length point is possible",
                il, arch.c_str()));
        }
    }
    if (n_layers == 0) {
        ggufrope_fail(format("architecture %s has no layer that length rows could apply to", arch.c_str()));
    }
}

bool llama_context::rope_follow_length(const llama_batch_ext & batch) {
    if (!rope_tables || !rope_tables->follows_length()) {
        return true;
    }
    try {
        llama_pos last = -1;
        for (const auto & token : batch.tokens) {
            if (model.hparams.n_pos_per_embd() > 1 && token.has_embd && (token.pos[1] != token.pos[0] || token.pos[2] != token.pos[0])) {
                ggufrope_fail("length tables do not support the positions of images");
            }
            last = std::max(last, token.pos[0]);
        }
        for (llama_seq_id s = 0; s < LLAMA_MAX_SEQ; ++s) { // positions that were filled in
            last = std::max(last, balloc->seq_pos_max(s));
        }
        const llama_pos last_cached = get_last_pos(get_caches(memory));

        auto & wishes = rope_tables->wishes;
        const uint32_t length = std::max<uint32_t>(wishes.length_hint, std::max(last, last_cached) + 1);
        wishes.length_hint = 0;

        uint32_t row = rope_tables->get_spec().length_row(length);
        if (wishes.pinned_row >= 0) {
            row = wishes.pinned_row;
        } else if (last_cached >= 0) {
            row = std::max(row, rope_tables->get_length_row());
        }
        rope_set_length_row(row);
        return true;
    } catch (const std::exception & err) {
        LLAMA_LOG_ERROR("%s: %s\n", __func__, err.what());
        return false;
    }
}

void llama_context::rope_set_length_row(uint32_t row) {
    const uint32_t from = rope_tables->get_length_row();
    if (row == from) {
        return;
    }
    rope_rerotate(from, row, [](const llama_kv_cells &, uint32_t) { return true; });
    rope_tables->set_length_row(row);

    const auto & rows = rope_tables->get_spec().length_rows;
    LLAMA_LOG_INFO("ggufrope: row %u of %zu for lengths to %u\n", row, rows.size(), rows[row].point);
}

void llama_context::rope_adopt_state(llama_seq_id seq_id, uint32_t row, llama_state_seq_flags flags) {
    // the parts that are written alone (sliding windows, recurrent state) are no layers that length rows are for
    const bool is_partial = (flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) && !dynamic_cast<const llama_kv_cache *>(memory.get());
    if (!rope_tables || !rope_tables->follows_length() || row == rope_tables->get_length_row() || is_partial) {
        return;
    }
    const auto is_loaded = [seq_id](const llama_kv_cells & cells, uint32_t i) { return seq_id < 0 || cells.seq_has(i, seq_id); };
    const auto is_other  = [&](const llama_kv_cells & cells, uint32_t i) { return !is_loaded(cells, i); };

    memory_update(false); // pending shifts go first
    const uint32_t current = rope_tables->get_length_row();
    if (row < current && has_cells(get_caches(memory), is_other)) {
        rope_rerotate(row, current, is_loaded);
    } else {
        rope_rerotate(current, row, is_other);
        rope_tables->set_length_row(row);
    }
}

void llama_context::rope_rerotate(uint32_t from, uint32_t to, const ggufrope_cell_filter & selected) {
    std::map<uint32_t, ggufrope_rotation> rotations;
    for (uint32_t il = 0; il < model.hparams.n_layer(); ++il) {
        const auto * stored = rope_tables->get_stored_k(il);
        if (stored && stored->cache) {
            rotations[il] = ggufrope_rotation_between(
                rope_tables->factors(il, from), rope_tables->attn_scale(il, from),
                rope_tables->factors(il, to),   rope_tables->attn_scale(il, to), model.hparams.n_rot(il)/2);
        }
    }

    ggml_backend_sched_synchronize(sched.get());

    // half of it would be worse than none
    const auto callback      = abort_callback;
    const auto callback_data = abort_callback_data;
    set_abort_callback(nullptr, nullptr);

    size_t n_cells = 0;
    try {
        for (const auto * cache : get_caches(memory)) {
            n_cells += ggufrope_rerotate(*this, *cache, rotations, selected);
        }
    } catch (...) {
        set_abort_callback(callback, callback_data);
        memory->clear(true);
        throw;
    }
    set_abort_callback(callback, callback_data);
    LLAMA_LOG_DEBUG("%s: %zu cells\n", __func__, n_cells);

    // graphs have the attention scale of their row
    for (auto & res : gf_res_prev) {
        if (res) {
            res->reset();
        }
    }
    gf_res_prev_active = nullptr;
    if (n_cells > 0) {
        rope_reserve();
    }
}

// the scheduler was used for another graph
void llama_context::rope_reserve() {
    const auto mctx = memory->init_full();
    const uint32_t n_tokens = std::min(cparams.n_ctx, cparams.n_ubatch);
    if (!mctx || !graph_reserve(n_tokens, cparams.n_seq_max, std::min(n_tokens, cparams.n_outputs_max), mctx.get())) {
        ggufrope_fail("failed to reserve a graph after cached keys were rotated anew");
    }
    for (size_t i = 0; i < backend_ptrs.size(); ++i) {
        backend_buf_exp_size[i] = ggml_backend_sched_get_buffer_size(sched.get(), backend_ptrs[i]);
    }
}

//
// C API
//

size_t ggufrope_n_length_rows(const struct llama_model * model) {
    return model->rope_spec ? model->rope_spec->length_rows.size() : 0;
}

uint32_t ggufrope_length_point(const struct llama_model * model, size_t row) {
    return row < ggufrope_n_length_rows(model) ? model->rope_spec->length_rows[row].point : 0;
}

uint32_t ggufrope_get_length_row(const struct llama_context * ctx) {
    const auto * tables = ctx->get_rope_tables();
    return tables ? tables->get_length_row() : 0;
}

bool ggufrope_set_length_row(struct llama_context * ctx, int32_t row) {
    const size_t n = ggufrope_n_length_rows(&ctx->get_model());
    if (row >= (int64_t) n) {
        ggufrope_set_last_error(format("length row: expected one below %zu, or -1, found %d", n, row));
        return false;
    }
    if (auto * wishes = ctx->get_rope_wishes()) {
        wishes->pinned_row = row;
    }
    return true;
}

void ggufrope_set_length_hint(struct llama_context * ctx, uint32_t n_tokens) {
    if (auto * wishes = ctx->get_rope_wishes()) {
        wishes->length_hint = std::max(wishes->length_hint, n_tokens);
    }
}
