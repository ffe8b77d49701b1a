// ggufrope: a rotation that a device is tested with: what goes in, what must come out
// SPDX-License-Identifier: MIT
//
// The answers are computed from the definition of RoPE, pair by pair, in double precision. Nothing here may be shared
// with a kernel or called by one.

#include "ggufrope-rope-answer.h"

#include <algorithm>
#include <cmath>

static const double PI  = 3.14159265358979323846;
static const double EPS = 1e-6; // of RMS_NORM, see ggufrope-device-test.cpp

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

// what a pair turns by, and what a value may be off: by `trig` of the pair's size for a rotation, by `units` in the last
// place for a cosine or sine alone
struct pair_turn {
    double cosine;
    double sine;
    double trig;
    double units;
};

// relative to the size of a pair
static double limit_of(const ggufrope_rope_case & c, bool cpu, double angle, int64_t exponent) {
    const double ulp = 0x1p-23;
    // The CPU multiplies by the base's root once for each pair. GPUs take a power of it, exp2(i*log2(root)): Vulkan grants
    // 2^-21 to a logarithm of this size, which is 2.8 i units, and 3 + 2|x| units to exp2; CUDA and Metal with fast math
    // stay below that.
    const double octaves = 2.0*exponent/c.n_dims*std::log2((double) c.freq_base);
    const double units   = cpu ? exponent + 4.0 : 4.0*exponent + 2.0*octaves + 8.0;
    // Sine and cosine themselves: Vulkan grants 2^-11 to each of the two that a value is made of, Metal with fast math
    // 2^-13, CUDA with fast math 2^-20.9. What is wrong is off by a hundred times as much.
    const double trig    = cpu ? 0x1p-20 : 0x1p-9;
    return std::fabs(angle)*units*ulp + trig;
}

// the pairs of a token's heads that have this row of factors
static std::vector<pair_turn> turns_of(
        const ggufrope_rope_case & c, const ggufrope_case_inputs & in, bool cpu, int64_t token, int64_t row) {
    const float * factors = in.factors.data() + row*c.n_ff();
    double scale = c.attn_factor;
    if (c.ext_factor != 0.0f) {
        scale *= 1.0 + 0.1*std::log(1.0/c.freq_scale);
    }
    std::vector<pair_turn> res;
    double largest = 0.0;
    for (int64_t i = 0; i < c.n_pairs(); ++i) {
        const auto   place = place_of(c, i);
        const double power = std::pow((double) c.freq_base, -2.0*place.exponent/c.n_dims);
        const double turn  = in.pos[place.section*c.n_tokens + token]*power/factors[i];
        const double mix   = yarn_mix(c, i);
        const double angle = turn*(c.freq_scale*(1.0 - mix) + mix)*(c.backward ? -1.0 : 1.0);
        res.push_back({ scale*std::cos(angle), scale*std::sin(angle), std::fabs(scale)*limit_of(c, cpu, angle, place.exponent), 0.0 });
        largest = std::max(largest, std::fabs(angle));
    }
    // rounded to float but for a last trace of the polynomial (0.500012 were measured); a row with a larger angle is libm's
    for (auto & pair : res) {
        pair.units = largest <= 0x1p27 ? 0.5005 : 4.0;
    }
    return res;
}

// a unit in the last place of a float
static double unit_of(double value) {
    int exponent;
    std::frexp(value, &exponent);
    return value == 0.0 ? 0.0 : std::ldexp(1.0, exponent - 24);
}

// x [n_embd_head] as it comes to the rope; returns what its norm may be off
static double normalize(const ggufrope_rope_case & c, const ggufrope_case_inputs & in, bool cpu, std::vector<double> & x) {
    if (!c.norm) {
        return 0.0;
    }
    double squares = 0.0, largest = 0.0;
    for (double value : x) {
        squares += value*value;
    }
    for (int64_t i = 0; i < c.n_embd_head; ++i) {
        x[i] *= in.weight[i]/std::sqrt(squares/c.n_embd_head + EPS);
        largest = std::max(largest, std::fabs(x[i]));
    }
    return largest*(cpu ? 0x1p-20 : 0x1p-18);
}

// what a value may be off more when it is stored as F16; GPUs may truncate
static double f16_rounding(double value, bool cpu) {
    return std::fabs(value)*(cpu ? 0x1p-11 : 0x1p-10) + 0x1p-24;
}

// one head: values [n_embd_head] are turned in place, limits [n_embd_head] are set
static void rotate_head(
        const ggufrope_rope_case & c, const std::vector<pair_turn> & turns, std::vector<double> & values, std::vector<double> & limits) {
    std::fill(limits.begin(), limits.end(), 0.0);
    for (int64_t i = 0; i < c.n_pairs(); ++i) {
        const auto & turn = turns[i];
        const int64_t first  = c.n_offs + (c.mode == GGML_ROPE_TYPE_NORMAL ? 2*i : i);
        const int64_t second = first + (c.mode == GGML_ROPE_TYPE_NORMAL ? 1 : c.n_pairs());
        const double a = values[first];
        const double b = values[second];
        values[first]  = a*turn.cosine - b*turn.sine;
        values[second] = a*turn.sine   + b*turn.cosine;
        limits[first]  = c.cos_sin ? turn.units*unit_of(values[first])  : std::hypot(a, b)*turn.trig;
        limits[second] = c.cos_sin ? turn.units*unit_of(values[second]) : std::hypot(a, b)*turn.trig;
    }
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

    const int64_t n = c.n_embd_head;
    std::vector<double> values(n), limits(n);
    std::vector<std::vector<pair_turn>> turns(c.n_tokens*c.n_rows);
    for (int64_t i = 0; i < c.n_tokens*c.n_rows; ++i) {
        turns[i] = turns_of(c, in, cpu, i/c.n_rows, i%c.n_rows);
    }
    for (int64_t h = 0; h < c.n_batch*c.n_tokens*c.n_head; ++h) {
        const int64_t head  = h%c.n_head;
        const int64_t token = h/c.n_head%c.n_tokens;
        std::copy_n(in.x.begin() + h*n, n, values.begin());
        const double norm_limit = normalize(c, in, cpu, values);
        rotate_head(c, turns[token*c.n_rows + head/(c.n_head/c.n_rows)], values, limits);

        const int64_t start = into_cache ? (in.cells[token]*c.n_head + head)*n : h*n;
        for (int64_t i = 0; i < n; ++i) {
            const bool rounded = (c.type == GGML_TYPE_F16 && limits[i] > 0.0) || c.cache == GGML_TYPE_F16;
            res.values[start + i] = values[i];
            res.limits[start + i] = limits[i] + norm_limit + (rounded ? f16_rounding(values[i], cpu) : 0.0);
        }
    }
    return res;
}
