// ggufrope: one device computes rotations that are known
// SPDX-License-Identifier: MIT

#include "ggufrope-device-test.h"
#include "ggufrope-rope-answer.h"

#include "llama-impl.h"

#include <algorithm>
#include <cmath>

static const float   EPS  = 1e-6f; // of RMS_NORM
static const uint8_t MARK = 0xff;  // of memory that is to be written: NaN as F32 and as F16

namespace {

// a case as tensors of one device; what they are views of, and what the rope writes to, lies in memory of its own
struct case_graph {
    ggml_context_ptr        ctx;
    ggml_backend_buffer_ptr buffer;

    ggml_tensor * x       = nullptr;
    ggml_tensor * pos     = nullptr;
    ggml_tensor * factors = nullptr;
    ggml_tensor * weight  = nullptr;
    ggml_tensor * cache   = nullptr;
    ggml_tensor * cells   = nullptr;
    ggml_tensor * rope    = nullptr;
    ggml_tensor * out     = nullptr;
    ggml_cgraph * gf      = nullptr;

    // n_rows 0: without factors
    case_graph(const ggufrope_rope_case & c, int64_t n_rows);

    // what x is a view of
    ggml_tensor * whole() const { return x->view_src ? x->view_src : x; }

    // what a backend does not write if it computes the ops beside it as one
    std::vector<ggml_tensor *> between() const;
};

}

std::vector<ggml_tensor *> case_graph::between() const {
    std::vector<ggml_tensor *> res;
    if (weight) {
        res.push_back(rope->src[0]);
    }
    if (out != rope) {
        res.push_back(rope);
    }
    return res;
}

static ggml_tensor * make_rope(ggml_context * ctx, const ggufrope_rope_case & c, ggml_tensor * x, ggml_tensor * pos, ggml_tensor * factors) {
    ggml_tensor * res;
    if (c.is_multi()) {
        int sections[GGML_MROPE_SECTIONS];
        std::copy(c.sections, c.sections + GGML_MROPE_SECTIONS, sections);
        const auto rope = c.backward ? ggml_rope_multi_back : c.in_place ? ggml_rope_multi_inplace : ggml_rope_multi;
        res = rope(ctx, x, pos, factors, c.n_dims, sections, c.mode, c.n_ctx_orig, c.freq_base, c.freq_scale, c.ext_factor,
                c.attn_factor, c.beta_fast, c.beta_slow);
    } else {
        const auto rope = c.backward ? ggml_rope_ext_back : c.in_place ? ggml_rope_ext_inplace : ggml_rope_ext;
        res = rope(ctx, x, pos, factors, c.n_dims, c.mode, c.n_ctx_orig, c.freq_base, c.freq_scale, c.ext_factor,
                c.attn_factor, c.beta_fast, c.beta_slow);
    }
    return c.n_offs == 0 ? res : ggml_rope_set_offset(res, c.n_offs);
}

case_graph::case_graph(const ggufrope_rope_case & c, int64_t n_rows) {
    ggml_init_params params = {
        /*.mem_size   =*/ 32*ggml_tensor_overhead() + ggml_graph_overhead_custom(32, false),
        /*.mem_buffer =*/ NULL,
        /*.no_alloc   =*/ true,
    };
    ctx.reset(ggml_init(params));

    ggml_tensor * whole = ggml_new_tensor_4d(ctx.get(), c.type, c.n_embd_head, c.n_head + c.n_gap, c.n_tokens, c.n_batch);
    x = c.n_gap == 0 ? whole : ggml_view_4d(ctx.get(), whole, c.n_embd_head, c.n_head, c.n_tokens, c.n_batch,
            whole->nb[1], whole->nb[2], whole->nb[3], 0);
    pos = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_I32, c.n_pos());
    if (n_rows > 0) {
        factors = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, c.n_ff(), n_rows);
    }
    ggml_tensor * cur = x;
    if (c.norm) {
        weight = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_F32, c.n_embd_head);
        cur = ggml_mul(ctx.get(), ggml_rms_norm(ctx.get(), cur, EPS), weight);
    }
    rope = out = make_rope(ctx.get(), c, cur, pos, factors);
    if (c.cache != GGML_TYPE_COUNT) {
        const int64_t n_embd = c.n_embd_head*c.n_head;
        cache = ggml_new_tensor_2d(ctx.get(), c.cache, n_embd, c.n_cells());
        cells = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_I64, c.n_tokens);
        ggml_tensor * rows = ggml_view_2d(ctx.get(), rope, n_embd, c.n_tokens, n_embd*ggml_type_size(rope->type), 0);
        out = ggml_set_rows(ctx.get(), cache, rows, cells);
    }
    gf = ggml_new_graph_custom(ctx.get(), 32, false);
    ggml_build_forward_expand(gf, out);
}

