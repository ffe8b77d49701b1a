// ggufrope: a rotation that a device is tested with: what goes in, what must come out
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-rope-case.h"

struct ggufrope_case_inputs {
    std::vector<float>   x;       // [n_batch][n_tokens][n_head][n_embd_head], F16 values where the case is F16
    std::vector<int32_t> pos;     // [n_pos]
    std::vector<float>   factors; // [n_rows][n_ff]
    std::vector<float>   weight;  // [n_embd_head]
    std::vector<float>   cache;   // [n_cells][n_head*n_embd_head], F16 values where it is F16
    std::vector<int64_t> cells;   // [n_tokens]
};

ggufrope_case_inputs ggufrope_make_inputs(const ggufrope_rope_case & c);

// what must come out, by float64, and how far from it a device may be
struct ggufrope_case_answer {
    std::vector<double> values;
    std::vector<double> limits; // 0: no other number is right
};

// The limits are the documented precision of what computes: on a CPU float arithmetic with libm, else what the languages
// of GPUs promise of their sines, cosines and powers (docs/backends.md).
ggufrope_case_answer ggufrope_solve(const ggufrope_rope_case & c, const ggufrope_case_inputs & in, bool cpu);
