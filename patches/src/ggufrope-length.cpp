// ggufrope: which row of a length table serves a context
// SPDX-License-Identifier: MIT

#include "ggufrope-length.h"

#include <algorithm>

void ggufrope_length::hint(uint32_t n_tokens) {
    hinted = std::max(hinted, n_tokens);
}

int32_t ggufrope_length::pending(bool is_cached) const {
    int32_t res = row;
    if (pinned >= 0) {
        res = pinned;
    } else if (hinted > 0) {
        const uint32_t asked = spec.length_row(hinted);
        res = is_cached ? std::max(asked, row) : asked;
    }
    return res == (int32_t) row ? -1 : res;
}

void ggufrope_length::keep_wishes(const ggufrope_length & old) {
    hinted = old.hinted;
    pinned = old.pinned;
}

uint32_t ggufrope_length::take_row(llama_pos last, llama_pos last_cached) {
    const uint32_t length = std::max<uint32_t>(hinted, std::max(last, last_cached) + 1);
    hinted = 0;

    if (pinned >= 0) {
        return pinned;
    }
    const uint32_t res = spec.length_row(length);
    return last_cached >= 0 ? std::max(res, row) : res;
}
