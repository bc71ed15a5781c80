// SPDX-License-Identifier: MIT
#include "gate.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "kick_signal.hpp"

namespace dirtyring::machine {

Result<void> Gate::begin() {
    const std::lock_guard lock(mutex_);
    if (started_ || stopped_) {
        return fail({EALREADY, "start the machine",
                     started_ ? "it has been started before" : "it has been stopped",
                     "make a new machine"});
    }
    started_ = true;
    return {};
}

bool Gate::enter(std::uint32_t vcpu, kvm::Run& run) {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [&] { return pauses_ == 0 || stopped_; });
    if (stopped_) {
        return false;
    }
    Place& place = vcpus_[vcpu];
    place.run = &run;
    place.thread = ::pthread_self();
    ++place.entries;
    run.clear_exit_request();
    return true;
}

void Gate::leave(std::uint32_t vcpu) {
    const std::lock_guard lock(mutex_);
    vcpus_[vcpu].run = nullptr;
    left_.notify_all();
}

void Gate::end(std::uint32_t vcpu, End end) {
    const std::lock_guard lock(mutex_);
    vcpus_[vcpu].end = std::move(end);
    ended_.notify_all();
}

void Gate::push_out(Place& place) {
    if (place.run != nullptr) {
        place.run->request_exit();
        send_kick(place.thread);
    }
}

void Gate::push_all_out_and_wait(std::unique_lock<std::mutex>& lock) {
    std::vector<std::uint64_t> entries;
    for (Place& place : vcpus_) {
        push_out(place);
        entries.push_back(place.entries);
    }
    // Waiting for these very stays in the guest to end, not for all to be outside at once, ends
    // even if somebody else opens the gate again meanwhile.
    left_.wait(lock, [&] {
        return std::ranges::equal(vcpus_, entries, [](const Place& place, std::uint64_t entry) {
            return place.run == nullptr || place.entries != entry;
        });
    });
}

void Gate::pause() {
    std::unique_lock lock(mutex_);
    ++pauses_;
    push_all_out_and_wait(lock);
}

bool Gate::resume() {
    const std::lock_guard lock(mutex_);
    if (pauses_ == 0) {
        return false;
    }
    if (--pauses_ == 0) {
        opened_.notify_all();
    }
    return true;
}

bool Gate::stop() {
    std::unique_lock lock(mutex_);
    const bool first = started_ && !stopped_;
    stopped_ = true;
    opened_.notify_all();
    ended_.notify_all();  // where it has not been started, this is the end
    push_all_out_and_wait(lock);
    return first;
}

void Gate::kick(std::uint32_t vcpu) {
    std::unique_lock lock(mutex_);
    Place& place = vcpus_[vcpu];
    push_out(place);
    left_.wait(lock, [&, entries = place.entries] {
        return place.run == nullptr || place.entries != entries;
    });
}

std::vector<End> Gate::wait_ended() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return all_ended(); });
    return ends();
}

std::optional<std::vector<End>> Gate::wait_ended(std::chrono::milliseconds timeout) {
    // As good as for ever, and the sum with the clock's time does not overflow.
    constexpr std::chrono::milliseconds longest = std::chrono::hours(24 * 365);
    std::unique_lock lock(mutex_);
    if (!ended_.wait_for(lock, std::min(timeout, longest), [&] { return all_ended(); })) {
        return std::nullopt;
    }
    return ends();
}

bool Gate::all_ended() const {
    return (stopped_ && !started_) ||
           std::ranges::all_of(vcpus_, [](const Place& place) { return place.end.has_value(); });
}

std::vector<End> Gate::ends() const {
    std::vector<End> ends;
    ends.reserve(vcpus_.size());
    for (const Place& place : vcpus_) {
        ends.push_back(place.end.value_or(Stopped{}));
    }
    return ends;
}

}  // namespace dirtyring::machine
