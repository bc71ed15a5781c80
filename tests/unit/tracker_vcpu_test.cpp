// SPDX-License-Identifier: MIT
//
// A tracker of vCPUs on the fake kernel: their rings, what is counted of each, what is allocated.
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "allocations.hpp"
#include "fake_kvm.hpp"
#include "must.hpp"
#include "plain_source.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {

static bool operator==(const VcpuCounts& a, const VcpuCounts& b) {
    return a.entries == b.entries && a.distinct == b.distinct && a.full_exits == b.full_exits &&
           a.overruns == b.overruns && a.lost == b.lost;
}

static std::ostream& operator<<(std::ostream& out, const VcpuCounts& counts) {
    return out << counts.entries << " entries, " << counts.distinct << " distinct, "
               << counts.full_exits << " full, " << counts.overruns << " overruns, " << counts.lost
               << " lost";
}

namespace {

using fake::collected;
using fake::PageList;
using fake::pages_of;
using fake::range;
using fake::TrackedVm;

const PageList nothing;
using Counts = std::vector<VcpuCounts>;

Counts counts_of(const Epoch& epoch) {
    return {epoch.vcpus().begin(), epoch.vcpus().end()};
}

fake::Config two_vcpus() {
    return {.vcpus = 2, .entries = 256, .slots = {{0, 1024}, {5, 1000}}};
}

class TrackerVcpus : public ::testing::Test {
  protected:
    TrackedVm vm_{two_vcpus()};
    Tracker& tracker_ = vm_.tracker;
    Consumer consumer_ = tracker_.add_consumer();
};

// Coming and going
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerVcpus, EachConsumerIsToldEachPageOnce) {
    Consumer other = tracker_.add_consumer();
    vm_.store(0, 0, 1);
    vm_.store(1, 5, 2);
    EXPECT_EQ(collected(consumer_), (PageList{{0, 1}, {5, 2}}));
    vm_.store(0, 0, 3);
    must(tracker_.drain());
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(collected(other), (PageList{{0, 1}, {0, 3}, {5, 2}}));
    EXPECT_EQ(collected(consumer_), (PageList{{0, 3}}));
    EXPECT_EQ(collected(other), nothing);
}

TEST_F(TrackerVcpus, RingFullLetsTheVcpuGoOn) {
    EXPECT_EQ(vm_.run(0, 0, 0, 1024), 5U);
    EXPECT_EQ(collected(consumer_), range(0, 0, 1024));
    EXPECT_EQ(tracker_.statistics().vcpus[0].full_exits, 5U);
}

TEST_F(TrackerVcpus, ARemovedVcpusLastPagesAreCollectedAndItsStatisticsStay) {
    vm_.store(1, 5, 2);
    must(tracker_.remove_vcpu(1, VcpuStopped()));
    EXPECT_EQ(tracker_.vcpus(), (std::vector<std::size_t>{0}));
    EXPECT_EQ(collected(consumer_), (PageList{{5, 2}}));
    vm_.store(0, 0, 1);
    EXPECT_EQ(collected(consumer_), (PageList{{0, 1}}));
    const Statistics statistics = tracker_.statistics();
    ASSERT_EQ(statistics.vcpus.size(), 2U);
    EXPECT_EQ(statistics.vcpus[1].entries, 1U);
    EXPECT_TRUE(statistics.vcpus[1].removed);
    EXPECT_FALSE(statistics.vcpus[0].removed);
    EXPECT_EQ(statistics.all.entries, 2U);
}

TEST_F(TrackerVcpus, ANumberIsUsedOnce) {
    must(tracker_.remove_vcpu(0, VcpuStopped()));
    fake::Kernel other({.entries = 256});
    EXPECT_EQ(must(tracker_.add_vcpu(must(Ring::over(other.ring(0))))), 2U);
    EXPECT_EQ(tracker_.vcpus(), (std::vector<std::size_t>{1, 2}));
    for (const std::size_t vcpu : {std::size_t{0}, std::size_t{3}, ~std::size_t{0}}) {
        const Result<void> removed = tracker_.remove_vcpu(vcpu, VcpuStopped());
        ASSERT_FALSE(removed);
        EXPECT_EQ(removed.error().code, ENOENT);
        EXPECT_EQ(removed.error().operation,
                  "Tracker::remove_vcpu(vCPU " + std::to_string(vcpu) + ")");
        const Result<void> full = tracker_.ring_full(vcpu);
        ASSERT_FALSE(full);
        EXPECT_EQ(full.error().code, ENOENT);
    }
}

