// SPDX-License-Identifier: MIT
//
// Tracks a machine with one of the library's sources, and tells each interval of it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "machine/machine.hpp"
#include "record.hpp"

namespace dirtyring::cli {

/// `config` with what a machine needs to be tracked that way; `ring_entries` is for the ring only.
[[nodiscard]] machine::Config tracked(machine::Config config, Track track,
                                      std::uint32_t ring_entries);

/// Borrows the machine, whose vCPUs must have ended before this goes.
class Tracker {
  public:
    /// The machine has been made for this way of tracking and not been started. Errors: those of
    /// Ring::map.
    [[nodiscard]] static Result<std::unique_ptr<Tracker>> create(machine::Machine& machine,
                                                                 Track track);
    Tracker(const Tracker&) = delete;
    Tracker& operator=(const Tracker&) = delete;
    ~Tracker();

    /// For Callbacks::on_ring_full.
    Result<void> ring_full(std::uint32_t vcpu);
    /// Time counts from here; just before the machine's start.
    void start();
    /// Ends the interval and tells it; uses `interval`'s storage again. Errors: those of
    /// Source::collect and of RingSource::drain since the last time. One thread.
    Result<void> collect(Interval& interval);

  private:
    using Clock = std::chrono::steady_clock;

    explicit Tracker(machine::Machine& machine) : machine_(machine) {}
    [[nodiscard]] Source& source();
    Result<Pages> collect_pages(Interval& interval);
    void tell_vcpus(Interval& interval);
    void drain_until(const std::stop_token& stop);

    machine::Machine& machine_;
    std::optional<RingSource> rings_;
    std::optional<BitmapSource> bitmap_;
    DirtySet storage_;
    Clock::time_point start_;
    std::uint64_t end_ns_ = 0;            // of the interval before
    std::vector<VcpuFigures> told_;       // sums over the intervals before
    RingSourceStatistics told_source_{};  // as of the interval before

    std::mutex drain_mutex_;
    std::condition_variable_any drain_wakeup_;
    std::optional<Error> drain_error_;
    std::jthread drainer_;  // last: it uses the others
};

}  // namespace dirtyring::cli
