// ggufrope: rotating cached K anew, by other factors than it was cached with
// SPDX-License-Identifier: MIT
//
// One rope does it: a key at position p turns by p*(1/to - 1/from) more. The cells are gathered to f32, which undoes any
// quantization, turned, and written back with the op that caches new keys. Quantized K also has its Hadamard rotation
// undone and redone, over the whole head, as it spans more than the rotated part.

#include "ggufrope-rerotate.h"
#include "ggufrope-error.h"

#include "llama-context.h"
#include "llama-graph.h"
#include "llama-impl.h"
#include "llama-kv-cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>

ggufrope_rotation ggufrope_rotation_between(const ggufrope_layer_factors & from, const ggufrope_layer_factors & to) {
    if (from == to) {
        return {};
    }
    ggufrope_rotation res;
    res.scale = to.attn_scale/from.attn_scale;
    for (size_t i = 0; i < std::max(from.values.size(), to.values.size()); ++i) {
        const double a = from.values[i < from.values.size() ? i : i % from.n_pairs];
        const double b = to  .values[i < to  .values.size() ? i : i % to  .n_pairs];
        const double turn = 1.0/b - 1.0/a;
        // a pair that stays turns by nothing; the kernel divides by the factor
        res.factors.push_back(std::fabs(turn) < 1e-30 ? 1e30f : (float) (1.0/turn));
    }
    return res;
}

namespace {

// what to pass to ggml_rope_ext as attn_factor so that the kernel multiplies by `scale` and nothing else: it has YaRN's own on top
float get_attn_factor(float scale, float ext_factor, float freq_scale) {
    return ext_factor != 0.0f ? scale/(1.0f + 0.1f*logf(1.0f/freq_scale)) : scale;
}

// as ggml_rope_ext has them
struct rope_params {
    int n_dims, mode, n_ctx_orig;
    float freq_base, freq_scale, ext_factor, beta_fast, beta_slow;

    explicit rope_params(const int32_t * params) :
        n_dims(params[1]), mode(params[2]), n_ctx_orig(params[4]),
        freq_base(as_float(params[5])), freq_scale(as_float(params[6])), ext_factor(as_float(params[7])),
        beta_fast(as_float(params[9])), beta_slow(as_float(params[10])) {
        if (mode == GGML_ROPE_TYPE_MROPE || mode == GGML_ROPE_TYPE_IMROPE) {
            mode = GGML_ROPE_TYPE_NEOX; // all sections of a text token have the same position
        }
    }

    ggml_tensor * build(ggml_context * ctx, ggml_tensor * cur, ggml_tensor * pos, ggml_tensor * factors, float scale) const {
        return ggml_rope_ext(ctx, cur, pos, factors, n_dims, mode, n_ctx_orig,
            freq_base, freq_scale, ext_factor, get_attn_factor(scale, ext_factor, freq_scale), beta_fast, beta_slow);
    }

private:
    static float as_float(int32_t bits) {
        float res;
        memcpy(&res, &bits, sizeof(res));
        return res;
    }
};

// some cells of one stream
struct cell_batch {
    std::vector<int32_t> idxs;
    std::vector<int32_t> pos;
};

class rerotation {
public:
    rerotation(llama_context & ctx, const llama_kv_cache & cache, const std::map<uint32_t, ggufrope_rotation> & rotations) :
        ctx(ctx), cache(cache) {
        for (const uint32_t il : cache.get_layer_ids()) {
            const auto it = rotations.find(il);
            if (it != rotations.end() && !it->second.factors.empty()) {
                layers.push_back({ il, &it->second });
            }
        }
    }

    // bounds the memory that one graph takes
    size_t max_cells() const {
        int64_t n_embd_max = 1;
        for (const auto & layer : layers) {
            n_embd_max = std::max(n_embd_max, cache.get_k_storage(layer.il)->ne[0]);
        }
        return std::max<int64_t>(256, 4*1024*1024/n_embd_max);
    }

    bool empty() const { return layers.empty(); }

    void run(uint32_t stream, const cell_batch & cells) {
        auto * res = ctx.get_gf_res_reserve();
        ggml_backend_sched_reset(ctx.get_sched());
        res->reset();

        inputs.clear();
        ggml_cgraph * gf = build(res, stream, cells);
        if (!ggml_backend_sched_alloc_graph(ctx.get_sched(), gf)) {
            ggufrope_fail("failed to allocate the graph that rotates cached keys anew");
        }
        for (const auto & in : inputs) {
            if (in.tensor->buffer) {
                ggml_backend_tensor_set(in.tensor, in.data, 0, ggml_nbytes(in.tensor));
            }
        }
        if (hadamard && hadamard->buffer) {
            cache.set_input_k_rot(hadamard);
        }
        if (ctx.graph_compute(gf, true) != GGML_STATUS_SUCCESS) {
            ggufrope_fail("failed to rotate cached keys anew");
        }
        ggml_backend_sched_synchronize(ctx.get_sched()); // the inputs are about to go
    }

private:
    struct layer_rotation {
        uint32_t il;
        const ggufrope_rotation * rotation;
    };

