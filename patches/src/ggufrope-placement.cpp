// ggufrope: ropes that run on another device than their layer
// SPDX-License-Identifier: MIT

#include "ggufrope-placement.h"

#include "llama-hparams.h"
#include "llama-impl.h"
#include "llama-model.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <set>

static std::atomic<bool> refuse_fallback { false };

void ggufrope_refuse_fallback(bool refuse) {
    refuse_fallback = refuse;
}

bool ggufrope_refuses_fallback() {
    const char * variable = getenv("GGUFROPE_NO_FALLBACK");
    return refuse_fallback || (variable && atoi(variable) != 0);
}

static bool is_remote(ggml_backend_dev_t device) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
    return reg && strcmp(ggml_backend_reg_name(reg), "RPC") == 0;
}

static std::string join(const std::set<std::string> & names) {
    std::string res;
    for (const auto & name : names) {
        res += (res.empty() ? "" : ", ") + name;
    }
    return res;
}

std::string ggufrope_find_fallback(const llama_model & model, ggml_backend_sched_t sched, const std::vector<ggufrope_rope> & ropes) {
    std::set<uint32_t>    layers;
    std::set<std::string> from, to;
    size_t n_ropes = 0;
    size_t n_bytes = 0; // one way, for a token
    bool   remote  = false;
    for (const auto & rope : ropes) {
        ggml_backend_t     backend   = ggml_backend_sched_get_tensor_backend(sched, rope.node);
        ggml_backend_dev_t device    = backend ? ggml_backend_get_device(backend) : nullptr;
        ggml_backend_dev_t dev_layer = model.dev_layer(rope.il);
        // what the layer's device would run is elsewhere for other reasons, such as --no-kv-offload
        if (!device || !dev_layer || device == dev_layer || ggml_backend_dev_supports_op(dev_layer, rope.node)) {
            continue;
        }
        layers.insert(rope.il);
        from.insert(ggml_backend_dev_name(dev_layer));
        to  .insert(ggml_backend_dev_name(device));
        n_ropes += 1;
        n_bytes += ggml_nelements(rope.node)/rope.node->ne[2]*ggml_type_size(rope.node->type);
        remote   = remote || is_remote(dev_layer);
    }
    if (n_ropes == 0) {
        return "";
    }
    const std::string size = n_bytes < 1024 ? format("%zu bytes", n_bytes) : format("%.1f KiB", n_bytes/1024.0);
    return format("%zu ropes of %zu of %u layers run on %s, as %s does not run them by rows of factors: %s for each token go there and back%s",
        n_ropes, layers.size(), model.hparams.n_layer(), join(to).c_str(), join(from).c_str(), size.c_str(),
        remote ? " over the network, a round trip for each of these layers and batch" : "");
}
