// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <utility>

#include "dirtyring/error.hpp"

namespace dirtyring {

/// The value; where there is none the test ends, failed, with the error's sentence.
template <typename T>
T must(Result<T> result) {
    if (!result) {
        throw std::runtime_error(result.error().message());
    }
    if constexpr (!std::is_void_v<T>) {
        return std::move(*result);
    }
}

}  // namespace dirtyring
