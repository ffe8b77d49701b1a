// Runs upstream's toy models with and without head factors and prints what came of it, one JSON object per line.
// SPDX-License-Identifier: MIT
//
// Upstream's own test program makes a toy model of nearly every architecture. It is included here from the pinned
// tree, by name, and its main() is never called. Each toy runs in several forms:
//
//   plain     as upstream makes it (as many KV heads as heads)
//   grouped   4 heads, 2 KV heads
//   deep      grouped, 8 layers, default layout of sliding-window layers: only which layers take factors
//
// All weights are drawn from the tensors' names, so that a model and a changed copy of it differ in nothing else. The
// numbers are larger than upstream's, and the models' own frequency factors are not 1, so that a wrong angle shows.
//
//   toys list                                      architectures and their variants
//   toys stock ARCH dense|moe FORM                 hash of the logits: the part that an unpatched library can run
//   toys full ARCH dense|moe FORM DIRECTORY [SEED] everything; writes the keys of the toy to DIRECTORY
//   toys save DIRECTORY REGEX                      upstream's toys as model files, with larger weights than its own

#define main upstream_main
#include "tests/test-llama-archs.cpp"
#undef main

#include "llama-context.h"
#include "llama-hparams.h"
#include "llama-model.h"

#include <dlfcn.h>

#include <functional>
#include <map>

static const uint32_t N_TOKENS = 96, N_SHIFT = 30, N_TAIL = 20;

//
// the patched library's functions, looked up so that this program starts on an unpatched one
//

static bool   (*set_factors)(llama_context *, const float *, size_t);
static const char * (*last_error)();

//
// JSON
//

static std::string quoted(const std::string & text) {
    std::string res = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') {
            res += '\\';
        }
        res += c == '\n' ? ' ' : c;
    }
    return res + "\"";
}

static std::string number(double x) {
    char buf[32];
    snprintf(buf, sizeof(buf), "%.4e", x);
    return std::isfinite(x) ? buf : "null";
}

struct record {
    std::string text;

    record & put(const std::string & key, const std::string & json) {
        text += (text.empty() ? "{" : ", ") + quoted(key) + ": " + json;
        return *this;
    }

    void print() const {
        printf("%s}\n", text.c_str());
        fflush(stdout);
    }
};

static std::string list(const std::vector<std::string> & items) {
    std::string res = "[";
    for (const auto & item : items) {
        res += (res.size() > 1 ? ", " : "") + item;
    }
    return res + "]";
}

//
// toys
//

struct toy {
    llm_arch    arch;
    bool        moe;
    std::string form;
    bool        linear     = false; // linear scaling by RATIO in the file's own keys
    int         only_group = -1;    // attention output of this KV head's queries alone
    uint32_t    n_pairs    = 0;     // two length rows of as many factors in the file's keys
};

static const float RATIO = 2.0f;

static bool is_embedding_model(llm_arch arch) {
    switch (arch) {
        case LLM_ARCH_LLAMA_EMBED:
        case LLM_ARCH_GEMMA_EMBEDDING:
        case LLM_ARCH_MODERN_BERT:
        case LLM_ARCH_NOMIC_BERT:
        case LLM_ARCH_NOMIC_BERT_MOE:
        case LLM_ARCH_NEO_BERT:
        case LLM_ARCH_JINA_BERT_V3:
        case LLM_ARCH_EUROBERT:
            return true;
        default:
            return false;
    }
}

// repeats a per-layer array up to n entries
static void stretch(gguf_context * g, const std::string & key, uint32_t n) {
    const int64_t id = gguf_find_key(g, key.c_str());
    if (id < 0 || gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_n(g, id) == 0) {
        return;
    }
    const gguf_type type = gguf_get_arr_type(g, id);
    const size_t n_old = gguf_get_arr_n(g, id);
    std::vector<uint32_t> data(n); // all of them have 4-byte entries
    for (uint32_t i = 0; i < n; ++i) {
        data[i] = ((const uint32_t *) gguf_get_arr_data(g, id))[i % n_old];
    }
    gguf_set_arr_data(g, key.c_str(), type, data.data(), n);
}

