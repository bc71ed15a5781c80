// SPDX-License-Identifier: MIT
#include "session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <utility>

#include "format.hpp"

namespace dirtyring::cli {

Running::Running(machine::Machine& machine, Interruption& interruption)
    : machine_(machine), interruption_(interruption) {
    interruption_.watch(&machine_);
}

Running::~Running() {
    interruption_.watch(nullptr);
    machine_.stop();
    machine_.wait_done();
}

Header header_of(const GuestFile& guest, const machine::Config& config, machine::Machine& machine,
                 Track track, std::chrono::nanoseconds interval) {
    Header header;
    header.guest = guest.name;
    header.track = track;
    header.ring_entries = machine.vm().dirty_ring_entries();
    header.vcpus = machine.vcpu_count();
    header.interval_ns = static_cast<std::uint64_t>(interval.count());
    for (const MemorySlot& slot : machine.memory().slots()) {
        header.slots.push_back({slot.guest_address, slot.pages()});
    }
    header.params = config.params;
    return header;
}

std::string why_stopped(const Interruption& interruption,
                        std::optional<std::chrono::nanoseconds> length) {
    const int signal = interruption.signal();
    return signal != 0 ? fmt::format("by SIG{}", ::sigabbrev_np(signal))
                       : fmt::format("after {}, as --seconds asked",
                                     duration(static_cast<std::uint64_t>(length->count())));
}

std::chrono::steady_clock::time_point interval_end(std::chrono::steady_clock::time_point begin,
                                                   std::chrono::nanoseconds interval) {
    const auto now = std::chrono::steady_clock::now();
    const auto end = begin + interval;
    return end < now + interval / 2 ? now + interval : end;
}

std::optional<std::vector<machine::End>> wait_for_ends(machine::Machine& machine,
                                                       std::chrono::steady_clock::time_point time,
                                                       std::chrono::steady_clock::time_point end) {
    using Clock = std::chrono::steady_clock;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(std::min(time, end) - Clock::now());
    std::optional<std::vector<machine::End>> ends =
        machine.wait_done(std::max(left, std::chrono::milliseconds(0)));
    if (!ends && Clock::now() >= end) {
        machine.stop();
        ends = machine.wait_done();
    }
    return ends;
}

Result<std::unique_ptr<Session>> Session::create(const SessionConfig& config,
                                                 const GuestFile& guest,
                                                 Interruption& interruption) {
    std::unique_ptr<Session> session(new Session(config, interruption));
    machine::Callbacks callbacks;
    // What is tracking is there before the first vCPU runs.
    callbacks.on_ring_full = [self = session.get()](std::uint32_t vcpu) {
        return self->tracking_->ring_full(vcpu);
    };
    callbacks.before_enter = [self = session.get()](std::uint32_t vcpu) {
        self->tracking_->before_enter(vcpu);
    };
    callbacks.on_stop = [self = session.get()] { self->tracking_->on_stop(); };
    Result<std::unique_ptr<machine::Machine>> machine =
        machine::Machine::create(tracked(config.machine, config.track, config.ring_entries),
                                 {guest.name, guest.bytes()}, std::move(callbacks));
    if (!machine) {
        return fail(std::move(machine.error()));
    }
    session->machine_ = std::move(*machine);
    Result<std::unique_ptr<MachineTracking>> tracking =
        MachineTracking::create(*session->machine_, config.track, config.limit);
    if (!tracking) {
        return fail(std::move(tracking.error()));
    }
    session->tracking_ = std::move(*tracking);
    session->header_ =
        header_of(guest, config.machine, *session->machine_, config.track, config.interval);
    return session;
}

Result<Outcome> Session::run(const std::function<Result<void>(const Interval&)>& use) {
    const Clock::time_point start = Clock::now();
    const Clock::time_point end =
        config_.length ? start + *config_.length : Clock::time_point::max();
    Result<void> started = tracking_->start().and_then([this] { return machine_->start(); });
    if (!started) {
        return fail(std::move(started.error()));
    }
    const Running running(*machine_, interruption_);
    Clock::time_point next = start;
    Interval interval;
    for (;;) {
        next = interval_end(next, config_.interval);
        const std::optional<std::vector<machine::End>> ends = wait_for_ends(*machine_, next, end);
        Result<Epoch> epoch = tracking_->collect(interval);
        if (!epoch) {
            return fail(std::move(epoch.error()));
        }
        if (Result<void> used = use(interval); !used) {
            return fail(std::move(used.error()));
        }
        epoch->commit();
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
    outcome.reason = why_stopped(interruption_, config_.length);
    return outcome;
}

}  // namespace dirtyring::cli
