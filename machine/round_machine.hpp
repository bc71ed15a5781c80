// SPDX-License-Identifier: MIT
//
// A guest that goes on for one round of its work whenever it is told to, on the caller's thread.
// So several machines can take turns, and whoever looks at one finds its vCPU standing still.
#pragma once

#include <memory>
#include <string>

#include "dirtyring/kvm/run.hpp"
#include "machine.hpp"

namespace dirtyring::machine {

/// One thread.
class RoundMachine {
  public:
    /// With one vCPU. Errors: those of Machine::create and kvm::Run::map.
    [[nodiscard]] static Result<RoundMachine> create(const Config& config, const Program& program);

    /// Returns when the guest has finished its next round. Errors: those of KVM_RUN; code 0 where
    /// the guest ended, or did what it should not, and what it said.
    Result<void> run_round();

    /// Completes the access that ended the round, so that the vCPU's registers can be saved.
    /// Errors: those of KVM_RUN.
    Result<void> finish_exit();

    [[nodiscard]] kvm_run& run_area() noexcept { return run_.raw(); }
    [[nodiscard]] Machine& machine() noexcept { return *machine_; }

  private:
    RoundMachine(std::unique_ptr<Machine> machine, kvm::Run run) noexcept
        : machine_(std::move(machine)), run_(std::move(run)) {}

    std::unique_ptr<Machine> machine_;  // never started: its vCPU is run here
    kvm::Run run_;
    std::string said_;
};

}  // namespace dirtyring::machine
