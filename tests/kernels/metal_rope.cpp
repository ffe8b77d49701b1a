// Runs one rope tensor as the Metal backend would: kernels, their choice and their arguments are upstream's text.
#include <cstddef>
#include <cstdint> // Metal knows these types by itself

// kernels/common.h has its own copy of an enum of ggml.h
#define ggml_sort_order      metal_sort_order
#define GGML_SORT_ORDER_ASC  METAL_SORT_ORDER_ASC
#define GGML_SORT_ORDER_DESC METAL_SORT_ORDER_DESC
#include "rope.metal"
#undef ggml_sort_order
#undef GGML_SORT_ORDER_ASC
#undef GGML_SORT_ORDER_DESC
#undef device
#undef constant
#undef thread
#undef threadgroup
#undef kernel

#include <cassert>
#include <cstdio>
#include <map>
#include <string>

#include "ggml.h"

// what ggml-metal-ops.cpp and ggml-metal-device.cpp need of Metal
typedef std::map<int, bool> * ggml_metal_cv_t;
typedef void * ggml_metal_library_t;
struct ggml_metal_pipeline_with_params { kernel_rope_norm_t * pipeline; };
struct on_cpu_encoder {
    kernel_rope_norm_t * pipeline;
    ggml_metal_kargs_rope args;
    char * buffer[5];
};
typedef on_cpu_encoder * ggml_metal_encoder_t;
struct on_cpu_op {
    ggml_tensor * tensor;
    ggml_metal_library_t lib;
    ggml_metal_encoder_t enc;
    ggml_tensor * node(int) const { return tensor; }
};
typedef on_cpu_op * ggml_metal_op_t;

static ggml_metal_cv_t ggml_metal_cv_init() { return new std::map<int, bool>; }
static void ggml_metal_cv_free(ggml_metal_cv_t cv) { delete cv; }
static void ggml_metal_cv_set_bool(ggml_metal_cv_t cv, bool value, int index) { (*cv)[index] = value; }
static ggml_metal_pipeline_with_params ggml_metal_library_get_pipeline(ggml_metal_library_t, const char *) { return {}; }

static ggml_metal_pipeline_with_params ggml_metal_library_compile_pipeline(
        ggml_metal_library_t, const char * base, const char *, ggml_metal_cv_t cv) {
    static const std::map<std::string, kernel_rope_norm_t *> kernels = {
        { "kernel_rope_norm_f32",   kernel_rope_norm<float>   }, { "kernel_rope_norm_f16",   kernel_rope_norm<half>   },
        { "kernel_rope_neox_f32",   kernel_rope_neox<float>   }, { "kernel_rope_neox_f16",   kernel_rope_neox<half>   },
        { "kernel_rope_multi_f32",  kernel_rope_multi<float>  }, { "kernel_rope_multi_f16",  kernel_rope_multi<half>  },
        { "kernel_rope_vision_f32", kernel_rope_vision<float> }, { "kernel_rope_vision_f16", kernel_rope_vision<half> },
    };
    FC_rope_is_imrope = cv->at(FC_ROPE + 0);
    FC_rope_is_back   = cv->at(FC_ROPE + 1);
    return { kernels.at(base) };
}

static char * ggml_metal_get_buffer_id(const ggml_tensor * tensor) { return (char *) tensor->data; }
static void ggml_metal_encoder_set_pipeline(ggml_metal_encoder_t enc, ggml_metal_pipeline_with_params p) {
    enc->pipeline = p.pipeline;
}
static void ggml_metal_encoder_set_bytes(ggml_metal_encoder_t enc, void * data, size_t size, int index) {
    GGML_ASSERT(index == 0 && size == sizeof(enc->args));
    memcpy(&enc->args, data, size);
}
static void ggml_metal_encoder_set_buffer(ggml_metal_encoder_t enc, char * data, int index) {
    enc->buffer[index] = data;
}
static void ggml_metal_encoder_dispatch_threadgroups(
        ggml_metal_encoder_t enc, int n0, int n1, int n2, int t0, int t1, int t2) {
    GGML_ASSERT(t1 == 1 && t2 == 1);
    for (uint32_t i2 = 0; i2 < (uint32_t) n2; i2++)
    for (uint32_t i1 = 0; i1 < (uint32_t) n1; i1++)
    for (uint32_t i0 = 0; i0 < (uint32_t) n0; i0++)
    for (int t = 0; t < t0; t++) {
        enc->pipeline(enc->args, enc->buffer[1], enc->buffer[2], enc->buffer[3], enc->buffer[4],
            ushort(t), ushort3{ ushort(t0), 1, 1 }, uint3{ i0, i1, i2 });
    }
}

#include "encoder.inc" // ggml_metal_library_get_pipeline_rope and ggml_metal_op_rope

// out: ROPE or ROPE_BACK. 0: done; 1: something else (Metal fuses no rope).
extern "C" int on_cpu_compute(ggml_tensor * out) {
    if (out->op != GGML_OP_ROPE && out->op != GGML_OP_ROPE_BACK) {
        return 1;
    }
    on_cpu_encoder encoder = {};
    on_cpu_op op = { out, nullptr, &encoder };
    ggml_metal_op_rope(&op, 0);
    return 0;
}
