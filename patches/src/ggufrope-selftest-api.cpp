// ggufrope: the self-test by hand, see ggufrope.h
// SPDX-License-Identifier: MIT

#include "ggufrope.h"
#include "ggufrope-device-test.h"

#include <exception>

static const char * verdict_name(ggufrope_verdict verdict) {
    switch (verdict) {
        case GGUFROPE_VERDICT_PASSED:    return "passed";
        case GGUFROPE_VERDICT_FAILED:    return "failed";
        case GGUFROPE_VERDICT_NOT_FUSED: return "not fused";
        case GGUFROPE_VERDICT_REFUSED:   return "refused";
        case GGUFROPE_VERDICT_NO_OP:     return "no op";
    }
    return "";
}

static std::vector<ggufrope_rope_case> all_cases(ggml_backend_dev_t device) {
    std::vector<ggufrope_rope_case> res;
    for (int mode : { GGML_ROPE_TYPE_NORMAL, GGML_ROPE_TYPE_NEOX, GGML_ROPE_TYPE_MROPE, GGML_ROPE_TYPE_IMROPE, GGML_ROPE_TYPE_VISION }) {
        for (const auto & cases : { ggufrope_rope_cases(mode), ggufrope_more_rope_cases(mode) }) {
            res.insert(res.end(), cases.begin(), cases.end());
        }
    }
    if (ggufrope_is_cpu(device)) {
        res.push_back(ggufrope_cos_sin_case(false));
        res.push_back(ggufrope_cos_sin_case(true));
    }
    return res;
}

// an exception would end the caller, which may be C
static ggufrope_case_result run_case(ggufrope_device_test & test, const ggufrope_rope_case & c) {
    ggufrope_case_result res;
    try {
        return test.run(c, true);
    } catch (const std::exception & err) {
        res.problem = err.what();
    } catch (...) {
        res.problem = "unknown exception";
    }
    res.verdict = GGUFROPE_VERDICT_FAILED;
    return res;
}

int32_t ggufrope_check_device(ggml_backend_dev_t device, ggufrope_check_callback callback, void * user_data) {
    ggufrope_device_test test(device, 2);
    int32_t n_bad = 0;
    for (const auto & c : all_cases(device)) {
        const auto res = run_case(test, c);
        n_bad += res.verdict != GGUFROPE_VERDICT_PASSED && res.verdict != GGUFROPE_VERDICT_NO_OP;

        const std::string op = c.op(), mode = c.mode_name(), type = c.type_names(), variant = c.variant();
        const ggufrope_check check = {
            /*.op      =*/ op.c_str(),
            /*.mode    =*/ mode.c_str(),
            /*.type    =*/ type.c_str(),
            /*.variant =*/ variant.c_str(),
            /*.verdict =*/ verdict_name(res.verdict),
            /*.problem =*/ res.problem.c_str(),
            /*.error   =*/ res.error,
            /*.limit   =*/ res.limit,
            /*.n_fused =*/ res.n_fused,
        };
        callback(&check, user_data);
    }
    return n_bad;
}
