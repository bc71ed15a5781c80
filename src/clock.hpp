// SPDX-License-Identifier: MIT
//
// The clock that everything here is timed by.
#pragma once

#include <chrono>
#include <cstdint>

namespace dirtyring {

using Clock = std::chrono::steady_clock;

[[nodiscard]] inline std::uint64_t nanoseconds(Clock::duration time) noexcept {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

}  // namespace dirtyring