static void set_heads(gguf_context * g, const std::string & key, uint32_t n) {
    const int64_t id = gguf_find_key(g, key.c_str());
    if (id >= 0 && gguf_get_kv_type(g, id) == GGUF_TYPE_ARRAY) {
        std::vector<uint32_t> data(gguf_get_arr_n(g, id));
        for (size_t i = 0; i < data.size(); ++i) {
            data[i] = ((const uint32_t *) gguf_get_arr_data(g, id))[i] == 0 ? 0 : n; // 0: a layer without attention
        }
        gguf_set_arr_data(g, key.c_str(), GGUF_TYPE_UINT32, data.data(), data.size());
    } else {
        gguf_set_val_u32(g, key.c_str(), n);
    }
}

static uint32_t get_u32(const gguf_context * g, const std::string & key) {
    return gguf_get_val_u32(g, gguf_find_key(g, key.c_str()));
}

// upstream's code for these needs as many KV heads as heads
static bool cannot_group(llm_arch arch) {
    switch (arch) {
        case LLM_ARCH_DOTS1:
        case LLM_ARCH_MINICPM3:
        case LLM_ARCH_OLMOE:
        case LLM_ARCH_PLM:
            return true;
        default:
            return false;
    }
}

static void set_length_rows(gguf_context * g, const std::string & arch, uint32_t n_pairs) {
    const uint32_t points[] = { 48, 512 };
    const float    scales[] = { 1.0f, 1.2f };
    std::vector<float> factors(2*n_pairs, 1.0f);
    std::fill(factors.begin() + n_pairs, factors.end(), 1.5f);
    gguf_set_val_u32 (g, "ggufrope.version", 1);
    gguf_set_val_str (g, "ggufrope.method", "table");
    gguf_set_arr_data(g, "ggufrope.length_points",     GGUF_TYPE_UINT32,  points, 2);
    gguf_set_arr_data(g, "ggufrope.length_attn_scale", GGUF_TYPE_FLOAT32, scales, 2);
    gguf_set_arr_data(g, "ggufrope.length_factors",    GGUF_TYPE_FLOAT32, factors.data(), factors.size());
    // real models have three sections of positions
    const uint32_t third = n_pairs/3, sections[] = { n_pairs - 2*third, third, third, 0 };
    gguf_set_arr_data(g, (arch + ".rope.dimension_sections").c_str(), GGUF_TYPE_UINT32, sections, 4);
}

