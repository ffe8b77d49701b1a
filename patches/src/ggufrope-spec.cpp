// ggufrope: what a file or a program asks for, and whether a model can be run that way
// SPDX-License-Identifier: MIT

#include "ggufrope-spec.h"
#include "ggufrope-error.h"

#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>

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

static const char * const ORDER_NAMES[] = { "static", "per-prompt", "per-prompt-rank" }; // by ggufrope_order

const char * ggufrope_order_name(ggufrope_order order) {
    return ORDER_NAMES[order];
}

bool ggufrope_find_order(const std::string & name, ggufrope_order & order) {
    const auto it = std::find(std::begin(ORDER_NAMES), std::end(ORDER_NAMES), name);
    if (it == std::end(ORDER_NAMES)) {
        return false;
    }
    order = ggufrope_order(it - std::begin(ORDER_NAMES));
    return true;
}

size_t ggufrope_count_pair_factors(const llama_hparams & hparams) {
    size_t n = 0;
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        n += hparams.n_head_kv(il) * (hparams.n_rot(il)/2);
    }
    return n;
}

std::vector<std::vector<float>> ggufrope_split_pairs_by_layer(const llama_hparams & hparams, const float * flat) {
    std::vector<std::vector<float>> res;
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        const size_t n = hparams.n_head_kv(il) * (hparams.n_rot(il)/2);
        res.emplace_back(flat, flat + n);
        flat += n;
    }
    return res;
}

bool ggufrope_spec::is_length_layer(uint32_t il) const {
    return il < follows_length.size() && follows_length[il];
}

size_t ggufrope_spec::n_lengths() const {
    return std::max<size_t>(1, length_rows.size());
}

uint32_t ggufrope_spec::length_row(uint32_t n_tokens) const {
    const auto is_shorter = [](const ggufrope_length_row & row, uint32_t n) { return row.point < n; };
    const auto it = std::lower_bound(length_rows.begin(), length_rows.end(), n_tokens, is_shorter);
    return std::min<size_t>(it - length_rows.begin(), length_rows.empty() ? 0 : length_rows.size() - 1);
}

bool ggufrope_spec::wants_table(uint32_t il) const {
    const auto differs = [](float f) { return f != 1.0f; };
    for (const auto & row : length_rows) {
        if (is_length_layer(il) && (differs(row.attn_scale) || std::any_of(row.factors.begin(), row.factors.end(), differs))) {
            return true;
        }
    }
    return has_own_factors(il);
}

bool ggufrope_spec::has_tables(const llama_hparams & hparams) const {
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        if (wants_table(il)) {
            return true;
        }
    }
    return false;
}

bool ggufrope_spec::has_own_factors(uint32_t il) const {
    const auto differs = [](float f) { return f != 1.0f; };
    for (const auto * factors : { &head_factors, &pair_factors }) {
        if (il < factors->size() && std::any_of((*factors)[il].begin(), (*factors)[il].end(), differs)) {
            return true;
        }
    }
    return false;
}

size_t ggufrope_spec::n_rows(uint32_t il) const {
    if (il < pair_factors.size() && !pair_factors[il].empty()) {
        const auto & f = pair_factors[il];
        const size_t n = f.size()/n_own_pairs[il];
        // every row is the one before it, shifted by a row
        return std::equal(f.begin() + n_own_pairs[il], f.end(), f.begin()) ? 1 : n;
    }
    if (il >= head_factors.size() || head_factors[il].empty()) {
        return 1;
    }
    const auto & r = head_factors[il];
    return std::all_of(r.begin(), r.end(), [&](float f) { return f == r[0]; }) ? 1 : r.size();
}

float ggufrope_spec::own_factor(uint32_t il, size_t row, size_t i) const {
    if (il < pair_factors.size()) {
        const size_t at = row*n_own_pairs[il] + i;
        return at < pair_factors[il].size() ? pair_factors[il][at] : 1.0f;
    }
    return il < head_factors.size() && row < head_factors[il].size() ? head_factors[il][row] : 1.0f;
}

