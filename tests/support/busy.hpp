// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

namespace dirtyring {

/// Lets at least so much time pass.
inline void be_busy_for(std::chrono::nanoseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
    }
}

}  // namespace dirtyring
