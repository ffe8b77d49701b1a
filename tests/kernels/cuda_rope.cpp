// Runs one rope tensor, or what ends in it, as the CUDA backend would: kernels, launches and fusion are upstream's text.
#include "rope.cu"
#include "fusion.inc" // the two predicates of ggml-cuda.cu

// RMS_NORM -> MUL -> rope?
static ggml_tensor * normed(ggml_tensor * rope) {
    ggml_tensor * mul = rope->src[0];
    return mul->op == GGML_OP_MUL && mul->src[0]->op == GGML_OP_RMS_NORM ? mul : nullptr;
}

// out: ROPE, ROPE_BACK or SET_ROWS. 0: done; 1: the backend would not fuse it, or it is something else.
extern "C" int on_cpu_compute(ggml_tensor * out) {
    ggml_backend_cuda_context ctx;
    ggml_tensor * set_rows = out->op == GGML_OP_SET_ROWS ? out : nullptr;
    ggml_tensor * rope     = set_rows ? out->src[0]->src[0] : out;
    if (set_rows && !ggml_cuda_should_fuse_rope_set_rows(rope, out->src[0], set_rows)) {
        return 1;
    }
    if (ggml_tensor * mul = normed(rope)) {
        if (!ggml_cuda_should_fuse_rms_norm_mul_rope(mul->src[0], mul, rope)) {
            return 1;
        }
        ggml_cuda_op_rms_norm_mul_rope_fused(ctx, mul->src[0], mul, rope, set_rows);
    } else if (set_rows) {
        ggml_cuda_op_rope_fused(ctx, rope, set_rows);
    } else if (rope->op == GGML_OP_ROPE) {
        ggml_cuda_op_rope(ctx, rope);
    } else if (rope->op == GGML_OP_ROPE_BACK) {
        ggml_cuda_op_rope_back(ctx, rope);
    } else {
        return 1;
    }
    return 0;
}
