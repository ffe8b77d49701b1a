// What upstream's test-llama-archs.cpp takes from its `common` library, so that its toy models need libllama alone.
// SPDX-License-Identifier: MIT

#pragma once

#include "llama.h"

struct common_batch {
    llama_batch_ext * batch;

    common_batch(llama_context * ctx) : batch(llama_batch_ext_init(ctx)) {}
    ~common_batch() { llama_batch_ext_free(batch); }

    int add(llama_token token, llama_pos pos, llama_seq_id seq_id, bool output) {
        const llama_pos all[4] = { pos, 0, 0, 0 }; // one counts for tokens
        const int i = llama_batch_ext_add_token(batch, seq_id, token);
        llama_batch_ext_set_pos(batch, i, all);
        llama_batch_ext_set_output_logits(batch, i, output);
        return i;
    }

    void clear() { llama_batch_ext_clear(batch); }
    llama_batch_ext * get() { return batch; }
};

inline void common_init() {}