static gguf_context_ptr make_keys(const toy & t) {
    const std::string arch = llm_arch_name(t.arch);
    gguf_context_ptr ptr = get_gguf_ctx(t.arch, t.moe);
    gguf_context * g = ptr.get();

    uint32_t n_layer = get_u32(g, arch + ".block_count");
    if (t.arch == LLM_ARCH_LFM2) {
        gguf_remove_key(g, "lfm2.attention.sliding_window"); // all attention layers would slide: upstream's K shift aborts
    }
    if (t.arch == LLM_ARCH_BAICHUAN) {
        n_layer = 32; // the 7B model is the one that rotates
    } else if (t.form == "deep" && t.arch != LLM_ARCH_HRM_TEXT) {
        n_layer = std::max(n_layer, 8u);
    }
    if (t.arch == LLM_ARCH_GEMMA4 || t.arch == LLM_ARCH_GEMMA4_ASSISTANT) {
        n_layer = 5;
    }
    gguf_set_val_u32(g, (arch + ".block_count").c_str(), n_layer);
    for (const char * key : { "attention.head_count", "attention.head_count_kv", "attention.sliding_window_pattern",
            "attention.indexer.types", "attention.compress_ratios", "feed_forward_length", "swiglu_clamp_exp",
            "swiglu_clamp_shexp" }) {
        stretch(g, arch + "." + key, n_layer);
    }
    const std::string pattern = arch + ".attention.sliding_window_pattern";
    if (t.arch == LLM_ARCH_GEMMA4 || t.arch == LLM_ARCH_GEMMA4_ASSISTANT) {
        const std::vector<uint32_t> sliding = { 1, 1, 0, 1, 0 };
        gguf_set_arr_data(g, pattern.c_str(), GGUF_TYPE_UINT32, sliding.data(), n_layer);
        gguf_set_val_u32(g, (arch + ".attention.shared_kv_layers").c_str(), t.form == "plain" ? 0 : 2);
    } else if (t.form == "deep") {
        const int64_t id = gguf_find_key(g, pattern.c_str());
        if (id >= 0 && gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY) {
            gguf_remove_key(g, pattern.c_str());
        }
    }
    if (t.arch == LLM_ARCH_BAILINGMOE3) {
        gguf_remove_key(g, "bailingmoe3.kda.safe_gate"); // as upstream's test does
    }
    if (t.form != "plain" && t.arch != LLM_ARCH_DEEPSEEK4) {
        const bool mla = gguf_find_key(g, (arch + ".attention.key_length_mla").c_str()) >= 0;
        set_heads(g, arch + ".attention.head_count",    4);
        set_heads(g, arch + ".attention.head_count_kv", mla ? 1 : cannot_group(t.arch) ? 4 : 2);
        if (t.arch == LLM_ARCH_MINIMAX_M3) {
            gguf_set_val_u32(g, (arch + ".attention.indexer.head_count").c_str(), 2); // one for each KV head
        }
        if (t.arch == LLM_ARCH_QWEN4EXP) {
            gguf_set_val_u32(g, (arch + ".attention.indexer.key_length").c_str(), 64);
        }
        if (t.arch != LLM_ARCH_BAILINGMOE3) {
            const std::vector<uint32_t> sections(4, get_u32(g, arch + ".embedding_length")/4/8);
            gguf_set_arr_data(g, (arch + ".rope.dimension_sections").c_str(), GGUF_TYPE_UINT32, sections.data(), 4);
        }
    }
    if (t.arch == LLM_ARCH_GRANITE_SWA && t.form == "deep") {
        const std::vector<uint32_t> rotates = { 1, 1, 0, 1, 1, 0, 0, 1 };
        gguf_set_arr_data(g, "granite_swa.attention.rope_pattern", GGUF_TYPE_UINT32, rotates.data(), n_layer);
    }
    if (t.arch == LLM_ARCH_NOMIC_BERT || t.arch == LLM_ARCH_NOMIC_BERT_MOE || t.arch == LLM_ARCH_JINA_BERT_V3) {
        gguf_set_val_u32(g, "tokenizer.ggml.token_type_count", 1);
    }
    if (t.arch == LLM_ARCH_DEEPSEEK2 || t.arch == LLM_ARCH_DEEPSEEK32 || t.arch == LLM_ARCH_MISTRAL4) {
        // linear scaling also changes the attention's scale here; this multiplier takes that back: they divide it by
        // 0.1 and scale by (1 + 0.1 ln(factor)) * (1 + 0.1 * multiplier * ln(factor))
        const float grown = 1.0f + 0.1f*logf(RATIO);
        gguf_set_val_f32(g, (arch + ".rope.scaling.yarn_log_multiplier").c_str(), 0.1f*(1.0f/grown - 1.0f)/(grown - 1.0f));
    }
    if (t.arch == LLM_ARCH_GLM4_MOE && t.form == "deep") {
        gguf_set_val_u32(g, "glm4moe.nextn_predict_layers", 1); // the last layer drafts
    }
    if (t.arch == LLM_ARCH_MINIMAX_01) {
        // this multiplies the normed residual in each layer: with upstream's 3.6, rotation changes logits by 1e-6
        gguf_set_val_f32(g, "minimax-01.residual_scale", 0.05f);
    }
    if (t.n_pairs > 0) {
        set_length_rows(g, arch, t.n_pairs);
    }
    if (t.linear) {
        gguf_set_val_str(g, (arch + ".rope.scaling.type").c_str(), "linear");
        gguf_set_val_f32(g, (arch + ".rope.scaling.factor").c_str(), RATIO);
    }
    return ptr;
}

