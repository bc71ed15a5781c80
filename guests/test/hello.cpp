// SPDX-License-Identifier: MIT
//
// Prints a line on each vCPU; ends with status 0.
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

std::uint64_t round(std::uint32_t vcpu, std::uint64_t) {
    say("vCPU ", vcpu, " of ", vcpu_count());
    leave(0);
}

}  // namespace

constinit const Program program = {.name = "hello", .parameters = {}, .round = round};

}  // namespace dirtyring::guest