TEST_F(TrackerVcpus, AVcpuStaysWhereItsRemovalFails) {
    vm_.store(1, 5, 2);
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    const Result<void> failed = tracker_.remove_vcpu(1, VcpuStopped());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EIO);
    EXPECT_EQ(tracker_.vcpus(), (std::vector<std::size_t>{0, 1}));
    vm_.store(1, 5, 3);
    EXPECT_EQ(collected(consumer_), (PageList{{5, 2}, {5, 3}}));
}

TEST_F(TrackerVcpus, AnAddedVcpusRingIsMappedFromItsDescriptor) {
    const kvm::Fd vcpu = make_vcpu_descriptor(256);
    EXPECT_EQ(must(tracker_.add_vcpu(vcpu)), 2U);
    EXPECT_EQ(vm_.faults.calls(faulty::Call::close), 0U);
    const Result<std::size_t> without = tracker_.add_vcpu(make_vcpu_descriptor(0));
    ASSERT_FALSE(without);
    EXPECT_EQ(without.error().code, ENXIO);
    EXPECT_EQ(without.error().operation, "Ring::adopt");
    EXPECT_EQ(tracker_.vcpus().size(), 3U);
}

TEST(TrackerOfRings, RingsThatTheSourceHasAlreadyAreVcpus) {
    faulty::Faults faults;
    fake::Kernel kernel(two_vcpus());
    kernel.answer(faults);
    auto source = std::make_unique<RingSource>(fake::Kernel::fd(), kernel.memory());
    source->add(must(Ring::over(kernel.ring(0))));
    Tracker tracker(std::move(source));
    EXPECT_EQ(tracker.vcpus(), (std::vector<std::size_t>{0}));
    EXPECT_EQ(must(tracker.add_vcpu(must(Ring::over(kernel.ring(1))))), 1U);
    Consumer consumer = tracker.add_consumer();
    ASSERT_TRUE(kernel.write(0, 5, 3));
    const Epoch epoch = must(consumer.collect());
    EXPECT_EQ(counts_of(epoch), (Counts{{.entries = 1, .distinct = 1}, {}}));
}

// Errors of the kernel
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerVcpus, AFailedResetLosesNothing) {
    Consumer other = tracker_.add_consumer();
    vm_.store(0, 0, 1);
    tracker_.mark(2 * page_size, 1);
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    const Result<Epoch> failed = consumer_.collect();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().operation, "KVM_RESET_DIRTY_RINGS");
    vm_.store(0, 0, 3);
    EXPECT_EQ(collected(other), range(0, 1, 3));
    EXPECT_EQ(collected(consumer_), range(0, 1, 3));
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(tracker_.statistics().collects, 2U);
}

TEST_F(TrackerVcpus, ALossIsEverythingForEveryConsumerOnce) {
    Consumer other = tracker_.add_consumer();
    vm_.kernel.set_look_every(~0U);
    for (std::uint64_t page = 0; page < 300; ++page) {
        vm_.store(0, 0, page);
    }
    vm_.kernel.set_look_every(1);
    Epoch epoch = must(consumer_.collect());
    EXPECT_TRUE(epoch.pages().everything());
    EXPECT_EQ(epoch.pages().size(), 2024U);
    EXPECT_EQ(epoch.vcpus()[0].overruns, 1U);
    epoch.commit();
    epoch = must(other.collect());
    EXPECT_TRUE(epoch.pages().everything());
    epoch.commit();
    epoch = must(consumer_.collect());
    EXPECT_FALSE(epoch.pages().everything());
    EXPECT_EQ(epoch.vcpus()[0].overruns, 0U) << "it was told of that";
    EXPECT_EQ(tracker_.statistics().everything, 1U);
    EXPECT_EQ(tracker_.statistics().all.overruns, 1U);
}

