// SPDX-License-Identifier: MIT
//
// One case of collect_bench: several ways, each with a machine of its own, over the same work.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dirtyring/error.hpp"
#include "rivals/collect_ways.hpp"

namespace dirtyring::bench {

struct Case {
    std::uint64_t memory;        ///< bytes of guest memory
    std::uint64_t pages;         ///< written in each round
    std::uint32_t ring_entries;  ///< so many that `pages` do not fill the ring
    std::uint32_t rounds;        ///< timed; a few more before them
};

/// Nanoseconds of each timed round, by Rival; empty for those that did not take part.
using Samples = std::array<std::vector<double>, rivals>;

/// In each round each way of `order` takes its turn: its guest writes, then its collect is timed,
/// then checked. Adds to `samples`. One thread. Errors: those of Machine::create and of the ways;
/// code 0 where one did not find the pages that the guest wrote, or found many others.
Result<void> run_case(const Case& what, std::span<const Rival> order,
                      std::span<const std::byte> guest, Samples& samples);

}  // namespace dirtyring::bench
