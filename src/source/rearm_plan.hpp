// SPDX-License-Identifier: MIT
//
// What the entries of a ring are rewritten to before they are released: the kernel reads slot and
// offset only when it resets them, so they need not name the pages that it wrote there.
//
//  - In order of their pages: the kernel takes neighbours of 64 pages under one lock
//    (virt/kvm/dirty_ring.c, kvm_dirty_ring_reset).
//  - A page twice in a batch, or of no slot: the place names no slot instead, which the kernel
//    takes and does nothing (kvm_reset_dirty_gfn). A page past the end of its slot would keep its
//    whole batch of up to 64 from being armed.
//  - Hot pages are left out, and stay writable.
//  - A hot page that is to be armed goes where another was left out.
#pragma once

#include <cstdint>
#include <optional>

#include "dirtyring/dirty_set.hpp"
#include "dirtyring/ring.hpp"
#include "hot_pages.hpp"

namespace dirtyring {

/// One thread at a time.
class RearmPlan {
  public:
    explicit RearmPlan(const MemoryMap& map) : armed_(map) {}

    /// Goes on over other slots, with no hot pages.
    void set_memory(const MemoryMap& map);
    /// At most so many pages are hot at a time; 0: none.
    void keep_hot(std::uint64_t most);
    [[nodiscard]] HotPages* hot() noexcept { return hot_ ? &*hot_ : nullptr; }

    /// Adds the pages of the batch to `pages`, which is over the same slots, and rewrites it. Gives
    /// how many of the pages that it named were not there before.
    std::uint64_t apply(const Ring::Batch& batch, DirtySet& pages);

  private:
    std::uint64_t most_ = 0;
    std::optional<HotPages> hot_;
    DirtySet armed_;  // that the batch at hand is to arm; empty between two calls
};

}  // namespace dirtyring
