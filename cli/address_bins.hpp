// SPDX-License-Identifier: MIT
//
// How many pages of each stretch of guest memory were dirty. The stretches begin as one page each
// and double whenever a page lies past the last, so that whatever the memory's size the part that
// is written is shown in at least half of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "record.hpp"

namespace dirtyring::cli {

/// `Size` stretches, an even number. Not thread-safe.
template <std::size_t Size>
class AddressBins {
  public:
    static constexpr std::size_t size = Size;

    /// `span` ends below 2^63.
    void add(const Span& span) noexcept {
        const std::uint64_t end = span.first + span.count;
        while (end > std::uint64_t{size} << shift_) {
            coarsen(shift_ + 1);
        }
        for (std::uint64_t page = span.first; page < end;) {
            const std::uint64_t next = std::min(end, ((page >> shift_) + 1) << shift_);
            bins_[page >> shift_] += static_cast<double>(next - page);
            page = next;
        }
    }
    /// Adds what another has.
    void merge(AddressBins other) noexcept {
        coarsen(other.shift_);
        other.coarsen(shift_);
        for (std::size_t i = 0; i < size; ++i) {
            bins_[i] += other.bins_[i];
        }
    }
    /// Makes each bin at least 2^shift pages large.
    void coarsen(unsigned shift) noexcept {
        for (; shift_ < shift; ++shift_) {
            for (std::size_t i = 0; i < size / 2; ++i) {
                bins_[i] = bins_[2 * i] + bins_[2 * i + 1];
            }
            std::fill(bins_.begin() + size / 2, bins_.end(), 0.0);
        }
    }
    /// Multiplies all by `factor`, above 0; what is not 0 never becomes 0.
    void fade(double factor) noexcept {
        constexpr double least = 1e-9;
        for (double& bin : bins_) {
            bin = bin > 0 ? std::max(least, bin * factor) : 0;
        }
    }

    [[nodiscard]] double operator[](std::size_t bin) const noexcept { return bins_[bin]; }
    /// log2 of how many pages a bin has.
    [[nodiscard]] unsigned shift() const noexcept { return shift_; }
    /// Bins up to the last that has anything.
    [[nodiscard]] std::size_t used() const noexcept {
        std::size_t used = size;
        while (used > 0 && bins_[used - 1] == 0) {
            --used;
        }
        return used;
    }

  private:
    std::array<double, size> bins_{};
    unsigned shift_ = 0;
};

}  // namespace dirtyring::cli
