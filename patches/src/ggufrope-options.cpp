// ggufrope: options of a program that say otherwise than the model file
// SPDX-License-Identifier: MIT

#include "ggufrope-options.h"
#include "ggufrope-error.h"
#include "ggufrope-override.h"
#include "ggufrope-spec.h"
#include "ggufrope-tag.h"

#include "llama-arch.h"
#include "llama-cparams.h"
#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model-loader.h"
#include "llama-model.h"

#include <algorithm>
#include <map>

static const char * const REMEDY = "run it without that, or convert the model again with what you want (ggufrope convert)";

// which of several models: a program may have a draft beside its own
static std::string of_model(const std::string & name) {
    return name.empty() || name == "n/a" ? "" : " of model '" + ggufrope_printable(name) + "'";
}

//
// overrides of keys
//

static bool is_ours(const std::string & key) {
    return key.rfind("ggufrope.", 0) == 0;
}

// the key whose factors or scales multiply what other keys say; empty if there is none, or all of them are 1
static std::string find_table(const gguf_context * ctx) {
    for (int64_t i = 0; i < gguf_get_n_kv(ctx); ++i) {
        const bool is_array = gguf_get_kv_type(ctx, i) == GGUF_TYPE_ARRAY && gguf_get_arr_type(ctx, i) == GGUF_TYPE_FLOAT32;
        if (!is_array || !is_ours(gguf_get_key(ctx, i))) {
            continue;
        }
        const float * data = (const float *) gguf_get_arr_data(ctx, i);
        if (std::any_of(data, data + gguf_get_arr_n(ctx, i), [](float f) { return f != 1.0f; })) {
            return gguf_get_key(ctx, i);
        }
    }
    return "";
}

// the keys that ropes are made from, as far as they belong to the architecture: layers with a window have their own
static bool is_rope_key(const std::string & arch, const std::string & key) {
    const auto contains = [&](const char * part) { return key.find(part, arch.size()) != std::string::npos; };
    return key.rfind(arch + ".", 0) == 0 && (key == arch + ".context_length" || contains("rope") || contains("sliding_window"));
}

static std::string get_name(const gguf_context * ctx) {
    const int64_t id = gguf_find_key(ctx, "general.name");
    return id >= 0 && gguf_get_kv_type(ctx, id) == GGUF_TYPE_STRING ? gguf_get_val_str(ctx, id) : "";
}

static std::string describe_value(const gguf_context * ctx, int64_t id) {
    if (id < 0) {
        return "which this file does not have";
    }
    if (gguf_get_kv_type(ctx, id) == GGUF_TYPE_ARRAY) {
        return format("an array of %zu in this file", gguf_get_arr_n(ctx, id));
    }
    if (gguf_get_kv_type(ctx, id) == GGUF_TYPE_FLOAT32) {
        return ggufrope_shortest(gguf_get_val_f32(ctx, id)) + " in this file";
    }
    const std::string value = gguf_kv_to_str(ctx, id); // JSON, in some of the keys
    return (value.size() > 64 ? value.substr(0, 64) + "..." : value) + " in this file";
}

// returns true if the override is allowed to change the ropes, and does; beside a table one that is ignored is refused, too
static bool check_override(const llama_model_loader & ml, const std::string & table, const llama_model_kv_override & given) {
    const gguf_context * ctx = ml.metadata;
    const std::string key      = given.key;
    const std::string given_as = ggufrope_describe_override(given);
    if (key == "ggufrope.head_order") {
        if (gguf_find_key(ctx, "ggufrope.head_factors") < 0) {
            ggufrope_fail(given_as + ": this file has no 'ggufrope.head_factors' that an order could hand out; run it without that");
        }
        if (given.tag != LLAMA_KV_OVERRIDE_TYPE_STR) {
            ggufrope_fail(given_as + ": expected a string, as in --override-kv ggufrope.head_order=str:static");
        }
        return false;
    }
    const int64_t id = gguf_find_key(ctx, key.c_str());
    if (ggufrope_override_is_own(ml, given)) {
        return false;
    }
    const std::string what = format("%s contradicts '%s' (%s)", given_as.c_str(), key.c_str(), describe_value(ctx, id).c_str());
    if (is_ours(key)) {
        ggufrope_fail(format("%s: of these keys only 'ggufrope.head_order' can be overridden; %s", what.c_str(), REMEDY));
    }
    if (!table.empty()) {
        ggufrope_fail(format("%s: this file's '%s'%s are relative to its own keys; %s",
            what.c_str(), table.c_str(), of_model(get_name(ctx)).c_str(), REMEDY));
    }
    return ggufrope_override_acts(ml, given);
}

