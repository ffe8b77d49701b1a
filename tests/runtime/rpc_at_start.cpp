// Preloaded into a program: a server of ggml's RPC backend is among its devices, as with --rpc in a build that has that.

#include <cstdlib>

extern "C" void * ggml_backend_rpc_add_server(const char * endpoint);
extern "C" void   ggml_backend_register(void * reg);

__attribute__((constructor)) static void add_server() {
    if (const char * endpoint = getenv("RPC_AT_START")) {
        ggml_backend_register(ggml_backend_rpc_add_server(endpoint));
    }
}
