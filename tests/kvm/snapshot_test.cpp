// SPDX-License-Identifier: MIT
//
// After each restore all memory and all registers are as they were, whatever was written in
// between, by whom, and by which source it is known.
#include "dirtyring/snapshot.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <ostream>
#include <random>

#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"
#include "guests/abi.hpp"
#include "guests/replay_plan.hpp"
#include "machine/layout.hpp"
#include "machine/round_machine.hpp"
#include "machine_fixture.hpp"
#include "test_scale.hpp"

namespace dirtyring {
namespace {

struct Way {
    const char* name;
    std::uint32_t ring_entries;
    BitmapMode mode;
    std::uint64_t hot_pages;
};

void PrintTo(const Way& way, std::ostream* out) {
    *out << way.name;
}

constexpr Way ways[] = {
    {"ring_hot", 65536, BitmapMode::automatic, 65536},
    {"ring_few_hot", 4096, BitmapMode::automatic, 50},
    {"ring_sorted", 65536, BitmapMode::automatic, 0},
    {"bitmap", 0, BitmapMode::automatic, 65536},
    {"manual_hot", 0, BitmapMode::manual, 65536},
};

machine::Config config_of(const Way& way, std::uint32_t vcpus, std::uint64_t memory) {
    return {.vcpus = vcpus,
            .memory = memory,
            .ring_entries = way.ring_entries,
            .log_dirty = true,
            .manual_protect = way.ring_entries == 0 && way.mode == BitmapMode::manual};
}

std::unique_ptr<Source> source_of(const Way& way, machine::Machine& machine) {
    if (way.ring_entries != 0) {
        return std::make_unique<RingSource>(machine.vm().fd(), machine.memory());
    }
    return std::make_unique<BitmapSource>(machine.vm().fd(), machine.memory(), way.mode);
}

Tracker track(const Way& way, machine::Machine& machine) {
    Tracker tracker(source_of(way, machine));
    for (std::uint32_t vcpu = 0; vcpu < machine.vcpu_count(); ++vcpu) {
        must(tracker.add_vcpu(machine.vcpu(vcpu).fd()));
    }
    return tracker;
}

class SnapshotTest : public MachineTest, public testing::WithParamInterface<Way> {
  protected:
    static constexpr std::uint64_t memory = std::uint64_t{12} << 20;
    static constexpr std::uint64_t working_set = std::uint64_t{6} << 20;

    /// The guest replay at the end of its first round, and a tracker of it.
    void SetUp() override {
        MachineTest::SetUp();
        if (IsSkipped()) {
            return;
        }
        machine::Config config = config_of(GetParam(), 1, memory);
        config.params = {{"working_set", std::to_string(working_set)}, {"writes", "50"}};
        const Bytes file = must(machine::read_file(guest_path("replay")));
        guest.emplace(must(machine::RoundMachine::create(config, {"replay", file})));
        tracker.emplace(track(GetParam(), guest->machine()));
        must(guest->run_round());
        must(guest->finish_exit());
        guest_abi::Info info;
        std::memcpy(&info, bytes().data() + machine::layout::info, sizeof info);
        heap = info.heap_base;
    }
    /// `by_run`: registers by kvm_run, or by calls.
    Snapshot take(bool by_run = true) {
        SnapshotOptions options;
        options.hot_pages = GetParam().hot_pages;
        return must(Snapshot::take(*tracker, parts(by_run), AllVcpusStopped(), std::move(options)));
    }
    GuestParts parts(bool by_run) {
        return {&guest->machine().vm(),
                {{&guest->machine().vcpu(0), by_run ? &guest->run_area() : nullptr}}};
    }
    /// A round of the guest with so many writes to pages that depend on its number.
    void run(std::uint64_t round, std::uint64_t writes) {
        const guest::ReplayOrder order{round, writes};
        host_writes(heap, std::as_bytes(std::span(&order, 1)));
        must(guest->run_round());
        must(guest->finish_exit());
    }
    void host_writes(std::uint64_t at, std::span<const std::byte> what) {
        std::ranges::copy(what, bytes().begin() + static_cast<std::ptrdiff_t>(at));
        tracker->mark(machine::layout::physical(at), what.size());
    }
    std::span<std::byte> bytes() { return guest->machine().bytes(); }
    void expect_as_in(const Snapshot& snapshot) {
        EXPECT_EQ(must(snapshot.verify(AllVcpusStopped())), "");
    }

