// SPDX-License-Identifier: MIT
//
// For the examples: a call that fails ends the program with the sentence that says why.
#pragma once

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>

#include "dirtyring/error.hpp"

/// Of the library.
template <typename T>
T or_exit(dirtyring::Result<T> result) {
    if (!result) {
        std::fprintf(stderr, "%s\n", result.error().message().c_str());
        std::exit(EXIT_FAILURE);
    }
    if constexpr (!std::is_void_v<T>) {
        return std::move(*result);
    }
}

/// Of the C library: an int below 0, or the address that mmap fails with.
template <typename T>
T or_exit(T result, const char* call) {
    bool failed = false;
    if constexpr (std::is_pointer_v<T>) {
        failed = result == MAP_FAILED;
    } else {
        failed = result < 0;
    }
    if (failed) {
        std::perror(call);
        std::exit(EXIT_FAILURE);
    }
    return result;
}
