// SPDX-License-Identifier: MIT
#include "session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <utility>

#include "format.hpp"

namespace dirtyring::cli {

Result<std::unique_ptr<Session>> Session::create(const SessionConfig& config,
                                                 const GuestFile& guest,
                                                 Interruption& interruption) {
    std::unique_ptr<Session> session(new Session(config, interruption));
    machine::Callbacks callbacks;
    // The tracker is there before the first vCPU runs.
    callbacks.on_ring_full = [self = session.get()](std::uint32_t vcpu) {
        return self->tracker_->ring_full(vcpu);
    };
    Result<std::unique_ptr<machine::Machine>> machine =
        machine::Machine::create(tracked(config.machine, config.track, config.ring_entries),
                                 {guest.name, guest.bytes()}, std::move(callbacks));
    if (!machine) {
        return fail(std::move(machine.error()));
    }
    session->machine_ = std::move(*machine);
    Result<std::unique_ptr<Tracker>> tracker = Tracker::create(*session->machine_, config.track);
    if (!tracker) {
        return fail(std::move(tracker.error()));
    }
    session->tracker_ = std::move(*tracker);
    session->tell_header(guest);
    return session;
}

Session::~Session() {
    if (started_) {
        interruption_.watch(nullptr);
        machine_->stop();
        machine_->wait_done();
    }
}

void Session::tell_header(const GuestFile& guest) {
    header_.guest = guest.name;
    header_.track = config_.track;
    header_.ring_entries = machine_->vm().dirty_ring_entries();
    header_.vcpus = machine_->vcpu_count();
    header_.interval_ns = static_cast<std::uint64_t>(config_.interval.count());
    for (const MemorySlot& slot : machine_->memory().slots()) {
        header_.slots.push_back({slot.guest_address, slot.pages()});
    }
    header_.params = config_.machine.params;
}

/// How the vCPUs have ended; nothing if some still run at that time.
std::optional<std::vector<machine::End>> Session::wait_until(Clock::time_point time) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - Clock::now());
    return machine_->wait_done(std::max(left, std::chrono::milliseconds(0)));
}

Result<Outcome> Session::run(const std::function<Result<void>(const Interval&)>& use) {
    const Clock::time_point start = Clock::now();
    const Clock::time_point limit =
        config_.limit ? start + *config_.limit : Clock::time_point::max();
    tracker_->start();
    if (Result<void> done = machine_->start(); !done) {
        return fail(std::move(done.error()));
    }
    started_ = true;
    interruption_.watch(machine_.get());
    Clock::time_point next = start;
    Interval interval;
    for (;;) {
        next += config_.interval;
        // After a delay (a slow terminal, a busy host) the interval is as long as ever, not what
        // is left of it: rates of a moment's length say nothing.
        if (next < Clock::now() + config_.interval / 2) {
            next = Clock::now() + config_.interval;
        }
        std::optional<std::vector<machine::End>> ends = wait_until(std::min(next, limit));
        if (!ends && Clock::now() >= limit) {
            machine_->stop();
            ends = machine_->wait_done();
        }
        Result<void> done = tracker_->collect(interval).and_then([&] { return use(interval); });
        if (!done) {
            return fail(std::move(done.error()));
        }
        if (ends) {
            return outcome(*ends);
        }
    }
}

Outcome Session::outcome(const std::vector<machine::End>& ends) const {
    Outcome outcome;
    outcome.console = machine_->console();
    for (std::uint32_t vcpu = 0; vcpu < ends.size(); ++vcpu) {
        outcome.vcpus.push_back(machine::describe(vcpu, ends[vcpu]));
        const bool stopped = std::holds_alternative<machine::Stopped>(ends[vcpu]);
        if (outcome.reason.empty() && !stopped && !machine::succeeded(ends[vcpu])) {
            outcome.ending = Ending::failed;
            outcome.reason = outcome.vcpus.back().substr(0, outcome.vcpus.back().find('\n'));
        }
    }
    if (outcome.ending == Ending::failed) {
        return outcome;
    }
    if (std::ranges::all_of(ends, machine::succeeded)) {
        outcome.ending = Ending::succeeded;
        return outcome;
    }
    const int signal = interruption_.signal();
    outcome.reason =
        signal != 0 ? fmt::format("by SIG{}", ::sigabbrev_np(signal))
                    : fmt::format("after {}, as --seconds asked",
                                  duration(static_cast<std::uint64_t>(config_.limit->count())));
    return outcome;
}

}  // namespace dirtyring::cli