static bool ends_with(const std::string & text, const std::string & end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

static bool contains(const std::string & text, const char * part) {
    return text.find(part) != std::string::npos;
}

struct weights {
    size_t   seed;
    uint32_t n_head_kv;
    int      only_group;
    bool     normed; // attention output is normed over all heads
};

static void set_weights(ggml_tensor * tensor, void * userdata) {
    const auto & w = *(const weights *) userdata;
    const std::string name = tensor->name;
    std::mt19937 gen(w.seed ^ std::hash<std::string>()(name));
    std::normal_distribution<float> normal;
    const int64_t n = ggml_nelements(tensor), n_row = tensor->ne[0];

    std::vector<float> data(n);
    const bool is_matrix = n_row < n;
    float scale = is_matrix ? 1.0f/sqrtf(n_row) : 0.1f;
    if (contains(name, "attn_q") || contains(name, "attn_k")) {
        scale *= 2.0f; // attention that looks at some tokens more than at others
    } else if (contains(name, "token_embd")) {
        scale = 1.0f;
    }
    for (int64_t i = 0; i < n; ++i) {
        const float x = scale*normal(gen);
        data[i] = contains(name, "ssm_a") ? -fabsf(x) : contains(name, "norm") && !ends_with(name, "bias") ? 1.0f + x : x;
    }
    if (contains(name, "rope_f")) { // rope_freqs, rope_factors_long, rope_factors_short
        for (int64_t i = 0; i < n; ++i) {
            data[i] = 1.0f + (contains(name, "long") ? 3.0f : 1.0f)*i/n;
        }
    }
    if (w.only_group >= 0 && ends_with(name, "attn_output.weight")) {
        const int64_t n_group = n_row/w.n_head_kv; // of each row, what one KV head's queries attended to
        for (int64_t i = 0; i < n; ++i) {
            data[i] *= (i % n_row)/n_group == w.only_group;
        }
    }
    if (w.only_group >= 0 && w.normed && ends_with(name, "attn_v.weight")) {
        const int64_t n_group = n/w.n_head_kv; // heads meet in a norm before attn_output: the others' values must be 0
        for (int64_t i = 0; i < n; ++i) {
            data[i] *= i/n_group == w.only_group;
        }
    }
    if (tensor->type == GGML_TYPE_F16) {
        std::vector<ggml_fp16_t> half(n);
        ggml_fp32_to_fp16_row(data.data(), half.data(), n);
        ggml_backend_tensor_set(tensor, half.data(), 0, ggml_nbytes(tensor));
    } else {
        GGML_ASSERT(tensor->type == GGML_TYPE_F32);
        ggml_backend_tensor_set(tensor, data.data(), 0, ggml_nbytes(tensor));
    }
}

static uint32_t most(const gguf_context * g, const std::string & key) {
    const int64_t id = gguf_find_key(g, key.c_str());
    if (gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY) {
        return gguf_get_val_u32(g, id);
    }
    const auto * data = (const uint32_t *) gguf_get_arr_data(g, id);
    return *std::max_element(data, data + gguf_get_arr_n(g, id));
}

static size_t seed = 1;

static std::string last_log; // what llama.cpp said last when something failed

static void keep_errors(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        last_log += text;
    }
}

//
// running them
//

typedef std::vector<float> floats;

struct running {
    llama_model_ptr   model;
    llama_context_ptr ctx;
    bool              embeds;

    explicit running(const toy & t) : embeds(is_embedding_model(t.arch)) {
        const std::string arch = llm_arch_name(t.arch);
        gguf_context_ptr g = make_keys(t);
        llama_model_params mp = llama_model_default_params();
        mp.progress_callback = silent_model_load_progress;
        ggml_backend_dev_t none[] = { nullptr };
        mp.devices = none;
        mp.load_mtp = true;
        weights w = { seed, most(g.get(), arch + ".attention.head_count_kv"), t.only_group, t.arch == LLM_ARCH_BITNET };
        model.reset(llama_model_init_from_user(g.get(), set_weights, &w, mp));
        if (!model) {
            throw std::runtime_error("no model: " + last_log);
        }
        if (t.linear) {
            // no key of a file reaches the sliding-window layers of those that keep their scale apart
            const_cast<llama_hparams &>(model->hparams).rope_freq_scale_train_swa = 1.0f/RATIO;
        }
        llama_context_params cp = llama_context_default_params();
        cp.n_ctx = cp.n_batch = cp.n_ubatch = 256;
        cp.n_threads = cp.n_threads_batch = 1;
        cp.type_k = cp.type_v = GGML_TYPE_F32;
        cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        cp.swa_full = true;
        cp.pooling_type = LLAMA_POOLING_TYPE_NONE;
        cp.embeddings = embeds;
        ctx.reset(llama_init_from_model(model.get(), cp));
        if (!ctx) {
            throw std::runtime_error("no context: " + last_log);
        }
    }

