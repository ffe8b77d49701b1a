// ggufrope: what the patched llama.cpp sources call
// SPDX-License-Identifier: MIT

#pragma once

#include "llama.h"

#include "ggml-cpp.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct llama_hparams;
struct llama_cparams;
struct llama_model_loader;
struct llama_context;
class  llama_kv_cache;
class  llama_kv_cells;
class  llama_io_write_i;
class  llama_io_read_i;
struct llm_graph_params;
struct llama_batch_ext;
class llama_io_read_i;
class llama_io_write_i;

struct ggufrope_prompt_order;
struct ggufrope_rope_pair;
struct ggufrope_scores;

// remembers the message for ggufrope_last_error() and throws std::runtime_error
[[noreturn]] void ggufrope_fail(const std::string & message);

void         ggufrope_set_last_error(const std::string & message);
const char * ggufrope_get_last_error();

//
// what a file asks for (host memory, immutable, shared by the model and its contexts)
//

// what serves sequences of up to `point` tokens that are too long for the row before
struct ggufrope_length_row {
    uint32_t           point = 0;
    std::vector<float> factors;           // [n_rot/2]
    float              attn_scale = 1.0f; // of the rotated dimensions of Q and K
};

enum ggufrope_order {
    GGUFROPE_ORDER_STATIC,
    GGUFROPE_ORDER_PROMPT,      // as the Ms-PoE program orders heads, anew for each prompt
    GGUFROPE_ORDER_PROMPT_RANK, // as the paper's text does
};

struct ggufrope_spec {
    std::string method;

    ggufrope_order order = GGUFROPE_ORDER_STATIC;

    std::vector<std::vector<float>> head_factors; // [n_layer_all][n_head_kv(il)]; empty: all 1

    std::vector<ggufrope_length_row> length_rows;    // by increasing point; empty: none
    std::vector<bool>                follows_length; // [n_layer_all]: the layers that the rows are for

    // for saving the model: the keys as they were read, and the file's own context length
    std::shared_ptr<gguf_context> keys;
    uint32_t                      n_ctx_file = 0;

    bool has_tables(const llama_hparams & hparams) const;

    // true if the rotation of layer il differs from the model's own
    bool wants_table(uint32_t il) const;

    // number of rows of the layer's table: 1 if all its heads agree, else n_head_kv
    size_t n_rows(uint32_t il) const;

    float head_factor(uint32_t il, size_t row) const;

    // true if length rows are for layer il
    bool is_length_layer(uint32_t il) const;

    // index of the row for sequences of n_tokens; the last one serves whatever is longer
    uint32_t length_row(uint32_t n_tokens) const;
};

// reads and checks the `ggufrope.*` keys; null when the file has none
// removes the sentinel tensor from the loader and sets hparams.n_ctx_train
std::shared_ptr<const ggufrope_spec> ggufrope_load(llama_model_loader & ml, const llama_model & model, llama_hparams & hparams);

// adds the keys that the model was loaded with to a file that is about to be saved
void ggufrope_save(const ggufrope_spec & spec, const std::string & key_context_length, gguf_context * ctx);

// throws if the model cannot be run with these factors at all
void ggufrope_check_model(const llama_model & model, const ggufrope_spec & spec);

// the layer whose cached K layer il attends to: itself in nearly all models
uint32_t ggufrope_k_owner(const llama_hparams & hparams, uint32_t il);

// the first layer that has the same projections of Q and K: itself, unless blocks are run several times
uint32_t ggufrope_first_alias(const llama_model & model, uint32_t il);

// a copy of `spec` (may be null) with other head factors (flat array, see ggufrope.h)
std::shared_ptr<const ggufrope_spec> ggufrope_with_head_factors(
        const llama_model & model, const ggufrope_spec * spec, const float * factors, size_t n);

size_t ggufrope_count_head_factors(const llama_hparams & hparams);

// flat array, see ggufrope.h -> [n_layer_all][n_head_kv(il)]
std::vector<std::vector<float>> ggufrope_split_by_layer(const llama_hparams & hparams, const float * flat);

//
// the tables of one context, on the devices of their layers
//

// what the program asked for
struct ggufrope_wishes {
    uint32_t length_hint = 0;  // the next batch serves at least this length
    int32_t  pinned_row  = -1; // >= 0: this length row whatever the length
};

// how layer il rotates its K and where it keeps it, as found in a graph
struct ggufrope_stored_k {
    const ggml_tensor * cache = nullptr; // [n_embd_k_gqa, n_cells, n_streams]; null: it was not found

    int64_t n_embd_head = 0;
    int64_t offset      = 0; // of the rotated part in a head

    int32_t rope_params[GGML_MAX_OP_PARAMS/sizeof(int32_t)] = {};
};

// One tensor [n_rot/2, n_rows] per layer that wants one: base factors of the layer's own ropes * length row * head factor.
// The base factors (long, short, rope_freqs or none) are only known once a graph exists, so the tables are allocated and
// filled when the first graph of the context is built. Later graphs only refer to them: nothing is uploaded per step,
// only when another length row comes to serve.
struct ggufrope_tables {
    ggufrope_tables(const llama_model & model, const llama_cparams & cparams, std::shared_ptr<const ggufrope_spec> spec);
    ~ggufrope_tables();

    // from the next graph on, score the heads for the last token of every batch
    void capture_scores(uint32_t n_ctx);

    // null: not captured
    const ggufrope_scores * get_scores() const { return scores.get(); }

    // null: the order of heads is static
    ggufrope_prompt_order * get_order() const { return order.get(); }

    // finds the ropes of Q and K and points them at their table; throws if a table has no place to go
    void apply(const llm_graph_params & params, ggml_cgraph * gf);

    // the table for a K shift of layer il, or null
    ggml_tensor * get(uint32_t il) const;

