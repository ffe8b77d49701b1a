// ggufrope: the rotations that devices are tested with
// SPDX-License-Identifier: MIT

#include "ggufrope-rope-case.h"

#include <algorithm>
#include <cstring>

std::string ggufrope_rope_case::op() const {
    if (cos_sin) {
        return backward ? "cos and sin, backward" : "cos and sin";
    }
    std::string res = backward ? "rope_back" : in_place ? "rope in place" : "rope";
    if (norm) {
        res = "rms_norm + mul + " + res;
    }
    return cache == GGML_TYPE_COUNT ? res : res + " + set_rows";
}

std::string ggufrope_rope_case::mode_name() const {
    switch (mode) {
        case GGML_ROPE_TYPE_NORMAL: return "norm";
        case GGML_ROPE_TYPE_NEOX:   return "neox";
        case GGML_ROPE_TYPE_MROPE:  return "mrope";
        case GGML_ROPE_TYPE_IMROPE: return "imrope";
        case GGML_ROPE_TYPE_VISION: return "vision";
        default:                    return "mode " + std::to_string(mode);
    }
}

std::string ggufrope_rope_case::type_names() const {
    return std::string(ggml_type_name(type)) + (cache == GGML_TYPE_COUNT ? "" : std::string(" to ") + ggml_type_name(cache));
}

std::string ggufrope_rope_case::variant() const {
    return ext_factor != 0.0f ? "yarn" : n_embd_head > 64 ? "large" : "";
}

std::string ggufrope_rope_case::key() const {
    std::string res;
    for (int64_t n : { (int64_t) mode, (int64_t) type, (int64_t) backward, (int64_t) in_place, (int64_t) norm, (int64_t) cache, (int64_t) cos_sin,
            n_embd_head, n_head, n_rows, n_tokens, n_batch, n_gap, (int64_t) n_dims, (int64_t) n_offs, (int64_t) n_ctx_orig,
            (int64_t) sections[0], (int64_t) sections[1], (int64_t) sections[2], (int64_t) sections[3] }) {
        res += std::to_string(n) + ' ';
    }
    for (float x : { freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow }) {
        res += std::to_string(x) + ' ';
    }
    return res;
}

static ggufrope_rope_case with_yarn(ggufrope_rope_case c) {
    c.freq_scale  = 0.25f;
    c.ext_factor  = 1.0f;
    c.attn_factor = 0.9f;
    return c;
}

static ggufrope_rope_case of_mode(int mode) {
    ggufrope_rope_case c;
    c.mode = mode;
    if (c.is_vision()) {
        c.n_dims = c.n_embd_head/2;
        c.sections[0] = c.sections[1] = c.n_dims/2;
    } else if (c.is_multi()) {
        const int sections[4] = { 7, 6, 5, 3 }; // 21 of 24 pairs: the last ones begin again
        std::copy(sections, sections + 4, c.sections);
    }
    return c;
}

// the rope with what a model has before and behind it
static std::vector<ggufrope_rope_case> with_neighbours(ggufrope_rope_case c) {
    std::vector<ggufrope_rope_case> res;
    for (bool norm : { false, true }) {
        c.norm = norm;
        for (ggml_type cache : { GGML_TYPE_COUNT, GGML_TYPE_F16, GGML_TYPE_F32 }) {
            c.cache = cache;
            if (norm || cache != GGML_TYPE_COUNT) {
                res.push_back(c);
            }
        }
    }
    return res;
}

std::vector<ggufrope_rope_case> ggufrope_rope_cases(int mode) {
    ggufrope_rope_case c = of_mode(mode);
    std::vector<ggufrope_rope_case> res;
    if (!c.is_vision()) {
        res = with_neighbours(c);
        res.pop_back(); // a norm and an F32 cache, by hand
    }
    c.n_batch = 2;
    c.n_gap   = 2;
    for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16 }) {
        c.type = type;
        for (bool backward : { false, true }) {
            c.backward = backward;
            res.push_back(c);
            res.push_back(with_yarn(c));
        }
        c.backward = false;
        c.in_place = true;
        res.push_back(c);
        c.in_place = false;
    }
    return res;
}

std::vector<ggufrope_rope_case> ggufrope_more_rope_cases(int mode) {
    ggufrope_rope_case c = of_mode(mode);
    std::vector<ggufrope_rope_case> res;
    if (!c.is_vision()) {
        res = with_neighbours(with_yarn(c));
        res.push_back(with_neighbours(c).back());
    }
    // heads of more pairs than a block of a GPU has threads
    c.n_embd_head = 1024;
    c.n_dims      = c.is_vision() ? 512 : 1024;
    c.n_head      = 8;
    c.n_rows      = 4;
    c.n_tokens    = 24;
    for (int & section : c.sections) {
        section *= 1024/64;
    }
    for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16 }) {
        c.type = type;
        res.push_back(c);
    }
    return res;
}

ggufrope_rope_case ggufrope_cos_sin_case(bool backward) {
    ggufrope_rope_case c;
    c.cos_sin   = true;
    c.backward  = backward;
    c.n_dims    = 64;
    c.n_head    = 4;
    c.n_rows    = 4;
    c.n_tokens  = 64;
    c.freq_base = 1.0f; // all pairs turn by position/factor
    return c;
}

ggufrope_rope_case ggufrope_case_like(const ggml_tensor * rope, int64_t n_rows) {
    ggufrope_rope_case c;
    const int32_t * params = rope->op_params; // see ggml_rope_ext
    c.n_dims      = params[1];
    c.mode        = params[2];
    c.n_ctx_orig  = params[4];
    float * floats[6] = { &c.freq_base, &c.freq_scale, &c.ext_factor, &c.attn_factor, &c.beta_fast, &c.beta_slow };
    for (int i = 0; i < 6; ++i) {
        memcpy(floats[i], params + 5 + i, sizeof(float));
    }
    memcpy(c.sections, params + 11, sizeof(c.sections));
    c.n_offs      = params[15];
    c.n_embd_head = rope->ne[0];
    c.n_head      = rope->ne[1];
    c.n_rows      = n_rows;
    return c;
}
