// ggufrope: one device computes rotations that are known
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-rope-case.h"

#include "ggml-cpp.h"

#include <string>
#include <vector>

enum ggufrope_verdict {
    GGUFROPE_VERDICT_PASSED,
    GGUFROPE_VERDICT_FAILED,    // computed wrongly, or not at all
    GGUFROPE_VERDICT_NOT_FUSED, // right, but in several steps where it is one without factors
    GGUFROPE_VERDICT_REFUSED,   // not with several rows: the CPU takes it
    GGUFROPE_VERDICT_NO_OP,     // the device has no such op
};

struct ggufrope_case_result {
    ggufrope_verdict verdict = GGUFROPE_VERDICT_NO_OP;

    // of the value that is the farthest off for its limit; both relative to the largest value
    double error = 0.0;
    double limit = 0.0;

    int         n_fused = 0; // neighbours that the backend computed together with the rope, as one op
    std::string problem;     // why nothing was computed
};

// Computes cases on one device alone, by a backend of its own, so that nothing that a context has under way is disturbed.
class ggufrope_device_test {
public:
    // n_threads: on a CPU
    ggufrope_device_test(ggml_backend_dev_t dev, int n_threads) : dev(dev), n_threads(n_threads) {}

    // `compare_fusion`: also whether the backend fuses as much as it does without factors
    ggufrope_case_result run(const ggufrope_rope_case & c, bool compare_fusion);

private:
    ggml_backend_dev_t dev;
    int                n_threads;
    ggml_backend_ptr   backend; // started with the first case that the device takes

    std::string start();
};

// what is tested for a CPU, to its own precision
bool ggufrope_is_cpu(ggml_backend_dev_t dev);
