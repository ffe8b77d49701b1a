// CUDA's names for a C++17 compiler, so that the text of a CUDA kernel runs on the CPU: one thread after the other.
//
// What it shows: which elements a kernel reads and writes, and what it computes from them in IEEE arithmetic.
// What it cannot show: races between threads, a GPU's own sine and power (llama.cpp compiles with -use_fast_math),
// speed. `name<<<...>>>(` is no C++: on_cpu.py rewrites it to ON_CPU_LAUNCH before this is compiled.
//
// A block reduction needs all threads of a block at one point. Here every thread runs twice: first up to the
// reduction, where it leaves its value, then to the end with the sum. That is right for a kernel that reduces once and
// writes nothing before it, as the fused norm does.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ggml.h"

#define __device__
#define __global__
#define __host__
#define __shared__
#define __forceinline__ inline

using std::max;
using std::min;

typedef _Float16 half;
struct half2 { half x, y; };
struct float2 { float x, y; };
struct uint2 { uint32_t x, y; };
struct uint3 { uint32_t x, y, z; };
struct dim3 {
    uint32_t x, y, z;
    dim3(uint32_t x = 1, uint32_t y = 1, uint32_t z = 1) : x(x), y(y), z(z) {}
};
typedef void * cudaStream_t;

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

inline half2  make_half2(half x, half y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2  make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint3  make_uint3(uint32_t x, uint32_t y, uint32_t z) { return {x, y, z}; }
inline float  rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t((uint64_t(a) * b) >> 32); }

namespace on_cpu {

struct left_at_reduction {};
inline bool   reducing;
inline double sum;

struct launch_params {
    dim3   grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
    launch_params(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream)
        : grid(grid), block(block), shared_bytes(shared_bytes), stream(stream) {}
};

// every thread of the current block; true if they stopped at a reduction
template <typename Run> bool threads(const Run & run) {
    bool stopped = false;
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; threadIdx.z++)
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; threadIdx.y++)
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) {
        try {
            run();
        } catch (const left_at_reduction &) {
            stopped = true;
        }
    }
    return stopped;
}

template <typename Kernel, typename... Args>
void launch(const launch_params & p, const Kernel & kernel, const Args &... args) {
    const auto run = [&] { kernel(args...); };
    gridDim  = p.grid;
    blockDim = p.block;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
        reducing = true;
        sum      = 0;
        if (threads(run)) {
            reducing = false;
            threads(run);
        }
    }
}

} // namespace on_cpu

// kernel<<<grid, block, shared, stream>>>(a, b) becomes ON_CPU_LAUNCH((kernel), (grid, block, shared, stream), a, b)
#define ON_CPU_BARE(...) __VA_ARGS__
#define ON_CPU_LAUNCH(kernel, params, ...) \
    on_cpu::launch(on_cpu::launch_params params, [](auto... a) { ON_CPU_BARE kernel(a...); }, __VA_ARGS__)

// ggml-cuda/common.cuh, as far as the rope kernels use it
typedef on_cpu::launch_params ggml_cuda_kernel_launch_params;
enum class block_reduce_method { MAX, SUM };

struct ggml_backend_cuda_context {
    cudaStream_t stream() { return nullptr; }
};

template <typename Kernel, typename... Args>
void ggml_cuda_kernel_launch(Kernel kernel, const ggml_cuda_kernel_launch_params & p, const Args &... args) {
    on_cpu::launch(p, kernel, args...);
}

template <block_reduce_method method, unsigned block_size, typename T> T block_reduce(T value, T *) {
    static_assert(method == block_reduce_method::SUM, "only a sum");
    if (on_cpu::reducing) {
        on_cpu::sum += value;
        throw on_cpu::left_at_reduction{};
    }
    return T(on_cpu::sum);
}

template <int n> void ggml_cuda_memcpy_1(void * dst, const void * src) { memcpy(dst, src, n); }
template <typename D, typename S> D ggml_cuda_cast(S x) { return D(float(x)); }
inline void ggml_cuda_pdl_lc() {}
inline void ggml_cuda_pdl_sync() {}

inline float s_sum[32]; // the one `extern __shared__` array
