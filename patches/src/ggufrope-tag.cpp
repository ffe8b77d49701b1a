// ggufrope: a name for how a context rotates, for saved states
// SPDX-License-Identifier: MIT

#include "ggufrope-tag.h"
#include "ggufrope-override.h"
#include "ggufrope-tables.h"

#include "llama-cparams.h"
#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"
#include "llama-model-loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

std::string ggufrope_tag::describe() const {
    return is_set ? format("%s [%016llx]", text.c_str(), (unsigned long long) hash) : text;
}

std::string ggufrope_printable(const std::string & text) {
    std::string res = text.substr(0, ggufrope_tag::MAX_TEXT);
    std::replace_if(res.begin(), res.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return res;
}

//
// whose base it is
//

bool ggufrope_has_own_base(const llama_model_loader & ml, const llama_model & model) {
    const std::string rope = model.arch_name() + ".rope.";
    const std::string base = rope + "freq_base"; // also that of sliding windows
    for (const auto & [key, value] : ml.kv_overrides) {
        if (ggufrope_override_is_own(ml, value) || !ggufrope_override_acts(ml, value)) {
            continue; // it changes nothing
        }
        const bool is_scaling = key.rfind(rope + "scal", 0) == 0; // shows in the numbers
        if ((key.rfind(rope, 0) == 0 && !is_scaling) || key.find(".sliding_window") != std::string::npos) {
            return false;
        }
    }
    if (!model.rope_spec) {
        return true;
    }
    // JSON, which names each key that was replaced or added; this one has no characters to escape
    const int64_t id = gguf_find_key(ml.metadata, "ggufrope.original");
    return id >= 0 && strstr(gguf_get_val_str(ml.metadata, id), ("\"" + base).c_str()) == nullptr;
}

//
// what decides the rotation
//

namespace {

class fnv1a {
public:
    void add(uint32_t bits) { hash = (hash ^ bits) * 0x100000001b3; }

    void add(float value) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof(bits));
        add(bits);
    }

    void add(const std::vector<float> & values) {
        add((uint32_t) values.size());
        for (float value : values) {
            add(value);
        }
    }

    uint64_t get() const { return hash; }

private:
    uint64_t hash = 0xcbf29ce484222325;
};

// what a layer rotates by without a table
struct layer_rotation {
    uint32_t n_rot;
    float    freq_base, freq_scale;

    const ggml_tensor * source = nullptr; // of the factors
    std::vector<float>  factors;          // [n_rot/2]; empty: none

    bool has_factors() const {
        return std::any_of(factors.begin(), factors.end(), [](float f) { return f != 1.0f; });
    }
};

} // namespace

static layer_rotation get_rotation(const llama_model & model, const llama_cparams & cparams, uint32_t il) {
    layer_rotation res { model.hparams.n_rot(il), model.get_rope_freq_base(cparams, il), model.get_rope_freq_scale(cparams, il) };
    // as K shifts have it
    const ggml_tensor * factors = model.get_rope_factors(cparams, il);
    if (factors && factors->type == GGML_TYPE_F32 && !model.hparams.no_alloc) {
        res.source = factors;
        res.factors.resize(ggml_nelements(factors));
        ggml_backend_tensor_get(factors, res.factors.data(), 0, ggml_nbytes(factors));
    }
    return res;
}

// what multiplies cos and sin in the end: the kernel has YaRN's own scale on top
static float get_attn_scale(const llama_cparams & cparams, float freq_scale) {
    return cparams.yarn_attn_factor * (cparams.yarn_ext_factor != 0.0f ? 1.0f + 0.1f*logf(1.0f/freq_scale) : 1.0f);
}

