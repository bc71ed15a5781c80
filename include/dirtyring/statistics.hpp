// SPDX-License-Identifier: MIT
//
// What tracking has seen and what it has cost, in figures, as JSON, and as Prometheus reads it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dirtyring/measure.hpp"

namespace dirtyring {

/// Of one vCPU since it was added, or of all of them. What rings tell is 0 with a bitmap.
struct VcpuStatistics {
    std::uint64_t entries = 0;       ///< read from its ring
    std::uint64_t duplicates = 0;    ///< of these, of pages that were dirty already, or none
    std::uint64_t full_exits = 0;    ///< KVM_EXIT_DIRTY_RING_FULL
    std::uint64_t overruns = 0;      ///< times that entries were or may have been lost
    std::uint64_t lost = 0;          ///< entries known to be lost
    std::uint32_t largest_fill = 0;  ///< most entries found in its ring at once
    /// Kept out of the guest by us. What of a Throttle::hold or a Tracker::ring_full is during a
    /// Pause counts twice.
    std::uint64_t stopped_nanoseconds = 0;
    /// Pages dirtied a second: entries read, or with a bitmap the pages of each collect.
    double pages_per_second = 0;         ///< since the tracker was made
    double recent_pages_per_second = 0;  ///< with what is long ago fading: MovingRate
    bool removed = false;                ///< it is no longer there

    [[nodiscard]] double bytes_per_second() const noexcept { return pages_per_second * 4096; }
    [[nodiscard]] double recent_bytes_per_second() const noexcept {
        return recent_pages_per_second * 4096;
    }
};

struct Statistics {
    std::uint64_t nanoseconds = 0;      ///< since the tracker was made
    std::vector<VcpuStatistics> vcpus;  ///< by vCPU number
    VcpuStatistics all;                 ///< together: sums, and the largest fill

    std::uint64_t collects = 0;    ///< by all consumers, and for each Tracker::change_slots
    std::uint64_t committed = 0;   ///< epochs
    std::uint64_t aborted = 0;     ///< epochs
    std::uint64_t everything = 0;  ///< collects in which every page counted as dirty, after a loss
    std::uint64_t short_resets = 0;   ///< resets that a signal cut short
    std::uint64_t suspects = 0;       ///< pages that are dirty in each collect for that reason, now
    std::uint64_t stale = 0;          ///< entries that named no page
    std::uint64_t marks_outside = 0;  ///< pages marked where no slot is

    Histogram collect;  ///< the source's part of a collect: harvest, reset, and what waits for them
    Histogram harvest;  ///< reading all rings; nothing with a bitmap
    Histogram reset;    ///< KVM_RESET_DIRTY_RINGS; nothing with a bitmap
};

/// One JSON object with the members' names; each histogram has count, sum and buckets: pairs of a
/// bound in nanoseconds and how many times were below it and not below the bound before; the bound
/// of Histogram's last bucket stands for all longer times.
[[nodiscard]] std::string to_json(const Statistics& statistics);

/// Prometheus' text format, version 0.0.4: names begin with dirtyring_, times are in seconds. What
/// is of a vCPU has the label vcpu; the rates of all together are dirtyring_vm_, without a label.
[[nodiscard]] std::string to_prometheus(const Statistics& statistics);

}  // namespace dirtyring