static bool takes_graph(ggml_backend_dev_t dev, const case_graph & g) {
    for (int i = 0; i < ggml_graph_n_nodes(g.gf); ++i) {
        if (!ggml_backend_dev_supports_op(dev, ggml_graph_node(g.gf, i))) {
            return false;
        }
    }
    return true;
}

// F32 or F16
static void write_floats(ggml_tensor * t, const float * values, size_t n, size_t offset = 0) {
    if (t->type == GGML_TYPE_F32) {
        ggml_backend_tensor_set(t, values, offset*sizeof(float), n*sizeof(float));
        return;
    }
    std::vector<ggml_fp16_t> halves(n);
    ggml_fp32_to_fp16_row(values, halves.data(), n);
    ggml_backend_tensor_set(t, halves.data(), offset*sizeof(ggml_fp16_t), n*sizeof(ggml_fp16_t));
}

static std::vector<float> read_floats(const ggml_tensor * t) {
    std::vector<float> res(ggml_nelements(t));
    if (t->type == GGML_TYPE_F32) {
        ggml_backend_tensor_get(t, res.data(), 0, ggml_nbytes(t));
        return res;
    }
    std::vector<ggml_fp16_t> halves(res.size());
    ggml_backend_tensor_get(t, halves.data(), 0, ggml_nbytes(t));
    ggml_fp16_to_fp32_row(halves.data(), res.data(), res.size());
    return res;
}

// What came out, without the heads between tokens that a rope in place has beside its own.
static std::vector<float> read_result(const case_graph & g, const ggufrope_rope_case & c) {
    if (!c.in_place) {
        return read_floats(g.out);
    }
    const auto whole = read_floats(g.whole());
    std::vector<float> res;
    for (int64_t i = 0; i < c.n_tokens*c.n_batch; ++i) {
        const auto start = whole.begin() + i*c.n_embd_head*(c.n_head + c.n_gap);
        res.insert(res.end(), start, start + c.n_embd_head*c.n_head);
    }
    return res;
}

static void write_inputs(const case_graph & g, const ggufrope_rope_case & c, const ggufrope_case_inputs & in) {
    const size_t n_token = c.n_embd_head*c.n_head;
    const size_t n_step  = c.n_embd_head*(c.n_head + c.n_gap);
    for (int64_t i = 0; i < c.n_tokens*c.n_batch; ++i) {
        write_floats(g.whole(), in.x.data() + i*n_token, n_token, i*n_step);
    }
    ggml_backend_tensor_set(g.pos, in.pos.data(), 0, ggml_nbytes(g.pos));
    if (g.factors) {
        ggml_backend_tensor_set(g.factors, in.factors.data(), 0, ggml_nbytes(g.factors));
    }
    if (g.weight) {
        ggml_backend_tensor_set(g.weight, in.weight.data(), 0, ggml_nbytes(g.weight));
    }
    if (g.cache) {
        write_floats(g.cache, in.cache.data(), in.cache.size());
        ggml_backend_tensor_set(g.cells, in.cells.data(), 0, ggml_nbytes(g.cells));
    }
}

static void mark(ggml_tensor * t) {
    const std::vector<uint8_t> marks(ggml_nbytes(t), MARK);
    ggml_backend_tensor_set(t, marks.data(), 0, marks.size());
}

