// SPDX-License-Identifier: MIT
//
// Which vCPUs are in the guest, and who may enter it: pausing, stopping and kicking are all here.
//
// How no kick is lost: a vCPU clears its exit request and becomes "inside" in one critical section,
// and an exit request is set, and the signal sent, in another one, to vCPUs that are inside. So a
// request comes either after the clearing, and then KVM_RUN sees it at once (immediate_exit) or is
// interrupted by the signal, or before the vCPU has gone in, and then the closed gate stops it.
#pragma once

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "dirtyring/kvm/run.hpp"
#include "end.hpp"

namespace dirtyring::machine {

/// Every call may be made from any thread unless it says otherwise.
class Gate {
  public:
    explicit Gate(std::uint32_t vcpus) : vcpus_(vcpus) {}

    /// The vCPUs' threads are about to start. Errors: EALREADY (before, or stopped).
    [[nodiscard]] Result<void> begin();

    /// Waits while paused, then marks the vCPU as inside; false if the machine is stopped. The
    /// vCPU's thread, just before KVM_RUN. `run` stays valid until leave.
    [[nodiscard]] bool enter(std::uint32_t vcpu, kvm::Run& run);
    /// The vCPU is outside. Its thread, when KVM_RUN has returned and nothing is left to be
    /// completed.
    void leave(std::uint32_t vcpu);
    /// The vCPU will not enter again. Its thread, outside.
    void end(std::uint32_t vcpu, End end);

    /// As Machine's calls of these names.
    void pause();
    [[nodiscard]] bool resume();
    /// True where this is what has stopped a machine that was started.
    bool stop();
    void kick(std::uint32_t vcpu);
    [[nodiscard]] std::vector<End> wait_ended();
    [[nodiscard]] std::optional<std::vector<End>> wait_ended(std::chrono::milliseconds timeout);

  private:
    struct Place {
        kvm::Run* run = nullptr;  // while inside
        pthread_t thread{};       // while inside
        std::uint64_t entries = 0;
        std::optional<End> end;
    };

    // All of these with mutex_ held.
    static void push_out(Place& place);
    void push_all_out_and_wait(std::unique_lock<std::mutex>& lock);
    [[nodiscard]] bool all_ended() const;
    [[nodiscard]] std::vector<End> ends() const;

    mutable std::mutex mutex_;
    std::condition_variable opened_;
    std::condition_variable left_;
    std::condition_variable ended_;
    std::vector<Place> vcpus_;
    std::uint64_t pauses_ = 0;
    bool started_ = false;
    bool stopped_ = false;
};

}  // namespace dirtyring::machine
