// SPDX-License-Identifier: MIT
//
// Tracking by the kernel's dirty bitmap: one bit for each page of each slot. For kernels without
// the ring, and the better way where a large part of memory is written between two collects.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "dirtyring/kvm/vm.hpp"
#include "dirtyring/source/source.hpp"

namespace dirtyring {

/// Who re-arms the pages.
enum class BitmapMode {
    /// KVM_GET_DIRTY_LOG clears and re-arms what it reports (api.rst 4.8).
    automatic,
    /// KVM_GET_DIRTY_LOG reports, KVM_CLEAR_DIRTY_LOG re-arms, here only around what was dirty
    /// (api.rst 4.117).
    /// The VM must have KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 enabled, without
    /// KVM_DIRTY_LOG_INITIALLY_SET: that
    /// has pages count as dirty that nobody wrote.
    manual
};

/// All calls from any thread at any time, one after the other by a mutex inside. vCPUs may run.
class BitmapSource final : public Source {
  public:
    /// Borrows the VM's descriptor. `map` holds the slots that are logged
    /// (KVM_MEM_LOG_DIRTY_PAGES).
    BitmapSource(const kvm::Fd& vm, const MemoryMap& map, BitmapMode mode);

    /// Errors: those of KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG, among them ENXIO (the VM has
    /// dirty rings) and ENOENT (a slot is not there or not logged).
    [[nodiscard]] Result<Pages> collect(DirtySet storage) override;

  private:
    Result<void> collect_slot(std::size_t place);
    Result<void> clear_words(const MemorySlot& slot, std::size_t first, std::size_t end) const;

    std::mutex mutex_;
    kvm::Vm vm_;
    BitmapMode mode_;
    DirtySet pending_;
    std::vector<std::uint64_t> bitmap_;  // of the largest slot
};

}  // namespace dirtyring
