// SPDX-License-Identifier: MIT
//
// A guest that is tracked by a Tracker while it runs, with the oracle looking (watcher.hpp): again
// and again all stand still, consumers of different habits collect, and all memory is compared with
// what each should know of it. In between others write memory, change slots, collect.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "case.hpp"
#include "watcher.hpp"

namespace dirtyring::soak {

struct Outcome {
    std::uint64_t writes = 0;  ///< said by the guest
    std::uint64_t wanted = 0;
    std::uint64_t checks = 0;
    Sightings seen;  ///< by all consumers together
    std::uint64_t consumers = 0;
    std::uint64_t host_stores = 0;
    std::uint64_t slot_changes = 0;
    std::uint64_t visits = 0;  ///< of vCPUs
    std::uint64_t signals = 0;
    std::uint64_t full_exits = 0;
    std::uint64_t overruns = 0;
    std::uint64_t short_resets = 0;
    std::uint64_t drains = 0;  ///< by the reaper

    void add(const Outcome& more);
};

/// "page writes checked: ...", which tools/test-summary reads, and what else there was.
[[nodiscard]] std::string describe(const Outcome& outcome);

/// Called from time to time with the page writes so far; false ends the run early.
using Progress = std::function<bool(std::uint64_t writes)>;

/// `guests` is the folder of the guest programs. Throws std::runtime_error where something does not
/// work; a lost page is no error, but part of the outcome.
[[nodiscard]] Outcome run(
    const Case& what, const std::string& guests,
    const Progress& progress = [](std::uint64_t) { return true; });

}  // namespace dirtyring::soak
