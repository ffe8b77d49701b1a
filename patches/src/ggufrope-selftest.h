// ggufrope: devices prove that they rotate by several rows of factors
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-rope-case.h"

#include "ggml-backend.h"

#include <vector>

// Before a context is to rotate by several rows, each of its devices computes the cases of the ropes' modes, once per
// process. A device that is wrong takes no such ropes any more (the CPU does), which is a warning; throws if it is the CPU.
void ggufrope_test_devices(const std::vector<ggml_backend_dev_t> & devices, const std::vector<ggufrope_rope_case> & ropes);
