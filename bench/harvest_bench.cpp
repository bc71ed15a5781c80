// SPDX-License-Identifier: MIT
//
// Reading a full ring of 65,536 entries in plain memory: Harvest::take, the same work in the style
// of QEMU and of the kvm-ioctls proposal (styles.hpp), and two bare loops as limits: one that reads
// and marks the entries, and one that sets a bit for each as well. All five run in turn in every
// iteration, so that their ratios hold however busy the machine is; each counter is a median over
// the iterations, in nanoseconds an entry.
#include <benchmark/benchmark.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>

#include "dirtyring/harvest.hpp"
#include "styles.hpp"

namespace dirtyring::bench {
namespace {

constexpr std::uint32_t entries = 65'536;

/// What a ring holds, and the slots that it is about.
struct Pattern {
    const char* name;
    std::vector<std::uint64_t> slot_bytes;
    RingEntry (*entry)(const Pattern& pattern, std::uint32_t index, std::mt19937_64& random);
};

std::uint64_t random_page(const Pattern& pattern, std::uint32_t slot, std::mt19937_64& random) {
    return random() % (pattern.slot_bytes[slot] / page_size);
}

RingEntry sequential(const Pattern&, std::uint32_t index, std::mt19937_64&) {
    return {0, index};
}

RingEntry uniform(const Pattern& pattern, std::uint32_t, std::mt19937_64& random) {
    return {0, random_page(pattern, 0, random)};
}

/// A quarter in slot 0, as of a guest of 4 GiB, whose memory goes on above the hole at 3 GiB.
RingEntry mixed(const Pattern& pattern, std::uint32_t, std::mt19937_64& random) {
    const std::uint32_t slot = random() % 4 == 0 ? 0 : 1;
    return {slot, random_page(pattern, slot, random)};
}

RingEntry alternating(const Pattern& pattern, std::uint32_t index, std::mt19937_64& random) {
    return {index % 2, random_page(pattern, index % 2, random)};
}

constexpr std::uint64_t gib = std::uint64_t{1} << 30;

MemoryMap map_of(const Pattern& pattern) {
    static std::byte memory;  // never looked at: only slots and page numbers are
    MemoryMap map;
    std::uint64_t address = 0;
    for (std::size_t i = 0; i < pattern.slot_bytes.size(); ++i) {
        if (!map.add({static_cast<std::uint32_t>(i), address, pattern.slot_bytes[i], &memory})) {
            std::abort();
        }
        address += pattern.slot_bytes[i];
    }
    return map;
}

/// A ring's memory, filled once and armed again before each harvest.
class FullRing {
  public:
    explicit FullRing(const Pattern& pattern) : entries_(entries) {
        std::mt19937_64 random(1);
        for (std::uint32_t i = 0; i < entries; ++i) {
            const RingEntry entry = pattern.entry(pattern, i, random);
            entries_[i] = {KVM_DIRTY_GFN_F_DIRTY, entry.slot, entry.offset};
        }
    }
    void arm() {
        for (kvm_dirty_gfn& entry : entries_) {
            entry.flags = KVM_DIRTY_GFN_F_DIRTY;
        }
    }
    [[nodiscard]] std::span<kvm_dirty_gfn> span() { return entries_; }

  private:
    std::vector<kvm_dirty_gfn> entries_;
};

/// Nanoseconds an entry of each iteration.
class Times {
  public:
    template <typename Harvest>
    void measure(FullRing& ring, Harvest&& harvest) {
        ring.arm();
        const auto start = std::chrono::steady_clock::now();
        const std::uint32_t taken = harvest();
        const std::chrono::duration<double, std::nano> time =
            std::chrono::steady_clock::now() - start;
        if (taken != entries) {
            complete_ = false;
        }
        times_.push_back(time.count() / entries);
    }
    /// Whether every harvest took the whole ring.
    [[nodiscard]] bool complete() const noexcept { return complete_; }
    [[nodiscard]] double last() const { return times_.back(); }
    [[nodiscard]] double median() {
        const auto middle = times_.begin() + static_cast<std::ptrdiff_t>(times_.size() / 2);
        std::ranges::nth_element(times_, middle);
        return *middle;
    }

