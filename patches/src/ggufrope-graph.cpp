// ggufrope: adding nodes to a compute graph that is built already
// SPDX-License-Identifier: MIT

#include "ggufrope-graph.h"

#include <algorithm>
#include <unordered_map>

void ggufrope_graph_edit::insert(ggml_tensor * node, int before) {
    const int begin = ggml_graph_n_nodes(gf);
    ggml_build_forward_expand(gf, node);
    insertions.push_back({ before, begin, ggml_graph_n_nodes(gf) });
}

void ggufrope_graph_edit::finish() {
    if (insertions.empty()) {
        return;
    }
    ggml_tensor ** nodes = ggml_graph_nodes(gf);
    const int n = ggml_graph_n_nodes(gf);

    std::unordered_map<const ggml_tensor *, int> index_of;
    index_of.reserve(n);
    for (int i = 0; i < n; ++i) {
        index_of.emplace(nodes[i], i);
    }

    std::stable_sort(insertions.begin(), insertions.end(),
        [](const insertion & a, const insertion & b) { return a.before < b.before; });

    std::vector<bool> is_taken(n);

    // the new nodes and, of what lies behind their place, only what they are made from
    const auto take = [&](const insertion & added) {
        std::vector<int> res;
        const auto add = [&](int index) {
            if (!is_taken[index]) {
                is_taken[index] = true;
                res.push_back(index);
            }
        };
        for (int i = added.begin; i < added.end; ++i) {
            add(i);
        }
        for (size_t k = 0; k < res.size(); ++k) { // it grows
            for (const ggml_tensor * src : nodes[res[k]]->src) {
                const auto it = src ? index_of.find(src) : index_of.end();
                if (it != index_of.end()) {
                    add(it->second);
                }
            }
        }
        std::sort(res.begin(), res.end());
        return res;
    };

    std::vector<ggml_tensor *> ordered;
    ordered.reserve(n);
    auto next = insertions.begin();
    for (int i = 0; i < n_old; ++i) {
        for (; next != insertions.end() && next->before == i; ++next) {
            for (const int index : take(*next)) {
                ordered.push_back(nodes[index]);
            }
        }
        if (!is_taken[i]) {
            ordered.push_back(nodes[i]);
            is_taken[i] = true;
        }
    }
    GGML_ASSERT((int) ordered.size() == n);
    std::copy(ordered.begin(), ordered.end(), nodes);
}