TEST_F(TrackerVcpus, SuspectsAreArmedByACollectWithAllVcpusStopped) {
    Consumer other = tracker_.add_consumer();
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    vm_.kernel.kill_after(1);
    EXPECT_EQ(must(other.collect()).pages().suspects(), 10U);
    EXPECT_EQ(collected(consumer_), range(0, 0, 10));
    EXPECT_EQ(tracker_.statistics().suspects, 10U);
    EXPECT_EQ(tracker_.statistics().short_resets, 1U);
    EXPECT_NE(vm_.unarmed(), nothing);
    {
        Epoch epoch = must(consumer_.collect(AllVcpusStopped()));
        EXPECT_EQ(pages_of(epoch), range(0, 0, 10));
        EXPECT_EQ(epoch.pages().suspects(), 10U);
        epoch.commit();
    }
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(tracker_.statistics().suspects, 0U);
    EXPECT_EQ(collected(consumer_), nothing);
    EXPECT_EQ(collected(other), range(0, 0, 10));  // those of before
    EXPECT_EQ(collected(other), nothing);
    // Also a single one.
    vm_.store(0, 0, 7);
    vm_.kernel.push(0, 0, 7);
    vm_.kernel.kill_after(1);
    EXPECT_EQ(must(consumer_.collect(AllVcpusStopped())).pages().suspects(), 1U);
    EXPECT_EQ(tracker_.statistics().suspects, 0U);
}

TEST_F(TrackerVcpus, WhereSuspectsCannotBeArmedNothingIsLost) {
    Consumer other = tracker_.add_consumer();
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    vm_.kernel.kill_after(1);
    vm_.faults.fail_next(faulty::Call::ioctl, ENOMEM, 2);  // a short reset, the rest, the arming
    const Result<Epoch> failed = consumer_.collect(AllVcpusStopped());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ENOMEM);
    EXPECT_EQ(failed.error().operation.find("KVM_SET_USER_MEMORY_REGION"), 0U);
    vm_.store(0, 0, 500);
    for (Consumer* consumer : {&consumer_, &other}) {
        const PageList pages = collected(*consumer);
        EXPECT_GE(pages.size(), 11U);
        EXPECT_NE(std::ranges::find(pages, fake::Page(0, 500)), pages.end());
        EXPECT_NE(std::ranges::find(pages, fake::Page(0, 0)), pages.end());
    }
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// What is counted
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerVcpus, AnEpochHasTheCountsOfEachVcpuSinceTheLast) {
    EXPECT_EQ(vm_.run(0, 0, 0, 200), 1U);  // full after 192
    vm_.store(1, 5, 1);
    vm_.kernel.push(1, 0, 0);  // two vCPUs that fault at once are both logged
    {
        Epoch epoch = must(consumer_.collect());
        EXPECT_EQ(counts_of(epoch), (Counts{{.entries = 200, .distinct = 200, .full_exits = 1},
                                            {.entries = 2, .distinct = 1}}));
        epoch.commit();
    }
    vm_.store(1, 5, 2);
    Epoch epoch = must(consumer_.collect());
    EXPECT_EQ(counts_of(epoch), (Counts{{}, {.entries = 1, .distinct = 1}}));
    epoch.commit();
    EXPECT_TRUE(epoch.vcpus().empty());
}

TEST_F(TrackerVcpus, EachConsumerIsToldTheCountsOnce) {
    vm_.store(0, 0, 1);
    EXPECT_EQ(counts_of(must(consumer_.collect()))[0].entries, 1U);
    Consumer late = tracker_.add_consumer();
    vm_.store(0, 0, 2);
    vm_.store(0, 0, 3);
    EXPECT_EQ(counts_of(must(late.collect()))[0].entries, 2U);
    vm_.store(0, 0, 4);
    EXPECT_EQ(counts_of(must(late.collect()))[0].entries, 3U);  // the first was dropped
}

