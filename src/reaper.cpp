// SPDX-License-Identifier: MIT
#include "dirtyring/reaper.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "dirtyring/source/ring_source.hpp"

namespace dirtyring {

std::chrono::nanoseconds ReaperPace::next(std::uint32_t entries, std::uint32_t fill,
                                          Clock::time_point now) noexcept {
    using namespace std::chrono_literals;
    // A vCPU hardly logs more than a million pages a second, each of which costs it a fault: a
    // quarter of a ring's worth of time at that rate is soon enough for one that has just begun.
    const std::chrono::nanoseconds longest =
        std::clamp<std::chrono::nanoseconds>(entries * 250ns, 1ms, 50ms);
    constexpr std::chrono::nanoseconds shortest = 100us;
    const auto time = std::max<double>(static_cast<double>((now - last_).count()), 1);
    // Less than at the last look: somebody else has read the rings, and all of it is new.
    const std::uint32_t grown = fill >= fill_ ? fill - fill_ : fill;
    if (grown != 0) {
        const double half = std::max(entries / 2 - std::min(fill, entries / 2), entries / 4);
        const double wait = half * (time / grown) / 2;
        // At the first look the time is that since the clock began, and the wait past 64 bits.
        wait_ = wait < static_cast<double>(longest.count())
                    ? std::chrono::nanoseconds(static_cast<std::int64_t>(wait))
                    : longest;
    } else {
        wait_ *= 2;
    }
    wait_ = std::clamp(wait_, shortest, longest);
    last_ = now;
    fill_ = drain_is_due(entries, fill) ? 0 : fill;
    return wait_;
}

Result<std::unique_ptr<Reaper>> Reaper::start(Tracker& tracker, Throttle* throttle) {
    if (tracker.source().rings() == nullptr) {
        return fail({EINVAL, "Reaper::start", "the source of this tracker reads no rings",
                     "leave the reaper out: a bitmap does not fill"});
    }
    std::unique_ptr<Reaper> reaper(new Reaper(tracker, throttle));
    // The thread inherits the mask: no handler of the program's ever runs in it.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    static_cast<void>(::pthread_sigmask(SIG_SETMASK, &all, &before));
    // std::thread would throw where this answers.
    const int code = ::pthread_create(
        &reaper->thread_, nullptr,
        [](void* self) -> void* {
            static_cast<Reaper*>(self)->run();
            return nullptr;
        },
        reaper.get());
    static_cast<void>(::pthread_sigmask(SIG_SETMASK, &before, nullptr));
    if (code != 0) {
        reaper->joined_ = true;
        return fail({code, "Reaper::start", "there is no thread to be had",
                     "lift the limit (ulimit -u), or call Tracker::drain in a loop of your own"});
    }
    return reaper;
}

Reaper::~Reaper() {
    static_cast<void>(stop());  // who wants the error has called it
}

Result<void> Reaper::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
    }
    stopped_changed_.notify_all();
    if (!std::exchange(joined_, true)) {
        ::pthread_join(thread_, nullptr);
    }
    return status();
}

Result<void> Reaper::status() const {
    const std::lock_guard lock(mutex_);
    return failure_;
}

std::uint64_t Reaper::drains() const {
    const std::lock_guard lock(mutex_);
    return drains_;
}

void Reaper::run() {
    const RingSource& rings = *tracker_.source().rings();
    ReaperPace pace;
    std::unique_lock lock(mutex_);
    while (!stopped_ && failure_) {
        lock.unlock();
        const std::uint32_t entries = rings.entries();
        const std::uint32_t fill = rings.fill();
        std::chrono::nanoseconds wait = pace.next(entries, fill, ReaperPace::Clock::now());
        const bool due = entries != 0 && ReaperPace::drain_is_due(entries, fill);
        Result<void> drained = due ? tracker_.drain() : Result<void>();
        if (throttle_ != nullptr) {
            throttle_->kick_due();
            wait = std::min<std::chrono::nanoseconds>(wait, std::chrono::milliseconds(1));
        }
        lock.lock();
        drains_ += due ? 1U : 0U;
        failure_ = std::move(drained);
        stopped_changed_.wait_for(lock, wait, [this] { return stopped_ || !failure_; });
    }
}

}  // namespace dirtyring
