// ggufrope: the values of tables, in host memory
// SPDX-License-Identifier: MIT

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

// what divides the angles of one layer: a row of pairs for each KV head, or one row for all of them
struct ggufrope_layer_factors {
    size_t             n_pairs = 0;
    std::vector<float> values;            // [n_rows][n_pairs]
    float              attn_scale = 1.0f; // of the rotated dimensions of Q and K

    size_t n_rows() const { return n_pairs == 0 ? 0 : values.size()/n_pairs; }

    bool operator==(const ggufrope_layer_factors & other) const {
        return n_pairs == other.n_pairs && values == other.values && attn_scale == other.attn_scale;
    }
};

// All that a context may rotate by: [n_lengths][n_layer_all] of [n_rows][n_pairs], where rows and pairs are a layer's own.
// Which of the lengths serves is no matter of the values: several may serve at once.
class ggufrope_factor_table {
public:
    ggufrope_factor_table() = default;
    ggufrope_factor_table(size_t n_lengths, size_t n_layers) : n_layers(n_layers), layers(n_lengths*n_layers) {}

    ggufrope_layer_factors       & at(size_t length, uint32_t il)       { return layers.at(length*n_layers + il); }
    const ggufrope_layer_factors & at(size_t length, uint32_t il) const { return layers.at(length*n_layers + il); }

private:
    size_t n_layers = 0;
    std::vector<ggufrope_layer_factors> layers;
};