bool ggufrope_check_overrides(const llama_model_loader & ml) {
    const gguf_context * ctx = ml.metadata;
    const std::string  table = find_table(ctx);
    const std::string  arch  = ml.get_arch_name();
    const bool         ours  = gguf_find_key(ctx, "ggufrope.method") >= 0;
    const std::map<std::string, llama_model_kv_override> sorted(ml.kv_overrides.begin(), ml.kv_overrides.end());
    bool res = false;
    for (const auto & [key, given] : sorted) {
        if (is_ours(key) || (ours && is_rope_key(arch, key))) {
            res |= check_override(ml, table, given);
        }
    }
    return res;
}

//
// parameters of a context
//

namespace {

class param_check {
public:
    explicit param_check(const llama_model & model) : model(model), name(model.arch) {}

    // a parameter that is given, and what it is without it
    void number(const char * option, const char * param, float given, float own, llm_kv kv) {
        if (given != own) {
            add(format("%s %s (%s)", option, ggufrope_shortest(given).c_str(), param), kv, ggufrope_shortest(own));
        }
    }

    void length(const char * option, const char * param, uint32_t given, uint32_t own, llm_kv kv) {
        if (given != own) {
            add(format("%s %u (%s)", option, given, param), kv, std::to_string(own));
        }
    }

    // options and keys have its reciprocal, too
    void freq_scale(float given) {
        const float own = model.hparams.rope_freq_scale_train;
        if (given != own) {
            add(format("--rope-freq-scale %s or --rope-scale %s (rope_freq_scale)",
                    ggufrope_shortest(given).c_str(), ggufrope_shortest(1.0f/given).c_str()),
                LLM_KV_ROPE_SCALING_FACTOR, ggufrope_shortest(1.0f/own));
        }
    }

    void scaling_type(llama_rope_scaling_type given) {
        const auto & hparams = model.hparams;
        const auto   own     = hparams.rope_scaling_type_train;
        // stock takes 'linear' by a factor of 1 for a file that says nothing of scaling
        const bool declared = has(LLM_KV_ROPE_SCALING_TYPE) || hparams.rope_freq_scale_train != 1.0f;
        if (given == (declared ? own : LLAMA_ROPE_SCALING_TYPE_NONE)) {
            return;
        }
        static const std::map<int, std::string> names = {
            { LLAMA_ROPE_SCALING_TYPE_NONE, "none" }, { LLAMA_ROPE_SCALING_TYPE_LINEAR,   "linear"   },
            { LLAMA_ROPE_SCALING_TYPE_YARN, "yarn" }, { LLAMA_ROPE_SCALING_TYPE_LONGROPE, "longrope" },
        };
        const auto it = names.find(given);
        const std::string type = it == names.end() ? std::to_string(given) : it->second;
        add(format("--rope-scaling %s (rope_scaling_type)", type.c_str()), LLM_KV_ROPE_SCALING_TYPE,
            declared ? llama_rope_scaling_type_name(own) : "no scaling");
    }

    // empty if nothing contradicts the file
    const std::string & get() const { return text; }

private:
    const llama_model & model;
    const LLM_KV        name;

    std::string text;

    bool has(llm_kv kv) const { return model.gguf_kv.count(name(kv)) > 0; }

    void add(const std::string & given, llm_kv kv, const std::string & own) {
        const std::string in_file = has(kv) ? own + " in this file" : "not in this file, which means " + own;
        text += format("%s%s contradicts '%s' (%s)", text.empty() ? "" : ", ", given.c_str(), name(kv).c_str(), in_file.c_str());
    }
};

} // namespace

