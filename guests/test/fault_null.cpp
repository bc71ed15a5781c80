// SPDX-License-Identifier: MIT
//
// Reads address 0, where nothing is mapped: a page fault.
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

std::uint64_t round(std::uint32_t, std::uint64_t) {
    std::uint64_t value = 0;
    // In assembly, because a compiler may do as it likes with a null pointer.
    asm volatile("movq (%1), %0" : "=r"(value) : "r"(0UL));
    return value;
}

}  // namespace

constinit const Program program = {.name = "fault_null", .parameters = {}, .round = round};

}  // namespace dirtyring::guest
