// SPDX-License-Identifier: MIT
//
// The guest programs that are part of the command (guests/).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace dirtyring::cli {

struct BuiltinGuest {
    std::string_view name;
    std::string_view about;           ///< half a line
    std::span<const std::byte> file;  ///< its ELF64 executable
};

/// The first is the default.
[[nodiscard]] std::span<const BuiltinGuest> builtin_guests() noexcept;

/// Not one of them: it does what a benchmark tells it to, round by round (guests/replay_plan.hpp).
[[nodiscard]] const BuiltinGuest& replay_guest() noexcept;

}  // namespace dirtyring::cli
