// Runs one rope tensor by the text of the CPU kernel, which the built library holds too: here it can be a broken one.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ggml.h"

// what ops.cpp's rope needs of ggml-cpu
#define CACHE_LINE_SIZE_F32 16
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
struct ggml_compute_params { int ith, nth; void * wdata; };
template <typename T> struct type_conversion_table;
template <> struct type_conversion_table<float> {
    static float to_f32(float x) { return x; }
    static float from_f32(float x) { return x; }
};
template <> struct type_conversion_table<ggml_fp16_t> {
    static float to_f32(ggml_fp16_t x) { return ggml_fp16_to_fp32(x); }
    static ggml_fp16_t from_f32(float x) { return ggml_fp32_to_fp16(x); }
};

#if __has_include("cos-sin.h") // not in the unpatched tree
#include "cos-sin.h"
#endif

#include "ops.inc"

// out: ROPE or ROPE_BACK. 0: done; 1: something else (the CPU fuses no rope).
extern "C" int on_cpu_compute(ggml_tensor * out) {
    float cache[2*4096 + CACHE_LINE_SIZE_F32];
    const ggml_compute_params params = { 0, 1, cache };
    GGML_ASSERT(out->ne[0] <= 4096);
    if (out->op == GGML_OP_ROPE) {
        ggml_compute_forward_rope(&params, out);
    } else if (out->op == GGML_OP_ROPE_BACK) {
        ggml_compute_forward_rope_back(&params, out);
    } else {
        return 1;
    }
    return 0;
}
