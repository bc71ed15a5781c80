// SPDX-License-Identifier: MIT
//
// Guest memory as a strip of coloured cells, lines of it below each other: what is written glows,
// and cools down within some seconds.
#pragma once

#include <cstdint>
#include <string>

#include "address_bins.hpp"
#include "record.hpp"
#include "terminal.hpp"

namespace dirtyring::cli {

/// Not thread-safe.
class HeatStrip {
  public:
    void add(const Interval& interval);

    /// Bytes from guest address 0 on that the strip shows: all that has been written so far.
    [[nodiscard]] std::uint64_t shown_bytes() const noexcept;
    /// Line `line` of `lines`, `columns` cells wide.
    [[nodiscard]] std::string draw(int line, int lines, int columns,
                                   terminal::Colours colours) const;
    /// What the colours mean: at least 31 columns.
    [[nodiscard]] static std::string key(terminal::Colours colours);

  private:
    /// The largest share of dirty pages of any bin from `begin` to `end`, both in 0 .. 1 of what is
    /// shown; 0: never written.
    [[nodiscard]] double share(double begin, double end) const noexcept;

    // Pages an interval, an average over the last second or so.
    AddressBins<4096> bins_;
};

}  // namespace dirtyring::cli
