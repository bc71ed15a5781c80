// SPDX-License-Identifier: MIT
//
// Numbers as they are given on the command line. Errors (code 0) quote the text and say what would
// do. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "dirtyring/error.hpp"

namespace dirtyring::cli {

/// A whole number from `least` to `most`. K, M, G or T after the digits is times 2^10, 2^20, 2^30
/// or 2^40; "B" or "iB" may follow that letter.
[[nodiscard]] Result<std::uint64_t> parse_count(std::string_view text, std::uint64_t least,
                                                std::uint64_t most);
/// The same for bytes: only the error's words differ.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text, std::uint64_t least,
                                               std::uint64_t most);

/// The same for bytes a second: "/s" may follow.
[[nodiscard]] Result<std::uint64_t> parse_rate(std::string_view text, std::uint64_t least,
                                               std::uint64_t most);

/// A time in seconds, "10" or "0.5", from a millisecond to a year.
[[nodiscard]] Result<std::chrono::nanoseconds> parse_seconds(std::string_view text);

}  // namespace dirtyring::cli