  private:
    std::vector<double> times_;
    bool complete_ = true;
};

void harvest_ring(benchmark::State& state, const Pattern& pattern) {
    const MemoryMap map = map_of(pattern);
    FullRing memory(pattern);
    Result<Ring> ring = Ring::over(memory.span());
    QemuStyle qemu(memory.span(), map);
    KvmIoctlsStyle kvm_ioctls(memory.span(), map);
    BareLoop bare(memory.span());
    BareBitmap limit(memory.span(), *std::ranges::max_element(pattern.slot_bytes) / page_size);

    Times ours_times;
    Times qemu_times;
    Times kvm_ioctls_times;
    Times bare_times;
    Times limit_times;
    for ([[maybe_unused]] auto _ : state) {
        Harvest ours(map);
        ours_times.measure(memory, [&] { return ours.take(*ring); });
        qemu.pages().clear();
        qemu_times.measure(memory, [&] { return qemu.harvest(); });
        kvm_ioctls.pages().clear();
        kvm_ioctls_times.measure(memory, [&] { return kvm_ioctls.harvest(); });
        bare_times.measure(memory, [&] { return bare.harvest(); });
        benchmark::DoNotOptimize(bare.sum());
        limit.clear();
        limit_times.measure(memory, [&] { return limit.harvest(); });
        state.SetIterationTime(ours_times.last() * entries * 1e-9);

        const std::uint64_t pages = ours.pages(AllVcpusStopped()).size();
        if (pages != qemu.pages().count() || pages != kvm_ioctls.pages().count()) {
            state.SkipWithError("the harvests disagree about the pages");
            return;
        }
    }
    if (!ours_times.complete() || !qemu_times.complete() || !kvm_ioctls_times.complete() ||
        !bare_times.complete() || !limit_times.complete()) {
        state.SkipWithError("a harvest did not take the whole ring");
        return;
    }
    state.counters["ours"] = ours_times.median();
    state.counters["qemu"] = qemu_times.median();
    state.counters["kvm_ioctls"] = kvm_ioctls_times.median();
    state.counters["bare"] = bare_times.median();
    state.counters["limit"] = limit_times.median();
    state.counters["qemu/ours"] = qemu_times.median() / ours_times.median();
    state.counters["kvm_ioctls/ours"] = kvm_ioctls_times.median() / ours_times.median();
}

const std::array patterns = {
    Pattern{"sequential/256MiB", {gib / 4}, sequential},
    Pattern{"random/256MiB", {gib / 4}, uniform},
    Pattern{"random/4GiB", {4 * gib}, uniform},
    Pattern{"random/16GiB", {16 * gib}, uniform},
    Pattern{"two_slots_in_turn/4GiB", {2 * gib, 2 * gib}, alternating},
    Pattern{"two_slots_mixed/4GiB", {gib, 3 * gib}, mixed},
};

/// Printed above the table, beside what the benchmark library says of caches and load.
void tell_host() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (line.starts_with("model name")) {
            benchmark::AddCustomContext("cpu", line.substr(line.find(':') + 2));
            break;
        }
    }
    utsname about{};
    if (::uname(&about) == 0) {
        benchmark::AddCustomContext("kernel", about.release);
    }
    benchmark::AddCustomContext("compiler", __VERSION__);
}

}  // namespace
}  // namespace dirtyring::bench

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    dirtyring::bench::tell_host();
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 1;
    }
    for (const auto& pattern : dirtyring::bench::patterns) {
        benchmark::RegisterBenchmark(pattern.name, dirtyring::bench::harvest_ring, pattern)
            ->UseManualTime();
    }
    benchmark::ConsoleReporter reporter(benchmark::ConsoleReporter::OO_Tabular);
    benchmark::RunSpecifiedBenchmarks(&reporter);
    benchmark::Shutdown();
    return 0;
}