static std::string describe(const llama_model & model, const llama_cparams & cparams, const ggufrope_tables * tables,
        const std::vector<layer_rotation> & layers) {
    const auto * spec = tables ? tables->spec.get() : model.rope_spec.get();
    std::string res = spec ? "method " + spec->method + ", " : "";
    res += format("base %g", cparams.rope_freq_base);

    const float scale = cparams.rope_freq_scale;
    if (scale != 1.0f) {
        res += format(", factor %g", 1.0f/scale);
        if (cparams.yarn_ext_factor != 0.0f) {
            res += format(" by YaRN from %u tokens", cparams.n_ctx_orig_yarn);
        }
    }
    if (std::fabs(get_attn_scale(cparams, scale) - 1.0f) > 1e-6f) {
        res += format(", attention factor %g", get_attn_scale(cparams, scale));
    }
    for (const auto & layer : layers) {
        if (layer.has_factors()) {
            const auto range = std::minmax_element(layer.factors.begin(), layer.factors.end());
            res += format(", %s %g to %g", ggml_get_name(layer.source), *range.first, *range.second);
            break;
        }
    }
    if (tables && tables->any()) {
        const auto & rows = tables->spec->length_rows;
        res += rows.empty() ? "" : format(", %zu row%s by length to %u", rows.size(), rows.size() > 1 ? "s" : "", rows.back().point);
        res += tables->spec->head_factors.empty() ? "" : ", ratios of heads";
        res += tables->spec->pair_factors.empty() ? "" : ", ratios of heads by pair";
        res += tables->order ? " that follow the prompt" : "";
    }
    return ggufrope_printable(res);
}

static void add_tables(fnv1a & hash, const ggufrope_tables & tables, uint32_t il) {
    for (size_t row = 0; row < tables.spec->n_lengths(); ++row) {
        const auto & factors = tables.factors(il, row);
        hash.add((uint32_t) factors.n_pairs);
        hash.add(factors.values);
        hash.add(factors.attn_scale);
    }
}

ggufrope_tag ggufrope_make_tag(const llama_model & model, const llama_cparams & cparams, const ggufrope_tables * tables) {
    const auto & hparams = model.hparams;
    const bool   has_tables = tables && tables->any();

    ggufrope_tag res;
    res.text = "no RoPE scaling";
    if (hparams.rope_type == LLAMA_ROPE_TYPE_NONE) {
        return res;
    }

    fnv1a hash;
    hash.add((uint32_t) hparams.rope_type);
    for (int section : hparams.rope_sections) {
        hash.add((uint32_t) section);
    }
    hash.add(cparams.yarn_attn_factor);

    // a base of the command line, or one that the converter wrote
    res.is_set = has_tables || !model.rope_base_is_own || cparams.rope_freq_base != hparams.rope_freq_base_train;

    std::vector<layer_rotation> layers;
    for (uint32_t il = 0; il < hparams.n_layer_all && il < model.layers.size(); ++il) {
        const bool has_table = has_tables && tables->get(il) != nullptr;
        hash.add((uint32_t) hparams.has_rope(il));
        if (!hparams.has_rope(il) && !has_table) {
            continue;
        }
        layers.push_back(get_rotation(model, cparams, il));
        const auto & layer = layers.back();
        hash.add(layer.n_rot);
        hash.add(layer.freq_base);
        hash.add(layer.freq_scale);
        if (has_table) {
            add_tables(hash, *tables, il); // the layer's own factors are in them
        } else {
            hash.add(layer.has_factors() ? layer.factors : std::vector<float>());
            res.is_set = res.is_set || layer.has_factors();
        }
        res.is_set = res.is_set || layer.freq_scale != 1.0f || get_attn_scale(cparams, layer.freq_scale) != 1.0f;
    }
    if (cparams.yarn_ext_factor != 0.0f) { // else they do nothing
        hash.add(cparams.yarn_ext_factor);
        hash.add(cparams.yarn_beta_fast);
        hash.add(cparams.yarn_beta_slow);
        hash.add(cparams.n_ctx_orig_yarn);
    }
    if (has_tables) {
        for (const auto & row : tables->spec->length_rows) {
            hash.add(row.point);
        }
        hash.add((uint32_t) tables->spec->order);
    }
    if (res.is_set) {
        res.hash = hash.get();
        res.text = describe(model, cparams, tables, layers);
    }
    return res;
}
