// SPDX-License-Identifier: MIT
#include "machine_tracking.hpp"

#include <algorithm>
#include <utility>

#include "dirtyring/pause.hpp"
#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"

namespace dirtyring::cli {

namespace {

std::uint64_t since(std::chrono::steady_clock::time_point start) {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                          std::chrono::steady_clock::now() - start)
                                          .count());
}

/// What has been added to a sum since it was last told.
std::uint64_t untold(std::uint64_t& told, std::uint64_t now) {
    return now - std::exchange(told, now);
}

}  // namespace

machine::Config tracked(machine::Config config, Track track, std::uint32_t ring_entries) {
    config.log_dirty = true;
    config.ring_entries = track == Track::ring ? ring_entries : 0;
    config.manual_protect = track == Track::manual;
    return config;
}

std::unique_ptr<Source> make_source(machine::Machine& machine, Track track) {
    if (track == Track::ring) {
        return std::make_unique<RingSource>(machine.vm().fd(), machine.memory());
    }
    return std::make_unique<BitmapSource>(
        machine.vm().fd(), machine.memory(),
        track == Track::manual ? BitmapMode::manual : BitmapMode::automatic);
}

MachineTracking::MachineTracking(machine::Machine& machine, Track track)
    : machine_(machine),
      rings_(track == Track::ring),
      tracker_(make_source(machine, track)),
      consumer_(tracker_.add_consumer()) {
    told_.vcpus.resize(machine.vcpu_count());
}

Result<std::unique_ptr<MachineTracking>> MachineTracking::create(
    machine::Machine& machine, Track track, std::optional<std::uint64_t> limit) {
    std::unique_ptr<MachineTracking> tracking(new MachineTracking(machine, track));
    if (limit) {
        tracking->throttle_.emplace(tracking->tracker_, *limit, [&machine](std::size_t vcpu) {
            machine.kick(static_cast<std::uint32_t>(vcpu));
        });
    }
    if (Result<void> added = tracking->add_vcpus(); !added) {
        return fail(std::move(added.error()));
    }
    return tracking;
}

/// The tracker's numbers are the machine's: it gets the vCPUs in order.
Result<void> MachineTracking::add_vcpus() {
    for (std::uint32_t vcpu = 0; vcpu < machine_.vcpu_count(); ++vcpu) {
        const Result<std::size_t> added =
            rings_ ? Ring::map(machine_.vcpu(vcpu)).and_then([this](Ring&& ring) {
                return tracker_.add_vcpu(std::move(ring));
            })
                   : tracker_.add_vcpu(machine_.vcpu(vcpu).fd());
        if (!added) {
            return fail(added.error());
        }
    }
    return {};
}

Result<void> MachineTracking::ring_full(std::uint32_t vcpu) {
    return tracker_.ring_full(vcpu);
}

void MachineTracking::before_enter(std::uint32_t vcpu) {
    if (throttle_) {
        throttle_->hold(vcpu);
    }
}

void MachineTracking::on_stop() {
    if (throttle_) {
        throttle_->release();
    }
}

Result<void> MachineTracking::start() {
    start_ = Clock::now();
    if (!rings_) {
        return {};
    }
    Result<std::unique_ptr<Reaper>> reaper =
        Reaper::start(tracker_, throttle_ ? &*throttle_ : nullptr);
    if (!reaper) {
        return fail(std::move(reaper.error()));
    }
    reaper_ = std::move(*reaper);
    return {};
}

void MachineTracking::kick_all() {
    for (std::uint32_t vcpu = 0; vcpu < machine_.vcpu_count(); ++vcpu) {
        machine_.kick(vcpu);
    }
}

Result<Epoch> MachineTracking::collect_epoch() {
    if (suspects_ == 0) {
        return consumer_.collect();
    }
    // After a Ctrl-Z, for instance. They would be dirty in each interval; while no vCPU runs they
    // can be armed again.
    const VcpuControl control{.kick = [](std::size_t) {},  // as pause does
                              .wait = [this]() -> Result<void> {
                                  machine_.pause();
                                  return {};
                              },
                              .resume = [this] { static_cast<void>(machine_.resume()); }};
    return Pause::begin(tracker_, control).and_then([this](const Pause& pause) {
        return consumer_.collect(pause.stopped());
    });
}

Result<Epoch> MachineTracking::collect(Interval& interval) {
    if (reaper_) {
        if (Result<void> well = reaper_->status(); !well) {
            return fail(std::move(well.error()));
        }
        // Where the CPU logs pages in hardware they reach the ring when the vCPU leaves the guest.
        kick_all();
    }
    Result<Epoch> epoch = collect_epoch();
    if (epoch) {
        tell(*epoch, interval);
    }
    return epoch;
}

void MachineTracking::tell(const Epoch& epoch, Interval& interval) {
    // Two at the same nanosecond would make an interval without length.
    interval.begin_ns = std::exchange(end_ns_, std::max(since(start_), end_ns_ + 1));
    interval.end_ns = end_ns_;
    const Statistics now = tracker_.statistics();
    interval.harvest_ns = untold(told_.harvest_ns, (rings_ ? now.harvest : now.collect).sum());
    interval.reset_ns = untold(told_.reset_ns, now.reset.sum());
    suspects_ = now.suspects;

    interval.vcpus.resize(told_.vcpus.size());
    for (std::uint32_t vcpu = 0; vcpu < told_.vcpus.size(); ++vcpu) {
        const VcpuCounts& counts = epoch.vcpus()[vcpu];
        const machine::Counters counters = machine_.counters(vcpu);
        machine::Counters& told = told_.vcpus[vcpu];
        interval.vcpus[vcpu] = {.entries = counts.entries,
                                .distinct = counts.distinct,
                                .full_exits = counts.full_exits,
                                .overruns = counts.overruns,
                                .lost = counts.lost,
                                .peak_fill = now.vcpus[vcpu].largest_fill,
                                .rounds = untold(told.rounds, counters.rounds),
                                .page_writes = untold(told.page_writes, counters.page_writes)};
    }

    interval.everything = epoch.pages().everything();
    interval.spans.clear();
    if (!interval.everything) {
        epoch.pages().for_each_run([&](const PageRun& run) {
            interval.spans.push_back({run.file_offset / page_size, run.count});
        });
    }
}

}  // namespace dirtyring::cli
