// SPDX-License-Identifier: MIT
#include "reset_loop.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "dirtyring/source/ring_source.hpp"
#include "machine_tracking.hpp"

namespace dirtyring::cli {

namespace {

std::uint64_t between(std::chrono::steady_clock::time_point begin,
                      std::chrono::steady_clock::time_point end) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(end - begin).count());
}

}  // namespace

std::string_view name(ResetPart part) noexcept {
    constexpr std::array<std::string_view, 8> names = {"guest", "harvest", "re-arm", "collect",
                                                       "copy",  "state",   "verify", "rest"};
    return names[static_cast<std::size_t>(part)];
}

std::vector<ResetPart> reset_parts(Track track, bool verify) {
    std::vector parts = {ResetPart::guest};
    if (track == Track::ring) {
        parts.insert(parts.end(), {ResetPart::harvest, ResetPart::rearm});
    } else {
        parts.push_back(ResetPart::collect);
    }
    parts.insert(parts.end(), {ResetPart::copy, ResetPart::state});
    if (verify) {
        parts.push_back(ResetPart::verify);
    }
    parts.push_back(ResetPart::rest);
    return parts;
}

std::uint64_t ResetFigures::of(ResetPart part) const noexcept {
    if (part != ResetPart::rest) {
        return parts_[static_cast<std::size_t>(part)];
    }
    std::uint64_t known = 0;
    for (const std::uint64_t of_part : parts_) {
        known += of_part;
    }
    return nanoseconds - known;
}

ResetFigures ResetFigures::since(const ResetFigures& before) const noexcept {
    ResetFigures more = *this;
    more.rounds -= before.rounds;
    more.pages -= before.pages;
    more.changed -= before.changed;
    more.everything -= before.everything;
    more.full_exits -= before.full_exits;
    more.nanoseconds -= before.nanoseconds;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        more.parts_[i] -= before.parts_[i];
    }
    return more;
}

Result<std::unique_ptr<ResetLoop>> ResetLoop::create(const ResetConfig& config,
                                                     const GuestFile& guest,
                                                     Interruption& interruption) {
    std::unique_ptr<ResetLoop> loop(new ResetLoop(config, interruption));
    machine::Callbacks callbacks;
    callbacks.on_ring_full = [self = loop.get()](std::uint32_t) { return self->ring_full(); };
    callbacks.on_round = [self = loop.get()](std::uint32_t, std::uint64_t) { self->round_done(); };
    Result<std::unique_ptr<machine::Machine>> machine =
        machine::Machine::create(tracked(config.machine, config.track, config.ring_entries),
                                 {guest.name, guest.bytes()}, std::move(callbacks));
    if (!machine) {
        return fail(std::move(machine.error()));
    }
    loop->machine_ = std::move(*machine);
    if (Result<void> prepared = loop->prepare(); !prepared) {
        return fail(std::move(prepared.error()));
    }
    loop->header_ =
        header_of(guest, config.machine, *loop->machine_, config.track, config.interval);
    return loop;
}

Result<void> ResetLoop::prepare() {
    tracker_.emplace(make_source(*machine_, config_.track));
    if (Result<std::size_t> added = tracker_->add_vcpu(machine_->vcpu(0).fd()); !added) {
        return fail(std::move(added.error()));
    }
    return kvm::Run::map(machine_->vcpu(0)).map([this](kvm::Run&& run) {
        run_.emplace(std::move(run));
    });
}

// What the vCPU's thread does ---------------------------------------------------------------------

Result<void> ResetLoop::ring_full() {
    const Clock::time_point start = Clock::now();
    Result<void> done = tracker_->ring_full(0);
    full_ns_ += between(start, Clock::now());
    ++full_exits_;
    return done;
}

void ResetLoop::round_done() {
    const Result<void> done = snapshot_ ? reset() : warm_up();
    bool over = !done;
    {
        const std::lock_guard lock(mutex_);
        if (!done) {
            failed_ = done.error();
        }
        over |= state_.total.rounds == config_.rounds;
    }
    if (over) {
        machine_->stop();
    }
}

Result<void> ResetLoop::warm_up() {
    std::uint64_t rounds = 0;
    {
        const std::lock_guard lock(mutex_);
        rounds = ++state_.warm_up;
    }
    return rounds < machine::warm_up_rounds ? Result<void>() : take_snapshot();
}

