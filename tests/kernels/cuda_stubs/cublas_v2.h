// The names of cuBLAS that ggml-cuda/common.cuh mentions, enough to compile a file that uses none of them.
// The toolkit's header may be missing where nvcc is there; nothing is linked.
#pragma once

#include <cuda_runtime.h>
#include <library_types.h>

typedef void * cublasHandle_t;
typedef int    cublasStatus_t;
enum { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_TF32_TENSOR_OP_MATH = 3 };

const char *   cublasGetStatusString(cublasStatus_t);
cublasStatus_t cublasCreate(cublasHandle_t *);
cublasStatus_t cublasSetMathMode(cublasHandle_t, int);
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t);
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t);
