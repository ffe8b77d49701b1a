// ggufrope: what a file or a program asks for, and whether a model can be run that way
// SPDX-License-Identifier: MIT

#include "ggufrope-impl.h"

#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

static thread_local std::string last_error;

void ggufrope_set_last_error(const std::string & message) {
    last_error = message;
}

const char * ggufrope_get_last_error() {
    return last_error.c_str();
}

void ggufrope_fail(const std::string & message) {
    ggufrope_set_last_error(message);
    throw std::runtime_error(message);
}

size_t ggufrope_count_head_factors(const llama_hparams & hparams) {
    size_t n = 0;
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        n += hparams.n_head_kv(il);
    }
    return n;
}

std::vector<std::vector<float>> ggufrope_split_by_layer(const llama_hparams & hparams, const float * flat) {
    std::vector<std::vector<float>> res;
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        res.emplace_back(flat, flat + hparams.n_head_kv(il));
        flat += hparams.n_head_kv(il);
    }
    return res;
}

bool ggufrope_spec::wants_table(uint32_t il) const {
    const auto differs = [](float f) { return f != 1.0f; };
    if (length_attn_scale != 1.0f || std::any_of(length_factors.begin(), length_factors.end(), differs)) {
        return true;
    }
    return il < head_factors.size() && std::any_of(head_factors[il].begin(), head_factors[il].end(), differs);
}

bool ggufrope_spec::has_tables(const llama_hparams & hparams) const {
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        if (wants_table(il)) {
            return true;
        }
    }
    return false;
}

size_t ggufrope_spec::n_rows(uint32_t il) const {
    if (il >= head_factors.size() || head_factors[il].empty()) {
        return 1;
    }
    const auto & r = head_factors[il];
    return std::all_of(r.begin(), r.end(), [&](float f) { return f == r[0]; }) ? 1 : r.size();
}

float ggufrope_spec::head_factor(uint32_t il, size_t row) const {
    return il < head_factors.size() && row < head_factors[il].size() ? head_factors[il][row] : 1.0f;
}

std::shared_ptr<const ggufrope_spec> ggufrope_with_head_factors(
        const llama_model & model, const ggufrope_spec * spec, const float * factors, size_t n) {
    const size_t expected = ggufrope_count_head_factors(model.hparams);
    if (n != expected) {
        ggufrope_fail(format("head factors: expected %zu values (one per layer and KV head), found %zu", expected, n));
    }
    for (size_t i = 0; i < n; ++i) {
        if (!std::isfinite(factors[i]) || factors[i] <= 0.0f) {
            ggufrope_fail(format("head factors: expected finite values > 0, found %g at index %zu", factors[i], i));
        }
    }

    auto res = std::make_shared<ggufrope_spec>();
    if (spec) {
        *res = *spec;
    } else {
        res->method = "set by the program";
    }
    res->head_factors = ggufrope_split_by_layer(model.hparams, factors);
    ggufrope_check_model(model, *res);
    return res;
}

void ggufrope_check_model(const llama_model & model, const ggufrope_spec & spec) {
    const auto & hparams = model.hparams;
    if (!spec.has_tables(hparams)) {
        return;
    }

    const std::string arch = model.arch_name();
    if (hparams.rope_type == LLAMA_ROPE_TYPE_NONE) {
        ggufrope_fail(format("architecture %s has no RoPE that factors could apply to", arch.c_str()));
    }
    if (model.split_mode() == LLAMA_SPLIT_MODE_TENSOR) {
        ggufrope_fail("split mode 'tensor' does not support per-head RoPE factors; use split mode 'layer' or 'none'");
    }
    for (uint32_t il = 0; il < hparams.n_layer(); ++il) {
        // the queries of such a layer need the factors of the layer that owns the keys
        if (!hparams.has_kv(il)) {
            ggufrope_fail(format("layer %u of architecture %s shares the K of another layer, which is not supported yet",
                il, arch.c_str()));
        }
    }
    for (uint32_t il = hparams.n_layer(); il < hparams.n_layer_all; ++il) {
        if (spec.wants_table(il)) {
            ggufrope_fail(format("layer %u of architecture %s is a next-token-prediction layer: its factors must be 1",
                il, arch.c_str()));
        }
    }
}
