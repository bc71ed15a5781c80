// SPDX-License-Identifier: MIT
//
// Reads a static ELF64 executable for x86-64: what is to be placed where, and where to enter. Knows
// nothing of machines; any bytes may be given to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "dirtyring/error.hpp"

namespace dirtyring::machine {

/// A piece of a program: `bytes` at `address`, then zeros up to `address + size`.
struct Segment {
    std::uint64_t address;
    std::uint64_t size;                ///< not less than bytes.size(), not 0
    std::span<const std::byte> bytes;  ///< inside the file given

    [[nodiscard]] std::uint64_t end() const noexcept { return address + size; }
};

/// A program to be placed into guest memory.
struct Image {
    std::vector<Segment> segments;  ///< by address, without overlap, at least one
    std::uint64_t entry;            ///< inside one of them

    /// The first address behind all segments.
    [[nodiscard]] std::uint64_t end() const noexcept { return segments.back().end(); }
};

/// True for a file that begins with the ELF magic.
[[nodiscard]] bool is_elf(std::span<const std::byte> file) noexcept;

/// The loadable segments of `file`, all between guest_abi::reserved and `memory` bytes. `name` is
/// the file's name, for the error. Errors (code 0): one sentence naming the field that is wrong,
/// and what to do. Any thread.
[[nodiscard]] Result<Image> parse_elf(std::string_view name, std::span<const std::byte> file,
                                      std::uint64_t memory);

}  // namespace dirtyring::machine
