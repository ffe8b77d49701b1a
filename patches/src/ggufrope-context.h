// ggufrope: what llama_context calls
// SPDX-License-Identifier: MIT

#pragma once

#include "llama.h"

#include <functional>
#include <map>
#include <memory>
#include <string>

struct llama_context;
struct llama_memory_context_i;
struct llama_batch_ext;
struct llm_graph_params;
class  llama_kv_cells;
class  llama_io_read_i;
class  llama_io_write_i;

struct ggufrope_tables;
struct ggufrope_tag;

// A part of every llama_context. Without keys, and without factors that a program sets, there are no tables: then each
// call returns at once, but those for states, which are tagged wherever the model's rotation is scaled.
struct ggufrope_context {
    explicit ggufrope_context(llama_context & ctx);
    ~ggufrope_context();

    // null: none
    ggufrope_tables * get_tables() const { return tables.get(); }

    // reserves new graphs; throws and keeps the old tables if the model cannot use the new ones
    void set_tables(std::unique_ptr<ggufrope_tables> tables);

    //
    // creation: with the parameters, before and after the first graph; all throw if the model cannot be run with what its
    // file asks for
    //

    void check_params(const llama_context_params & params) const;
    void make_tables();
    void check_placement(const llama_memory_context_i * mctx);
    void check_length() const;

    std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const;

    //
    // batches
    //

    // the model's graph for an ubatch; null if the tables have no place in it, which is logged
    ggml_cgraph * build_graph(const llm_graph_params & params);

    // Reads a batch whose last token decides which head has which ratio, and forgets it: it is read again then. Does
    // nothing to others. Returns what llama_decode does.
    int read_first(const llama_batch_ext & batch);

    // before a batch is computed: takes the row of its length and rotates cached K anew; false on errors, which are logged
    bool follow_length(const llama_batch_ext & batch);

    // what a K shift of layer il rotates by; false if the layer does not rotate
    bool prepare_shift(uint32_t il, ggml_tensor ** factors) const;

    //
    // saved states: K is cached rotated, and they say how; reading throws if this context rotates otherwise, before the
    // memory changes, and ggufrope_last_error() says why
    //

    // at the beginning of a whole context's state: the architecture's name, with the tag if the context has one
    void write_state(llama_io_write_i & io, const std::string & arch) const;
    void read_state (llama_io_read_i  & io, const std::string & arch);

    // at the beginning of a sequence's state, which has nothing without a tag; the answer reads what follows
    void                             write_seq_state(llama_io_write_i & io) const;
    std::unique_ptr<llama_io_read_i> read_seq_state (llama_io_read_i  & io);

    // when K of the state that was read last is in the cache; seq_id < 0: of all sequences
    void adopt_state(llama_seq_id seq_id, llama_state_seq_flags flags);

private:
    using cell_filter = std::function<bool(const llama_kv_cells & cells, uint32_t i)>;

    llama_context & ctx;

    std::unique_ptr<ggufrope_tables> tables;

    mutable std::unique_ptr<ggufrope_tag> tag; // null until it is asked for

    uint32_t row_read = 0; // of the state that was read last

    const ggufrope_tag & get_tag() const;
    void check_tag(const ggufrope_tag & found) const;

    // what follows the tag: the length row and the order of heads, where there are several
    void write_rows(llama_io_write_i & io) const;
    void read_rows (llama_io_read_i  & io);

    int  decode_aside(const llama_batch_ext & batch);
    void set_length_row(uint32_t row);
    void rerotate(uint32_t from, uint32_t to, const cell_filter & selected);
    void reserve_graph();
};
