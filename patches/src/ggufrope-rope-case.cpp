// ggufrope: a rotation that a device is tested with: what goes in, what must come out
// SPDX-License-Identifier: MIT
//
// The answers are computed from the definition of RoPE, pair by pair, in double precision. Nothing here may be shared
// with a kernel or called by one.

#include "ggufrope-rope-case.h"

#include <algorithm>
#include <cmath>
#include <cstring>

static const double PI  = 3.14159265358979323846;
static const double EPS = 1e-6; // of RMS_NORM, see ggufrope-selftest.cpp

//
// cases
//

std::string ggufrope_rope_case::op() const {
    if (cos_sin) {
        return backward ? "cos and sin, backward" : "cos and sin";
    }
    std::string res = backward ? "rope_back" : "rope";
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
    for (int64_t n : { (int64_t) mode, (int64_t) type, (int64_t) backward, (int64_t) norm, (int64_t) cache, (int64_t) cos_sin,
            n_embd_head, n_head, n_rows, n_tokens, n_batch, n_gap, (int64_t) n_dims, (int64_t) n_ctx_orig,
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
        for (ggml_type cache : { GGML_TYPE_COUNT, GGML_TYPE_F32, GGML_TYPE_F16 }) {
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
    }
    return res;
}

std::vector<ggufrope_rope_case> ggufrope_more_rope_cases(int mode) {
    ggufrope_rope_case c = of_mode(mode);
    std::vector<ggufrope_rope_case> res;
    if (!c.is_vision()) {
        res = with_neighbours(with_yarn(c));
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
    c.n_embd_head = rope->ne[0];
    c.n_head      = rope->ne[1];
    c.n_rows      = n_rows;
    return c;
}

//
// inputs
//

// small numbers from a linear congruential generator (Knuth's MMIX): the same ones everywhere
struct numbers {
    uint64_t state;

    uint32_t next() {
        state = state*6364136223846793005u + 1442695040888963407u;
        return state >> 32;
    }

    // [from, to), in steps that F16 has for numbers of about 1
    float next(float from, float to) {
        const float x = from + (to - from)*((next() >> 22)/1024.0f);
        return ggml_fp16_to_fp32(ggml_fp32_to_fp16(x));
    }
};

static std::vector<int32_t> make_positions(const ggufrope_rope_case & c, numbers & random) {
    std::vector<int32_t> res(c.n_pos());
    // some by far longer than texts of today; 355 and what follows is nearly a multiple of pi
    const int32_t edges[8] = { 0, 1, 7, 355, 4095, 32768, 70001, 100003 };
    const int32_t hard[6]  = { 0, 355, 103993, 104348, 208341, 312689 };
    for (int64_t i = 0; i < c.n_pos(); ++i) {
        const int64_t section = i/c.n_tokens;
        const int64_t token   = i%c.n_tokens;
        if (c.cos_sin) {
            res[i] = token < 6 ? hard[token] : random.next() >> 8;
        } else {
            res[i] = edges[(token + 3*section)%8] + (token/8)*17;
        }
    }
    return res;
}

static std::vector<float> make_factors(const ggufrope_rope_case & c, numbers & random) {
    std::vector<float> res(c.n_rows*c.n_ff());
    for (int64_t row = 0; row < c.n_rows; ++row) {
        for (int64_t i = 0; i < c.n_ff(); ++i) {
            float & factor = res[row*c.n_ff() + i];
            if (!c.cos_sin) {
                factor = random.next(1.0f, 1.5f) + 0.5f*(row%6);
            } else if (row + 1 < c.n_rows) {
                factor = std::ldexp(1.0f, int(random.next()%27) - 3); // position/factor < 2^27, and exact
            } else {
                factor = std::ldexp(1.0f, -int(i%11)); // up to 2^34, which libm turns
            }
        }
    }
    return res;
}

ggufrope_case_inputs ggufrope_make_inputs(const ggufrope_rope_case & c) {
    numbers random = { 1 };
    ggufrope_case_inputs in;

    in.pos     = make_positions(c, random);
    in.factors = make_factors(c, random);

    in.x.resize(c.n_values());
    for (size_t i = 0; i < in.x.size(); ++i) {
        const float sign = random.next() >> 31 ? -1.0f : 1.0f;
        in.x[i] = c.cos_sin ? float(i%2 == 0) : sign*random.next(0.5f, 2.0f); // no value is small: each one tells
    }
    if (c.norm) {
        in.weight.resize(c.n_embd_head);
        for (float & w : in.weight) {
            w = random.next(0.5f, 2.0f);
        }
    }
    if (c.cache != GGML_TYPE_COUNT) {
        in.cache.resize(c.n_cells()*c.n_head*c.n_embd_head);
        for (float & value : in.cache) {
            value = random.next(4.0f, 5.0f);
        }
        for (int64_t token = 0; token < c.n_tokens; ++token) {
            in.cells.push_back((5*token + 3)%c.n_cells()); // 5 and 16 have no common divisor: every token its own
        }
    }
    return in;
}

//
// answers
//

// what a pair turns by without its factor: the index of its position among the four, and how often it has been slowed
struct pair_place {
    int64_t section;
    int64_t exponent;
};

static pair_place place_of(const ggufrope_rope_case & c, int64_t pair) {
    if (!c.is_multi()) {
        return { 0, pair };
    }
    const int * s = c.sections;
    const int64_t sector = pair%(s[0] + s[1] + s[2] + s[3]);
    if (c.mode == GGML_ROPE_TYPE_IMROPE) { // time, height and width take turns, as long as each has pairs left
        return { sector < 3*s[sector%3] ? sector%3 : 3, pair };
    }
    int64_t section = 0, start = 0;
    while (section < 3 && sector >= start + s[section]) {
        start += s[section++];
    }
    return { section, c.is_vision() ? sector - start : pair };
}

// YaRN by its paper (arXiv 2309.00071): which part of a pair's angle is that of the trained lengths
static double yarn_mix(const ggufrope_rope_case & c, int64_t pair) {
    if (c.ext_factor == 0.0f) {
        return 0.0;
    }
    const auto pair_of_turns = [&](double turns) {
        return c.n_dims*std::log(c.n_ctx_orig/(2*PI*turns))/(2*std::log((double) c.freq_base));
    };
    const double low  = std::max(0.0, std::floor(pair_of_turns(c.beta_fast)));
    const double high = std::min(c.n_dims - 1.0, std::ceil(pair_of_turns(c.beta_slow)));
    return c.ext_factor*(1.0 - std::min(1.0, std::max(0.0, (pair - low)/std::max(0.001, high - low))));
}

// how far a value of size `size` may be off whose angle is `angle`, from a power with this exponent
static double limit_of(const ggufrope_rope_case & c, bool cpu, double angle, int64_t exponent, double size) {
    const double ulp = 0x1p-23;
    // The CPU multiplies by the base's root once for each pair. GPUs take powers: exp2(y*log2(x)), where Vulkan grants 3
    // + 2|x| units to exp2, CUDA and Metal with fast math about as many to the product.
    const double octaves = 2.0*exponent/c.n_dims*std::log2((double) c.freq_base);
    const double units   = cpu ? exponent + 4.0 : 4.0*exponent + 2.0*octaves + 8.0;
    // Sine and cosine themselves: Vulkan grants 2^-11 to each, Metal with fast math 2^-13, CUDA with fast math 2^-20.9.
    const double trig    = cpu ? 0x1p-20 : 0x1p-10;
    return size*(std::fabs(angle)*units*ulp + trig);
}

// a cosine or sine that is rounded to float but for a last trace of the polynomial: 0.500012 units were measured
static double limit_of_cos_sin(double value, double angle) {
    int exponent;
    std::frexp(value, &exponent);
    const double unit = value == 0.0 ? 0.0 : std::ldexp(1.0, exponent - 24);
    return (std::fabs(angle) <= 0x1p27 ? 0.5005 : 4.0)*unit;
}

// one head: x [n_embd_head] -> values and limits
static void rotate_head(
        const ggufrope_rope_case & c, const ggufrope_case_inputs & in, bool cpu, int64_t token, int64_t head,
        const double * x, double * values, double * limits) {
    std::copy(x, x + c.n_embd_head, values);
    std::fill(limits, limits + c.n_embd_head, 0.0);

    const float * factors = in.factors.data() + head/(c.n_head/c.n_rows)*c.n_ff();
    double scale = c.attn_factor;
    if (c.ext_factor != 0.0f) {
        scale *= 1.0 + 0.1*std::log(1.0/c.freq_scale);
    }
    // a row that holds a larger angle is turned by libm, as a whole
    double largest = 0.0;
    for (int64_t i = 0; c.cos_sin && i < c.n_pairs(); ++i) {
        largest = std::max(largest, (double) in.pos[token]/factors[i]);
    }
    for (int64_t i = 0; i < c.n_pairs(); ++i) {
        const auto   place = place_of(c, i);
        const double power = std::pow((double) c.freq_base, -2.0*place.exponent/c.n_dims);
        const double turn  = in.pos[place.section*c.n_tokens + token]*power/factors[i];
        const double mix   = yarn_mix(c, i);
        const double angle = turn*(c.freq_scale*(1.0 - mix) + mix)*(c.backward ? -1.0 : 1.0);

        const int64_t first  = c.mode == GGML_ROPE_TYPE_NORMAL ? 2*i : i;
        const int64_t second = c.mode == GGML_ROPE_TYPE_NORMAL ? 2*i + 1 : i + c.n_pairs();
        const double a = scale*x[first];
        const double b = scale*x[second];
        values[first]  = a*std::cos(angle) - b*std::sin(angle);
        values[second] = a*std::sin(angle) + b*std::cos(angle);
        if (c.cos_sin) {
            limits[first]  = limit_of_cos_sin(values[first],  largest);
            limits[second] = limit_of_cos_sin(values[second], largest);
        } else {
            limits[first] = limits[second] = limit_of(c, cpu, angle, place.exponent, std::hypot(a, b));
        }
    }
}

// what a value may be off more when it is stored as F16; GPUs may truncate
static double f16_rounding(double value, bool cpu) {
    return std::fabs(value)*(cpu ? 0x1p-11 : 0x1p-10) + 0x1p-24;
}

ggufrope_case_answer ggufrope_solve(const ggufrope_rope_case & c, const ggufrope_case_inputs & in, bool cpu) {
    const bool into_cache = c.cache != GGML_TYPE_COUNT;
    ggufrope_case_answer res;
    if (into_cache) {
        res.values.assign(in.cache.begin(), in.cache.end());
    } else {
        res.values.resize(in.x.size());
    }
    res.limits.assign(res.values.size(), 0.0);

    std::vector<double> x(c.n_embd_head), values(c.n_embd_head), limits(c.n_embd_head);
    const int64_t n_heads = c.n_batch*c.n_tokens*c.n_head;
    for (int64_t h = 0; h < n_heads; ++h) {
        const int64_t head  = h%c.n_head;
        const int64_t token = h/c.n_head%c.n_tokens;
        std::copy_n(in.x.begin() + h*c.n_embd_head, c.n_embd_head, x.begin());
        double largest = 0.0;
        if (c.norm) {
            double squares = 0.0;
            for (double value : x) {
                squares += value*value;
            }
            for (int64_t i = 0; i < c.n_embd_head; ++i) {
                x[i] *= in.weight[i]/std::sqrt(squares/c.n_embd_head + EPS);
                largest = std::max(largest, std::fabs(x[i]));
            }
        }
        rotate_head(c, in, cpu, token, head, x.data(), values.data(), limits.data());
        const int64_t start = into_cache ? (in.cells[token]*c.n_head + head)*c.n_embd_head : h*c.n_embd_head;
        for (int64_t i = 0; i < c.n_embd_head; ++i) {
            const bool rounded = (c.type == GGML_TYPE_F16 && limits[i] > 0.0) || c.cache == GGML_TYPE_F16;
            res.values[start + i] = values[i];
            res.limits[start + i] = limits[i] + largest*(cpu ? 0x1p-20 : 0x1p-18) + (rounded ? f16_rounding(values[i], cpu) : 0.0);
        }
    }
    return res;
}
