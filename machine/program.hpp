// SPDX-License-Identifier: MIT
//
// From a program's file to guest memory: ELF or flat, checked, and placed.
#pragma once

#include "config.hpp"
#include "elf.hpp"
#include "guest_memory.hpp"

namespace dirtyring::machine {

/// The program's segments: as parse_elf if it begins with the ELF magic, else the file as one
/// segment. Errors (code 0): the ELF file's faults, an empty file, a flat binary that does not fit
/// into `memory` bytes.
[[nodiscard]] Result<Image> parse_program(const Program& program, std::uint64_t memory);

/// Copies the segments into guest memory, which is still all zero there.
void place(const Image& image, const GuestMemory& memory);

}  // namespace dirtyring::machine
