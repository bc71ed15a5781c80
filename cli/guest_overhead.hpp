// SPDX-License-Identifier: MIT
//
// How fast a guest runs, untracked or tracked, by its own count of page writes.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "guest_file.hpp"
#include "machine/machine.hpp"
#include "record.hpp"
#include "session.hpp"

namespace dirtyring::cli {

/// How often a tracked guest's pages are collected.
inline constexpr std::chrono::milliseconds overhead_interval{100};

/// One run of a guest. Its set-up and its first round, in which memory is touched for the first
/// time, are not measured.
struct Turn {
    machine::Config machine;     ///< but for what tracking needs
    std::optional<Track> track;  ///< nothing: untracked, without dirty logging
    std::uint32_t ring_entries = 0;
    std::uint64_t rounds = 0;           ///< measured; 0: as many as begin within `least`
    std::chrono::nanoseconds least{0};  ///< where `rounds` is 0
};

struct TurnResult {
    std::uint64_t rounds = 0;
    std::uint64_t page_writes = 0;  ///< in these rounds
    std::chrono::nanoseconds time{0};
};

/// Nothing after a signal. Errors: those of Machine::create and start, MachineTracking's own;
/// code 0 where the guest failed, or says that it wrote no page.
[[nodiscard]] Result<std::optional<TurnResult>> run_turn(const Turn& turn, const GuestFile& guest,
                                                         Interruption& interruption);

}  // namespace dirtyring::cli
