// Preloaded, asks the backend alone, as upstream does: what would happen without the guard.
#include "ggml-backend-impl.h"

bool ggml_backend_dev_supports_op(ggml_backend_dev_t device, const ggml_tensor * op) {
    return device->iface.supports_op(device, op);
}