    void clear() {
        if (llama_memory_t memory = llama_get_memory(ctx.get())) {
            llama_memory_clear(memory, true);
        }
    }

    // logits (embeddings of models that have no logits) of all tokens
    floats eval(const std::vector<llama_token> & tokens, llama_pos pos) {
        llama_batch batch = llama_batch_init(tokens.size(), 0, 1);
        batch.n_tokens = tokens.size();
        for (size_t i = 0; i < tokens.size(); ++i) {
            batch.token[i]     = tokens[i];
            batch.pos[i]       = pos + i;
            batch.n_seq_id[i]  = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i]    = 1;
        }
        const int status = llama_decode(ctx.get(), batch);
        llama_batch_free(batch);
        if (status != 0) {
            throw std::runtime_error("llama_decode failed: " + last_log);
        }
        const float * data   = embeds ? llama_get_embeddings(ctx.get()) : llama_get_logits(ctx.get());
        const size_t  n      = embeds ? llama_model_n_embd(model.get()) : llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
        return floats(data, data + n*tokens.size());
    }

    // empties the cache and sets the factors; false with last_error() if they are refused
    bool set(const floats & factors) {
        clear();
        return set_factors(ctx.get(), factors.data(), factors.size());
    }

    floats run(const floats & factors) {
        if (!set(factors)) {
            throw std::runtime_error(std::string("factors refused: ") + last_error());
        }
        return eval(get_tokens(N_TOKENS, 128, seed), 0);
    }
};

static double distance(const floats & a, const floats & b) {
    double sum = 0.0;
    for (size_t i = 0; i < a.size(); ++i) {
        sum += ((double) a[i] - b[i])*((double) a[i] - b[i]);
    }
    return sqrt(sum/a.size());
}

static std::string hash(const floats & data) {
    uint64_t res = 0xcbf29ce484222325;
    for (float x : data) {
        uint32_t bits;
        memcpy(&bits, &x, sizeof(bits));
        res = (res ^ bits)*0x100000001b3;
    }
    char buf[20];
    snprintf(buf, sizeof(buf), "%016llx", (unsigned long long) res);
    return quoted(buf);
}

//
// what is asked of each toy
//

struct examination {
    toy     t;
    running r;
    const llama_hparams & hparams;
    std::vector<bool> takes, takes_several, slides;

    explicit examination(const toy & t) : t(t), r(t), hparams(r.model->hparams) {}

