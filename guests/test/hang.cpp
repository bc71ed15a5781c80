// SPDX-License-Identifier: MIT
//
// Never ends and never leaves the guest.
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

std::uint64_t round(std::uint32_t, std::uint64_t) {
    for (;;) {
        asm volatile("pause");
    }
}

}  // namespace

constinit const Program program = {.name = "hang", .parameters = {}, .round = round};

}  // namespace dirtyring::guest
