// Preloaded, counts what is written into backend tensors and lets it through; also how often a graph is laid out anew.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

static double calls, bytes, graphs;

// the library is opened by Python for itself, so it is not in the scope that RTLD_NEXT looks through
static void * next(const char * name) {
    return dlsym(dlopen("libggml-base.so.0", RTLD_LAZY | RTLD_NOLOAD), name);
}

void count_uploads(double * out) {
    out[0] = calls;
    out[1] = bytes;
    out[2] = graphs;
}

#define COUNTED(name, size_of_it, parameters, arguments) \
    void name parameters {                               \
        calls += 1;                                      \
        bytes += (double) (size_of_it);                  \
        ((void (*) parameters) next(#name)) arguments;   \
    }

#define PLACE size_t offset, size_t size
#define COPIES size_t n, size_t stride_tensor, size_t stride_data

COUNTED(ggml_backend_tensor_set, size, (void * t, const void * data, PLACE), (t, data, offset, size))
COUNTED(ggml_backend_tensor_set_async, size, (void * backend, void * t, const void * data, PLACE),
        (backend, t, data, offset, size))
COUNTED(ggml_backend_tensor_set_2d, size*n, (void * t, const void * data, PLACE, COPIES),
        (t, data, offset, size, n, stride_tensor, stride_data))
COUNTED(ggml_backend_tensor_set_2d_async, size*n, (void * backend, void * t, const void * data, PLACE, COPIES),
        (backend, t, data, offset, size, n, stride_tensor, stride_data))
COUNTED(ggml_backend_tensor_memset, size, (void * t, uint8_t value, PLACE), (t, value, offset, size))
COUNTED(ggml_backend_tensor_copy, 0, (const void * from, void * to), (from, to))
COUNTED(ggml_backend_tensor_copy_async, 0, (void * backend_from, void * backend_to, const void * from, void * to),
        (backend_from, backend_to, from, to))

_Bool ggml_backend_sched_alloc_graph(void * sched, void * graph) {
    graphs += 1;
    return ((_Bool (*)(void *, void *)) next("ggml_backend_sched_alloc_graph"))(sched, graph);
}
