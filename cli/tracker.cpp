// SPDX-License-Identifier: MIT
#include "tracker.hpp"

#include <algorithm>
#include <utility>

namespace dirtyring::cli {

namespace {

using std::chrono::nanoseconds;

std::uint64_t since(std::chrono::steady_clock::time_point start) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<nanoseconds>(std::chrono::steady_clock::now() - start).count());
}

/// How often the rings' fill is looked at. A vCPU rarely dirties over a million pages a second, as
/// each first write costs it a fault: a quarter of a ring's worth of time at that rate.
nanoseconds look_period(std::uint32_t entries) {
    return std::clamp<nanoseconds>(std::chrono::microseconds(entries / 4),
                                   std::chrono::milliseconds(1), std::chrono::milliseconds(50));
}

VcpuFigures difference(const VcpuFigures& now, const VcpuFigures& before) {
    return {.entries = now.entries - before.entries,
            .distinct = now.distinct - before.distinct,
            .full_exits = now.full_exits - before.full_exits,
            .overruns = now.overruns - before.overruns,
            .lost = now.lost - before.lost,
            .peak_fill = now.peak_fill,
            .rounds = now.rounds - before.rounds,
            .page_writes = now.page_writes - before.page_writes};
}

}  // namespace

machine::Config tracked(machine::Config config, Track track, std::uint32_t ring_entries) {
    config.log_dirty = true;
    config.ring_entries = track == Track::ring ? ring_entries : 0;
    config.manual_protect = track == Track::manual;
    return config;
}

Result<std::unique_ptr<Tracker>> Tracker::create(machine::Machine& machine, Track track) {
    std::unique_ptr<Tracker> tracker(new Tracker(machine));
    tracker->told_.resize(machine.vcpu_count());
    if (track != Track::ring) {
        tracker->bitmap_.emplace(
            machine.vm().fd(), machine.memory(),
            track == Track::manual ? BitmapMode::manual : BitmapMode::automatic);
        return tracker;
    }
    tracker->rings_.emplace(machine.vm().fd(), machine.memory());
    for (std::uint32_t vcpu = 0; vcpu < machine.vcpu_count(); ++vcpu) {
        Result<Ring> ring = Ring::map(machine.vcpu(vcpu));
        if (!ring) {
            return fail(std::move(ring.error()));
        }
        tracker->rings_->add(std::move(*ring));
    }
    return tracker;
}

Tracker::~Tracker() = default;

Source& Tracker::source() {
    return rings_ ? static_cast<Source&>(*rings_) : *bitmap_;
}

Result<void> Tracker::ring_full(std::uint32_t vcpu) {
    return rings_->ring_full(vcpu);
}

void Tracker::start() {
    start_ = Clock::now();
    if (rings_) {
        drainer_ = std::jthread([this](const std::stop_token& stop) { drain_until(stop); });
    }
}

void Tracker::drain_until(const std::stop_token& stop) {
    const std::uint32_t entries = machine_.vm().dirty_ring_entries();
    const nanoseconds period = look_period(entries);
    std::unique_lock lock(drain_mutex_);
    while (!drain_error_ && !stop.stop_requested()) {
        drain_wakeup_.wait_for(lock, stop, period, [] { return false; });
        if (rings_->fill() < entries / 2) {
            continue;
        }
        if (Result<void> drained = rings_->drain(); !drained) {
            drain_error_ = std::move(drained.error());
        }
    }
}

Result<Pages> Tracker::collect_pages(Interval& interval) {
    const Clock::time_point begin = Clock::now();
    Result<Pages> pages = source().collect(std::move(storage_));
    if (pages && rings_) {
        const RingSourceStatistics now = rings_->statistics();
        interval.harvest_ns = now.harvest.sum() - told_source_.harvest.sum();
        interval.reset_ns = now.reset.sum() - told_source_.reset.sum();
        told_source_ = now;
    } else {
        interval.harvest_ns = since(begin);
        interval.reset_ns = 0;
    }
    return pages;
}

void Tracker::tell_vcpus(Interval& interval) {
    interval.vcpus.resize(told_.size());
    for (std::uint32_t vcpu = 0; vcpu < told_.size(); ++vcpu) {
        const machine::Counters counters = machine_.counters(vcpu);
        VcpuFigures now{.rounds = counters.rounds, .page_writes = counters.page_writes};
        if (rings_) {
            const RingStatistics ring = rings_->statistics(vcpu);
            now.entries = ring.entries;
            now.distinct = ring.fresh;
            now.full_exits = ring.full_exits;
            now.overruns = ring.overruns;
            now.lost = ring.lost;
            now.peak_fill = ring.largest_fill;
        }
        interval.vcpus[vcpu] = difference(now, told_[vcpu]);
        told_[vcpu] = now;
    }
}

Result<void> Tracker::collect(Interval& interval) {
    if (rings_) {
        // Where the CPU logs pages in hardware they reach the ring when the vCPU leaves the guest.
        for (std::uint32_t vcpu = 0; vcpu < machine_.vcpu_count(); ++vcpu) {
            machine_.kick(vcpu);
        }
    }
    // No drain between the collect and the figures that belong to it.
    const std::lock_guard lock(drain_mutex_);
    if (drain_error_) {
        return fail(*drain_error_);
    }
    Result<Pages> pages = collect_pages(interval);
    if (!pages) {
        return fail(std::move(pages.error()));
    }
    // Two at the same nanosecond would make an interval without length.
    interval.begin_ns = std::exchange(end_ns_, std::max(since(start_), end_ns_ + 1));
    interval.end_ns = end_ns_;
    tell_vcpus(interval);
    interval.everything = pages->everything();
    interval.spans.clear();
    if (!interval.everything) {
        pages->for_each_run([&](const PageRun& run) {
            const auto place =
                static_cast<std::uint64_t>(run.host().data() - machine_.bytes().data());
            interval.spans.push_back({place / page_size, run.count});
        });
    }
    storage_ = std::move(*pages).recycle();
    return {};
}

}  // namespace dirtyring::cli
