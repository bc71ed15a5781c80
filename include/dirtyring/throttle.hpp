// SPDX-License-Identifier: MIT
//
// Holds each vCPU to so many bytes of dirtied memory a second, by making it wait outside of the
// guest. Who writes less, or only reads, never waits.
//
//     Throttle throttle(tracker, 100 << 20, [&](std::size_t vcpu) { kick(vcpu); });
//     // vCPU's thread, after each exit with KVM_EXIT_DIRTY_RING_FULL or EINTR:
//     throttle.hold(vcpu);
//
// A vCPU can only be held at an exit, and with a large ring the exits because it is full come too
// rarely: a ring of 65,536 entries is full after 2.5 s at 100 MiB/s. So a thread (Reaper) watches
// how much each vCPU has logged and has it kicked after 10 ms' worth, as if its ring had no more
// entries than that.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "dirtyring/tracker.hpp"

namespace dirtyring {

/// What one vCPU may dirty. Plain numbers; not thread-safe.
class DirtyQuota {
  public:
    using Clock = std::chrono::steady_clock;

    /// `pages_per_second` is above 0. What has been `logged` until now is not charged.
    DirtyQuota(double pages_per_second, std::uint64_t logged, Clock::time_point now) noexcept
        : rate_(pages_per_second), charged_(logged), last_(now) {}

    /// How long the vCPU has to wait that has logged so many pages in all: until its mean rate is
    /// right again. What was not used for more than 50 ms is lost. A count below that of an earlier
    /// call, as a ring gives that is out of step, counts as the same.
    [[nodiscard]] std::chrono::nanoseconds charge(std::uint64_t logged,
                                                  Clock::time_point now) noexcept;
    /// Whether it has logged enough since the last charge to be charged again: 10 ms' worth.
    [[nodiscard]] bool due(std::uint64_t logged) const noexcept {
        return logged > charged_ && static_cast<double>(logged - charged_) >= rate_ * 0.01;
    }

  private:
    double rate_;
    std::uint64_t charged_;  // logged, at the last charge
    Clock::time_point last_;
    double owed_ = 0;  // pages beyond what was allowed until then; below 0: still to be used
};

/// All calls from any thread.
class Throttle {
  public:
    /// Makes a vCPU leave KVM_RUN soon; its thread then calls hold before it enters again.
    using Kick = std::function<void(std::size_t vcpu)>;

    /// `bytes_per_second` for each vCPU, at least page_size. Borrows the tracker, which is
    /// not moved meanwhile, and whose source has rings; with another nobody is held.
    Throttle(Tracker& tracker, std::uint64_t bytes_per_second, Kick kick);

    /// Waits until the vCPU is within its rate. Its thread, outside of the guest; after ring_full,
    /// where that is due. `vcpu` is what Tracker::add_vcpu gave. Returns at once after release().
    void hold(std::size_t vcpu);
    /// Kicks each vCPU that has logged enough to be held. For a thread that calls it every
    /// millisecond or so: Reaper does. Gives how many it kicked.
    std::size_t kick_due();
    /// Lets all vCPUs go on, now and from now on.
    void release();

  private:
    using Clock = DirtyQuota::Clock;
    struct Vcpu {
        DirtyQuota quota;
        bool kicked = false;  // and not been held since
    };
    [[nodiscard]] Vcpu& find(std::size_t number, std::uint64_t logged, Clock::time_point now);

    Tracker& tracker_;
    double pages_per_second_;
    Kick kick_;
    std::mutex mutex_;
    std::condition_variable released_changed_;
    std::vector<std::optional<Vcpu>> vcpus_;
    bool released_ = false;
};

}  // namespace dirtyring
