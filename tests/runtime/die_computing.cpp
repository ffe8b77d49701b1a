// Preloaded: the process dies (or waits) while graph number DIE_AT is computed, as DIE_HOW says.
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

// a library that Python opened for itself is not in the scope that RTLD_NEXT looks through
static void * next(const char * name) {
    return dlsym(dlopen("libggml-base.so.0", RTLD_LAZY | RTLD_NOLOAD), name);
}

static void die(const std::string & how) {
    if (how == "assert") {
        ((void (*)(const char *, int, const char *, ...)) next("ggml_abort"))(
            "/somewhere/ggml/src/ggml.c", 42, "GGML_ASSERT(%s) failed", "n_rows > 0");
    } else if (how == "throw") {
        throw std::runtime_error("no such expert");
    } else if (how == "abort") {
        abort();
    } else if (how == "wait") {
        (void) !write(1, "waiting\n", 8);
        sleep(30); // not pause(): the signal may come before it, or on a busy machine seconds later
    } else {
        raise(how == "kill" ? SIGKILL : SIGSEGV);
    }
}

extern "C" int ggml_backend_sched_graph_compute_async(void * sched, void * graph) {
    static int computed = 0;
    if (getenv("DIE_AT") && ++computed == atoi(getenv("DIE_AT"))) {
        die(getenv("DIE_HOW"));
    }
    return ((int (*)(void *, void *)) next("ggml_backend_sched_graph_compute_async"))(sched, graph);
}
