// SPDX-License-Identifier: MIT
#include "end.hpp"

namespace dirtyring::machine {

bool succeeded(const End& end) noexcept {
    const auto* exited = std::get_if<Exited>(&end);
    return exited != nullptr && exited->status == 0;
}

std::string describe(std::uint32_t vcpu, const End& end) {
    const std::string name = "vCPU " + std::to_string(vcpu);
    if (const auto* exited = std::get_if<Exited>(&end)) {
        return name + " ended with status " + std::to_string(exited->status);
    }
    if (const auto* faulted = std::get_if<Faulted>(&end)) {
        return faulted->report;
    }
    if (const auto* failed = std::get_if<Failed>(&end)) {
        return name + " failed: " + failed->error.message();
    }
    return name + " was stopped";
}

}  // namespace dirtyring::machine