TEST_F(TrackerVcpus, TheCountsOfAnAbortedEpochAreInTheNext) {
    std::vector<Epoch> open;
    for (std::uint64_t i = 0; i < 3; ++i) {
        for (std::uint64_t page = 0; page < 10; ++page) {
            vm_.store(0, 0, 10 * i + page);
        }
        open.push_back(must(consumer_.collect()));
        EXPECT_EQ(open.back().vcpus()[0].entries, 10U);
    }
    open[1].commit();
    open[0].abort();
    EXPECT_EQ(must(consumer_.collect()).vcpus()[0].entries, 10U);
    open[2].abort();
    Epoch epoch = must(consumer_.collect());
    EXPECT_EQ(counts_of(epoch), (Counts{{.entries = 20, .distinct = 20}, {}}));
    epoch.commit();
    EXPECT_EQ(must(consumer_.collect()).vcpus()[0].entries, 0U);
}

TEST_F(TrackerVcpus, AnEpochThatIsWrittenOverHasTheCountsOfTheNewOne) {
    vm_.store(0, 0, 1);
    Epoch epoch = must(consumer_.collect());
    vm_.store(1, 5, 1);
    vm_.store(1, 5, 2);
    epoch = must(consumer_.collect());
    EXPECT_EQ(counts_of(epoch), (Counts{{}, {.entries = 2, .distinct = 2}}));
    epoch.commit();
    EXPECT_EQ(counts_of(must(consumer_.collect())), (Counts{{.entries = 1, .distinct = 1}, {}}));
}

TEST_F(TrackerVcpus, AVcpuThatComesWhileAnEpochIsOpenIsCountedFromThenOn) {
    vm_.store(0, 0, 1);
    Epoch before = must(consumer_.collect());
    fake::Kernel other({.entries = 256, .slots = {{0, 1024}}});
    must(tracker_.add_vcpu(must(Ring::over(other.ring(0)))));
    ASSERT_TRUE(other.write(0, 0, 7));
    before.abort();
    Epoch epoch = must(consumer_.collect());
    ASSERT_EQ(epoch.vcpus().size(), 3U);
    EXPECT_EQ(epoch.vcpus()[0].entries, 1U);
    EXPECT_EQ(epoch.vcpus()[2].entries, 1U);
    EXPECT_EQ(before.vcpus().size(), 0U);
    epoch.commit();
    must(tracker_.remove_vcpu(0, VcpuStopped()));
    EXPECT_EQ(must(consumer_.collect()).vcpus().size(), 3U);  // by number
}

// The whole ring and up to its soft limit once more: the kernel is ahead at a place that nobody
// sees.
TEST_F(TrackerVcpus, LostEntriesAreCountedInTheEpochAndForTheVm) {
    vm_.kernel.set_look_every(~0U);
    for (std::uint64_t page = 0; page < 256 + 192; ++page) {
        vm_.store(0, 0, page);
    }
    vm_.kernel.set_look_every(1);
    vm_.run(0, 0, 1000, 1);
    Epoch epoch = must(consumer_.collect());
    EXPECT_EQ(epoch.vcpus()[0].lost, 192U);
    epoch.commit();
    EXPECT_EQ(must(consumer_.collect()).vcpus()[0].lost, 0U);
    const Statistics statistics = tracker_.statistics();
    EXPECT_EQ(statistics.vcpus[0].lost, 192U);
    EXPECT_EQ(statistics.all.lost, 192U);
}

