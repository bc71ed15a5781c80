// SPDX-License-Identifier: MIT
//
// Tracking by the kernel's dirty bitmap: one bit for each page of each slot. For kernels without
// the ring, and the better way where a large part of memory is written between two collects.
#pragma once

#include <mutex>

#include "dirtyring/dirty_log.hpp"
#include "dirtyring/source/source.hpp"

namespace dirtyring {

/// All calls from any thread at any time, one after the other by a mutex inside. vCPUs may run.
class BitmapSource final : public Source {
  public:
    /// Borrows the VM's descriptor. `map` holds the slots that are logged
    /// (KVM_MEM_LOG_DIRTY_PAGES).
    BitmapSource(const kvm::Fd& vm, const MemoryMap& map, BitmapMode mode);

    /// Errors: those of DirtyLog::read.
    [[nodiscard]] Result<Pages> collect(DirtySet storage) override;

  private:
    std::mutex mutex_;
    DirtyLog log_;
    DirtySet pending_;
};

}  // namespace dirtyring
