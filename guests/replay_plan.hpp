// SPDX-License-Identifier: MIT
//
// Which pages the guest `replay` writes, so that the host knows it too.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "random.hpp"

namespace dirtyring::guest {

/// What the host writes into the first page of the working set before each round.
struct ReplayOrder {
    std::uint64_t round;   ///< its number
    std::uint64_t writes;  ///< pages to be written; 0: as many as the parameter says
};

/// Different pages at random places. Each of the writes of a round goes to the same page for
/// `lifetime` rounds, and then to another; they change in turn, an equal share in each round.
///
/// All pages that are ever written are among the spots, which are spread over the whole working
/// set: were there no end to them, a guest that writes others in each round would need all of its
/// memory from the host before long.
class ReplayPlan {
  public:
    static constexpr std::uint64_t most_spots = 65536;

    /// Of `pages` pages, at least 2. `lifetime` 0: for ever.
    constexpr ReplayPlan(std::uint64_t pages, std::uint64_t lifetime)
        : lifetime_(lifetime),
          spots_(std::min(pages - 1, most_spots)),  // the first page has the order
          stretch_((pages - 1) / spots_),
          bits_(std::max(1U, static_cast<unsigned>(std::bit_width(spots_ - 1)))) {}

    constexpr std::uint64_t spots() const { return spots_; }
    /// The page of spot 0 .. spots() - 1; they rise.
    constexpr std::uint64_t page_of(std::uint64_t spot) const {
        return 1 + spot * stretch_ + multiply_high(mix64(spot), stretch_);
    }
    /// The page of write `number`, from 0, in a round. Writes of the same age have different ones,
    /// up to spots() of them.
    constexpr std::uint64_t page(std::uint64_t number, std::uint64_t round) const {
        const std::uint64_t age = lifetime_ == 0 ? 0 : (round + number % lifetime_) / lifetime_;
        const std::uint64_t spot = number + multiply_high(mix64(age), spots_);
        return page_of(shuffled(spot < spots_ ? spot : spot % spots_));
    }

  private:
    // A permutation of the spots: of the numbers of so many bits, again until it is one of them.
    constexpr std::uint64_t shuffled(std::uint64_t spot) const {
        const std::uint64_t mask = (std::uint64_t{1} << bits_) - 1;
        const unsigned half = (bits_ + 1) / 2;
        do {
            spot = spot * 0x9e3779b97f4a7c15 & mask;
            spot ^= spot >> half;
            spot = (spot * 0xbf58476d1ce4e5b9 + 0x94d049bb) & mask;
            spot ^= spot >> half;
        } while (spot >= spots_);
        return spot;
    }

    std::uint64_t lifetime_;
    std::uint64_t spots_;
    std::uint64_t stretch_;  // pages of which one is a spot
    unsigned bits_;
};

}  // namespace dirtyring::guest
