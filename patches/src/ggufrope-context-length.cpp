// ggufrope: a context keeps its tables and its cached K in step with its length
// SPDX-License-Identifier: MIT
//
// All keys of a context are rotated by one row: that of its longest sequence. When a batch makes it longer than the row
// serves, cached K is rotated anew before the batch is computed. Rows only go back when nothing is cached.

#include "ggufrope-context.h"
#include "ggufrope-error.h"
#include "ggufrope-rerotate.h"
#include "ggufrope-tables.h"

#include "llama-batch.h"
#include "llama-context.h"
#include "llama-impl.h"
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

void ggufrope_context::check_length() const {
    if (!tables || !tables->follows_length() || ctx.cparams.ctx_type == LLAMA_CONTEXT_TYPE_MTP) {
        return;
    }
    const auto & model  = ctx.model;
    const auto & memory = ctx.memory;
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
        const auto * stored = tables->get_stored_k(il);
        if (!stored || !tables->spec->is_length_layer(il)) {
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

bool ggufrope_context::follow_length(const llama_batch_ext & batch) {
    if (!tables || !tables->follows_length()) {
        return true;
    }
    try {
        llama_pos last = -1;
        for (const auto & token : batch.tokens) {
            if (ctx.model.hparams.n_pos_per_embd() > 1 && token.has_embd && (token.pos[1] != token.pos[0] || token.pos[2] != token.pos[0])) {
                ggufrope_fail("key 'ggufrope.length_factors': several rows of factors serve text alone, and this batch has the "
                    "positions of an image; send text, or use a file whose method has one row");
            }
            last = std::max(last, token.pos[0]);
        }
        for (llama_seq_id s = 0; s < LLAMA_MAX_SEQ; ++s) { // positions that were filled in
            last = std::max(last, ctx.balloc->seq_pos_max(s));
        }
        set_length_row(tables->length.take_row(last, get_last_pos(get_caches(ctx.memory))));
        return true;
    } catch (const std::exception & err) {
        LLAMA_LOG_ERROR("%s: %s\n", __func__, err.what());
        return false;
    }
}

// for people: counted from 1, and a warning, as upstream's programs hide what is less
static void log_row(const ggufrope_tables & tables) {
    const auto &   rows = tables.spec->length_rows;
    const uint32_t row  = tables.length.get_row();
    LLAMA_LOG_WARN("ggufrope: row %u of %zu, for lengths to %u\n", row + 1, rows.size(), rows[row].point);
}

void ggufrope_context::set_length_row(uint32_t row) {
    const uint32_t from = tables->length.get_row();
    if (row == from) {
        return;
    }
    rerotate(from, row, [](const llama_kv_cells &, uint32_t) { return true; });
    tables->set_length_row(row);

    log_row(*tables);
}

void ggufrope_context::adopt_state(llama_seq_id seq_id, llama_state_seq_flags flags) {
    // the parts that are written alone (sliding windows, recurrent state) are no layers that length rows are for
    const bool is_partial = (flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) && !dynamic_cast<const llama_kv_cache *>(ctx.memory.get());
    if (!tables || !tables->follows_length() || row_read == tables->length.get_row() || is_partial) {
        return;
    }
    const auto is_loaded = [seq_id](const llama_kv_cells & cells, uint32_t i) { return seq_id < 0 || cells.seq_has(i, seq_id); };
    const auto is_other  = [&](const llama_kv_cells & cells, uint32_t i) { return !is_loaded(cells, i); };

    ctx.memory_update(false); // pending shifts go first
    const uint32_t current = tables->length.get_row();
    if (row_read < current && has_cells(get_caches(ctx.memory), is_other)) {
        rerotate(row_read, current, is_loaded);
    } else {
        rerotate(current, row_read, is_other);
        tables->set_length_row(row_read);
        log_row(*tables);
    }
}

void ggufrope_context::rerotate(uint32_t from, uint32_t to, const cell_filter & selected) {
    std::map<uint32_t, ggufrope_rotation> rotations;
    for (uint32_t il = 0; il < ctx.model.hparams.n_layer(); ++il) {
        const auto * stored = tables->get_stored_k(il);
        if (stored && stored->cache) {
            rotations[il] = ggufrope_rotation_between(tables->factors(il, from), tables->factors(il, to));
            rotations[il].stored_k = stored;
        }
    }

    ggml_backend_sched_synchronize(ctx.sched.get());

    // half of it would be worse than none
    const auto callback      = ctx.abort_callback;
    const auto callback_data = ctx.abort_callback_data;
    ctx.set_abort_callback(nullptr, nullptr);

    size_t n_cells = 0;
    try {
        for (const auto * cache : get_caches(ctx.memory)) {
            n_cells += ggufrope_rerotate(ctx, *cache, rotations, selected);
        }
    } catch (...) {
        ctx.set_abort_callback(callback, callback_data);
        ctx.memory->clear(true);
        throw;
    }
    ctx.set_abort_callback(callback, callback_data);
    LLAMA_LOG_DEBUG("%s: %zu cells\n", __func__, n_cells);

    // graphs have the attention scale of their row
    for (auto & res : ctx.gf_res_prev) {
        if (res) {
            res->reset();
        }
    }
    ctx.gf_res_prev_active = nullptr;
    if (n_cells > 0) {
        reserve_graph();
    }
}

// the scheduler was used for another graph
void ggufrope_context::reserve_graph() {
    const auto & cparams = ctx.cparams;
    const auto mctx = ctx.memory->init_full();
    const uint32_t n_tokens = std::min(cparams.n_ctx, cparams.n_ubatch);
    if (!mctx || !ctx.graph_reserve(n_tokens, cparams.n_seq_max, std::min(n_tokens, cparams.n_outputs_max), mctx.get())) {
        ggufrope_fail("failed to reserve a graph after cached keys were rotated anew");
    }
    for (size_t i = 0; i < ctx.backend_ptrs.size(); ++i) {
        ctx.backend_buf_exp_size[i] = ggml_backend_sched_get_buffer_size(ctx.sched.get(), ctx.backend_ptrs[i]);
    }
}
