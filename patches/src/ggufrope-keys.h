// ggufrope: the `ggufrope.*` keys of a model file
// SPDX-License-Identifier: MIT

#pragma once

#include "ggufrope-spec.h"

struct llama_model_loader;

// reads and checks the keys; null when the file has none
// removes the sentinel tensor from the loader and sets hparams.n_ctx_train
std::shared_ptr<const ggufrope_spec> ggufrope_load(llama_model_loader & ml, const llama_model & model, llama_hparams & hparams);

// adds the keys that the model was loaded with to a file that is about to be saved
void ggufrope_save(const ggufrope_spec & spec, const std::string & key_context_length, gguf_context * ctx);

// and the tensor that was taken out, so that unpatched runtimes refuse that file too
void ggufrope_save_tensors(const ggufrope_spec & spec, gguf_context * ctx);
