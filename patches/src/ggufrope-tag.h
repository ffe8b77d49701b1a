// ggufrope: a name for how a context rotates, for saved states
// SPDX-License-Identifier: MIT

#pragma once

#include <cstdint>
#include <string>

struct llama_cparams;
struct llama_model;
struct llama_model_loader;

struct ggufrope_tables;

// Cached K is rotated, and a saved state brings it to a context that must rotate its queries alike. The tag stands for all
// that decides the rotation: bases, scales, YaRN's parameters, frequency factors, tables by head and length.
//
// A context that rotates as its model was trained to, without any scaling, has no tag: its states are those of the
// unpatched runtime, to the byte.
struct ggufrope_tag {
    bool        is_set = false;
    uint64_t    hash   = 0;
    std::string text;      // for messages: what it stands for, printable ASCII

    // of the text, in bytes
    static constexpr uint32_t MAX_TEXT = 240;

    // `text`, and the hash where there is one: different rotations may have the same text
    std::string describe() const;
};

// of a context whose first graph was built, if it has tables (may be null)
ggufrope_tag ggufrope_make_tag(const llama_model & model, const llama_cparams & cparams, const ggufrope_tables * tables);

// False if the file or --override-kv gives the ropes another base, or other dimensions, than the model was trained with, as
// far as they tell: the converter writes down what it replaced.
bool ggufrope_has_own_base(const llama_model_loader & ml, const llama_model & model);

// any bytes as something that can be printed
std::string ggufrope_printable(const std::string & text);
