// SPDX-License-Identifier: MIT
//
// Numbers as people read them. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dirtyring::cli {

inline constexpr double mebibyte = 1 << 20;  // bytes

/// "65,536".
[[nodiscard]] std::string grouped(std::uint64_t value);
/// A rate or a mean: "3,456" from 10 on, "3.5" below.
[[nodiscard]] std::string grouped(double value);
/// "1 page", "65,536 pages".
[[nodiscard]] std::string counted(std::uint64_t count, std::string_view one);
/// "64 KiB", "129.0 MiB", "1.5 GiB": in the largest unit of which there is at least one.
[[nodiscard]] std::string bytes(std::uint64_t value);
/// "12.3 s", "1.25 ms", "250 us": three figures.
[[nodiscard]] std::string duration(std::uint64_t nanoseconds);
/// "12.3 %"; "0.0 %" of nothing.
[[nodiscard]] std::string percent(double part, double whole);

}  // namespace dirtyring::cli
