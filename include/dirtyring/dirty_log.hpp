// SPDX-License-Identifier: MIT
//
// The dirty bitmaps of a VM's slots: one bit for each page (api.rst 4.8), read and re-armed slot by
// slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "dirtyring/dirty_set.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/kvm/vm.hpp"

namespace dirtyring {

/// Who re-arms the pages.
enum class BitmapMode {
    /// KVM_GET_DIRTY_LOG clears and re-arms what it reports (api.rst 4.8).
    automatic,
    /// KVM_GET_DIRTY_LOG reports, KVM_CLEAR_DIRTY_LOG re-arms, here only around what was dirty
    /// (api.rst 4.117). The VM must have KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 enabled, without
    /// KVM_DIRTY_LOG_INITIALLY_SET: that has pages count as dirty that nobody wrote.
    manual
};

/// One thread at a time; vCPUs may run.
class DirtyLog {
  public:
    /// Borrows the VM's descriptor.
    DirtyLog(const kvm::Fd& vm, BitmapMode mode) : vm_(kvm::Vm::adopt(vm.ref())), mode_(mode) {}

    /// Adds the dirty pages of every slot that `set` is over, each re-armed by then. After an error
    /// the set has, and keeps, what was read until then. Errors, with the slot: those of
    /// KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG, among them ENXIO (the VM has dirty rings and no
    /// bitmap) and ENOENT (a slot is not there or not logged).
    [[nodiscard]] Result<void> read(DirtySet& set) { return read(set, nullptr); }

    /// Which of the dirty pages 64 * index + i of memory().slots()[place], one for each bit i of
    /// `bits`, are to be armed again; the others stay writable and dirty.
    using Plan =
        std::function<std::uint64_t(std::size_t place, std::size_t index, std::uint64_t bits)>;
    /// The same, manually protected, where `plan` decides what is armed; null: all.
    [[nodiscard]] Result<void> read(DirtySet& set, const Plan& plan);

  private:
    Result<void> read_slot(DirtySet& set, std::size_t place, const Plan& plan);
    Result<void> clear_words(const MemorySlot& slot, std::size_t first, std::size_t end) const;

    kvm::Vm vm_;
    BitmapMode mode_;
    std::vector<std::uint64_t> bitmap_;  // as large as the largest slot's so far
};

}  // namespace dirtyring
