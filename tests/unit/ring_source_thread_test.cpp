// SPDX-License-Identifier: MIT
//
// RingSource with vCPUs that run: for TSan as much as for the assertions. Each producer is a vCPU's
// thread, which stores, and calls ring_full when its ring is full, while others drain and collect.
// The collecting thread keeps a copy of memory by copying the pages that it is given. Once all are
// still and a last collect is made, the copy must be what the guest has written.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "dirtyring/source/ring_source.hpp"
#include "fake_kernel.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

constexpr std::uint32_t producers = 2;
// Slot 0: each page is one producer's, who counts its generations. Slot 1: written by both.
constexpr std::uint64_t own_pages = 1000;
constexpr std::uint64_t shared_pages = 300;

struct Setup {
    std::string name;
    std::uint32_t entries;
    std::uint32_t reserved;
    std::uint32_t look_every = 1;
    bool drained = true;           // by a thread of its own
    bool collected = true;         // the same; otherwise at the quiet points only
    bool reset_by_others = false;  // another thread calls KVM_RESET_DIRTY_RINGS as well
};

class RingSourceThreads : public ::testing::TestWithParam<Setup> {
  protected:
    RingSourceThreads()
        : kernel_({.vcpus = producers,
                   .entries = GetParam().entries,
                   .reserved = GetParam().reserved,
                   .look_every = GetParam().look_every,
                   .slots = {{0, own_pages}, {1, shared_pages}}}),
          source_(fake::Kernel::fd(), kernel_.memory()) {
        kernel_.answer(faults_);
        for (std::uint32_t vcpu = 0; vcpu < producers; ++vcpu) {
            source_.add(must(Ring::over(kernel_.ring(vcpu))));
        }
    }

    /// The vCPU's thread.
    void produce(std::uint32_t vcpu, std::uint64_t seed, std::uint64_t stores) {
        std::uint64_t random = seed;
        for (std::uint64_t i = 0; i < stores; ++i) {
            random = random * 6364136223846793005U + 1442695040888963407U;
            const std::uint64_t at = random >> 33;
            if (at % 4 == 0) {
                run_to(vcpu, 1, at / 4 % shared_pages, random);
            } else {
                const std::uint64_t page = at % (own_pages / producers) * producers + vcpu;
                run_to(vcpu, 0, page, ++generations_[page]);
            }
        }
    }

    void drain() { check(source_.drain()); }

    void collect() {
        Result<Pages> pages = source_.collect(std::move(storage_));
        if (!pages) {
            ADD_FAILURE() << pages.error().message();
            return;
        }
        everything_ += pages->everything() ? 1U : 0U;
        pages->for_each_run([this](const PageRun& run) {
            std::vector<std::uint64_t>& copy = run.slot->slot == 0 ? copy_ : shared_copy_;
            for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
                const std::uint64_t now = kernel_.read(run.slot->slot, page);
                if (run.slot->slot == 0 && now < copy[page]) {
                    ADD_FAILURE() << "page " << page << " went back in time";
                }
                copy[page] = now;
            }
        });
        storage_ = std::move(*pages).recycle();
    }

    /// All threads at once, until the producers have made their stores.
    void round(std::uint64_t seed, std::uint64_t stores) {
        std::atomic<bool> over = false;
        const auto until_over = [&over](auto call) {
            return [&over, call] {
                while (!over) {
                    call();
                    std::this_thread::yield();
                }
            };
        };
        std::vector<std::thread> others;
        if (GetParam().drained) {
            others.emplace_back(until_over([this] { drain(); }));
        }
        if (GetParam().collected) {
            others.emplace_back(until_over([this] { collect(); }));
        }
        if (GetParam().reset_by_others) {
            others.emplace_back(until_over(
                [] { check(ResetHandle(fake::Kernel::fd()).reset_once().map([](auto) {})); }));
        }
        std::vector<std::thread> vcpus;
        for (std::uint32_t vcpu = 0; vcpu < producers; ++vcpu) {
            vcpus.emplace_back([=, this] { produce(vcpu, seed + vcpu, stores); });
        }
        for (std::thread& vcpu : vcpus) {
            vcpu.join();
        }
        over = true;
        for (std::thread& other : others) {
            other.join();
        }
    }

    /// With nobody running.
    void expect_copy_is_memory() {
        collect();
        EXPECT_EQ(copy_, generations_);
        for (std::uint64_t page = 0; page < shared_pages; ++page) {
            EXPECT_EQ(shared_copy_[page], kernel_.read(1, page)) << "shared page " << page;
        }
        for (const MemorySlot& slot : kernel_.memory().slots()) {
            for (std::uint64_t page = 0; page < slot.pages(); ++page) {
                EXPECT_TRUE(kernel_.armed(slot.slot, page))
                    << "slot " << slot.slot << ", page " << page;
            }
        }
    }

    faulty::Faults faults_;
    fake::Kernel kernel_;
    RingSource source_;
    std::uint64_t everything_ = 0;

  private:
    static void check(const Result<void>& result) {
        if (!result) {
            ADD_FAILURE() << result.error().message();
        }
    }

    void run_to(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page, std::uint64_t value) {
        for (int exits = 0; !kernel_.write(vcpu, slot, page, value); ++exits) {
            if (exits == most_exits) {
                ADD_FAILURE() << "vCPU " << vcpu << " does not run on";
                return;
            }
            check(source_.ring_full(vcpu));
        }
    }

    static constexpr int most_exits = 50;

    DirtySet storage_;
    std::vector<std::uint64_t> generations_ = std::vector<std::uint64_t>(own_pages);
    std::vector<std::uint64_t> copy_ = std::vector<std::uint64_t>(own_pages);
    std::vector<std::uint64_t> shared_copy_ = std::vector<std::uint64_t>(shared_pages);
};