    std::optional<machine::RoundMachine> guest;
    std::optional<Tracker> tracker;
    std::uint64_t heap = 0;
};

TEST_P(SnapshotTest, IsExactWhateverTheWorkingSetDoes) {
    const std::uint64_t restores = scaled(1500);
    Snapshot snapshot = take();
    std::mt19937_64 random(7);
    std::uint64_t round = 0;
    std::uint64_t writes = 50;
    std::uint64_t pages = 0;
    for (std::uint64_t i = 0; i < restores; ++i) {
        // Mostly the same pages, or a tenth of others; now and then all others, more, or none.
        switch (random() % 16) {
            case 0:
                round = random();
                break;
            case 1:
                writes = 1 + random() % 1000;
                break;
            case 2:
                writes = 1;
                break;
            default:
                round += random() % 2;
                break;
        }
        run(round, writes);
        if (random() % 4 == 0) {
            const auto value = static_cast<std::byte>(random());
            host_writes(heap + random() % working_set, {&value, 1});
        }
        const RestoreReport report = must(snapshot.restore(AllVcpusStopped()));
        pages += report.pages;
        ASSERT_EQ(must(snapshot.verify(AllVcpusStopped())), "") << "restore " << i;
    }
    EXPECT_GT(pages, restores);
}

TEST_P(SnapshotTest, TheGuestDoesTheSameAgain) {
    Snapshot snapshot = take();
    std::vector<std::byte> after;
    for (int i = 0; i < 20; ++i) {
        run(3, 200);
        if (after.empty()) {
            after.assign(bytes().begin(), bytes().end());
        }
        ASSERT_TRUE(std::ranges::equal(after, bytes())) << i;
        must(snapshot.restore(AllVcpusStopped()));
    }
}

TEST_P(SnapshotTest, HostWritesAreRestoredToo) {
    Snapshot snapshot = take(false);
    for (int i = 0; i < 5; ++i) {
        std::vector<std::byte> noise(100'000, std::byte{0xa5});
        host_writes(heap + 12'345, noise);
        must(snapshot.restore(AllVcpusStopped()));
        expect_as_in(snapshot);
    }
}

TEST_P(SnapshotTest, RegistersAreRestoredByCallsAsByKvmRun) {
    Snapshot by_calls = take(false);
    const kvm::Vcpu& vcpu = guest->machine().vcpu(0);
    const kvm_regs before = must(vcpu.get_regs());
    kvm_regs other = before;
    other.r15 = ~other.r15;
    must(vcpu.set_regs(other));
    must(by_calls.restore(AllVcpusStopped()));
    EXPECT_EQ(must(vcpu.get_regs()).r15, before.r15);
    kvm_debugregs debug = must(vcpu.get_debugregs());
    debug.db[0] = 0x1234;
    must(vcpu.set_debugregs(debug));
    EXPECT_EQ(must(by_calls.verify(AllVcpusStopped())), "vCPU 0: debugregs");
    must(by_calls.restore(AllVcpusStopped()));
    expect_as_in(by_calls);
}

TEST_P(SnapshotTest, EitherOfTwoNestedSnapshotsComesBack) {
    Snapshot outer = take();
    run(1, 300);
    std::optional<Snapshot> inner = must(outer.take_nested(AllVcpusStopped()));
    for (std::uint64_t i = 0; i < 30; ++i) {
        run(i, 100 + i);
        Snapshot& back_to = i % 3 == 2 ? outer : *inner;
        must(back_to.restore(AllVcpusStopped()));
        ASSERT_EQ(must(back_to.verify(AllVcpusStopped())), "") << i;
    }
    EXPECT_NE(must(inner->verify(AllVcpusStopped())), "") << "they are different";
    inner.reset();
    run(50, 500);
    must(outer.restore(AllVcpusStopped()));
    expect_as_in(outer);
}

TEST_P(SnapshotTest, AnInnerSnapshotOutlivesTheOuterOne) {
    std::optional<Snapshot> outer = take();
    run(1, 300);
    Snapshot inner = must(outer->take_nested(AllVcpusStopped()));
    outer.reset();
    run(2, 300);
    must(inner.restore(AllVcpusStopped()));
    expect_as_in(inner);
}

TEST_P(SnapshotTest, AnotherConsumerLearnsOfThePagesThatAreRestored) {
    Snapshot snapshot = take();
    Consumer other = tracker->add_consumer();
    run(1, 100);
    {
        Epoch epoch = must(other.collect(AllVcpusStopped()));
        EXPECT_GE(epoch.pages().size(), 95U);
        epoch.commit();
    }
    must(snapshot.restore(AllVcpusStopped()));
    Epoch epoch = must(other.collect(AllVcpusStopped()));
    EXPECT_GE(epoch.pages().size(), 95U) << "restored pages have changed for it";
    epoch.commit();
}

TEST_P(SnapshotTest, AReplacementMayPutOtherContentOrLeaveAPage) {
    const std::vector<std::byte> breakpoints(page_size, std::byte{0xcc});
    const std::uint64_t replaced = machine::layout::physical(heap + 4 * page_size);
    const std::uint64_t left = machine::layout::physical(heap + 5 * page_size);
    SnapshotOptions options;
    options.hot_pages = GetParam().hot_pages;
    options.replace = [&](std::uint64_t address, const std::byte* content) {
        return address == replaced ? breakpoints.data() : address == left ? nullptr : content;
    };
    Snapshot snapshot =
        must(Snapshot::take(*tracker, parts(true), AllVcpusStopped(), std::move(options)));
    const std::vector<std::byte> noise(4 * page_size, std::byte{0x11});
    host_writes(heap + 3 * page_size, noise);
    must(snapshot.restore(AllVcpusStopped()));
    EXPECT_EQ(bytes()[heap + 3 * page_size], std::byte{0});
    EXPECT_EQ(bytes()[heap + 4 * page_size], std::byte{0xcc});
    EXPECT_EQ(bytes()[heap + 5 * page_size], std::byte{0x11});
    EXPECT_EQ(bytes()[heap + 6 * page_size], std::byte{0});
    expect_as_in(snapshot);
}

TEST_P(SnapshotTest, ACloneSharesTheMemoryAndIsResetByItself) {
    Snapshot snapshot = take();
    const kvm::Mapping shared = must(snapshot.map_memory());
    EXPECT_EQ(shared.bytes(), memory);
    ASSERT_EQ(std::memcmp(shared.address(), bytes().data(), memory), 0);

    machine::Config config = config_of(GetParam(), 1, memory);
    config.params = {{"working_set", std::to_string(working_set)}, {"writes", "50"}};
    const Bytes file = must(machine::read_file(guest_path("replay")));
    machine::RoundMachine twin = must(machine::RoundMachine::create(config, {"replay", file}));
    std::memcpy(twin.machine().bytes().data(), shared.address(), memory);
    Tracker twins = track(GetParam(), twin.machine());
    Snapshot clone = must(snapshot.clone_to(
        twins, {&twin.machine().vm(), {{&twin.machine().vcpu(0), &twin.run_area()}}},
        AllVcpusStopped()));
    EXPECT_EQ(must(clone.verify(AllVcpusStopped())), "");
    for (std::uint64_t i = 0; i < 5; ++i) {
        const guest::ReplayOrder order{i, 100};
        std::memcpy(twin.machine().bytes().data() + heap, &order, sizeof order);
        twins.mark(machine::layout::physical(heap), sizeof order);
        must(twin.run_round());
        must(twin.finish_exit());
        must(clone.restore(AllVcpusStopped()));
        EXPECT_EQ(must(clone.verify(AllVcpusStopped())), "");
    }
    run(9, 100);
    must(snapshot.restore(AllVcpusStopped()));
    expect_as_in(snapshot);
}

TEST_P(SnapshotTest, OtherMemorySlotsThanThenAreAnErrorAndNothingIsLost) {
    Snapshot snapshot = take();
    MemorySlot slot = tracker->memory().slots()[0];
    must(tracker->change_slots(AllVcpusStopped(), [&](MemoryMap& map) {
        return map.remove(slot.slot).and_then([&] {
            slot.size -= page_size;
            return map.add(slot);
        });
    }));
    const Result<RestoreReport> refused = snapshot.restore(AllVcpusStopped());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EINVAL);
    EXPECT_NE(refused.error().message().find("slots"), std::string::npos);
}

TEST_P(SnapshotTest, TheImageMayLieInAFileOfTheCallersAndHasHoles) {
    const int fd = ::memfd_create("the caller's", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    SnapshotOptions options;
    options.image = kvm::Fd::own(fd);
    std::uint64_t told = 0;
    options.progress = [&](std::uint64_t done, std::uint64_t total) {
        EXPECT_EQ(total, memory);
        told = done;
    };
    Snapshot snapshot =
        must(Snapshot::take(*tracker, parts(true), AllVcpusStopped(), std::move(options)));
    EXPECT_EQ(told, memory);
    struct stat about{};
    ASSERT_EQ(::fstat(fd, &about), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(about.st_size), memory);
    EXPECT_LT(static_cast<std::uint64_t>(about.st_blocks) * 512, memory / 2);
    run(1, 100);
    must(snapshot.restore(AllVcpusStopped()));
    expect_as_in(snapshot);
}

INSTANTIATE_TEST_SUITE_P(Ways, SnapshotTest, testing::ValuesIn(ways),
                         [](const auto& way) { return std::string(way.param.name); });

// Several vCPUs, stopped anywhere
// ------------------------------------------------------------------

class ManyVcpusSnapshotTest : public MachineTest, public testing::WithParamInterface<Way> {};

TEST_P(ManyVcpusSnapshotTest, IsExact) {
    for (const std::uint32_t vcpus : {1U, 2U, 4U}) {
        std::optional<Tracker> tracker;
        machine::Config config = config_of(GetParam(), vcpus, std::uint64_t{24} << 20);
        config.params = {{"working_set", "4M"}, {"pattern", "zipf"}};
        const std::unique_ptr<machine::Machine> machine =
            make("writer", config,
                 {.on_ring_full = [&](std::uint32_t vcpu) { return tracker->ring_full(vcpu); }});
        tracker.emplace(track(GetParam(), *machine));
        must(machine->start());
        GuestParts parts{&machine->vm(), {}};
        for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
            parts.vcpus.push_back({&machine->vcpu(vcpu), nullptr});
        }
        SnapshotOptions options;
        options.hot_pages = GetParam().hot_pages;
        const auto page_writes = [&] {
            std::uint64_t sum = 0;
            for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
                sum += machine->counters(vcpu).exits;
            }
            return sum;
        };
        machine->pause();
        std::optional<Snapshot> snapshot =
            must(Snapshot::take(*tracker, std::move(parts), AllVcpusStopped(), std::move(options)));
        const std::uint64_t restores = scaled(200) + 2;
        for (std::uint64_t i = 0; i < restores; ++i) {
            must(machine->resume());
            const std::uint64_t before = page_writes();
            while (page_writes() < before + 1 + i % 3) {
                machine->kick(static_cast<std::uint32_t>(i % vcpus));
            }
            machine->pause();
            must(snapshot->restore(AllVcpusStopped()));
            ASSERT_EQ(must(snapshot->verify(AllVcpusStopped())), "")
                << vcpus << " vCPUs, restore " << i;
        }
        must(machine->resume());
        machine->stop();
        for (const machine::End& end : machine->wait_done()) {
            EXPECT_TRUE(std::holds_alternative<machine::Stopped>(end))
                << machine::describe(0, end) << machine->console();
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Ways, ManyVcpusSnapshotTest, testing::ValuesIn(ways),
                         [](const auto& way) { return std::string(way.param.name); });

}  // namespace
}  // namespace dirtyring
