// ggufrope: what an override of a key (--override-kv) changes
// SPDX-License-Identifier: MIT

#pragma once

#include <string>

struct llama_model_kv_override;
struct llama_model_loader;

// False if llama.cpp ignores the override, with a warning or without: it only takes one of the type that it reads the key
// as. True for a key that is neither in the file nor known here.
bool ggufrope_override_acts(const llama_model_loader & ml, const llama_model_kv_override & given);

// true if the override is the value that the file has; an integer may stand for a float
bool ggufrope_override_is_own(const llama_model_loader & ml, const llama_model_kv_override & given);

// "--override-kv key=type:value"
std::string ggufrope_describe_override(const llama_model_kv_override & given);

// the fewest digits that read back as the same value
std::string ggufrope_shortest(float value);
