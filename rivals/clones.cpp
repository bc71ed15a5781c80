// SPDX-License-Identifier: MIT
#include "clones.hpp"

#include <latch>
#include <thread>
#include <utility>
#include <vector>

#include "dirtyring/source/ring_source.hpp"

namespace dirtyring::bench {

namespace {

using Clock = std::chrono::steady_clock;

std::unique_ptr<Source> rings(ResetGuest& guest) {
    return std::make_unique<RingSource>(guest.machine().vm().fd(), guest.machine().memory());
}

/// Rounds a second.
Result<double> run(ResetLoop& loop, std::chrono::nanoseconds least) {
    std::uint64_t rounds = 0;
    const Clock::time_point begin = Clock::now();
    std::chrono::duration<double> time{};
    do {
        if (Result<void> done = loop.round(); !done) {
            return fail(std::move(done.error()));
        }
        ++rounds;
        time = Clock::now() - begin;
    } while (time < least);
    return static_cast<double>(rounds) / time.count();
}

}  // namespace

Result<std::unique_ptr<Clones>> Clones::create(const ResetCase& what) {
    const machine::Config config{.vcpus = 1, .ring_entries = what.ring_entries, .log_dirty = true};
    Result<ResetGuest> guest = ResetGuest::create(config, what);
    if (!guest) {
        return fail(std::move(guest.error()));
    }
    std::unique_ptr<Source> source = rings(*guest);
    const Result<std::unique_ptr<SnapshotLoop>> first =
        SnapshotLoop::create(std::move(*guest), std::move(source));
    if (!first) {
        return fail(first.error());
    }
    const Snapshot& snapshot = (*first)->snapshot();
    std::unique_ptr<Clones> clones(new Clones);
    for (Clone& clone : clones->clones_) {
        Result<kvm::Mapping> memory = snapshot.map_memory();
        if (!memory) {
            return fail(std::move(memory.error()));
        }
        clone.memory = std::move(*memory);
        // The clone keeps the mapping for as long as its VM.
        const std::span<std::byte> bytes(static_cast<std::byte*>(clone.memory.address()),
                                         clone.memory.bytes());
        Result<ResetGuest> twin = ResetGuest::clone(config, what, bytes);
        if (!twin) {
            return fail(std::move(twin.error()));
        }
        source = rings(*twin);
        Result<std::unique_ptr<SnapshotLoop>> loop =
            SnapshotLoop::clone(std::move(*twin), std::move(source), snapshot);
        if (!loop) {
            return fail(std::move(loop.error()));
        }
        clone.loop = std::move(*loop);
    }
    return clones;
}

void Clones::write(std::uint64_t pages) {
    for (Clone& clone : clones_) {
        clone.loop->write(pages);
    }
}

Result<double> Clones::rate(std::size_t count, std::chrono::nanoseconds time) {
    std::latch ready(static_cast<std::ptrdiff_t>(count));
    std::vector<Result<double>> rates(count, 0.0);
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < count; ++i) {
            threads.emplace_back([&, i] {
                ready.arrive_and_wait();
                rates[i] = run(*clones_[i].loop, time);
            });
        }
    }
    double sum = 0;
    for (Result<double>& rate : rates) {
        if (!rate) {
            return rate;
        }
        sum += *rate;
    }
    return sum;
}

Result<void> Clones::check() {
    Result<void> done;
    for (Clone& clone : clones_) {
        done = done.and_then([&] { return clone.loop->check(); });
    }
    return done;
}

}  // namespace dirtyring::bench
