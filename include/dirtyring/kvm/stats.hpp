// SPDX-License-Identifier: MIT
//
// What KVM counts about a VM or a vCPU, by name (api.rst 4.133):
//
//     Result<Fd> fd = vcpu.get_stats_fd();
//     Result<Stats> stats = Stats::adopt(std::move(*fd));
//     Result<std::span<const Statistic>> all = stats->read();
//     const Statistic* faults = stats->find("pf_fixed");   // nullptr where this kernel has none
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"

namespace dirtyring::kvm {

/// A newer kernel may give values that have no name here.
enum class StatisticType : std::uint8_t {
    cumulative,
    instant,
    peak,
    linear_histogram,      ///< value i counts samples from i * bucket_size on
    logarithmic_histogram  ///< value 0 counts samples of 0, value i those from 2^(i-1) on
};
/// A newer kernel may give values that have no name here.
enum class StatisticUnit : std::uint8_t { none, bytes, seconds, cycles, boolean };

struct Statistic {
    std::string name;
    StatisticType type = StatisticType::cumulative;
    StatisticUnit unit = StatisticUnit::none;  ///< of the buckets, where it is a histogram
    int base = 10;                             ///< a value is base ^ exponent units
    int exponent = 0;
    std::uint32_t bucket_size = 0;      ///< of a linear histogram
    std::vector<std::uint64_t> values;  ///< one; as many as there are buckets in a histogram
};

/// Any one thread at a time. The vCPUs may run: unlike a vCPU's other calls, reading its statistics
/// does not wait for it.
class Stats {
  public:
    /// Takes what get_stats_fd gave and reads once what is counted; the values are 0 until read.
    /// Errors: pread's own, EINVAL (this is no descriptor of KVM statistics).
    [[nodiscard]] static Result<Stats> adopt(Fd fd);

    /// Reads all values, in one go. The span is good for as long as this object.
    /// Errors: pread's own.
    [[nodiscard]] Result<std::span<const Statistic>> read();

    /// The statistic of that name with the values last read; nullptr where there is none.
    [[nodiscard]] const Statistic* find(std::string_view name) const noexcept;
    /// "kvm-" and the process id, and for a vCPU "/vcpu-" and its number.
    [[nodiscard]] const std::string& id() const noexcept { return id_; }

  private:
    explicit Stats(Fd fd) noexcept : fd_(std::move(fd)) {}

    Fd fd_;
    std::string id_;
    long data_offset_ = 0;
    std::vector<std::byte> data_;
    std::vector<Statistic> statistics_;
    std::vector<std::size_t> offsets_;  // of each statistic's values in data_
};

}  // namespace dirtyring::kvm
