// ggufrope: whether the ropes of a graph can be given the tables that are asked for
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-spec.h"
#include "ggufrope-trace.h"

// throws unless the rope can rotate by the rows of its layer
void ggufrope_check_rope(const llama_model & model, const ggufrope_spec & spec, const ggufrope_rope & rope);

// throws unless every layer with a table rotates both its queries and its keys by it, where `ropes` are those of Q and K
// that get one, and `aliases` the layers whose projections they have, by layer
void ggufrope_check_layers(
        const llama_model & model, const ggufrope_spec & spec,
        const std::vector<uint32_t> & aliases, const std::vector<ggufrope_rope> & ropes);
