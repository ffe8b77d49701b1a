// ggufrope: ropes that run on another device than their layer
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-trace.h"

#include "ggml-backend.h"

#include <string>

// Which of these ropes the scheduler gave to another device because that of their layer does not run them by rows of
// factors, and what that costs, in a sentence; empty if there are none. The graph must have been split.
std::string ggufrope_find_fallback(const llama_model & model, ggml_backend_sched_t sched, const std::vector<ggufrope_rope> & ropes);

// true if contexts with such ropes are refused: as a program says (--no-fallback), or GGUFROPE_NO_FALLBACK=1
void ggufrope_refuse_fallback(bool refuse);
bool ggufrope_refuses_fallback();
