// SPDX-License-Identifier: MIT
#include "dirtyring/throttle.hpp"

#include <algorithm>
#include <utility>

#include "clock.hpp"
#include "dirtyring/source/ring_source.hpp"

namespace dirtyring {

std::chrono::nanoseconds DirtyQuota::charge(std::uint64_t logged, Clock::time_point now) noexcept {
    constexpr double most_unused = 0.05;  // seconds' worth
    const Clock::time_point last = std::exchange(last_, std::max(last_, now));
    const std::uint64_t charged = std::exchange(charged_, std::max(charged_, logged));
    const double time = std::chrono::duration<double>(last_ - last).count();
    owed_ += static_cast<double>(charged_ - charged) - rate_ * time;
    owed_ = std::max(owed_, -rate_ * most_unused);
    return std::chrono::nanoseconds(static_cast<std::int64_t>(std::max(owed_, 0.0) / rate_ * 1e9));
}

Throttle::Throttle(Tracker& tracker, std::uint64_t bytes_per_second, Kick kick)
    : tracker_(tracker),
      pages_per_second_(static_cast<double>(std::max(bytes_per_second, page_size)) / page_size),
      kick_(std::move(kick)) {}

Throttle::Vcpu& Throttle::find(std::size_t number, std::uint64_t logged, Clock::time_point now) {
    if (vcpus_.size() <= number) {
        vcpus_.resize(number + 1);
    }
    std::optional<Vcpu>& vcpu = vcpus_[number];
    if (!vcpu) {
        vcpu.emplace(DirtyQuota(pages_per_second_, logged, now));
    }
    return *vcpu;
}

void Throttle::hold(std::size_t vcpu) {
    const RingSource* const rings = tracker_.source().rings();
    if (rings == nullptr) {
        return;
    }
    const std::uint64_t logged = rings->logged(vcpu);
    const Clock::time_point start = Clock::now();
    std::unique_lock lock(mutex_);
    Vcpu& held = find(vcpu, logged, start);
    const std::chrono::nanoseconds wait = held.quota.charge(logged, start);
    held.kicked = false;
    if (wait.count() == 0 || released_) {
        return;
    }
    released_changed_.wait_for(lock, wait, [this] { return released_; });
    lock.unlock();
    tracker_.note_stopped(vcpu, nanoseconds(Clock::now() - start));
}

std::size_t Throttle::kick_due() {
    const RingSource* const rings = tracker_.source().rings();
    if (rings == nullptr) {
        return 0;
    }
    std::vector<std::size_t> due;
    for (const std::size_t number : tracker_.vcpus()) {
        const std::uint64_t logged = rings->logged(number);
        const std::lock_guard lock(mutex_);
        Vcpu& watched = find(number, logged, Clock::now());
        if (!released_ && !watched.kicked && watched.quota.due(logged)) {
            watched.kicked = true;
            due.push_back(number);
        }
    }
    for (const std::size_t number : due) {
        kick_(number);
    }
    return due.size();
}

void Throttle::release() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    released_changed_.notify_all();
}

}  // namespace dirtyring