ggufrope_layer_factors ggufrope_spec::layer_factors(uint32_t il, size_t length, const std::vector<float> & base) const {
    ggufrope_layer_factors res;
    res.n_pairs    = base.size();
    res.attn_scale = is_length_layer(il) ? length_rows[length].attn_scale : 1.0f;
    for (size_t h = 0; h < n_rows(il); ++h) {
        for (size_t i = 0; i < base.size(); ++i) {
            const float r = own_factor(il, h, i);
            const float f = is_length_layer(il) ? r*length_rows[length].factors[i] : r;
            res.values.push_back(base[i] * f);
        }
    }
    return res;
}

std::vector<float> ggufrope_spec::unit_factors(uint32_t il, size_t length, const std::vector<float> & base) const {
    std::vector<float> res = base;
    for (size_t i = 0; i < res.size() && is_length_layer(il); ++i) {
        res[i] *= length_rows[length].factors[i];
    }
    return res;
}

static std::shared_ptr<ggufrope_spec> copy_spec(const ggufrope_spec * spec) {
    if (spec) {
        return std::make_shared<ggufrope_spec>(*spec);
    }
    auto res = std::make_shared<ggufrope_spec>();
    res->method = "set by the program";
    return res;
}

static void check_values(const char * what, const char * each, const float * factors, size_t n, size_t expected) {
    if (n != expected) {
        ggufrope_fail(format("%s: expected %zu values (one per %s), found %zu", what, expected, each, n));
    }
    for (size_t i = 0; i < n; ++i) {
        if (!std::isfinite(factors[i]) || factors[i] <= 0.0f) {
            ggufrope_fail(format("%s: expected finite values > 0, found %g at index %zu", what, factors[i], i));
        }
    }
}

static std::shared_ptr<ggufrope_spec> copy_without_own(const ggufrope_spec * spec) {
    auto res = copy_spec(spec);
    res->head_factors.clear();
    res->pair_factors.clear();
    return res;
}

std::shared_ptr<const ggufrope_spec> ggufrope_with_head_factors(
        const llama_model & model, const ggufrope_spec * spec, const float * factors, size_t n) {
    check_values("head factors", "layer and KV head", factors, n, ggufrope_count_head_factors(model.hparams));
    auto res = copy_without_own(spec);
    res->head_factors = ggufrope_split_by_layer(model.hparams, factors);
    ggufrope_check_model(model, *res);
    return res;
}

std::shared_ptr<const ggufrope_spec> ggufrope_with_order(const llama_model & model, const ggufrope_spec * spec, const std::string & order) {
    auto res = copy_spec(spec);
    if (!ggufrope_find_order(order, res->order)) {
        ggufrope_fail(format("head order: expected 'static', 'per-prompt' or 'per-prompt-rank', found '%s'", order.c_str()));
    }
    if (res->order != GGUFROPE_ORDER_STATIC && res->head_factors.empty()) {
        ggufrope_fail(format("head order '%s' hands out head factors, and this context has none; set them first", order.c_str()));
    }
    if (res->order != GGUFROPE_ORDER_STATIC && res->length_rows.size() > 1) {
        ggufrope_fail(format("head order '%s' does not go with several length rows; use 'static'", order.c_str()));
    }
    ggufrope_check_model(model, *res);
    return res;
}

std::shared_ptr<const ggufrope_spec> ggufrope_with_pair_factors(
        const llama_model & model, const ggufrope_spec * spec, const float * factors, size_t n) {
    check_values("pair factors", "layer, KV head and pair", factors, n, ggufrope_count_pair_factors(model.hparams));
    auto res = copy_without_own(spec);
    if (res->order != GGUFROPE_ORDER_STATIC) {
        ggufrope_fail("pair factors: the order of heads follows the prompt ('ggufrope.head_order'), which hands out one "
            "factor for each head; use a file with a static order");
    }
    res->set_pair_factors(model.hparams, factors);
    ggufrope_check_model(model, *res);
    return res;
}

