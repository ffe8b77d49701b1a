// ggufrope: whether the ropes of a graph can be given the tables that are asked for
// SPDX-License-Identifier: MIT
//
// Fail, never skip: what is not as expected would be rotated by other factors than the file has.

#include "ggufrope-check.h"
#include "ggufrope-error.h"

#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

static const int ROPE_PARAM_N_DIMS = 1; // see ggml_rope_ext

void ggufrope_check_rope(const llama_model & model, const ggufrope_spec & spec, const ggufrope_rope & rope) {
    const auto &   hparams = model.hparams;
    const uint32_t il      = rope.il;
    const int64_t  n_head  = rope.node->ne[1];
    const size_t   n_rows  = spec.n_rows(il);

    // this runs for every rope of every graph, so messages are only made where it fails
    const auto where = [&] {
        return format("layer %u of architecture %s: rope '%s'", il, model.arch_name().c_str(), rope.node->name);
    };
    if (rope.node->op != GGML_OP_ROPE) {
        ggufrope_fail(where() + " is undone later, which is not supported");
    }
    const int n_dims = rope.node->op_params[ROPE_PARAM_N_DIMS];
    if (n_dims != (int) hparams.n_rot(il)) {
        ggufrope_fail(format("%s rotates %d dimensions, expected %u", where().c_str(), n_dims, hparams.n_rot(il)));
    }
    if (n_rows > 1 && n_head != hparams.n_head(il) && n_head != hparams.n_head_kv(il)) {
        ggufrope_fail(format("%s has %lld heads, expected %u or %u: only one factor for the whole layer is possible here",
            where().c_str(), (long long) n_head, hparams.n_head(il), hparams.n_head_kv(il)));
    }
    if (n_rows > 1 && hparams.n_head(il) % hparams.n_head_kv(il) != 0) {
        ggufrope_fail(format("%s: %u heads cannot be divided among %u KV heads", where().c_str(), hparams.n_head(il), hparams.n_head_kv(il)));
    }
    const ggml_tensor * base = rope.node->src[2];
    if (base != nullptr && (base->type != GGML_TYPE_F32 || base->ne[0] < n_dims/2 || base->ne[1] != 1 || base->op != GGML_OP_NONE)) {
        ggufrope_fail(where() + " has frequency factors of an unexpected shape");
    }
}

void ggufrope_check_layers(
        const llama_model & model, const ggufrope_spec & spec,
        const std::vector<uint32_t> & aliases, const std::vector<ggufrope_rope> & ropes) {
    struct found_in_layer {
        int n_q = 0, n_k = 0, n_qkv = 0;
        const ggml_tensor * base = nullptr;
    };
    std::vector<found_in_layer> found(model.hparams.n_layer_all);
    for (const auto & rope : ropes) {
        auto & f = found[rope.il];
        if (f.n_q + f.n_k + f.n_qkv > 0 && f.base != rope.node->src[2]) {
            ggufrope_fail(format("layer %u of architecture %s: Q and K have different frequency factors",
                rope.il, model.arch_name().c_str()));
        }
        f.base   = rope.node->src[2];
        f.n_q   += rope.role == GGUFROPE_ROLE_Q;
        f.n_k   += rope.role == GGUFROPE_ROLE_K;
        f.n_qkv += rope.role == GGUFROPE_ROLE_QKV;
    }
    for (uint32_t il = 0; il < model.hparams.n_layer(); ++il) {
        const auto & f     = found[aliases[il]];
        const bool   none  = f.n_q + f.n_k + f.n_qkv == 0;
        const bool   has_k = f.n_k > 0 || ggufrope_k_owner(model.hparams, il) != il; // whose own table is checked
        if (!spec.wants_table(il) || (f.n_q > 0 && has_k) || f.n_qkv >= 2) {
            continue;
        }
        // a length row is for all layers that rotate, unless the file names them; head factors name their layers
        const bool from_row = !spec.has_own_factors(il);
        if (none && from_row && !spec.names_length_layers) {
            continue;
        }
        ggufrope_fail(format("layer %u of architecture %s: %s, so its factors would not apply; %s for this layer",
            il, model.arch_name().c_str(), none ? "no rotated Q and K found" : "only one of rotated Q and K found",
            from_row && spec.names_length_layers ? "'ggufrope.length_layers' must be false" : "set them to 1"));
    }
}
