// SPDX-License-Identifier: MIT
//
// What is to be said of a vCPU whose guest went wrong. All of it reads the vCPU's state, so it is
// called on its thread after KVM_RUN has returned.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dirtyring/kvm/exit.hpp"
#include "dirtyring/kvm/vcpu.hpp"
#include "guest_memory.hpp"

namespace dirtyring::machine {

/// The vCPU that went wrong, and its machine's memory.
struct FaultContext {
    const kvm::Vcpu& vcpu;
    std::uint32_t index;
    const GuestMemory& memory;
};

/// The report of an exception, if the vCPU is in one of the VMM's own stubs (boot.cpp); otherwise
/// nothing: the guest itself wrote to the fault port.
[[nodiscard]] std::optional<std::string> exception_report(const FaultContext& context);

/// The report of an exit that a guest of this machine must not cause: "vCPU 0 " and `cause`, which
/// says what the guest did, then the registers.
[[nodiscard]] std::string exit_report(const FaultContext& context, const std::string& cause);

/// `cause` for exit_report.
[[nodiscard]] std::string describe_exit(const kvm::Exit& exit);

}  // namespace dirtyring::machine