    struct input {
        ggml_tensor * tensor;
        const void  * data;
    };

    llama_context & ctx;
    const llama_kv_cache & cache;

    std::vector<layer_rotation> layers;
    std::vector<input> inputs;

    ggml_tensor * hadamard = nullptr;

    ggml_tensor * add_input(ggml_tensor * t, const void * data) {
        ggml_set_input(t);
        inputs.push_back({ t, data });
        return t;
    }

    ggml_cgraph * build(llm_graph_result * res, uint32_t stream, const cell_batch & cells) {
        ggml_context * ctx0 = res->get_ctx();
        ggml_cgraph  * gf   = res->get_gf();

        const int64_t n = cells.idxs.size();
        ggml_tensor * idxs = add_input(ggml_new_tensor_1d(ctx0, GGML_TYPE_I32, n), cells.idxs.data());
        ggml_tensor * pos  = add_input(ggml_new_tensor_1d(ctx0, GGML_TYPE_I32, n), cells.pos.data());
        hadamard = cache.build_input_k_rot(ctx0);

        for (const auto & layer : layers) {
            const auto & stored = *layer.rotation->stored_k;
            ggml_tensor * all = cache.get_k_storage(layer.il);
            ggml_tensor * k   = ggml_view_2d(ctx0, all, all->ne[0], all->ne[1], all->nb[1], stream*all->nb[2]);

            const int64_t n_head = k->ne[0]/stored.n_embd_head;
            ggml_tensor * cur = ggml_reshape_3d(ctx0, ggml_get_rows(ctx0, k, idxs), stored.n_embd_head, n_head, n);

            const rope_params params(stored.rope_params);
            const int64_t n_pairs = params.n_dims/2;
            const auto & factors = layer.rotation->factors;
            ggml_tensor * ff = add_input(
                ggml_new_tensor_2d(ctx0, GGML_TYPE_F32, n_pairs, factors.size()/n_pairs), factors.data());

            cur = hadamard ? llama_mul_mat_hadamard(ctx0, cur, hadamard) : cur; // its own inverse
            cur = turn(ctx0, cur, stored.offset, [&](ggml_tensor * part) {
                return params.build(ctx0, part, pos, ff, layer.rotation->scale);
            });
            cur = hadamard ? llama_mul_mat_hadamard(ctx0, cur, hadamard) : cur;

            cur = ggml_reshape_2d(ctx0, cur, k->ne[0], n);
            ggml_build_forward_expand(gf, ggml_set_rows(ctx0, k, cur, idxs));
        }
        return gf;
    }

    // `rope` on what follows the first `offset` dimensions of each head
    template <typename F>
    static ggml_tensor * turn(ggml_context * ctx0, ggml_tensor * cur, int64_t offset, const F & rope) {
        if (offset == 0) {
            return rope(cur);
        }
        const auto view = [&](int64_t first, int64_t n) {
            return ggml_view_3d(ctx0, cur, n, cur->ne[1], cur->ne[2], cur->nb[1], cur->nb[2], first*cur->nb[0]);
        };
        return ggml_concat(ctx0, view(0, offset), rope(view(offset, cur->ne[0] - offset)), 0);
    }
};

} // namespace

size_t ggufrope_rerotate(
        llama_context & ctx, const llama_kv_cache & cache,
        const std::map<uint32_t, ggufrope_rotation> & rotations, const ggufrope_cell_filter & selected) {
    rerotation job(ctx, cache, rotations);
    const size_t n_max = job.max_cells();

    size_t res = 0;
    for (uint32_t s = 0; s < cache.get_n_stream() && !job.empty(); ++s) {
        const auto & cells = cache.get_cells(s); // a stream of its own for each sequence, or one for all
        cell_batch batch;
        for (uint32_t i = 0; i < cells.used_max_p1(); ++i) {
            if (!cells.is_empty(i) && selected(cells, i)) {
                batch.idxs.push_back(i);
                batch.pos .push_back(cells.pos_get(i));
            }
            if (!batch.idxs.empty() && (batch.idxs.size() == n_max || i + 1 == cells.used_max_p1())) {
                job.run(s, batch);
                res += batch.idxs.size();
                batch = {};
            }
        }
    }
    return res;
}
