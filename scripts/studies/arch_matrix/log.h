// See common.h.
// SPDX-License-Identifier: MIT

#pragma once

#include <cstdio>

#define LOG(...) printf(__VA_ARGS__)
#define LOG_ERR LOG
#define LOG_INF LOG
#define LOG_LEVEL_DEBUG 0
#define LOG_LEVEL_ERROR 0

inline int    common_log_get_verbosity(int) { return 0; }
inline void   common_log_set_verbosity_thold(int) {}
inline void * common_log_main() { return nullptr; }
inline void   common_log_flush(void *) {}