void ggufrope_spec::set_pair_factors(const llama_hparams & hparams, const float * flat) {
    pair_factors = ggufrope_split_pairs_by_layer(hparams, flat);
    n_own_pairs.clear();
    for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
        n_own_pairs.push_back(hparams.n_rot(il)/2);
    }
}

uint32_t ggufrope_k_owner(const llama_hparams & hparams, uint32_t il) {
    // as llama_model::create_memory has it
    return hparams.has_kv(il) ? il : hparams.n_layer_kv_from_start - (hparams.is_swa(il) ? 2 : 1);
}

uint32_t ggufrope_first_alias(const llama_model & model, uint32_t il) {
    if (il >= model.layers.size() || (!model.layers[il].wq && !model.layers[il].wqkv)) {
        return il; // also before the tensors are there
    }
    const auto & layer = model.layers[il];
    for (uint32_t i = 0; i < il; ++i) {
        const auto & other = model.layers[i];
        if (other.wq == layer.wq && other.wk == layer.wk && other.wqkv == layer.wqkv && other.wkv_a_mqa == layer.wkv_a_mqa) {
            return i;
        }
    }
    return il;
}

// why an architecture cannot be served although it has RoPE; null if it can
static const char * why_not(llm_arch arch) {
    switch (arch) {
        case LLM_ARCH_DEEPSEEK2OCR:
            return "rotates with constants of its own, which K shifts do not follow";
        case LLM_ARCH_DEEPSEEK4:
            return "also rotates compressed keys, and undoes rotations behind the attention";
        case LLM_ARCH_GRANITE_SWITCH:
            return "switches adapters by a layer of its own, which was never tried";
        case LLM_ARCH_DFLASH:
        case LLM_ARCH_EAGLE3:
        case LLM_ARCH_GEMMA4_ASSISTANT:
            return "is a draft model, which works on what another model computed";
        default:
            return nullptr;
    }
}

static void check_same_factors(const ggufrope_spec & spec, const std::string & arch, uint32_t il, uint32_t other, const char * why) {
    for (const auto * r : { &spec.head_factors, &spec.pair_factors }) {
        if (other != il && !r->empty() && (*r)[il] != (*r)[other]) {
            ggufrope_fail(format("layer %u of architecture %s %s layer %u: give it the same factors", il, arch.c_str(), why, other));
        }
    }
}

void ggufrope_check_model(const llama_model & model, const ggufrope_spec & spec) {
    const auto & hparams = model.hparams;
    if (!spec.has_tables(hparams)) {
        return;
    }

    const std::string arch = model.arch_name();
    if (hparams.rope_type == LLAMA_ROPE_TYPE_NONE) {
        ggufrope_fail(format("architecture %s has no RoPE that factors could apply to; all factors must be 1", arch.c_str()));
    }
    if (const char * why = why_not(model.arch)) {
        ggufrope_fail(format("architecture %s is not supported: it %s; all factors must be 1", arch.c_str(), why));
    }
    if (model.split_mode() == LLAMA_SPLIT_MODE_TENSOR) {
        ggufrope_fail("split mode 'tensor' does not support per-head RoPE factors; use split mode 'layer' or 'none'");
    }
    for (uint32_t il = 0; il < hparams.n_layer(); ++il) {
        check_same_factors(spec, arch, il, ggufrope_k_owner(hparams, il), "has no K of its own and uses that of");
        check_same_factors(spec, arch, il, ggufrope_first_alias(model, il), "runs the same block as");
    }
    for (uint32_t il = hparams.n_layer(); il < hparams.n_layer_all; ++il) {
        if (spec.wants_table(il)) {
            ggufrope_fail(format("layer %u of architecture %s is a next-token-prediction layer: its factors must be 1",
                il, arch.c_str()));
        }
    }
}
