// SPDX-License-Identifier: MIT
//
// Ways of finding out which pages a guest has written, each with a VM of its own: ours and those of
// two snapshot fuzzers (peers.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/probe.hpp"
#include "machine/machine.hpp"

namespace dirtyring::bench {

/// In the order of the tables.
enum class Rival : std::uint8_t {
    ring_ours,
    ring_nyx,
    manual_ours,
    manual_wtf,
    manual_wtf_pages,
    bitmap_ours
};
inline constexpr std::size_t rivals = 6;

/// As an error names it: "collect by ...".
[[nodiscard]] std::string_view name(Rival rival) noexcept;
/// The facility of the kernel that it uses.
[[nodiscard]] Tracking tracking_of(Rival rival) noexcept;

class Way {
  public:
    virtual ~Way() = default;

    /// Finds the pages that were written since the last time, writes their guest-physical addresses
    /// down, in any order, as whoever copies them needs them, arms each page again, and forgets
    /// them. The vCPU stands still meanwhile. Errors: those of the ioctls that it makes.
    virtual Result<void> collect(std::vector<std::uint64_t>& addresses) = 0;
};

/// The machine, which has what the way needs, outlives it. Errors: those of mapping a ring.
[[nodiscard]] Result<std::unique_ptr<Way>> make_way(Rival rival, machine::Machine& machine);

}  // namespace dirtyring::bench
