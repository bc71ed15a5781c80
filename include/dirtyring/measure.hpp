// SPDX-License-Identifier: MIT
//
// What the statistics are gathered with: how long something took, and how often it happens.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace dirtyring {

/// The mean rate of so many in so much time; 0 where the clock has not moved.
[[nodiscard]] constexpr double per_second(std::uint64_t count, std::uint64_t nanoseconds) noexcept {
    return nanoseconds == 0 ? 0
                            : static_cast<double>(count) * 1e9 / static_cast<double>(nanoseconds);
}

/// How long something took each time, in powers of two of a nanosecond. Not thread-safe.
class Histogram {
  public:
    /// Bucket i has the times below 2^i ns that bucket i - 1 has not; the last has all longer ones.
    static constexpr std::size_t size = 40;

    void add(std::uint64_t nanoseconds) noexcept {
        const auto width = static_cast<std::size_t>(64 - std::countl_zero(nanoseconds));
        ++counts_[width < size ? width : size - 1];
        ++count_;
        sum_ += nanoseconds;
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    /// Of all times, in nanoseconds.
    [[nodiscard]] std::uint64_t sum() const noexcept { return sum_; }
    [[nodiscard]] const std::array<std::uint64_t, size>& buckets() const noexcept {
        return counts_;
    }
    /// Below this many nanoseconds were `share` (0 to 1) of all times; a power of two, 0 where
    /// there were none.
    [[nodiscard]] std::uint64_t below(double share) const noexcept;

  private:
    std::array<std::uint64_t, size> counts_{};
    std::uint64_t count_ = 0;
    std::uint64_t sum_ = 0;
};

/// How often something happens a second, with what was long ago fading: it has half its weight
/// after 0.7 s. It fades when something is added, be it 0. Not thread-safe.
class MovingRate {
  public:
    using Clock = std::chrono::steady_clock;

    /// `count` times since the last call, or since construction.
    void add(std::uint64_t count, Clock::time_point now) noexcept {
        const std::chrono::duration<double> time = now - last_;
        if (time.count() <= 0) {
            at_once_ += count;
            return;
        }
        const double kept = std::exp(-time.count() / fading);
        rate_ = rate_ * kept + (1 - kept) * static_cast<double>(count + at_once_) / time.count();
        at_once_ = 0;
        last_ = now;
    }
    [[nodiscard]] double per_second() const noexcept { return rate_; }

  private:
    static constexpr double fading = 1;  // seconds in which a weight falls to 1 / e

    Clock::time_point last_ = Clock::now();
    double rate_ = 0;
    std::uint64_t at_once_ = 0;  // of calls in the same tick of the clock
};

}  // namespace dirtyring
