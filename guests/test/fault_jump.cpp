// SPDX-License-Identifier: MIT
//
// Jumps to an address where nothing is mapped: a page fault on the instruction.
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

std::uint64_t round(std::uint32_t, std::uint64_t) {
    asm volatile("jmp *%0" : : "r"(0x700000000000UL));
    return 0;
}

}  // namespace

constinit const Program program = {.name = "fault_jump", .parameters = {}, .round = round};

}  // namespace dirtyring::guest
