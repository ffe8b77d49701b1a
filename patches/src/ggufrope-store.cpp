// ggufrope: the tables of one context, on the devices of their layers
// SPDX-License-Identifier: MIT

#include "ggufrope-store.h"
#include "ggufrope-error.h"

#include "llama-hparams.h"
#include "llama-model.h"

void ggufrope_table_store::allocate(
        const llama_model & model, ggufrope_factor_table values,
        const std::vector<uint32_t> & layers, const std::vector<uint32_t> & aliases, const companion & add_companion) {
    const auto & hparams = model.hparams;

    this->values = std::move(values);
    no_alloc = hparams.no_alloc;
    tables.assign(hparams.n_layer_all, nullptr);

    std::map<ggml_backend_buffer_type_t, ggml_context *> ctx_map;
    for (const uint32_t il : layers) {
        const auto & own = factors(il, 0); // rows and pairs are the same for all lengths
        ggml_backend_buffer_type_t buft = model.select_buft_rope(il, own.n_rows());
        if (ctx_map.count(buft) == 0) {
            ggml_init_params params = {
                /*.mem_size   =*/ 5*hparams.n_layer_all*ggml_tensor_overhead(),
                /*.mem_buffer =*/ NULL,
                /*.no_alloc   =*/ true,
            };
            ctx_map[buft] = ggml_init(params);
            ctxs_bufs.emplace_back(ctx_map[buft], nullptr);
        }
        tables[il] = ggml_new_tensor_2d(ctx_map[buft], GGML_TYPE_F32, own.n_pairs, own.n_rows());
        ggml_format_name(tables[il], "ggufrope_factors_l%u", il);
        add_companion(ctx_map[buft], il, tables[il]);
    }
    for (uint32_t il = 0; il < tables.size(); ++il) {
        tables[il] = tables[aliases[il]];
    }

    for (auto & [ctx, buf] : ctxs_bufs) {
        ggml_backend_buffer_type_t buft = nullptr;
        for (const auto & it : ctx_map) {
            buft = it.second == ctx.get() ? it.first : buft;
        }
        if (no_alloc) {
            buf.reset(ggml_backend_buft_alloc_buffer(buft, 0));
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
}

void ggufrope_table_store::upload(uint32_t il, size_t length) {
    if (!no_alloc) {
        ggml_backend_tensor_set(tables[il], factors(il, length).values.data(), 0, ggml_nbytes(tables[il]));
    }
}

void ggufrope_table_store::add_memory(std::map<ggml_backend_buffer_type_t, size_t> & sizes) const {
    for (const auto & [ctx, buf] : ctxs_bufs) {
        ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(buf.get());
        sizes[buft] += no_alloc
            ? ggml_backend_alloc_ctx_tensors_from_buft_size(ctx.get(), buft)
            : ggml_backend_buffer_get_size(buf.get());
    }
}
