// ggufrope: the rotations that devices are tested with
// SPDX-License-Identifier: MIT

#pragma once

#include "ggml.h"

#include <cstdint>
#include <string>
#include <vector>

// A rope with its parameters as ggml_rope_ext has them, and its neighbours in a model's graph. Everything about it follows
// from this struct: positions, factors and inputs are made from fixed numbers, so that a case fails twice or never.
struct ggufrope_rope_case {
    int       mode     = GGML_ROPE_TYPE_NORMAL;
    ggml_type type     = GGML_TYPE_F32; // of what is rotated
    bool      backward = false;
    bool      in_place = false;           // as K shifts do it
    bool      norm     = false;           // RMS_NORM and MUL before it
    ggml_type cache    = GGML_TYPE_COUNT; // VIEW and SET_ROWS into a cache of this type behind it; COUNT: none

    // One pair each of (1, 0), in angles whose cosines and sines are hard to round: the CPU's are right to the last digit.
    bool cos_sin = false;

    int64_t n_embd_head = 64;
    int64_t n_head      = 6; // 3 rows: the head of a row is neither its index in the row nor the number of rows
    int64_t n_rows      = 3;
    int64_t n_tokens    = 8;
    int64_t n_batch     = 1;
    int64_t n_gap       = 0; // heads between two tokens that are not rotated: the rope sees a view

    int   n_dims      = 48; // part of the head, and shorter than a row of factors
    int   n_offs      = 0;  // dimensions before that part
    int   sections[4] = { 0, 0, 0, 0 };
    int   n_ctx_orig  = 4096;
    float freq_base   = 10000.0f;
    float freq_scale  = 1.0f;
    float ext_factor  = 0.0f;
    float attn_factor = 1.0f;
    float beta_fast   = 32.0f;
    float beta_slow   = 1.0f;

    bool is_multi()  const { return mode & GGML_ROPE_TYPE_MROPE; }
    bool is_vision() const { return mode == GGML_ROPE_TYPE_VISION; }

    int64_t n_pos()   const { return is_multi() ? 4*n_tokens : n_tokens; }
    int64_t n_pairs() const { return is_vision() ? n_dims : n_dims/2; } // that rotate
    int64_t n_ff()    const { return is_vision() ? n_embd_head : n_embd_head/2; } // factors in a row
    int64_t n_cells() const { return 2*n_tokens; }
    int64_t n_values() const { return n_batch*n_tokens*n_head*n_embd_head; }

    // which op, for people: "rope + set_rows"; mode and types: "neox", "f32 to f16"
    std::string op()         const;
    std::string mode_name()  const;
    std::string type_names() const;
    std::string variant()    const;

    // equal for equal cases
    std::string key() const;
};

// the cases that every device must pass in a mode
std::vector<ggufrope_rope_case> ggufrope_rope_cases(int mode);

// more of them, for a check by hand
std::vector<ggufrope_rope_case> ggufrope_more_rope_cases(int mode);

// the CPU's cosines and sines for rows of factors
ggufrope_rope_case ggufrope_cos_sin_case(bool backward);

// the model's own shape and parameters, of a rope that its graph has
ggufrope_rope_case ggufrope_case_like(const ggml_tensor * rope, int64_t n_rows);