TEST_F(TrackerVcpus, StatisticsAddUp) {
    EXPECT_EQ(vm_.run(0, 0, 0, 200), 1U);
    vm_.store(1, 5, 1);
    vm_.kernel.push(1, 5, 1);
    vm_.kernel.push(1, 9, 0);  // no such slot
    tracker_.mark(~std::uint64_t{0}, 1);
    must(consumer_.collect()).commit();
    must(consumer_.collect()).abort();
    {
        const Epoch dropped = must(consumer_.collect());
    }
    tracker_.note_stopped(1, 5'000'000);
    tracker_.note_stopped(2, 1);  // there is none
    tracker_.note_stopped(7, 1);

    const Statistics statistics = tracker_.statistics();
    EXPECT_EQ(statistics.collects, 3U);
    EXPECT_EQ(statistics.committed, 1U);
    EXPECT_EQ(statistics.aborted, 2U);
    EXPECT_EQ(statistics.everything, 0U);
    EXPECT_EQ(statistics.stale, 1U);
    EXPECT_EQ(statistics.marks_outside, 1U);
    ASSERT_EQ(statistics.vcpus.size(), 2U);
    EXPECT_EQ(statistics.vcpus[0].entries, 200U);
    EXPECT_EQ(statistics.vcpus[0].full_exits, 1U);
    EXPECT_EQ(statistics.vcpus[0].largest_fill, 192U);
    EXPECT_GT(statistics.vcpus[0].stopped_nanoseconds, 0U);
    EXPECT_EQ(statistics.vcpus[1].entries, 3U);
    EXPECT_EQ(statistics.vcpus[1].largest_fill, 3U);
    EXPECT_EQ(statistics.vcpus[1].stopped_nanoseconds, 5'000'000U);
    EXPECT_EQ(statistics.all.entries, 203U);
    EXPECT_EQ(statistics.all.duplicates, 2U);
    EXPECT_EQ(statistics.all.full_exits, 1U);
    EXPECT_EQ(statistics.all.largest_fill, 192U);
    EXPECT_EQ(statistics.all.stopped_nanoseconds,
              statistics.vcpus[0].stopped_nanoseconds + 5'000'000);
    EXPECT_DOUBLE_EQ(statistics.all.pages_per_second,
                     203 / (static_cast<double>(statistics.nanoseconds) / 1e9));
    EXPECT_GT(statistics.vcpus[0].recent_pages_per_second, 0);
    EXPECT_GT(statistics.vcpus[1].recent_pages_per_second, 0);
    EXPECT_DOUBLE_EQ(
        statistics.all.recent_pages_per_second,
        statistics.vcpus[0].recent_pages_per_second + statistics.vcpus[1].recent_pages_per_second);
    EXPECT_GT(statistics.vcpus[0].recent_bytes_per_second(),
              statistics.vcpus[0].recent_pages_per_second);
    EXPECT_EQ(statistics.collect.count(), 3U);
    EXPECT_EQ(statistics.harvest.count(), 4U);  // ring_full, and each collect
    EXPECT_EQ(statistics.reset.count(), 4U);
}

TEST_F(TrackerVcpus, ARemovedVcpuDirtiesNothingLately) {
    vm_.store(1, 5, 1);
    must(consumer_.collect()).commit();
    EXPECT_GT(tracker_.statistics().vcpus[1].recent_pages_per_second, 0);
    must(tracker_.remove_vcpu(1, VcpuStopped()));
    const Statistics statistics = tracker_.statistics();
    EXPECT_EQ(statistics.vcpus[1].recent_pages_per_second, 0);
    EXPECT_GT(statistics.vcpus[1].pages_per_second, 0);
    EXPECT_EQ(statistics.all.recent_pages_per_second, statistics.vcpus[0].recent_pages_per_second);
}

// Without rings
// ---------------------------------------------------------------------------------------------

TEST(TrackerWithBitmap, WhatTakesRingsSaysThatThereAreNone) {
    TrackedVm vm({.log = fake::Log::bitmap, .slots = {{0, 1024}}});
    fake::Kernel other({.entries = 256});
    const Result<std::size_t> added = vm.tracker.add_vcpu(must(Ring::over(other.ring(0))));
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().code, EINVAL);
    EXPECT_EQ(added.error().operation, "Tracker::add_vcpu");
    EXPECT_NE(added.error().message().find("reads no rings"), std::string::npos);
    const Result<void> full = vm.tracker.ring_full(0);
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code, EINVAL);
    EXPECT_EQ(full.error().operation, "Tracker::ring_full");
    EXPECT_TRUE(vm.tracker.drain());
    EXPECT_EQ(vm.tracker.source().rings(), nullptr);
}

