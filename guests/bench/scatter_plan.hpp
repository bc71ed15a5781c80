// SPDX-License-Identifier: MIT
//
// Which pages the guest `scatter` writes, so that the host knows it too.
#pragma once

#include <cstdint>

#include "../random.hpp"

namespace dirtyring::guest {

/// `writes` different pages of `pages`, spread evenly over all of them; no two that are written one
/// after the other are neighbours, unless nearly all pages are written.
class ScatterPlan {
  public:
    /// `writes` in 1 .. min(pages, 2^32); `pages` up to 2^32.
    constexpr ScatterPlan(std::uint64_t pages, std::uint64_t writes)
        : pages_(pages), writes_(writes), order_(writes) {}

    /// The page of write `number`, which is below `writes`.
    constexpr std::uint64_t page(std::uint64_t number) const {
        // Each write has a stretch of its own, and a place in it that shows no pattern.
        const std::uint64_t stretch = order_.at(number);
        const std::uint64_t first = stretch * pages_ / writes_;
        const std::uint64_t end = (stretch + 1) * pages_ / writes_;
        return first + mix64(stretch) % (end - first);
    }

  private:
    std::uint64_t pages_;
    std::uint64_t writes_;
    Scatter order_;
};

}  // namespace dirtyring::guest
