// SPDX-License-Identifier: MIT
#include <utility>

#include "dirtyring/tracker.hpp"
#include "tracker_state.hpp"

namespace dirtyring {

Consumer& Consumer::operator=(Consumer&& other) noexcept {
    Consumer taken(std::move(other));  // goes with what this was
    std::swap(tracker_, taken.tracker_);
    std::swap(state_, taken.state_);
    return *this;
}

Consumer::~Consumer() {
    if (tracker_ != nullptr) {
        tracker_->remove_consumer(state_);
    }
}

Result<Epoch> Consumer::collect() {
    return Tracker::State::collect(tracker_, state_, nullptr);
}

Result<Epoch> Consumer::collect(AllVcpusStopped stopped) {
    return Tracker::State::collect(tracker_, state_, &stopped);
}

Epoch::Epoch(std::shared_ptr<Tracker::State> tracker, std::shared_ptr<Consumer::State> consumer,
             std::uint64_t sequence, Pages pages, std::vector<VcpuCounts> vcpus) noexcept
    : tracker_(std::move(tracker)),
      consumer_(std::move(consumer)),
      sequence_(sequence),
      pages_(std::move(pages)),
      vcpus_(std::move(vcpus)) {}

Epoch::Epoch(Epoch&& other) noexcept = default;

Epoch& Epoch::operator=(Epoch&& other) noexcept {
    abort();
    tracker_ = std::move(other.tracker_);
    consumer_ = std::move(other.consumer_);
    sequence_ = other.sequence_;
    pages_ = std::move(other.pages_);
    vcpus_ = std::move(other.vcpus_);
    return *this;
}

Epoch::~Epoch() {
    abort();
}

void Epoch::commit() noexcept {
    end(true, nullptr);
}

void Epoch::commit(const DirtySet& clean) noexcept {
    end(true, &clean);
}

void Epoch::rewrite() {
    if (tracker_ != nullptr) {
        tracker_->rewrite(*consumer_, pages_);
    }
}

void Epoch::abort() noexcept {
    end(false, nullptr);
}

void Epoch::end(bool committed, const DirtySet* clean) noexcept {
    if (tracker_ == nullptr) {
        return;
    }
    const std::shared_ptr<Tracker::State> tracker = std::exchange(tracker_, nullptr);
    tracker->end(*consumer_, std::exchange(pages_, Pages(DirtySet(), Rearmed())),
                 std::exchange(vcpus_, {}), committed, clean);
}

}  // namespace dirtyring
