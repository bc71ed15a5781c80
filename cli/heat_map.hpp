// SPDX-License-Identifier: MIT
//
// Guest memory against time, in bounded memory however long the run is: when all columns are taken,
// neighbours are put together and each covers twice the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "address_bins.hpp"
#include "record.hpp"

namespace dirtyring::cli {

/// Not thread-safe.
class HeatMap {
  public:
    static constexpr std::size_t most_columns = 400;

    struct Column {
        std::uint64_t begin_ns = 0;
        std::uint64_t end_ns = 0;
        std::uint64_t intervals = 0;
        std::uint64_t pages = 0;  ///< dirty ones, once an interval
        bool everything = false;  ///< some interval lost entries
        AddressBins<256> bins;

        [[nodiscard]] double seconds() const noexcept {
            return static_cast<double>(end_ns - begin_ns) / 1e9;
        }
        /// Dirty pages a second, in all and in a bin.
        [[nodiscard]] double rate() const noexcept {
            return static_cast<double>(pages) / seconds();
        }
        [[nodiscard]] double rate(std::size_t bin) const noexcept { return bins[bin] / seconds(); }
        /// Takes the column after this one in.
        void merge(const Column& next) noexcept;
    };

    void add(const Interval& interval);

    /// The columns in order of time, at most `most_columns`; all with bins of the same size.
    [[nodiscard]] std::vector<Column> columns() const;

  private:
    std::vector<Column> columns_;
    std::uint64_t intervals_each_ = 1;
    std::uint64_t first_ns_ = 0;  // length of the first interval
};

/// Puts neighbouring columns together; the last stays alone if their number is odd.
void halve(std::vector<HeatMap::Column>& columns);

}  // namespace dirtyring::cli
