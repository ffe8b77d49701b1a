// ggufrope: rotating cached K anew
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-factors.h"
#include "ggufrope-stored-k.h"

#include <functional>
#include <map>
#include <vector>

struct llama_context;
class  llama_kv_cache;
class  llama_kv_cells;

// What to rotate the K of a layer by to get from the factors that it was rotated with to others: multiply the angle by
// (1/to - 1/from), which is a rope with the factors 1/(1/to - 1/from), and K's length by a ratio.
struct ggufrope_rotation {
    std::vector<float> factors; // [n_rows][n_rot/2]; n_rows is 1 or the number of heads
    float              scale = 1.0f;

    const ggufrope_stored_k * stored_k = nullptr; // how the layer rotates and keeps its K
};

// the numbers of rows may differ; empty factors in the answer: nothing to do
ggufrope_rotation ggufrope_rotation_between(const ggufrope_layer_factors & from, const ggufrope_layer_factors & to);

// cells of one stream of a cache
using ggufrope_cell_filter = std::function<bool(const llama_kv_cells & cells, uint32_t i)>;

// Rotates the selected cells of `cache` anew, in all its layers; the graph memory and the scheduler of `ctx` are used.
// Returns how many cells were rotated; throws if computing fails, where some of them may have been rotated already.
size_t ggufrope_rerotate(
        llama_context & ctx, const llama_kv_cache & cache,
        const std::map<uint32_t, ggufrope_rotation> & rotations, // by layer
        const ggufrope_cell_filter & selected);
