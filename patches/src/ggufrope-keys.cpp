// ggufrope: reading and checking the `ggufrope.*` keys of a model file
// SPDX-License-Identifier: MIT

#include "ggufrope-keys.h"
#include "ggufrope-error.h"
#include "ggufrope-options.h"

#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model-loader.h"
#include "llama-model.h"

#include "gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <unordered_map>

static const uint32_t     GGUFROPE_FORMAT_VERSION = 3; // 2: 'length_layers', 3: 'pair_factors', which older runtimes would miss
static const char * const GGUFROPE_PREFIX         = "ggufrope.";
static const char * const GGUFROPE_SENTINEL       = "ggufrope.requires_patched_runtime";

static const char * const GGUFROPE_KEYS[] = {
    "version", "method", "params", "original", "context_length", "head_factors", "head_order", "pair_factors",
    "length_points", "length_factors", "length_attn_scale", "length_layers", "padding",
};

[[noreturn]] static void fail_key(const std::string & key, const std::string & expected, const std::string & found) {
    ggufrope_fail(format("key '%s': expected %s, found %s", key.c_str(), expected.c_str(), found.c_str()));
}

//
// typed access to the keys
//

namespace {

class key_reader {
public:
    explicit key_reader(const gguf_context * ctx) : ctx(ctx) {}

    bool has(const char * name) const { return find(name) >= 0; }

    bool any() const {
        for (int64_t i = 0; i < gguf_get_n_kv(ctx); ++i) {
            if (strncmp(gguf_get_key(ctx, i), GGUFROPE_PREFIX, strlen(GGUFROPE_PREFIX)) == 0) {
                return true;
            }
        }
        return false;
    }

    void check_known() const {
        for (int64_t i = 0; i < gguf_get_n_kv(ctx); ++i) {
            const std::string key = gguf_get_key(ctx, i);
            if (key.rfind(GGUFROPE_PREFIX, 0) != 0) {
                continue;
            }
            const std::string name = key.substr(strlen(GGUFROPE_PREFIX));
            if (std::find(std::begin(GGUFROPE_KEYS), std::end(GGUFROPE_KEYS), name) == std::end(GGUFROPE_KEYS)) {
                fail_key(key, "only keys that this runtime knows", "this one (the file needs a newer runtime)");
            }
        }
    }

    uint32_t u32(const char * name) const {
        return gguf_get_val_u32(ctx, require(name, GGUF_TYPE_UINT32, "a u32"));
    }

    std::string str(const char * name) const {
        return gguf_get_val_str(ctx, require(name, GGUF_TYPE_STRING, "a string"));
    }

    // finite numbers > 0
    std::vector<float> factors(const char * name, size_t n, const std::string & what) const {
        const float * data = (const float *) array(name, GGUF_TYPE_FLOAT32, n, format("%zu f32 values (%s)", n, what.c_str()));
        std::vector<float> res(data, data + n);
        for (size_t i = 0; i < n; ++i) {
            if (!std::isfinite(res[i]) || res[i] <= 0.0f) {
                fail_key(GGUFROPE_PREFIX + std::string(name), "finite values > 0", format("%g at index %zu", res[i], i));
            }
        }
        return res;
    }

    std::vector<uint32_t> points(const char * name) const {
        const size_t n = n_values(name);
        const uint32_t * data = (const uint32_t *) array(name, GGUF_TYPE_UINT32, n, "a u32 array");
        return std::vector<uint32_t>(data, data + n);
    }

    std::vector<bool> flags(const char * name, size_t n, const std::string & what) const {
        const int8_t * data = (const int8_t *) array(name, GGUF_TYPE_BOOL, n, format("%zu bool values (%s)", n, what.c_str()));
        return std::vector<bool>(data, data + n);
    }

    // room that the converter left for its next edit
    void check_padding() const {
        if (has("padding")) {
            array("padding", GGUF_TYPE_UINT8, n_values("padding"), "a u8 array");
        }
    }

