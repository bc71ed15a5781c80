// SPDX-License-Identifier: MIT
#include "guest_overhead.hpp"

#include <memory>
#include <mutex>
#include <utility>

#include "bench.hpp"
#include "machine_tracking.hpp"

namespace dirtyring::cli {

namespace {

/// Takes the time from the end of the first round to the end of the last. A guest's vCPUs wait for
/// each other after each round, so a round has ended when every vCPU has said so. Any thread.
class RoundClock {
  public:
    explicit RoundClock(const Turn& turn) : turn_(turn) {}

    /// A vCPU has finished a round. True at the end of the last.
    bool round(std::uint64_t page_writes) {
        const std::lock_guard lock(mutex_);
        if (done_) {
            return false;
        }
        const Clock::time_point now = Clock::now();
        const std::uint64_t vcpus = turn_.machine.vcpus;
        ++said_;
        if (said_ <= vcpus) {
            begin_ = now;
            return false;
        }
        result_.page_writes += page_writes;
        if (said_ % vcpus != 0) {
            return false;
        }
        result_.rounds = said_ / vcpus - 1;
        result_.time = now - begin_;
        done_ = turn_.rounds != 0 ? result_.rounds >= turn_.rounds : result_.time >= turn_.least;
        return done_;
    }
    /// Nothing if the last round has not ended.
    [[nodiscard]] std::optional<TurnResult> result() const {
        const std::lock_guard lock(mutex_);
        return done_ ? std::optional(result_) : std::nullopt;
    }

  private:
    using Clock = std::chrono::steady_clock;

    const Turn& turn_;
    mutable std::mutex mutex_;
    std::uint64_t said_ = 0;  // ends of rounds, of all vCPUs
    Clock::time_point begin_;
    TurnResult result_;
    bool done_ = false;
};

/// Collects as `dirtyring run` does until all vCPUs have ended.
Result<std::vector<machine::End>> watch(machine::Machine& machine, MachineTracking* tracking) {
    Interval interval;
    for (;;) {
        std::optional<std::vector<machine::End>> ends = machine.wait_done(overhead_interval);
        if (tracking != nullptr) {
            Result<Epoch> epoch = tracking->collect(interval);
            if (!epoch) {
                return fail(std::move(epoch.error()));
            }
            epoch->commit();
        }
        if (ends) {
            return std::move(*ends);
        }
    }
}

}  // namespace

Result<std::optional<TurnResult>> run_turn(const Turn& turn, const GuestFile& guest,
                                           Interruption& interruption) {
    RoundClock clock(turn);
    std::unique_ptr<machine::Machine> machine;
    std::unique_ptr<MachineTracking> tracking;
    machine::Callbacks callbacks;
    callbacks.on_ring_full = [&](std::uint32_t vcpu) { return tracking->ring_full(vcpu); };
    callbacks.on_round = [&](std::uint32_t, std::uint64_t page_writes) {
        if (clock.round(page_writes)) {
            machine->stop();
        }
    };
    Result<std::unique_ptr<machine::Machine>> made = machine::Machine::create(
        turn.track ? tracked(turn.machine, *turn.track, turn.ring_entries) : turn.machine,
        {guest.name, guest.bytes()}, std::move(callbacks));
    if (!made) {
        return fail(std::move(made.error()));
    }
    machine = std::move(*made);
    if (turn.track) {
        Result<std::unique_ptr<MachineTracking>> created =
            MachineTracking::create(*machine, *turn.track);
        if (!created) {
            return fail(std::move(created.error()));
        }
        tracking = std::move(*created);
        if (Result<void> started = tracking->start(); !started) {
            return fail(std::move(started.error()));
        }
    }
    if (Result<void> started = machine->start(); !started) {
        return fail(std::move(started.error()));
    }
    const Running running(*machine, interruption);
    const Result<std::vector<machine::End>> ends = watch(*machine, tracking.get());
    if (!ends) {
        return fail(ends.error());
    }
    if (interruption.signal() != 0) {
        return std::nullopt;
    }
    if (Result<void> well = stopped(*machine, guest.name, *ends); !well) {
        return fail(std::move(well.error()));
    }
    std::optional<TurnResult> result = clock.result();
    if (result && result->page_writes == 0) {
        return fail({0, "measure the guest " + guest.name, "it says that it wrote no page", {}});
    }
    return result;
}

}  // namespace dirtyring::cli
