// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstdlib>

namespace dirtyring {

/// An amount as far as it is wanted: times DIRTYRING_TEST_SCALE, which is 1 where it is not set.
/// Emulated hardware and sanitizers do a small part.
inline std::uint64_t scaled(std::uint64_t amount) {
    const char* scale = std::getenv("DIRTYRING_TEST_SCALE");
    return scale == nullptr ? amount
                            : static_cast<std::uint64_t>(static_cast<double>(amount) *
                                                         std::strtod(scale, nullptr));
}

}  // namespace dirtyring