    // one value for each layer and KV head
    floats make(const std::function<float(uint32_t, uint32_t)> & value) const {
        floats res;
        for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
            for (uint32_t h = 0; h < hparams.n_head_kv(il); ++h) {
                res.push_back(value(il, h));
            }
        }
        return res;
    }

    // layers that keep no K of their own must have the factors of the layer whose K they use, and layers that run the
    // same block those of the first of them
    uint32_t owner(uint32_t il) const {
        for (uint32_t i = 0; i < il; ++i) {
            if (r.model->layers[i].wq && r.model->layers[i].wq == r.model->layers[il].wq) {
                return i;
            }
        }
        return hparams.has_kv(il) ? il : hparams.n_layer_kv_from_start - (hparams.is_swa(il) ? 2 : 1);
    }

    void probe_layers(record & out) {
        std::vector<std::string> layers;
        for (uint32_t il = 0; il < hparams.n_layer_all; ++il) {
            const uint32_t n_kv = hparams.n_head_kv(il);
            const auto in_layer = [&](uint32_t i) { return owner(i) == owner(il); };
            const bool one = n_kv > 0 && r.set(make([&](uint32_t i, uint32_t) { return in_layer(i) ? 1.5f : 1.0f; }));
            const std::string why_not_one = one || n_kv == 0 ? "" : last_error();
            const bool several = one && n_kv > 1 && r.set(make([&](uint32_t i, uint32_t h) { return in_layer(i) ? 1.5f + 0.1f*h : 1.0f; }));
            const std::string why_not_several = several || !one || n_kv == 1 ? "" : last_error();
            takes.push_back(one);
            takes_several.push_back(several);
            slides.push_back(hparams.is_swa(il));
            layers.push_back(record()
                .put("n_head_kv", std::to_string(n_kv))
                .put("takes", one ? "true" : "false")
                .put("several", several ? "true" : "false")
                .put("slides", hparams.is_swa(il) ? "true" : "false")
                .put("own_factors", r.model->get_rope_factors(r.ctx->get_cparams(), il) ? "true" : "false")
                .put("owner", std::to_string(owner(il)))
                .put("error", quoted(why_not_one + why_not_several)).text + "}");
        }
        out.put("layers", list(layers));
    }

    // rows that differ between layers and, where the layer takes several, between heads
    float distinct(uint32_t il, uint32_t h) const {
        const uint32_t o = owner(il);
        return takes[o] ? 1.2f + 0.07f*(o % 5) + (takes_several[o] ? 0.35f*h : 0.0f) : 1.0f;
    }

    void compare_linear(record & out, const floats & base) {
        toy scaled = t;
        scaled.linear = true;
        const floats linear = running(scaled).run(make([](uint32_t, uint32_t) { return 1.0f; }));
        const auto uniform = [&](bool sliding) {
            return r.run(make([&](uint32_t il, uint32_t) { return takes[il] && (sliding || !slides[il]) ? RATIO : 1.0f; }));
        };
        out.put("linear_effect", number(distance(linear, base)));
        out.put("linear_all",  number(distance(linear, uniform(true))));
        out.put("linear_full", number(distance(linear, uniform(false))));
    }

    // empty if a file may have length rows, else what the runtime says
    std::string ask_for_length_rows() const {
        toy other = t;
        for (uint32_t il = 0; il < hparams.n_layer(); ++il) {
            const bool is_for_it = hparams.has_rope(il) && !slides[il] && hparams.n_head_kv(il) > 0;
            other.n_pairs = is_for_it ? hparams.n_rot(il)/2 : other.n_pairs;
        }
        other.n_pairs = std::max(other.n_pairs, 1u);
        last_log.clear();
        try {
            running r(other);
        } catch (const std::exception & error) {
            return contains(last_log, last_error()) ? last_error() : error.what();
        }
        return "";
    }

    // what one KV head's queries see with different factors everywhere is what they see when all heads have theirs
    void compare_heads(record & out) {
        uint32_t n_kv = 0;
        for (uint32_t il = 0; il < hparams.n_layer(); ++il) {
            n_kv = std::max(n_kv, takes_several[il] ? hparams.n_head_kv(il) : 0u);
        }
        double worst = 0.0, effect = INFINITY;
        for (uint32_t g = 0; g < n_kv; ++g) {
            toy masked = t;
            masked.only_group = g;
            running m(masked);
            const floats all   = m.run(make([&](uint32_t il, uint32_t h) { return distinct(il, h); }));
            const floats own   = m.run(make([&](uint32_t il, uint32_t)   { return distinct(il, std::min(g, hparams.n_head_kv(il) - 1)); }));
            const floats other = m.run(make([&](uint32_t il, uint32_t)   { return distinct(il, (g + 1) % n_kv); }));
            worst  = std::max(worst,  distance(all, own));
            effect = std::min(effect, distance(all, other));
        }
        if (n_kv > 0) {
            out.put("head_error", number(worst)).put("head_effect", number(effect));
        }
    }

    void compare_shift(record & out) {
        llama_memory_t memory = llama_get_memory(r.ctx.get());
        if (memory == nullptr || !llama_memory_can_shift(memory)) {
            return;
        }
        const auto tokens = get_tokens(N_TOKENS, 128, seed);
        const std::vector<llama_token> head(tokens.begin(), tokens.end() - N_TAIL), tail(tokens.end() - N_TAIL, tokens.end());
        const floats factors = make([&](uint32_t il, uint32_t h) { return distinct(il, h); });
        r.set(factors);
        r.eval(head, N_SHIFT);
        llama_memory_seq_add(memory, 0, 0, -1, -(llama_pos) N_SHIFT);
        const floats moved = r.eval(tail, head.size());
        r.set(factors);
        r.eval(head, 0);
        const floats direct = r.eval(tail, head.size());
        r.set(make([](uint32_t, uint32_t) { return 1.0f; }));
        r.eval(head, 0);
        const floats plain = r.eval(tail, head.size()); // a shift without the table would be off by about that much
        out.put("shift_error", number(distance(moved, direct))).put("shift_effect", number(distance(plain, direct)));
    }

    void run(record & out, const std::string & directory) {
        const gguf_context_ptr keys = make_keys(t);
        const std::string path = directory + "/" + llm_arch_name(t.arch) + (t.moe ? "-moe-" : "-") + t.form + ".gguf";
        gguf_write_to_file(keys.get(), path.c_str(), true);
        out.put("keys", quoted(path));

        const floats base = r.eval(get_tokens(N_TOKENS, 128, seed), 0);
        out.put("hash", hash(base));
        out.put("ones", hash(r.run(make([](uint32_t, uint32_t) { return 1.0f; }))));
        probe_layers(out);
        out.put("length_error", quoted(ask_for_length_rows()));
        if (t.form == "deep" || std::find(takes.begin(), takes.end(), true) == takes.end()) {
            return;
        }
        compare_linear(out, base);
        out.put("distinct", number(distance(base, r.run(make([&](uint32_t il, uint32_t h) { return distinct(il, h); })))));
        compare_heads(out);
        compare_shift(out);
    }
};

