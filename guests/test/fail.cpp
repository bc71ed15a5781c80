// SPDX-License-Identifier: MIT
//
// Ends with status 1 and a sentence, as a guest does that found its own result wrong.
#include "runtime.hpp"

namespace dirtyring::guest {
namespace {

std::uint64_t round(std::uint32_t vcpu, std::uint64_t) {
    fail("vCPU ", vcpu, " fails, as it is meant to");
}

}  // namespace

constinit const Program program = {.name = "fail", .parameters = {}, .round = round};

}  // namespace dirtyring::guest