static bool is_marked(const ggml_tensor * t) {
    std::vector<uint8_t> bytes(ggml_nbytes(t));
    ggml_backend_tensor_get(t, bytes.data(), 0, bytes.size());
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == MARK; });
}

// Computes; empty, or what went wrong. n_fused: how many results between two ops were never written.
static std::string compute(
        ggml_backend_t backend, case_graph & g, const ggufrope_rope_case & c, const ggufrope_case_inputs & in, int & n_fused) {
    g.buffer.reset(ggml_backend_alloc_ctx_tensors(g.ctx.get(), backend));
    if (!g.buffer) {
        return "its memory cannot be allocated";
    }
    write_inputs(g, c, in);
    if (!g.cache && !c.in_place) {
        mark(g.out);
    }
    const auto between = g.between();
    std::for_each(between.begin(), between.end(), mark);

    const ggml_status status = ggml_backend_graph_compute(backend, g.gf);
    if (status != GGML_STATUS_SUCCESS) {
        return format("computing ended with status %d", (int) status);
    }
    n_fused = std::count_if(between.begin(), between.end(), is_marked);
    return "";
}

bool ggufrope_is_cpu(ggml_backend_dev_t dev) {
    return ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

// finds the value that is farthest off for its limit
static void compare(const std::vector<float> & found, const ggufrope_case_answer & answer, ggufrope_case_result & res) {
    double worst = 0.0, size = 0.0;
    size_t at = 0;
    for (size_t i = 0; i < found.size(); ++i) {
        const double error = std::fabs(found[i] - answer.values[i]);
        const double ratio = error == 0.0 ? 0.0 : error <= answer.limits[i] ? error/answer.limits[i]
                           : std::isfinite(error) ? std::max(1.0 + error, error/std::max(answer.limits[i], 1e-30)) : INFINITY;
        if (ratio > worst) {
            worst = ratio;
            at    = i;
        }
        size = std::max(size, std::fabs(answer.values[i]));
    }
    res.error   = std::fabs(found[at] - answer.values[at])/size;
    res.limit   = answer.limits[at]/size;
    res.verdict = worst <= 1.0 ? GGUFROPE_VERDICT_PASSED : GGUFROPE_VERDICT_FAILED;
}

// empty, or why it has no backend
std::string ggufrope_device_test::start() {
    if (backend) {
        return "";
    }
    backend.reset(ggml_backend_dev_init(dev, nullptr));
    if (!backend) {
        return "it cannot be started";
    }
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(dev);
    auto * set_n_threads = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads");
    if (set_n_threads) {
        set_n_threads(backend.get(), n_threads);
    }
    return "";
}

ggufrope_case_result ggufrope_device_test::run(const ggufrope_rope_case & c, bool compare_fusion) {
    ggufrope_case_result res;
    case_graph g(c, c.n_rows);
    if (!takes_graph(dev, g)) {
        res.verdict = takes_graph(dev, case_graph(c, 1)) ? GGUFROPE_VERDICT_REFUSED : GGUFROPE_VERDICT_NO_OP;
        return res;
    }
    const auto in = ggufrope_make_inputs(c);
    res.verdict = GGUFROPE_VERDICT_FAILED;
    res.problem = start();
    if (res.problem.empty()) {
        res.problem = compute(backend.get(), g, c, in, res.n_fused);
    }
    if (!res.problem.empty()) {
        return res;
    }
    compare(read_result(g, c), ggufrope_solve(c, in, ggufrope_is_cpu(dev)), res);
    if (compare_fusion && res.verdict == GGUFROPE_VERDICT_PASSED && !g.between().empty()) {
        case_graph plain(c, 0);
        int n_plain = 0;
        if (takes_graph(dev, plain) && compute(backend.get(), plain, c, in, n_plain).empty() && n_plain > res.n_fused) {
            res.verdict = GGUFROPE_VERDICT_NOT_FUSED;
        }
    }
    return res;
}
