// ggufrope: errors, and the last one for ggufrope_last_error()
// SPDX-License-Identifier: MIT

#pragma once

#include <string>

// remembers the message for ggufrope_last_error() and throws std::runtime_error
[[noreturn]] void ggufrope_fail(const std::string & message);

void         ggufrope_set_last_error(const std::string & message);
const char * ggufrope_get_last_error();
