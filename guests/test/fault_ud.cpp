// SPDX-License-Identifier: MIT
//
// Executes an instruction that does not exist: an invalid-opcode exception.
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

std::uint64_t round(std::uint32_t, std::uint64_t) {
    asm volatile("ud2");
    return 0;
}

}  // namespace

constinit const Program program = {.name = "fault_ud", .parameters = {}, .round = round};

}  // namespace dirtyring::guest
