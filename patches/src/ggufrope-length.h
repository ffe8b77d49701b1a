// ggufrope: which row of a length table serves a context
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-spec.h"

#include "llama.h"

// A context uses one row at a time: that of its longest sequence, of a hint, or the one it is pinned to. Rows only go back
// when nothing is cached. This only decides; tables and cached K are kept in step by who asks.
class ggufrope_length {
public:
    explicit ggufrope_length(const ggufrope_spec & spec) : spec(spec) {}

    // the row in use
    uint32_t get_row() const { return row; }
    void     set_row(uint32_t row) { this->row = row; }

    // the next batch serves at least this length; the largest of several hints counts
    void hint(uint32_t n_tokens);

    // >= 0: this row whatever the length
    void pin(int32_t row) { pinned = row; }

    // the row that a pin or a hint asks for, if the next batch will take another one than the row in use for it; else -1
    int32_t pending(bool is_cached) const;

    // what a program asked for, when the tables are replaced
    void keep_wishes(const ggufrope_length & old);

    // The row for a batch whose last position is `last` while `last_cached` is the last one in memory, -1 if there is none.
    // A hint is used up by it.
    uint32_t take_row(llama_pos last, llama_pos last_cached);

private:
    const ggufrope_spec & spec;

    uint32_t row    = 0;
    uint32_t hinted = 0;
    int32_t  pinned = -1;
};