    // a context of these keys alone; they have been checked, so only these types occur
    std::shared_ptr<gguf_context> copy() const {
        std::shared_ptr<gguf_context> res(gguf_init_empty(), gguf_free);
        for (int64_t i = 0; i < gguf_get_n_kv(ctx); ++i) {
            const char * key = gguf_get_key(ctx, i);
            if (strncmp(key, GGUFROPE_PREFIX, strlen(GGUFROPE_PREFIX)) != 0 || i == find("padding")) {
                continue;
            }
            switch (gguf_get_kv_type(ctx, i)) {
                case GGUF_TYPE_UINT32: gguf_set_val_u32(res.get(), key, gguf_get_val_u32(ctx, i)); break;
                case GGUF_TYPE_STRING: gguf_set_val_str(res.get(), key, gguf_get_val_str(ctx, i)); break;
                default: gguf_set_arr_data(res.get(), key, gguf_get_arr_type(ctx, i), gguf_get_arr_data(ctx, i), gguf_get_arr_n(ctx, i));
            }
        }
        return res;
    }

private:
    const gguf_context * ctx;

    int64_t find(const char * name) const {
        return gguf_find_key(ctx, (GGUFROPE_PREFIX + std::string(name)).c_str());
    }

    // length of an array; 1 for what is none
    size_t n_values(const char * name) const {
        const int64_t id = find(name);
        return id >= 0 && gguf_get_kv_type(ctx, id) == GGUF_TYPE_ARRAY ? gguf_get_arr_n(ctx, id) : 1;
    }

    int64_t require(const char * name, gguf_type type, const std::string & expected) const {
        const std::string key = GGUFROPE_PREFIX + std::string(name);
        const int64_t     id  = find(name);
        if (id < 0) {
            fail_key(key, expected, "no such key");
        }
        if (gguf_get_kv_type(ctx, id) != type) {
            fail_key(key, expected, format("type %s", gguf_type_name(gguf_get_kv_type(ctx, id))));
        }
        return id;
    }

    const void * array(const char * name, gguf_type type, size_t n, const std::string & expected) const {
        const std::string key = GGUFROPE_PREFIX + std::string(name);
        const int64_t     id  = require(name, GGUF_TYPE_ARRAY, expected);
        if (gguf_get_arr_type(ctx, id) != type) {
            fail_key(key, expected, format("an array of %s", gguf_type_name(gguf_get_arr_type(ctx, id))));
        }
        if (gguf_get_arr_n(ctx, id) != n) {
            fail_key(key, expected, format("%zu", gguf_get_arr_n(ctx, id)));
        }
        return gguf_get_arr_data(ctx, id);
    }
};

} // namespace

//
// load
//

// The converter's --require-patched adds one tensor so that a runtime without this patch refuses the file.
// Returns another one of the same name, which a saved model gets; null if there was none.
static std::shared_ptr<ggml_context> take_sentinel(llama_model_loader & ml, bool has_keys) {
    const auto it = ml.weights_map.find(GGUFROPE_SENTINEL);
    if (it == ml.weights_map.end()) {
        return nullptr;
    }
    const ggml_tensor * t = it->second.tensor;
    if (!has_keys) {
        ggufrope_fail(format("tensor '%s' without the key 'ggufrope.version'", GGUFROPE_SENTINEL));
    }
    if (t->type != GGML_TYPE_F32 || ggml_nelements(t) != 1) {
        ggufrope_fail(format("tensor '%s': expected 1 element of f32, found %lld of %s",
            GGUFROPE_SENTINEL, (long long) ggml_nelements(t), ggml_type_name(t->type)));
    }
    ml.n_elements -= ggml_nelements(t);
    ml.n_bytes    -= ggml_nbytes(t);
    ml.n_tensors  -= 1;
    ml.weights_map.erase(it);

    const ggml_init_params params = { ggml_tensor_overhead() + 64, NULL, /*.no_alloc =*/ false };
    std::shared_ptr<ggml_context> res(ggml_init(params), ggml_free);
    ggml_tensor * copy = ggml_new_tensor_1d(res.get(), GGML_TYPE_F32, 1);
    *(float *) copy->data = 1.0f;
    ggml_set_name(copy, GGUFROPE_SENTINEL);
    return res;
}

using kv_overrides = std::unordered_map<std::string, llama_model_kv_override>;

// Without a table an override of the file's own context is what it is in stock; with one it can only say the same.
static bool overrides_context(const kv_overrides & overrides, const llama_model & model, const ggufrope_spec & spec) {
    const auto it = overrides.find(model.arch_name() + ".context_length");
    return it != overrides.end() && it->second.tag == LLAMA_KV_OVERRIDE_TYPE_INT && !spec.has_tables(model.hparams);
}