TEST(TrackerWithBitmap, VcpusAreNumberedAndCountNothing) {
    TrackedVm vm({.log = fake::Log::bitmap, .slots = {{0, 1024}}});
    Consumer consumer = vm.tracker.add_consumer();
    EXPECT_EQ(must(vm.tracker.add_vcpu(fake::Kernel::fd())), 0U);
    EXPECT_EQ(must(vm.tracker.add_vcpu(fake::Kernel::fd())), 1U);
    must(vm.tracker.remove_vcpu(0, VcpuStopped()));
    EXPECT_EQ(vm.tracker.vcpus(), (std::vector<std::size_t>{1}));
    EXPECT_FALSE(vm.tracker.remove_vcpu(0, VcpuStopped()));
    for (std::uint64_t page = 0; page < 40; ++page) {
        vm.store(0, 0, page);
    }
    for (int round = 0; round < 2; ++round) {
        Epoch epoch = must(consumer.collect());
        EXPECT_EQ(pages_of(epoch), range(0, 0, 40));
        EXPECT_EQ(counts_of(epoch), (Counts{{}, {}}));
    }
    const Statistics statistics = vm.tracker.statistics();
    EXPECT_EQ(statistics.all.entries, 0U);
    // The pages of an epoch that comes again were dirtied once.
    EXPECT_DOUBLE_EQ(statistics.all.pages_per_second,
                     40 / (static_cast<double>(statistics.nanoseconds) / 1e9));
    EXPECT_GT(statistics.all.recent_pages_per_second, 0);
    EXPECT_EQ(statistics.collect.count(), 2U);
    EXPECT_EQ(statistics.harvest.count(), 0U);
}

// Allocation
// ---------------------------------------------------------------------------------------------

struct Warm {
    fake::Log log;
    int consumers;
};

class TrackerAllocation : public ::testing::TestWithParam<Warm> {};

TEST_P(TrackerAllocation, AWarmCollectAllocatesNothing) {
    TrackedVm vm(
        {.vcpus = 2, .entries = 256, .log = GetParam().log, .slots = {{0, 1024}, {5, 1000}}});
    std::vector<Consumer> consumers;
    for (int i = 0; i < GetParam().consumers; ++i) {
        consumers.push_back(vm.tracker.add_consumer());
    }
    std::uint64_t cold = 0;
    for (std::uint64_t round = 0; round < 8; ++round) {
        for (Consumer& consumer : consumers) {
            for (std::uint64_t page = 0; page < 50; ++page) {
                vm.store(0, 0, page * (round + 1));
                vm.store(1, 5, page + round);
            }
            vm.tracker.mark(round * page_size, 3 * page_size);
            const std::uint64_t before = allocations();
            {
                Result<Epoch> epoch = consumer.collect();
                Result<Epoch> second = consumer.collect();
                EXPECT_TRUE(epoch && second);
                if (round % 3 == 0) {
                    epoch->commit();
                }
                second->commit();
            }
            const std::uint64_t made = allocations() - before;
            if (round == 0) {
                cold += made;
            } else {
                EXPECT_EQ(made, 0U) << "round " << round;
            }
        }
    }
    EXPECT_GT(cold, 0U);
}

INSTANTIATE_TEST_SUITE_P(With, TrackerAllocation,
                         ::testing::Values(Warm{fake::Log::rings, 1}, Warm{fake::Log::rings, 3},
                                           Warm{fake::Log::bitmap, 1}, Warm{fake::Log::bitmap, 3},
                                           Warm{fake::Log::manual_bitmap, 1},
                                           Warm{fake::Log::manual_bitmap, 3}),
                         [](const auto& warm) {
                             const fake::Log log = warm.param.log;
                             return (log == fake::Log::rings    ? std::string("Rings")
                                     : log == fake::Log::bitmap ? std::string("Bitmap")
                                                                : std::string("ManualBitmap")) +
                                    std::to_string(warm.param.consumers);
                         });

}  // namespace
}  // namespace dirtyring
