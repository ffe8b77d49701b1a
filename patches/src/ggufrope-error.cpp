// ggufrope: errors, and the last one for ggufrope_last_error()
// SPDX-License-Identifier: MIT

#include "ggufrope-error.h"

#include <stdexcept>

static thread_local std::string last_error;

void ggufrope_set_last_error(const std::string & message) {
    last_error = message;
}

const char * ggufrope_get_last_error() {
    return last_error.c_str();
}

void ggufrope_fail(const std::string & message) {
    ggufrope_set_last_error(message);
    throw std::runtime_error(message);
}