static void load_context_length(const key_reader & keys, const llama_model & model, llama_hparams & hparams) {
    const uint32_t n_ctx = keys.u32("context_length");
    if (n_ctx == 0 || n_ctx > INT32_MAX) {
        fail_key("ggufrope.context_length", format("1 to %d", INT32_MAX), format("%u", n_ctx));
    }
    if (hparams.n_ctx_orig_yarn == 0) {
        // 0 makes the context fall back to the trained length, which is about to change
        fail_key(model.arch_name() + ".rope.scaling.original_context_length", "a length > 0", "0");
    }
    LLAMA_LOG_INFO("%s: n_ctx_train = %u (was %u)\n", __func__, n_ctx, hparams.n_ctx_train);
    hparams.n_ctx_train = n_ctx;
}

static void load_head_factors(
        const key_reader & keys, const kv_overrides & overrides, const llama_hparams & hparams, ggufrope_spec & spec) {
    const auto given = overrides.find("ggufrope.head_order"); // --override-kv
    if (keys.has("head_order") || given != overrides.end()) {
        std::string order = keys.has("head_order") ? keys.str("head_order") : "";
        if (given != overrides.end()) {
            order = given->second.val_str;
        }
        if (!ggufrope_find_order(order, spec.order)) {
            fail_key("ggufrope.head_order", "'static', 'per-prompt' or 'per-prompt-rank'", "'" + order + "'");
        }
    }
    if (keys.has("head_factors")) {
        const size_t n = ggufrope_count_head_factors(hparams);
        const auto flat = keys.factors("head_factors", n, "one for each KV head of each layer");
        spec.head_factors = ggufrope_split_by_layer(hparams, flat.data());
    } else if (spec.order != GGUFROPE_ORDER_STATIC) {
        fail_key("ggufrope.head_factors", "the ratios that 'ggufrope.head_order' hands out", "no such key");
    }
}

static void load_pair_factors(const key_reader & keys, const llama_hparams & hparams, ggufrope_spec & spec) {
    if (!keys.has("pair_factors")) {
        return;
    }
    for (const char * name : { "head_factors", "head_order" }) {
        if (keys.has(name)) {
            fail_key(GGUFROPE_PREFIX + std::string(name), "no such key beside 'ggufrope.pair_factors', which takes its place", "one");
        }
    }
    const size_t n = ggufrope_count_pair_factors(hparams);
    spec.set_pair_factors(hparams, keys.factors("pair_factors", n, "one for each pair of each layer's KV heads").data());
}

static bool has_rotated_heads(const llama_hparams & hparams, uint32_t il) {
    return il < hparams.n_layer() && hparams.has_rope(il) && hparams.n_head_kv(il) > 0;
}

// Sliding-window layers see distances that they were trained for and keep their rotation, as do the layers that draft
// (next-token prediction): what they cache is only read by themselves.
static std::vector<bool> find_length_layers(const llama_hparams & hparams) {
    std::vector<bool> res(hparams.n_layer_all);
    for (uint32_t il = 0; il < hparams.n_layer(); ++il) {
        res[il] = has_rotated_heads(hparams, il) && !hparams.is_swa(il);
    }
    return res;
}

// the layers that a file names, where it has one row for all lengths that sliding-window layers rotate by too
static std::vector<bool> load_length_layers(const key_reader & keys, const llama_hparams & hparams, size_t n_points) {
    const auto res = keys.flags("length_layers", hparams.n_layer_all, "one for each layer");
    for (uint32_t il = 0; il < res.size(); ++il) {
        if (res[il] && !has_rotated_heads(hparams, il)) {
            fail_key("ggufrope.length_layers", format("false for layer %u, which has no heads that rotate", il), "true");
        }
        if (res[il] && hparams.is_swa(il) && n_points > 1) {
            fail_key("ggufrope.length_layers", format("false for layer %u, which has a sliding window: its rotation cannot follow "
                "the length", il), "true");
        }
    }
    if (std::find(res.begin(), res.end(), true) == res.end()) {
        fail_key("ggufrope.length_layers", "true for some layer", "false for all");
    }
    return res;
}

// rotated dimensions of the layers that length rows are for
static uint32_t find_length_n_rot(const llama_hparams & hparams, const std::vector<bool> & layers) {
    uint32_t res = 0;
    for (uint32_t il = 0; il < layers.size(); ++il) {
        if (layers[il] && res != 0 && hparams.n_rot(il) != res) {
            fail_key("ggufrope.length_factors", "no such key (the layers rotate different numbers of dimensions)", "a table");
        }
        res = layers[il] ? hparams.n_rot(il) : res;
    }
    if (res == 0) {
        fail_key("ggufrope.length_factors", "no such key (every layer that rotates has a sliding window)", "a table");
    }
    return res;
}

