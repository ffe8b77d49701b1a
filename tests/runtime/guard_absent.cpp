// Preloaded, asks the backend alone, as upstream does, and forgets what tests of devices find: what would happen without both.
#include "ggml-backend-impl.h"

bool ggml_backend_dev_supports_op(ggml_backend_dev_t device, const ggml_tensor * op) {
    return device->iface.supports_op(device, op);
}

extern "C" void ggml_backend_dev_refuse_rope_rows(ggml_backend_dev_t) {}