// what is set and differs from the file; what counts as set is decided as llama_context does
static std::string find_contradictions(const llama_model & model, const llama_context_params & params) {
    const auto & hparams = model.hparams;
    const bool is_yarn = hparams.rope_scaling_type_train == LLAMA_ROPE_SCALING_TYPE_YARN;

    param_check check(model);
    if (params.rope_scaling_type != LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED) {
        check.scaling_type(params.rope_scaling_type);
    }
    if (params.rope_freq_base != 0.0f) {
        check.number("--rope-freq-base", "rope_freq_base", params.rope_freq_base, hparams.rope_freq_base_train, LLM_KV_ROPE_FREQ_BASE);
    }
    if (params.rope_freq_scale != 0.0f) {
        check.freq_scale(params.rope_freq_scale);
    }
    if (params.yarn_orig_ctx != 0) {
        check.length("--yarn-orig-ctx", "yarn_orig_ctx", params.yarn_orig_ctx,
            hparams.n_ctx_orig_yarn != 0 ? hparams.n_ctx_orig_yarn : hparams.n_ctx_train, LLM_KV_ROPE_SCALING_ORIG_CTX_LEN);
    }
    if (params.yarn_ext_factor >= 0.0f) {
        const float own = hparams.yarn_ext_factor >= 0.0f ? hparams.yarn_ext_factor : is_yarn ? 1.0f : 0.0f;
        check.number("--yarn-ext-factor", "yarn_ext_factor", params.yarn_ext_factor, own, LLM_KV_ROPE_SCALING_YARN_EXT_FACTOR);
    }
    if (params.yarn_attn_factor >= 0.0f) {
        check.number("--yarn-attn-factor", "yarn_attn_factor", params.yarn_attn_factor, hparams.yarn_attn_factor,
            LLM_KV_ROPE_SCALING_YARN_ATTN_FACTOR);
    }
    if (params.yarn_beta_fast >= 0.0f) {
        check.number("--yarn-beta-fast", "yarn_beta_fast", params.yarn_beta_fast, hparams.yarn_beta_fast, LLM_KV_ROPE_SCALING_YARN_BETA_FAST);
    }
    if (params.yarn_beta_slow >= 0.0f) {
        check.number("--yarn-beta-slow", "yarn_beta_slow", params.yarn_beta_slow, hparams.yarn_beta_slow, LLM_KV_ROPE_SCALING_YARN_BETA_SLOW);
    }
    return check.get();
}

// a context that the last length does not serve, in the numbers that were asked for: `cparams` have padded ones
static void check_context(
        const llama_model & model, const ggufrope_spec & spec, const llama_context_params & params, const llama_cparams & cparams) {
    const auto & rows = spec.length_rows;
    if (rows.empty() || cparams.n_ctx_seq <= GGML_PAD(rows.back().point, 256)) { // contexts are padded
        return;
    }
    std::string asked = format("a context of %u tokens", params.n_ctx == 0 ? model.hparams.n_ctx_train : params.n_ctx);
    if (!cparams.kv_unified && cparams.n_seq_max > 1) {
        asked += format(", %u for each of %u sequences,", cparams.n_ctx_seq, cparams.n_seq_max);
    }
    ggufrope_fail(format("%s is longer than the %u that 'ggufrope.length_points'%s covers; ask for at most that (-c, n_ctx), or convert with a "
        "larger --context", asked.c_str(), rows.back().point, of_model(model.name).c_str()));
}

void ggufrope_check_params(const llama_model & model, const llama_context_params & params, const llama_cparams & cparams) {
    const auto * spec = model.rope_spec.get();
    if (spec == nullptr || model.hparams.no_alloc) { // only sizes are asked for; who asks makes a context then
        return;
    }
    const std::string contradictions = find_contradictions(model, params);
    if (spec->has_tables(model.hparams)) {
        if (!contradictions.empty()) {
            ggufrope_fail(format("%s: this file's '%s'%s (method %s) are relative to its own keys; %s", contradictions.c_str(),
                !spec->length_rows.empty() ? "ggufrope.length_factors" :
                !spec->pair_factors.empty() ? "ggufrope.pair_factors" : "ggufrope.head_factors",
                of_model(model.name).c_str(), spec->method.c_str(), REMEDY));
        }
        check_context(model, *spec, params, cparams);
    } else if (!contradictions.empty()) {
        LLAMA_LOG_WARN("ggufrope: method %s does not act as the file has it: %s\n", spec->method.c_str(), contradictions.c_str());
    } else if (spec->overrides_ropes) {
        LLAMA_LOG_WARN("ggufrope: method %s does not act as the file has it: its keys are overridden (--override-kv)\n", spec->method.c_str());
    } else {
        LLAMA_LOG_INFO("ggufrope: method %s: the model's standard keys serve it\n", spec->method.c_str());
    }
}