    // false if the graph does not rotate the K of layer il: then a K shift must not do so either
    bool rotates(uint32_t il) const;

    const ggufrope_spec & get_spec() const { return *spec; }

    bool any() const;

    // true if cached K may have to be rotated anew
    bool follows_length() const;

    uint32_t get_length_row() const { return length_row; }

    // uploads the tables of another row; the caller sees to cached K and to graphs that exist
    void set_length_row(uint32_t row);

    // all factors of layer il under a length row, [n_rows(il)][n_rot/2]
    std::vector<float> factors(uint32_t il, uint32_t row) const;

    // what its rows multiply the rotated dimensions of Q and K with
    float attn_scale(uint32_t il, uint32_t row) const;

    // null if layer il has no table
    const ggufrope_stored_k * get_stored_k(uint32_t il) const;

    ggufrope_wishes wishes;

    // names the factors that cached K was rotated with, for saved states; empty if it was rotated as in the plain model
    std::string state_tag() const;

    std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const;

private:
    enum rope_role { ROPE_ROLE_NONE, ROPE_ROLE_Q, ROPE_ROLE_K, ROPE_ROLE_QKV, ROPE_ROLE_INDEXER, ROPE_ROLE_SHARED };

    // where a rope's input was projected
    struct origin {
        rope_role role = ROPE_ROLE_NONE;
        uint32_t  il   = 0;
        std::string stopped_at; // for the error message: the first op that could not be followed
    };

    struct site {
        origin        from;
        ggml_tensor * rope;
    };

    struct layer_table {
        ggml_tensor       * table = nullptr;
        const ggml_tensor * base  = nullptr;
        std::vector<float>  base_values; // [n_rot/2]
        ggufrope_stored_k   stored_k;
        bool              rotates = false;
    };

    const llama_model & model;

    std::shared_ptr<const ggufrope_spec> spec;

    std::unordered_map<const ggml_tensor *, origin> weights; // projections of Q and K

    std::unique_ptr<ggufrope_scores>       scores;
    std::unique_ptr<ggufrope_prompt_order> order;

    std::vector<layer_table> layers; // empty until the first graph

    uint32_t length_row = 0;
    std::vector<std::pair<ggml_context_ptr, ggml_backend_buffer_ptr>> ctxs_bufs;

    void add_weight(const ggml_tensor * weight, rope_role role, uint32_t il);

    origin            find_origin(const ggml_tensor * rope) const;
    std::vector<site> find_sites(ggml_cgraph * gf) const; // of all layers
    std::vector<site> with_table(const std::vector<site> & sites) const;
    void              note_rotating(const std::vector<site> & sites);
    std::vector<ggufrope_rope_pair> find_pairs(ggml_cgraph * gf) const;
    rope_role         split_qkv(const site & s) const;
    void              check_site(const site & s) const;
    void              check_layers(const std::vector<site> & sites) const;

    void find_stored_k(ggml_cgraph * gf, const std::vector<site> & sites);

    void allocate(const std::vector<site> & sites);
    void upload(uint32_t il);
    void log() const;
};

// the tables that the file asks for, or null
std::unique_ptr<ggufrope_tables> ggufrope_make_tables(const llama_model & model, const llama_cparams & cparams);

// empty without tables
std::string ggufrope_state_tag(const ggufrope_tables * tables);

// throws if a saved state with this tag was not made with these tables
void ggufrope_check_state_tag(const ggufrope_tables * tables, const std::string & tag);

// the length row in a saved state, where there are several; reading throws if there is no such row
void     ggufrope_write_length_row(const ggufrope_tables * tables, llama_io_write_i & io);
uint32_t ggufrope_read_length_row (const ggufrope_tables * tables, llama_io_read_i & io);

// true if this batch has to be read twice, because its heads are ordered by its last token: read it, end the pass with
// whether that worked, forget what was read, and read it again
bool ggufrope_begin_first_pass(const ggufrope_tables * tables, const llama_batch_ext & batch);
void ggufrope_end_first_pass(const ggufrope_tables * tables, bool ok);

// which head has which ratio, where that follows the prompt; nothing is written otherwise
void ggufrope_write_order(const ggufrope_tables * tables, llama_io_write_i & io);
void ggufrope_read_order(const ggufrope_tables * tables, llama_io_read_i & io);

// attention scale to pass to a K shift: cached keys carry theirs already, it must not be applied again
float ggufrope_shift_attn_factor(const llama_cparams & cparams, float freq_scale);

//
// rotating cached K anew
//

// What to rotate K by to get from the factors that it was rotated with to others, for each layer that changes: multiply
// the angle by (1/to - 1/from), which is a rope with the factors 1/(1/to - 1/from), and K's length by a ratio.
struct ggufrope_rotation {
    std::vector<float> factors; // [n_rows][n_rot/2]; n_rows is 1 or the number of heads
    float              scale = 1.0f;
};

// factors: [n_rows][n_pairs] each, where the numbers of rows may differ; empty factors in the answer: nothing to do
ggufrope_rotation ggufrope_rotation_between(
        const std::vector<float> & from, float scale_from, const std::vector<float> & to, float scale_to, size_t n_pairs);

// cells of one stream of a cache
using ggufrope_cell_filter = std::function<bool(const llama_kv_cells & cells, uint32_t i)>;

// Rotates the selected cells of `cache` anew, in all its layers; the graph memory and the scheduler of `ctx` are used.
// Returns how many cells were rotated; throws if computing fails, where some of them may have been rotated already.
size_t ggufrope_rerotate(
        llama_context & ctx, const llama_kv_cache & cache,
        const std::map<uint32_t, ggufrope_rotation> & rotations, // by layer
        const ggufrope_cell_filter & selected);
