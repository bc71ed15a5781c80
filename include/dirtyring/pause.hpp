// SPDX-License-Identifier: MIT
//
// A moment in which no vCPU runs: kick every vCPU, wait for all, and then collect.
//
// Only then is an answer complete as of one moment. It is also what gets the pages to the ring that
// the CPU itself has gathered (Intel's page-modification log): they move at a vCPU's exit.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/pages.hpp"
#include "dirtyring/tracker.hpp"

namespace dirtyring {

/// How the caller's vCPUs are stopped. A thread that waits in Tracker::ring_full or Throttle::hold
/// counts as stopped: it is not in KVM_RUN.
struct VcpuControl {
    /// Makes a vCPU leave KVM_RUN, and not enter it before `resume`; does not wait for it. Once for
    /// each vCPU of the tracker, in the thread that pauses.
    std::function<void(std::size_t vcpu)> kick;
    /// Waits until no vCPU is in KVM_RUN.
    std::function<Result<void>()> wait;
    /// Lets all go on; called once after each kick of all, also where `wait` has failed.
    std::function<void()> resume;
};

/// Stops all vCPUs of a tracker for as long as it lives. One thread; not a vCPU's.
class Pause {
  public:
    /// Borrows both; the tracker is not moved meanwhile. Errors: what `wait` returns; the vCPUs
    /// then go on.
    [[nodiscard]] static Result<Pause> begin(Tracker& tracker, const VcpuControl& control);
    /// Not with a control that goes at once.
    static Result<Pause> begin(Tracker& tracker, VcpuControl&& control) = delete;
    Pause(Pause&& other) noexcept
        : tracker_(std::exchange(other.tracker_, nullptr)),
          control_(other.control_),
          vcpus_(std::move(other.vcpus_)),
          start_(other.start_) {}
    Pause& operator=(Pause&&) = delete;
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    /// Lets the vCPUs go on.
    ~Pause();

    /// For Consumer::collect and Tracker::change_slots, while this lives.
    // NOLINTNEXTLINE(readability-convert-member-functions-to-static): true of a Pause only
    [[nodiscard]] AllVcpusStopped stopped() const noexcept { return AllVcpusStopped(); }

  private:
    Pause(Tracker& tracker, const VcpuControl& control);

    Tracker* tracker_;  // null: moved from
    const VcpuControl* control_;
    std::vector<std::size_t> vcpus_;
    std::chrono::steady_clock::time_point start_;
};

}  // namespace dirtyring
