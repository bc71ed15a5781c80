// SPDX-License-Identifier: MIT
#include "snapshot_loop.hpp"

#include <utility>

#include "guests/replay_plan.hpp"
#include "machine/layout.hpp"
#include "machine/resetting.hpp"

namespace dirtyring::bench {

template <typename Take>
Result<void> SnapshotLoop::begin(Take&& take) {
    if (Result<std::size_t> added = tracker_.add_vcpu(guest_.machine().vcpu(0).fd()); !added) {
        return fail(std::move(added.error()));
    }
    Result<Snapshot> taken = take();
    if (!taken) {
        return fail(std::move(taken.error()));
    }
    snapshot_ = std::move(*taken);
    return guest_.save();
}

Result<std::unique_ptr<SnapshotLoop>> SnapshotLoop::create(ResetGuest guest,
                                                           std::unique_ptr<Source> source) {
    std::unique_ptr<SnapshotLoop> loop(new SnapshotLoop(std::move(guest), std::move(source)));
    const Result<void> begun = loop->begin([&] {
        SnapshotOptions options;
        options.state = machine::ring_3_state;
        return Snapshot::take(loop->tracker_, loop->parts(), AllVcpusStopped(), std::move(options));
    });
    return begun.map([&] { return std::move(loop); });
}

Result<std::unique_ptr<SnapshotLoop>> SnapshotLoop::clone(ResetGuest guest,
                                                          std::unique_ptr<Source> source,
                                                          const Snapshot& of) {
    std::unique_ptr<SnapshotLoop> loop(new SnapshotLoop(std::move(guest), std::move(source)));
    const Result<void> begun =
        loop->begin([&] { return of.clone_to(loop->tracker_, loop->parts(), AllVcpusStopped()); });
    return begun.map([&] { return std::move(loop); });
}

Result<void> SnapshotLoop::round() {
    if (const std::optional<std::uint64_t> order = guest_.order()) {
        tracker_.mark(machine::layout::physical(*order), sizeof(guest::ReplayOrder));
    }
    if (Result<void> ran = guest_.run(); !ran) {
        return ran;
    }
    return snapshot_->restore(AllVcpusStopped()).map([this](const RestoreReport& report) {
        last_ = report;
    });
}

}  // namespace dirtyring::bench
