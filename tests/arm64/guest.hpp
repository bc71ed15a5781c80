// SPDX-License-Identifier: MIT
//
// The guest: writes a running number to pages of its choosing, and says so after each round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dirtyring::arm64 {

/// Its machine code, position-independent. It begins at the first instruction with these in its
/// registers:
///   x0  guest address of the pages to write to
///   x1  their number less 1; a power of two less 1
///   x2  seed of the order in which it takes them, not 0
///   x3  the number written last
///   x4  where in a page to write, a multiple of 8
///   x5  writes in a round
///   x6  address that no slot has: the number written last is stored there after each round
std::span<const std::byte> guest_code();

}  // namespace dirtyring::arm64
