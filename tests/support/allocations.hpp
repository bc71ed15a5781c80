// SPDX-License-Identifier: MIT
//
// Counts what operator new is asked for. A test program that calls this has the operators of
// allocations.cpp in place of the standard library's.
#pragma once

#include <cstdint>

namespace dirtyring {

/// Allocations that this thread has made by operator new, of any form, since it began.
std::uint64_t allocations() noexcept;

}  // namespace dirtyring
