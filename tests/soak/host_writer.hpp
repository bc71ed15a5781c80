// SPDX-License-Identifier: MIT
//
// What a VMM's own code does to guest memory, and says afterwards: stores of random values, told by
// mark and mark_bitmap.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "dirtyring/tracker.hpp"
#include "guests/random.hpp"
#include "host_memory.hpp"

namespace dirtyring::soak {

/// Guest memory that the host may write while the guest runs.
struct HostRange {
    std::uint64_t first = 0;  ///< page of slot 0
    std::uint64_t pages = 0;
    /// The guest `writer` has its stamps in these pages, at places that are left alone; they are
    /// counted from this page on.
    bool stamped = false;
};

/// One thread at a time.
class HostWriter {
  public:
    HostWriter(Tracker& tracker, std::vector<HostRange> ranges, std::uint64_t seed)
        : tracker_(tracker), ranges_(std::move(ranges)), random_(seed) {}

    /// Stores into some pages and then marks them. The slots are `slots` meanwhile.
    void burst(const MemoryMap& slots);

    /// Stores so far.
    [[nodiscard]] std::uint64_t stores() const { return stores_; }

  private:
    struct Place {
        const MemorySlot* slot;
        HostRange range;
    };
    [[nodiscard]] Place random_place(const MemoryMap& slots);
    /// Gives the word's guest address.
    std::uint64_t store(const Place& place, std::uint64_t page);
    void run(const Place& place);
    void scattered(const Place& place);

    Tracker& tracker_;
    std::vector<HostRange> ranges_;
    guest::Random random_;
    std::uint64_t stores_ = 0;
};

}  // namespace dirtyring::soak
