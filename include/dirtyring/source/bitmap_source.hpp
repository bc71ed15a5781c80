// SPDX-License-Identifier: MIT
//
// Tracking by the kernel's dirty bitmap: one bit for each page of each slot. For kernels without
// the ring, and the better way where a large part of memory is written between two collects.
#pragma once

#include <memory>
#include <mutex>

#include "dirtyring/dirty_log.hpp"
#include "dirtyring/source/source.hpp"

namespace dirtyring {

class HotPages;

/// All calls from any thread at any time, one after the other by a mutex inside. vCPUs may run.
class BitmapSource final : public Source {
  public:
    /// Borrows the VM's descriptor. `map` holds the slots that are logged
    /// (KVM_MEM_LOG_DIRTY_PAGES).
    BitmapSource(const kvm::Fd& vm, const MemoryMap& map, BitmapMode mode);
    ~BitmapSource() override;

    /// Errors: those of DirtyLog::read.
    [[nodiscard]] Result<Pages> collect(DirtySet storage) override;
    void set_memory(const MemoryMap& map, AllVcpusStopped) override;
    [[nodiscard]] MemoryMap memory() const override;

    /// Only where the bitmap is manually protected: a page stays writable whose bit is not cleared.
    void keep_hot(std::uint64_t most) override;
    void set_hot_costs(const HotPageCosts& costs) override;
    void found_clean(const DirtySet& pages) override;
    [[nodiscard]] std::uint64_t hot() const override;

  private:
    [[nodiscard]] std::uint64_t to_arm(std::size_t place, std::size_t index, std::uint64_t bits);

    mutable std::mutex mutex_;
    BitmapMode mode_;
    DirtyLog log_;
    DirtySet pending_;
    std::uint64_t most_hot_ = 0;
    std::unique_ptr<HotPages> hot_;  // null: none
    PageSet trials_{0};              // hot until now, to be armed; empty between two calls
};

}  // namespace dirtyring
