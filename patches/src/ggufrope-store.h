// ggufrope: the tables of one context, on the devices of their layers
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-factors.h"

#include "ggml-cpp.h"

#include <functional>
#include <map>
#include <utility>
#include <vector>

struct llama_model;

// Values of all lengths in host memory, and one tensor [n_pairs, n_rows] for each layer that has a table, which holds
// those of one length. It knows neither where values come from nor which length serves.
class ggufrope_table_store {
public:
    // may add tensors that belong to a table, to the memory it lies in; four of them at most
    using companion = std::function<void(ggml_context * ctx, uint32_t il, ggml_tensor * table)>;

    // Allocates the tables of `layers`, in this order. Layers that run the block of another one, by `aliases`, have its
    // table. Throws if there is no memory.
    void allocate(
            const llama_model & model, ggufrope_factor_table values,
            const std::vector<uint32_t> & layers, const std::vector<uint32_t> & aliases, const companion & add_companion);

    // the table of layer il, or null
    ggml_tensor * get(uint32_t il) const { return il < tables.size() ? tables[il] : nullptr; }

    // what layer il rotates by under a length
    const ggufrope_layer_factors & factors(uint32_t il, size_t length) const { return values.at(length, il); }

    // makes the table of layer il that of a length
    void upload(uint32_t il, size_t length);

    void add_memory(std::map<ggml_backend_buffer_type_t, size_t> & sizes) const;

private:
    ggufrope_factor_table      values;
    std::vector<ggml_tensor *> tables; // [n_layer_all]; empty until they are allocated

    bool no_alloc = false; // only sizes are asked for
    std::vector<std::pair<ggml_context_ptr, ggml_backend_buffer_ptr>> ctxs_bufs;
};
