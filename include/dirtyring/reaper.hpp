// SPDX-License-Identifier: MIT
//
// A thread that reads rings before they are full, so that vCPUs hardly ever leave the guest for it.
//
// It looks at how full the rings are, without reading them, and drains them when one is half full
// and no sooner: each drain arms pages again, which then fault once more. When it looks next
// follows from how full they are and how fast they have been filling.
#pragma once

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "dirtyring/error.hpp"
#include "dirtyring/throttle.hpp"
#include "dirtyring/tracker.hpp"

namespace dirtyring {

/// When to look at rings again. Plain numbers; not thread-safe.
class ReaperPace {
  public:
    using Clock = std::chrono::steady_clock;

    /// The rings have `entries` each, the fullest has `fill` logged in it, before a drain if one
    /// follows; gives how long to wait: half of what it takes to half fill the rest at the rate
    /// seen lately, twice as long as the last time where nothing has been logged, and within
    /// bounds that follow from the ring's size and 50 ms.
    [[nodiscard]] std::chrono::nanoseconds next(std::uint32_t entries, std::uint32_t fill,
                                                Clock::time_point now) noexcept;
    [[nodiscard]] static bool drain_is_due(std::uint32_t entries, std::uint32_t fill) noexcept {
        return fill >= entries / 2;
    }

  private:
    Clock::time_point last_;
    std::uint32_t fill_ = 0;  // after the last look
    std::chrono::nanoseconds wait_{0};
};

/// All calls from any thread but stop, from one.
class Reaper {
  public:
    /// Starts the thread, with all signals blocked in it. Borrows the tracker, which is
    /// not moved meanwhile, and the throttle where there is one, whose vCPUs it kicks when due.
    /// vCPUs may be added and removed meanwhile. Errors: EINVAL (the tracker's source has no
    /// rings), EAGAIN (the host has no more threads).
    [[nodiscard]] static Result<std::unique_ptr<Reaper>> start(Tracker& tracker,
                                                               Throttle* throttle = nullptr);
    Reaper(const Reaper&) = delete;
    Reaper& operator=(const Reaper&) = delete;
    /// As stop.
    ~Reaper();

    /// Ends the thread and waits for it; once more does nothing. Errors: that of the drain which
    /// failed, if one did: the thread ended there, and vCPUs have gone by ring_full alone since.
    Result<void> stop();
    /// The same error, without stopping.
    [[nodiscard]] Result<void> status() const;
    /// How often it has read the rings.
    [[nodiscard]] std::uint64_t drains() const;

  private:
    Reaper(Tracker& tracker, Throttle* throttle) : tracker_(tracker), throttle_(throttle) {}
    void run();

    Tracker& tracker_;
    Throttle* throttle_;
    mutable std::mutex mutex_;
    std::condition_variable stopped_changed_;
    bool stopped_ = false;
    std::uint64_t drains_ = 0;
    Result<void> failure_;
    pthread_t thread_{};
    bool joined_ = false;
};

}  // namespace dirtyring
