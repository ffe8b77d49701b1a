// Preloaded, makes the CPU compute wrongly when it is tested: models are computed by graph_compute_async, not by this.
// WRONG_HOW: "sign" of the first value, "nan" there, "digit": the last one of cosines alone, "cosine": their sign,
// "status": no result, "throw": an exception, "throw once": and right from then on.
// Only pointers of ggml's own structs are used, as its functions are not to be found from here.
#include "ggml-backend-impl.h"
#include "ggml-impl.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

static void change(ggml_tensor * t, const std::string & how) {
    float freq_base = 0.0f;
    memcpy(&freq_base, t->op_params + 5, sizeof(float));
    const bool is_angle = t->op == GGML_OP_ROPE && freq_base == 1.0f; // only the case of cosines and sines has that

    uint8_t * bytes = (uint8_t *) t->data;
    if (how == "sign") {
        bytes[3] ^= 0x80;
    } else if (how == "nan") {
        memset(bytes, 0xff, 4);
    } else if (is_angle) {
        bytes[how == "digit" ? 0 : 3] ^= how == "digit" ? 0x01 : how == "cosine" ? 0x80 : 0;
    }
}

enum ggml_status ggml_backend_graph_compute(ggml_backend_t backend, struct ggml_cgraph * gf) {
    static bool has_thrown = false;
    const std::string how = getenv("WRONG_HOW");
    if (how == "throw" || (how == "throw once" && !has_thrown)) {
        has_thrown = true;
        throw std::runtime_error("the device was lost");
    }
    const enum ggml_status status = backend->iface.graph_compute(backend, gf);
    if (std::string(backend->iface.get_name(backend)) != "CPU") {
        return status;
    }
    change(gf->nodes[gf->n_nodes - 1], how);
    return how == "status" ? GGML_STATUS_FAILED : status;
}
