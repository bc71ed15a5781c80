// SPDX-License-Identifier: MIT
//
// Running a vCPU: its kvm_run mapping, KVM_RUN, and the way to make it come back.
#pragma once

#include <linux/kvm.h>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/exit.hpp"
#include "dirtyring/kvm/mapping.hpp"
#include "dirtyring/kvm/vcpu.hpp"

namespace dirtyring::kvm {

/// Belongs to the thread that runs the vCPU; only request_exit may be called from another (or from
/// a signal handler). The Vcpu must outlive it.
class Run {
  public:
    /// Maps the vCPU's kvm_run. Errors: EINVAL (the vCPU was adopted without a mapping size),
    /// mmap's own.
    [[nodiscard]] static Result<Run> map(const Vcpu& vcpu);

    /// KVM_RUN (api.rst 4.10): runs the guest until something needs user space. A signal or
    /// request_exit is an IntrExit, not an error. After an IoExit, MmioExit, MsrExit or
    /// HypercallExit the access is only complete with the next run: before state is saved, run once
    /// more with request_exit. Errors: EFAULT (a page of guest memory cannot be reached), EBADF,
    /// ENOEXEC, EINVAL, EPERM.
    [[nodiscard]] Result<Exit> run();

    /// Makes the run in progress, or else the next one, return an IntrExit: sets immediate_exit
    /// (api.rst 5). A run that is already inside the guest notices only with a signal to its
    /// thread: set this first, then send the signal, and no run can be missed. Any thread; a signal
    /// handler too.
    void request_exit() noexcept;
    /// Takes request_exit back. The vCPU's thread.
    void clear_exit_request() noexcept;

    /// The mapping, for what has no name here (sync registers, cr8, request_interrupt_window, ...).
    /// The vCPU's thread; not immediate_exit, which other threads write.
    [[nodiscard]] kvm_run& raw() noexcept { return *run_; }

  private:
    Run(Fd fd, Mapping mapping) noexcept;

    Fd fd_;
    Mapping mapping_;
    kvm_run* run_;
};

}  // namespace dirtyring::kvm
