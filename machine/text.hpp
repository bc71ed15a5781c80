// SPDX-License-Identifier: MIT
//
// Numbers as people of this field write them.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>

namespace dirtyring::machine {

/// "0x400000".
[[nodiscard]] inline std::string hex(std::uint64_t value) {
    char text[2 + 16 + 1];
    std::snprintf(text, sizeof text, "0x%" PRIx64, value);
    return text;
}

/// "0f".
[[nodiscard]] inline std::string hex2(unsigned byte) {
    char text[8 + 1];
    std::snprintf(text, sizeof text, "%02x", byte);
    return text;
}

/// "0000000000400000".
[[nodiscard]] inline std::string hex16(std::uint64_t value) {
    char text[16 + 1];
    std::snprintf(text, sizeof text, "%016" PRIx64, value);
    return text;
}

}  // namespace dirtyring::machine