TEST_P(RingSourceThreads, NoWriteIsMissed) {
    for (std::uint64_t quiet = 0; quiet < 10 && !HasFailure(); ++quiet) {
        SCOPED_TRACE("quiet point " + std::to_string(quiet));
        round(1 + quiet * producers, 3000);
        expect_copy_is_memory();
    }
    const RingStatistics first = source_.statistics(0);
    const RingStatistics second = source_.statistics(1);
    EXPECT_EQ(source_.statistics().everything, everything_);
    EXPECT_EQ(source_.statistics().stale, 0U);
    if (GetParam().look_every <= GetParam().reserved && !GetParam().reset_by_others) {
        // "Everything" would hide whatever was missed.
        EXPECT_EQ(everything_, 0U);
        EXPECT_EQ(first.overruns + second.overruns, 0U);
        EXPECT_EQ(first.entries + second.entries, kernel_.entries_reset());
    }
    if (!GetParam().drained && !GetParam().collected) {
        EXPECT_GT(first.full_exits, 0U);
        EXPECT_GT(second.full_exits, 0U);
    }
}

INSTANTIATE_TEST_SUITE_P(
    With, RingSourceThreads,
    ::testing::Values(
        Setup{.name = "RingsOf128", .entries = 128, .reserved = 64},
        Setup{.name = "RingsOf256", .entries = 256, .reserved = 64},
        Setup{.name = "RingsOf1024AndPml", .entries = 1024, .reserved = 64 + 512},
        Setup{.name = "RingsOf256AndALazyKernelThatKeepsItsLimit",
              .entries = 256,
              .reserved = 64,
              .look_every = 64},
        Setup{.name = "RingsThatOnlyFullExitsHarvest",
              .entries = 128,
              .reserved = 64,
              .drained = false,
              .collected = false},
        Setup{.name = "RingsThatNobodyDrains", .entries = 128, .reserved = 64, .drained = false},
        Setup{.name = "RingsThatOverrun", .entries = 128, .reserved = 64, .look_every = 400},
        Setup{.name = "RingsThatOverrunAndOnlyFullExitsHarvest",
              .entries = 128,
              .reserved = 64,
              .look_every = 300,
              .drained = false,
              .collected = false},
        Setup{.name = "RingsThatOthersResetToo",
              .entries = 256,
              .reserved = 64,
              .reset_by_others = true}),
    [](const auto& setup) { return setup.param.name; });

// Without a RingSource, whose mutex would keep them apart: two vCPUs log while what one thread has
// taken from both rings is reset, again and again.
TEST(HarvestThreads, WhatIsWrittenDuringTheResetIsOfTheNextHarvest) {
    constexpr std::uint64_t pages = 400;
    constexpr std::uint64_t stores = 20'000;
    fake::Kernel kernel({.vcpus = 2, .entries = 256, .slots = {{0, pages}}});
    faulty::Faults faults;
    kernel.answer(faults);
    std::vector<Ring> rings;
    rings.push_back(must(Ring::over(kernel.ring(0))));
    rings.push_back(must(Ring::over(kernel.ring(1))));
    ResetHandle handle(fake::Kernel::fd());

    std::vector<std::uint64_t> generations(pages);
    std::atomic<int> running = 2;
    const auto produce = [&](std::uint32_t vcpu) {
        for (std::uint64_t i = 0; i < stores; ++i) {
            const std::uint64_t page = i * 7 % (pages / 2) * 2 + vcpu;
            ++generations[page];
            while (!kernel.write(vcpu, 0, page, generations[page])) {
                std::this_thread::yield();  // the harvesting thread makes room
            }
        }
        --running;
    };
    std::thread first(produce, 0);
    std::thread second(produce, 1);

    std::vector<std::uint64_t> copy(pages);
    DirtySet storage(kernel.memory());
    bool last = false;
    std::uint64_t suspect = 0;
    while (!last) {
        last = running == 0;  // and then harvest once more
        Harvest harvest(std::move(storage));
        for (Ring& ring : rings) {
            suspect += harvest.take(ring) == ring.size() ? 1U : 0U;
        }
        ResetReport report;
        Pages reset = must(handle.reset(std::move(harvest), &report));
        suspect += report.suspect() ? 1U : 0U;
        reset.for_each_run([&](const PageRun& run) {
            for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
                copy[page] = kernel.read(0, page);
            }
        });
        storage = std::move(reset).recycle();
    }
    first.join();
    second.join();
    EXPECT_EQ(copy, generations);
    EXPECT_EQ(suspect, 0U);
}

}  // namespace
}  // namespace dirtyring
