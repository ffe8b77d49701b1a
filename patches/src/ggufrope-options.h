// ggufrope: options of a program that say otherwise than the model file
// SPDX-License-Identifier: MIT

#pragma once

struct llama_context_params;
struct llama_cparams;
struct llama_model;
struct llama_model_loader;

// The factors of a table multiply what the file's own keys make of the ropes. Another base or scaling from a program
// would be multiplied in as well: a rotation that nobody has asked for. So with a table these throw, with the option and
// the key named, unless the option says what the file says anyway. A file without a table takes options as it would
// without the ggufrope keys.

// Overrides of keys (--override-kv), before the keys are read; also of the ggufrope keys themselves. Returns true if some
// take the place of what a file without a table says.
bool ggufrope_check_overrides(const llama_model_loader & ml);

// parameters of a context; `cparams` are made from them and have its size
void ggufrope_check_params(const llama_model & model, const llama_context_params & params, const llama_cparams & cparams);
