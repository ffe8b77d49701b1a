// ggufrope: how a layer's rotated K gets into its cache
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-trace.h"

// how a layer rotates its K and where it keeps it, as found in a graph
struct ggufrope_stored_k {
    const ggml_tensor * cache = nullptr; // [n_embd_k_gqa, n_cells, n_streams]; null: it was not found

    int64_t n_embd_head = 0;
    int64_t offset      = 0; // of the rotated part in a head

    int32_t rope_params[GGML_MAX_OP_PARAMS/sizeof(int32_t)] = {};
};

// by layer, what the writes to caches in this graph store of what `ropes` give
std::vector<ggufrope_stored_k> ggufrope_find_stored_k(ggml_cgraph * gf, const std::vector<ggufrope_rope> & ropes, size_t n_layers);
