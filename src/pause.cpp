// SPDX-License-Identifier: MIT
#include "dirtyring/pause.hpp"

#include "clock.hpp"

namespace dirtyring {

Pause::Pause(Tracker& tracker, const VcpuControl& control)
    : tracker_(&tracker),
      control_(&control),
      vcpus_(tracker.vcpus()),
      start_(std::chrono::steady_clock::now()) {}

Result<Pause> Pause::begin(Tracker& tracker, const VcpuControl& control) {
    Pause pause(tracker, control);
    for (const std::size_t vcpu : pause.vcpus_) {
        control.kick(vcpu);
    }
    Result<void> waited = control.wait();
    if (!waited) {
        return fail(std::move(waited.error()));
    }
    return pause;
}

Pause::~Pause() {
    if (tracker_ == nullptr) {
        return;
    }
    control_->resume();
    const std::uint64_t time = nanoseconds(Clock::now() - start_);
    for (const std::size_t vcpu : vcpus_) {
        tracker_->note_stopped(vcpu, time);
    }
}

}  // namespace dirtyring
