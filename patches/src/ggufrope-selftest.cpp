// ggufrope: devices prove that they rotate by several rows of factors
// SPDX-License-Identifier: MIT

#include "ggufrope-selftest.h"
#include "ggufrope-device-test.h"
#include "ggufrope-error.h"

#include "llama-impl.h"

#include <cmath>
#include <mutex>
#include <set>
#include <string>
#include <utility>

extern "C" {
    GGML_API void ggml_backend_dev_refuse_rope_rows(ggml_backend_dev_t device); // ggml-backend.cpp
}

static const double LAST_DIGITS = 0x1p-20; // of a cosine: what a rotation may be off anyway

namespace {

// what is known of devices; they live as long as the process
struct proofs {
    std::mutex mutex;
    std::set<std::pair<ggml_backend_dev_t, std::string>> passed; // with the keys of cases
    std::set<ggml_backend_dev_t>                         failed;
    std::set<ggml_backend_dev_t>                         slow;
};

}

static std::string describe_failure(ggml_backend_dev_t dev, const ggufrope_rope_case & c, const ggufrope_case_result & res) {
    const std::string what = format("device %s (%s, backend %s): %s, mode %s, %s, with a row of factors for each KV head",
        ggml_backend_dev_name(dev), ggml_backend_dev_description(dev), ggml_backend_reg_name(ggml_backend_dev_backend_reg(dev)),
        c.op().c_str(), c.mode_name().c_str(), c.type_names().c_str());
    if (!res.problem.empty()) {
        return format("%s could not be tested: %s", what.c_str(), res.problem.c_str());
    }
    if (!std::isfinite(res.error)) {
        return what + " gives no number";
    }
    return format("%s is off by %.2g, allowed are %.2g (of the largest value)", what.c_str(), res.error, res.limit);
}

// a device that failed: the CPU takes its ropes, and nothing takes the CPU's
static void refuse(ggml_backend_dev_t dev, const ggufrope_rope_case & c, const ggufrope_case_result & res) {
    static const char * REPORT = "please report it with what `ggufrope runtime check` prints";
    const std::string failure = describe_failure(dev, c, res);
    if (!ggufrope_is_cpu(dev)) {
        ggml_backend_dev_refuse_rope_rows(dev);
        LLAMA_LOG_WARN("ggufrope: %s; the CPU takes these ropes from now on, which is slower; %s\n", failure.c_str(), REPORT);
    } else if (c.cos_sin && res.problem.empty() && res.error < LAST_DIGITS) {
        LLAMA_LOG_WARN("ggufrope: %s; %s\n", failure.c_str(), REPORT);
    } else {
        ggufrope_fail(format("%s; no device is left that rotates rightly: build the runtime anew (`ggufrope runtime build`), and if that "
            "changes nothing, %s", failure.c_str(), REPORT));
    }
}

// right, and slower than it should be: worth a line, no refusal
static void warn_of_steps(ggml_backend_dev_t dev, const ggufrope_rope_case & c) {
    LLAMA_LOG_WARN("ggufrope: device %s (%s): %s, mode %s, is computed in several steps with a row of factors for each KV head, and in one "
        "without; `ggufrope runtime check` shows which\n",
        ggml_backend_dev_name(dev), ggml_backend_dev_description(dev), c.op().c_str(), c.mode_name().c_str());
}

// returns how many cases were new
static size_t test_device(proofs & known, ggml_backend_dev_t dev, const std::vector<ggufrope_rope_case> & cases) {
    ggufrope_device_test test(dev, 1); // threads that wait for each other take tens of milliseconds on a busy machine
    size_t n_new = 0;
    for (const auto & c : cases) {
        if (known.failed.count(dev) > 0) {
            break;
        }
        if (known.passed.count({ dev, c.key() }) > 0) {
            continue;
        }
        n_new += 1;
        const auto res = test.run(c, !ggufrope_is_cpu(dev) && !c.norm);
        if (res.verdict == GGUFROPE_VERDICT_NOT_FUSED && known.slow.insert(dev).second) {
            warn_of_steps(dev, c);
        }
        if (res.verdict == GGUFROPE_VERDICT_FAILED) {
            if (!ggufrope_is_cpu(dev)) { // of the CPU the next context is told, too
                known.failed.insert(dev);
            }
            refuse(dev, c, res);
        } else {
            known.passed.insert({ dev, c.key() }); // not before: a run that throws has tested nothing
        }
    }
    return n_new;
}

// the cases of the modes, then the ropes themselves
static std::vector<ggufrope_rope_case> cases_for(const std::vector<ggufrope_rope_case> & ropes) {
    std::set<int> modes;
    std::vector<ggufrope_rope_case> res;
    for (const auto & rope : ropes) {
        if (modes.insert(rope.mode).second) {
            const auto of_mode = ggufrope_rope_cases(rope.mode);
            res.insert(res.end(), of_mode.begin(), of_mode.end());
        }
    }
    res.insert(res.end(), ropes.begin(), ropes.end());
    return res;
}

void ggufrope_test_devices(const std::vector<ggml_backend_dev_t> & devices, const std::vector<ggufrope_rope_case> & ropes) {
    static proofs known;
    std::lock_guard<std::mutex> lock(known.mutex);

    const int64_t t_start = ggml_time_us();
    const auto cases = cases_for(ropes);
    size_t n_new = 0;
    for (ggml_backend_dev_t dev : devices) {
        if (dev == nullptr || ggml_backend_dev_type(dev) == GGML_BACKEND_DEVICE_TYPE_META) {
            continue; // of several devices, which is refused elsewhere
        }
        n_new += test_device(known, dev, cases);
        if (ggufrope_is_cpu(dev)) {
            n_new += test_device(known, dev, { ggufrope_cos_sin_case(false), ggufrope_cos_sin_case(true) });
        }
    }
    if (n_new > 0) {
        LLAMA_LOG_INFO("ggufrope: devices were tested on %zu rotations in %.1f ms\n", n_new, (ggml_time_us() - t_start)/1000.0);
    }
}
