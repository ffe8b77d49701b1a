// What upstream's test-llama-archs.cpp takes from its `common` library, so that its toy models need libllama alone.
// Only its functions that make models are called here; the others must merely compile.
// SPDX-License-Identifier: MIT

#pragma once

#include "llama.h"

struct common_batch {
    common_batch(llama_context *) {}
    int  add(llama_token, llama_pos, llama_seq_id, bool) { return 0; }
    void clear() {}
    struct llama_batch_ext * get() { return nullptr; }
};

inline void common_init() {}
