// SPDX-License-Identifier: MIT
//
// Dirty pages that may be read: their next write will be logged again, or cannot happen.
#pragma once

#include <span>
#include <utility>

#include "dirtyring/dirty_set.hpp"

namespace dirtyring {

/// Says that every page of the set at hand has been re-armed since it was logged: its next write is
/// logged again. For authors of sources; ResetHandle says it for the ring.
struct Rearmed {
    explicit Rearmed() = default;
};

/// Says that no vCPU of the VM is in KVM_RUN, nor will be until the caller has read the pages and
/// reset the rings. See Harvest::pages.
struct AllVcpusStopped {
    explicit AllVcpusStopped() = default;
};

/// Not thread-safe; any one thread at a time. Content changed by a write that comes later is
/// reported by a later collect, so a page read while the guest runs may be newer than the set,
/// never older.
class Pages {
  public:
    Pages(DirtySet set, Rearmed) noexcept : set_(std::move(set)) {}

    /// How many; all pages of the VM after a loss (see everything()).
    [[nodiscard]] std::uint64_t size() const noexcept { return set_.size(); }
    /// True where the kernel lost entries: what changed is not known, so every page is in the set.
    [[nodiscard]] bool everything() const noexcept { return everything_; }
    void mark_everything() noexcept {
        set_.insert_all();
        everything_ = true;
    }
    /// Adds pages, armed again like the rest, or written by the host itself. Over the same slots.
    void merge(const DirtySet& more) noexcept { set_.merge(more); }
    /// The same, by the numbers of the pages (DirtySet::number).
    void merge(std::span<const PageWord> numbers) { set_.merge(numbers); }
    /// How many of the pages are there because their next write may go unlogged: they are dirty in
    /// each collect, until they are armed again (RingSource::rearm_suspects).
    [[nodiscard]] std::uint64_t suspects() const noexcept { return suspects_; }
    void mark_suspects(const DirtySet& pages) noexcept {
        set_.merge(pages);
        suspects_ = pages.size();
    }
    /// The set itself, slot by slot.
    [[nodiscard]] const DirtySet& set() const noexcept { return set_; }

    /// Calls use(PageRun) for each run of neighbouring pages, by slot, then by page; runs with at
    /// most `gap` clean pages between them come as one.
    template <typename Use>
    void for_each_run(Use&& use, std::uint64_t gap = 0) const {
        set_.for_each_run(std::forward<Use>(use), gap);
    }

    /// Gives the storage back for the next collect.
    [[nodiscard]] DirtySet recycle() && noexcept { return std::move(set_); }

  private:
    DirtySet set_;
    bool everything_ = false;
    std::uint64_t suspects_ = 0;
};

}  // namespace dirtyring
