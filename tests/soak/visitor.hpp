// SPDX-License-Identifier: MIT
//
// A vCPU that comes while a machine's own run, writes pages for a while, and goes.
#pragma once

#include <cstdint>
#include <shared_mutex>

#include "dirtyring/kvm/system.hpp"
#include "dirtyring/tracker.hpp"
#include "machine/machine.hpp"

namespace dirtyring::soak {

/// Guest memory that nobody else writes.
struct VisitorRange {
    std::uint64_t code;  ///< guest address of a page for the program
    std::uint64_t data;  ///< and of data_pages pages that it writes
    static constexpr std::uint64_t data_pages = 1024;
};

/// One thread. The machine is in ring 3 or 0; visitors are in ring 3.
class Visitors {
  public:
    static constexpr std::uint32_t most = 16;  ///< a vCPU stays with its VM when it has gone
    static constexpr std::uint64_t writes_a_burst = 300;

    /// Puts the program there; before the machine starts.
    Visitors(machine::Machine& machine, const VisitorRange& range);

    /// One visit, of so many bursts; no vCPU runs but with a shared lock on `running`.
    void visit(Tracker& tracker, std::uint64_t bursts, std::shared_mutex& running);

    [[nodiscard]] std::uint32_t visits() const { return visits_; }

  private:
    machine::Machine& machine_;
    VisitorRange range_;
    kvm::System system_;
    std::uint32_t visits_ = 0;
};

}  // namespace dirtyring::soak