static bool is_made(llm_arch arch, bool moe) {
    const bool only_moe = moe_mandatory(arch) || arch == LLM_ARCH_DEEPSEEK2OCR || arch == LLM_ARCH_NOMIC_BERT_MOE;
    return moe ? only_moe || moe_implemented(arch) : !only_moe;
}

static void examine(const toy & t, const char * directory) {
    record out;
    out.put("arch", quoted(llm_arch_name(t.arch))).put("moe", t.moe ? "true" : "false").put("form", quoted(t.form));
    try {
        if (directory) {
            examination(t).run(out, directory);
        } else {
            out.put("hash", hash(running(t).eval(get_tokens(N_TOKENS, 128, seed), 0)));
        }
    } catch (const std::exception & error) {
        out.put("problem", quoted(error.what()));
    }
    out.print();
}

int main(int argc, char ** argv) {
    llama_log_set(keep_errors, nullptr);
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "list") {
        for (llm_arch arch : llm_arch_all()) {
            for (bool moe : { false, true }) {
                if (is_made(arch, moe) && arch != LLM_ARCH_UNKNOWN && arch != LLM_ARCH_CLIP) {
                    printf("%s %s\n", llm_arch_name(arch), moe ? "moe" : "dense");
                }
            }
        }
        return 0;
    }
    if (what == "save" && argc == 4) {
        const char * args[] = { argv[0], "-a", argv[3], "-s", "1", "-d", "0.5", "-o", argv[2] };
        return upstream_main(9, const_cast<char **>(args));
    }
    const bool full = what == "full" && argc > 5;
    if (!full && !(what == "stock" && argc == 5)) {
        fprintf(stderr, "usage: %s list | stock ARCH dense|moe FORM | full ARCH dense|moe FORM DIRECTORY [SEED]\n", argv[0]);
        return 2;
    }
    if (full) {
        set_factors = (decltype(set_factors)) dlsym(RTLD_DEFAULT, "ggufrope_set_head_factors");
        last_error  = (decltype(last_error))  dlsym(RTLD_DEFAULT, "ggufrope_last_error");
        seed = argc > 6 ? atoi(argv[6]) : 1;
    }
    examine({ llm_arch_from_string(argv[2]), strcmp(argv[3], "moe") == 0, argv[4] }, full ? argv[5] : nullptr);
    return 0;
}
