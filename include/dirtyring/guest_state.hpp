// SPDX-License-Identifier: MIT
//
// Everything of a vCPU and of a VM that is not guest memory: taken once, put back many times.
//
//     Result<VcpuState> state = VcpuState::take(vcpu, StateOptions());
//     ...                                            // the guest runs
//     state->restore(vcpu);
//
// Caveats:
//  - A vCPU whose last exit was an access that user space answers (port, MMIO, MSR, hypercall) is
//    in the middle of an instruction until the next KVM_RUN (api.rst 5, "The kvm_run structure").
//    Before take and before restore run it once more with immediate_exit (Run::request_exit).
//  - x86-64 only; other architectures have other registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/vcpu.hpp"
#include "dirtyring/kvm/vm.hpp"

#if defined(__x86_64__)

namespace dirtyring {

/// What a restore puts back beside general, segment and control registers, events, FPU and vector
/// registers. All of it is always taken and compared.
struct StateOptions {
    /// What only ring 0 writes: model-specific and debug registers, XCR0, the LAPIC, run state.
    /// Each kind is a call, so a guest that stays in ring 3 is reset faster without.
    bool system = true;
    /// The guest's time: the time stamp counter of each vCPU, and KVM's clock. Without, time goes
    /// on through a restore.
    bool time = true;
};

/// A vCPU's registers: general, segments and control, FPU and vector (XSAVE), model-specific,
/// debug; its LAPIC, pending events and run state. Any thread while the vCPU does not run.
class VcpuState {
  public:
    /// Errors: those of the KVM_GET_... calls. What this VM does not have (a LAPIC without
    /// interrupt controllers in the kernel) is not part of the state, nor are model-specific
    /// registers that KVM does not let be written with what they hold.
    [[nodiscard]] static Result<VcpuState> take(const kvm::Vcpu& vcpu,
                                                const StateOptions& options = {});
    /// Errors: those of the KVM_SET_... calls; the vCPU is then partly restored, and a second try
    /// may be made.
    Result<void> restore(const kvm::Vcpu& vcpu) const;
    /// The same with three calls less: general, segment and control registers and events are left
    /// in `run`, the vCPU's kvm_run, for its next KVM_RUN (api.rst 6.30, KVM_CAP_SYNC_REGS, which
    /// every KVM for x86-64 has since Linux 4.17). Until then KVM_GET_REGS and the like give what
    /// they were before, and who wants to change one changes it in run.s.regs. The vCPU's thread,
    /// or with the vCPU stopped. Errors: as restore; EINVAL of the next KVM_RUN.
    Result<void> restore(const kvm::Vcpu& vcpu, kvm_run& run) const;

    /// Names of what is different, such as "regs, msr 0xc0000100"; empty where nothing is. Time is
    /// not compared.
    [[nodiscard]] std::string difference(const VcpuState& other) const;

  private:
    VcpuState() = default;

    [[nodiscard]] Result<void> restore_system(const kvm::Vcpu& vcpu) const;

    StateOptions options_;
    kvm_regs regs_{};
    kvm_sregs sregs_{};
    kvm_xcrs xcrs_{};
    kvm_vcpu_events events_{};
    kvm_mp_state mp_state_{};
    kvm_debugregs debugregs_{};
    std::optional<kvm_lapic_state> lapic_;
    std::vector<std::byte> xsave_;
    std::vector<kvm_msr_entry> msrs_;
    std::vector<kvm_msr_entry> put_back_;  // those of them that a restore writes
    std::vector<std::byte> nested_;        // empty: no nested virtualization
};

/// What the vCPUs of a VM share: interrupt controllers and timer in the kernel, where there are
/// any, and KVM's clock. Any thread while no vCPU runs.
class VmState {
  public:
    /// Errors: those of the KVM_GET_... calls.
    [[nodiscard]] static Result<VmState> take(const kvm::Vm& vm, const StateOptions& options = {});
    /// Errors: those of the KVM_SET_... calls.
    Result<void> restore(const kvm::Vm& vm) const;

    /// As VcpuState's.
    [[nodiscard]] std::string difference(const VmState& other) const;

  private:
    VmState() = default;

    std::vector<kvm_irqchip> chips_;
    std::optional<kvm_pit_state2> pit_;
    std::optional<kvm_clock_data> clock_;
};

}  // namespace dirtyring

#endif