Result<void> ResetLoop::take_snapshot() {
    const Clock::time_point start = Clock::now();
    SnapshotOptions options;
    options.state = machine::ring_3_state;
    Result<Snapshot> taken =
        Snapshot::take(*tracker_, {&machine_->vm(), {{&machine_->vcpu(0), &run_->raw()}}},
                       AllVcpusStopped(), std::move(options));
    if (!taken) {
        return fail(std::move(taken.error()));
    }
    snapshot_ = std::move(*taken);
    ResetFigures before;  // what was harvested until now is no round's
    note_harvest(before);
    full_ns_ = 0;
    full_exits_ = 0;
    begun_ = Clock::now();
    const std::lock_guard lock(mutex_);
    state_.snapshot_ns = between(start, begun_);
    return {};
}

/// With rings: adds what reading and resetting them has taken since the last time.
void ResetLoop::note_harvest(ResetFigures& round) {
    if (const RingSource* const rings = tracker_->source().rings()) {
        const RingSourceStatistics now = rings->statistics();
        round.add(ResetPart::harvest,
                  now.harvest.sum() - std::exchange(harvest_ns_, now.harvest.sum()));
        round.add(ResetPart::rearm, now.reset.sum() - std::exchange(rearm_ns_, now.reset.sum()));
    }
}

Result<void> ResetLoop::reset() {
    const Clock::time_point finished = Clock::now();
    const Result<RestoreReport> report = snapshot_->restore(AllVcpusStopped());
    if (!report) {
        return fail(report.error());
    }
    const Clock::time_point restored = Clock::now();
    if (config_.verify) {
        if (Result<void> same = verify(); !same) {
            return same;
        }
    }
    const Clock::time_point verified = Clock::now();

    const std::lock_guard lock(mutex_);
    ResetFigures& total = state_.total;
    ++total.rounds;
    total.pages += report->pages;
    total.changed += report->changed;
    total.hot = report->hot;
    total.everything += static_cast<std::uint64_t>(report->everything);
    total.full_exits += std::exchange(full_exits_, 0);
    note_harvest(total);
    if (config_.track != Track::ring) {
        total.add(ResetPart::collect, report->collect_nanoseconds);
    }
    total.add(ResetPart::guest, between(begun_, finished) - std::exchange(full_ns_, 0));
    total.add(ResetPart::copy, report->copy_nanoseconds);
    total.add(ResetPart::state, report->state_nanoseconds);
    if (config_.verify) {
        total.add(ResetPart::verify, between(restored, verified));
    }
    const Clock::time_point end = Clock::now();
    total.nanoseconds += between(std::exchange(begun_, end), end);
    return {};
}

Result<void> ResetLoop::verify() const {
    const Result<std::string> different = snapshot_->verify(AllVcpusStopped());
    if (!different) {
        return fail(different.error());
    }
    if (!different->empty()) {
        const std::lock_guard lock(mutex_);
        return fail({0, fmt::format("verify the guest after round {}", state_.total.rounds + 1),
                     *different + " is not as in the snapshot",
                     "if nothing but the guest writes its memory, report this"});
    }
    return {};
}

// What the other thread does ----------------------------------------------------------------------

ResetState ResetLoop::state() const {
    const std::lock_guard lock(mutex_);
    return state_;
}

Result<Outcome> ResetLoop::run(const std::function<Result<void>(const ResetState&)>& use) {
    const Clock::time_point start = Clock::now();
    const Clock::time_point end =
        config_.length ? start + *config_.length : Clock::time_point::max();
    if (Result<void> started = machine_->start(); !started) {
        return fail(std::move(started.error()));
    }
    const Running running(*machine_, interruption_);
    Clock::time_point next = start;
    ResetFigures told;
    for (;;) {
        next = interval_end(next, config_.interval);
        const std::optional<std::vector<machine::End>> ends = wait_for_ends(*machine_, next, end);
        ResetState now = state();
        now.elapsed_ns = between(start, Clock::now());
        now.last = now.total.since(std::exchange(told, now.total));
        if (Result<void> used = use(now); !used) {
            return fail(std::move(used.error()));
        }
        if (ends) {
            return outcome(ends->front());
        }
    }
}

Outcome ResetLoop::outcome(const machine::End& end) const {
    Outcome outcome;
    outcome.console = machine_->console();
    outcome.vcpus = {machine::describe(0, end)};
    const std::lock_guard lock(mutex_);
    if (failed_ || !std::holds_alternative<machine::Stopped>(end)) {
        outcome.ending = Ending::failed;
        outcome.reason =
            failed_ ? failed_->message() : outcome.vcpus[0].substr(0, outcome.vcpus[0].find('\n'));
        if (machine::succeeded(end)) {
            outcome.reason += ", where a guest that is reset goes on from round to round";
        }
    } else if (state_.total.rounds == config_.rounds) {
        outcome.ending = Ending::succeeded;
    } else {
        outcome.reason = why_stopped(interruption_, config_.length);
    }
    return outcome;
}

}  // namespace dirtyring::cli
