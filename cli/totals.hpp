// SPDX-License-Identifier: MIT
//
// The sums over a run.
#pragma once

#include <cstdint>
#include <vector>

#include "dirtyring/page_set.hpp"
#include "record.hpp"

namespace dirtyring::cli {

/// Not thread-safe.
class Totals {
  public:
    explicit Totals(const Header& header) : vcpus_(header.vcpus), seen_(header.pages()) {}

    void add(const Interval& interval);

    [[nodiscard]] std::uint64_t duration_ns() const noexcept { return duration_ns_; }
    [[nodiscard]] std::uint64_t intervals() const noexcept { return intervals_; }
    /// Intervals in which every page may have been written.
    [[nodiscard]] std::uint64_t everything() const noexcept { return everything_; }
    /// Dirty pages of all intervals: a page counts once an interval.
    [[nodiscard]] std::uint64_t page_changes() const noexcept { return page_changes_; }
    /// Pages that were dirty in any interval.
    [[nodiscard]] std::uint64_t distinct() const noexcept { return seen_.size(); }
    [[nodiscard]] std::uint64_t harvest_ns() const noexcept { return harvest_ns_; }
    [[nodiscard]] std::uint64_t reset_ns() const noexcept { return reset_ns_; }
    [[nodiscard]] const std::vector<VcpuFigures>& vcpus() const noexcept { return vcpus_; }

  private:
    std::uint64_t duration_ns_ = 0;
    std::uint64_t intervals_ = 0;
    std::uint64_t everything_ = 0;
    std::uint64_t page_changes_ = 0;
    std::uint64_t harvest_ns_ = 0;
    std::uint64_t reset_ns_ = 0;
    std::vector<VcpuFigures> vcpus_;
    PageSet seen_;
};

/// All vCPUs taken together: the sums; of peak_fill the largest, of rounds the least, as a round is
/// over when every vCPU has finished it.
[[nodiscard]] VcpuFigures together(const std::vector<VcpuFigures>& vcpus) noexcept;

}  // namespace dirtyring::cli