static void load_length_rows(const key_reader & keys, const llama_hparams & hparams, ggufrope_spec & spec) {
    if (!keys.has("length_points") && !keys.has("length_factors") && !keys.has("length_attn_scale") && !keys.has("length_layers")) {
        return;
    }

    const auto points = keys.points("length_points");
    if (points.empty()) {
        fail_key("ggufrope.length_points", "at least 1 length", "0");
    }
    for (size_t i = 0; i < points.size(); ++i) {
        if (points[i] == 0) {
            fail_key("ggufrope.length_points", "lengths > 0", "0");
        }
        if (i > 0 && points[i] <= points[i - 1]) {
            fail_key("ggufrope.length_points", "increasing lengths", format("%u after %u", points[i], points[i - 1]));
        }
    }

    spec.names_length_layers = keys.has("length_layers");
    spec.follows_length = spec.names_length_layers ? load_length_layers(keys, hparams, points.size()) : find_length_layers(hparams);
    const size_t n_pairs = find_length_n_rot(hparams, spec.follows_length)/2;

    const auto factors = keys.factors("length_factors", points.size()*n_pairs, points.size() == 1
        ? "one for each rotated pair" : format("%zu for each of %zu length points", n_pairs, points.size()));
    const auto scales  = keys.factors("length_attn_scale", points.size(), "one for each length point");
    for (size_t i = 0; i < points.size(); ++i) {
        spec.length_rows.push_back({ points[i], { factors.begin() + i*n_pairs, factors.begin() + (i + 1)*n_pairs }, scales[i] });
    }
}

std::shared_ptr<const ggufrope_spec> ggufrope_load(llama_model_loader & ml, const llama_model & model, llama_hparams & hparams) {
    const key_reader keys(ml.metadata);
    ggufrope_set_last_error("");

    const bool has_keys = keys.any();
    const auto sentinel = take_sentinel(ml, has_keys);
    if (!has_keys) {
        return nullptr;
    }

    const uint32_t version = keys.u32("version");
    if (version == 0 || version > GGUFROPE_FORMAT_VERSION) {
        fail_key("ggufrope.version", format("1 to %u", GGUFROPE_FORMAT_VERSION),
            format(version == 0 ? "%u" : "%u: made by a newer ggufrope", version));
    }
    if (version < 2 && keys.has("length_layers")) {
        fail_key("ggufrope.version", "2 beside 'ggufrope.length_layers'", format("%u", version));
    }
    if (version < 3 && keys.has("pair_factors")) {
        fail_key("ggufrope.version", "3 beside 'ggufrope.pair_factors'", format("%u", version));
    }
    keys.check_known();

    auto spec = std::make_shared<ggufrope_spec>();
    spec->method = keys.str("method");
    for (const char * name : { "params", "original" }) {
        if (keys.has(name)) {
            keys.str(name);
        }
    }
    keys.check_padding();
    load_head_factors(keys, ml.kv_overrides, hparams, *spec);
    load_pair_factors(keys, hparams, *spec);
    load_length_rows (keys, hparams, *spec);
    if (spec->order != GGUFROPE_ORDER_STATIC && spec->length_rows.size() > 1) {
        fail_key("ggufrope.head_order", "'static' beside several length points", "an order that follows the prompt");
    }
    ggufrope_check_model(model, *spec);

    spec->n_ctx_file = hparams.n_ctx_train;
    spec->overrides_ropes = ggufrope_check_overrides(ml);
    if (keys.has("context_length") && !overrides_context(ml.kv_overrides, model, *spec)) {
        load_context_length(keys, model, hparams);
    }
    spec->sentinel = sentinel;
    spec->keys = keys.copy(); // last: it relies on the types that were checked above
    return spec;
}

void ggufrope_save(const ggufrope_spec & spec, const std::string & key_context_length, gguf_context * ctx) {
    gguf_set_kv(ctx, spec.keys.get());
    gguf_set_val_u32(ctx, key_context_length.c_str(), spec.n_ctx_file);
}

void ggufrope_save_tensors(const ggufrope_spec & spec, gguf_context * ctx) {
    if (spec.sentinel) {
        gguf_add_tensor(ctx, ggml_get_first_tensor(spec.sentinel.get()));
    }
}
