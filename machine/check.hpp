// SPDX-License-Identifier: MIT
//
// The rules of a Config.
#pragma once

#include "config.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/kvm/vm.hpp"

namespace dirtyring::machine {

/// Everything that can be said without asking the kernel. Errors (code 0): one sentence naming the
/// rule.
[[nodiscard]] Result<void> check(const Config& config);

/// That this host's KVM takes as many vCPUs. Errors: code 0 (what it does take), and
/// check_extension's.
[[nodiscard]] Result<void> check_vcpus(const kvm::Vm& vm, const Config& config);

}  // namespace dirtyring::machine
