// SPDX-License-Identifier: MIT
//
// Tracks a machine with the library's tracker, and tells each interval of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dirtyring/reaper.hpp"
#include "dirtyring/source/source.hpp"
#include "dirtyring/throttle.hpp"
#include "dirtyring/tracker.hpp"
#include "machine/machine.hpp"
#include "record.hpp"

namespace dirtyring::cli {

/// `config` with what a machine needs to be tracked that way; `ring_entries` is for the ring only.
[[nodiscard]] machine::Config tracked(machine::Config config, Track track,
                                      std::uint32_t ring_entries);
/// A source for a machine that was made for this way of tracking; it has no vCPU's ring yet.
[[nodiscard]] std::unique_ptr<Source> make_source(machine::Machine& machine, Track track);

/// Borrows the machine, whose vCPUs must have ended before this goes.
class MachineTracking {
  public:
    /// The machine has been made for this way of tracking and not been started. `limit`: bytes a
    /// second that each vCPU may dirty, for rings only. Errors: those of Ring::map.
    [[nodiscard]] static Result<std::unique_ptr<MachineTracking>> create(
        machine::Machine& machine, Track track, std::optional<std::uint64_t> limit = {});
    MachineTracking(const MachineTracking&) = delete;
    MachineTracking& operator=(const MachineTracking&) = delete;
    ~MachineTracking() = default;

    /// For Callbacks::on_ring_full.
    Result<void> ring_full(std::uint32_t vcpu);
    /// For Callbacks::before_enter.
    void before_enter(std::uint32_t vcpu);
    /// For Callbacks::on_stop.
    void on_stop();
    /// Time counts from here; just before the machine's start. Errors: those of Reaper::start.
    Result<void> start();
    /// Ends the interval and tells it; uses `interval`'s storage again. The epoch is to be
    /// committed when the interval has been used. Errors: those of Consumer::collect, and of the
    /// Reaper since the last time. One thread.
    Result<Epoch> collect(Interval& interval);
    /// Of the run until now. Any thread.
    [[nodiscard]] Statistics statistics() const { return tracker_.statistics(); }

  private:
    using Clock = std::chrono::steady_clock;
    /// What has been told, as sums over the intervals.
    struct Told {
        std::uint64_t harvest_ns = 0;
        std::uint64_t reset_ns = 0;
        std::vector<machine::Counters> vcpus;
    };

    MachineTracking(machine::Machine& machine, Track track);
    Result<void> add_vcpus();
    void kick_all();
    Result<Epoch> collect_epoch();
    void tell(const Epoch& epoch, Interval& interval);

    machine::Machine& machine_;
    const bool rings_;
    Tracker tracker_;
    Consumer consumer_;
    std::optional<Throttle> throttle_;
    Clock::time_point start_;
    std::uint64_t end_ns_ = 0;  // of the interval before
    Told told_;
    std::uint64_t suspects_ = 0;      // after the interval before
    std::unique_ptr<Reaper> reaper_;  // last: its thread uses the others
};

}  // namespace dirtyring::cli
