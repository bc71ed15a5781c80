// SPDX-License-Identifier: MIT
//
// From what the user calls a guest to its program.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "dirtyring/error.hpp"

namespace dirtyring::cli {

struct GuestFile {
    std::string name;             ///< the path, or the built-in guest's name
    std::vector<std::byte> read;  ///< empty for a built-in guest
    std::span<const std::byte> builtin;

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return read.empty() ? builtin : read;
    }
};

/// `guest` is a path, or, where there is no such file, a built-in guest's name. Errors: those of
/// machine::read_file.
[[nodiscard]] Result<GuestFile> load_guest(const std::string& guest);

}  // namespace dirtyring::cli
