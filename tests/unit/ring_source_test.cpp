// SPDX-License-Identifier: MIT
#include "dirtyring/source/ring_source.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>

#include "allocations.hpp"
#include "ring_vm.hpp"

namespace dirtyring {
namespace {

using fake::Collected;
using fake::PageList;
using fake::range;
using fake::RingVm;

const PageList nothing;

// Two vCPUs, two slots, one of them in the second address space and not a multiple of 64 pages.
constexpr std::uint32_t high = 1U << 16 | 3U;

fake::Config two_of_each() {
    return {.vcpus = 2, .entries = 256, .slots = {{0, 1024}, {high, 1000}}};
}

class RingSourceTest : public ::testing::Test {
  protected:
    RingVm vm_{two_of_each()};
    RingSource& source_ = vm_.source;
    fake::Kernel& kernel_ = vm_.kernel;
};

// What is collected
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceTest, RingsAreNumberedInTheOrderOfTheirAddition) {
    EXPECT_EQ(source_.size(), 2U);
    fake::Kernel other({.entries = 256});
    EXPECT_EQ(source_.add(must(Ring::over(other.ring(0)))), 2U);
    EXPECT_EQ(source_.size(), 3U);
}

TEST_F(RingSourceTest, NothingWrittenIsNothingCollected) {
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, nothing);
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(kernel_.resets(), 0U);  // nor is the kernel troubled
}

TEST_F(RingSourceTest, CollectGivesExactlyTheWrittenPagesOfAllRingsAndSlots) {
    vm_.store(0, 0, 700);
    vm_.store(0, high, 999);
    vm_.store(1, high, 0);
    vm_.store(1, 0, 1023);
    vm_.store(0, 0, 0);
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, (PageList{{0, 0}, {0, 700}, {0, 1023}, {high, 0}, {high, 999}}));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(vm_.collect().pages, nothing);
}

TEST_F(RingSourceTest, FillIsThatOfTheFullestRing) {
    EXPECT_EQ(source_.fill(), 0U);
    vm_.run(0, 0, 0, 7);
    EXPECT_EQ(source_.fill(), 7U);
    vm_.run(1, high, 0, 5);
    EXPECT_EQ(source_.fill(), 7U);
    vm_.run(1, high, 100, 5);
    EXPECT_EQ(source_.fill(), 10U);
    ASSERT_TRUE(source_.drain());
    EXPECT_EQ(source_.fill(), 0U);
}

TEST_F(RingSourceTest, CollectedPagesAreArmedAgain) {
    vm_.store(0, 0, 5);
    vm_.store(1, high, 5);
    vm_.collect();
    EXPECT_EQ(vm_.unarmed(), nothing);
    vm_.store(1, 0, 5);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}}));
}

TEST_F(RingSourceTest, APageOnTwoRingsComesOnce) {
    // Two vCPUs that fault on one page at the same time are both logged.
    kernel_.push(0, 0, 5);
    kernel_.push(1, 0, 5);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}}));
    EXPECT_EQ(source_.statistics(0).fresh, 1U);
    EXPECT_EQ(source_.statistics(1).fresh, 0U);
}

TEST_F(RingSourceTest, DrainKeepsPagesForTheNextCollect) {
    vm_.store(0, 0, 5);
    vm_.store(1, high, 6);
    ASSERT_TRUE(source_.drain());
    EXPECT_EQ(vm_.unarmed(), nothing);
    vm_.store(0, 0, 5);
    vm_.store(0, 0, 7);
    ASSERT_TRUE(source_.drain());
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {0, 7}, {high, 6}}));
    EXPECT_EQ(vm_.collect().pages, nothing);
}

TEST_F(RingSourceTest, WritesDuringTheResetAreOfTheNextCollect) {
    vm_.store(0, 0, 5);
    vm_.store(0, 0, 600);
    kernel_.during_reset(1, [this] {
        vm_.store(1, 0, 900);
        vm_.store(0, 0, 600);  // not yet armed: the collect under way has it, with this content
    });
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {0, 600}}));
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 900}}));
    EXPECT_EQ(vm_.lost(), nothing);
}

TEST_F(RingSourceTest, TheStorageMayBeOfAnyOtherMemory) {
    const fake::Kernel other({.slots = {{7, 10}}});
    DirtySet storage(other.memory());
    storage.insert_all();
    vm_.store(0, 0, 5);
    ASSERT_TRUE(source_.collect(std::move(storage)));
    // That storage is what the source gathers in now.
    vm_.store(0, high, 999);
    EXPECT_EQ(vm_.collect().pages, (PageList{{high, 999}}));
}

TEST_F(RingSourceTest, PagesLeftInTheStorageAreNotCollected) {
    DirtySet storage(kernel_.memory());
    storage.insert_all();
    ASSERT_TRUE(source_.collect(std::move(storage)));
    vm_.store(0, 0, 5);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}}));
}

TEST_F(RingSourceTest, TheDescriptorIsBorrowed) {
    {
        const RingSource other(fake::Kernel::fd(), kernel_.memory());
    }
    EXPECT_EQ(vm_.faults.calls(faulty::Call::close), 0U);
}

// Full rings
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceTest, RingFullLetsTheVcpuGoOnAndKeepsThePages) {
    ASSERT_EQ(vm_.store_until_full(0, 0, 0, 1024), 192U);
    ASSERT_FALSE(kernel_.may_run(0));
    ASSERT_TRUE(source_.ring_full(0));
    EXPECT_TRUE(kernel_.may_run(0));
    vm_.store(0, 0, 192);
    EXPECT_EQ(vm_.collect().pages, range(0, 0, 193));
    EXPECT_EQ(source_.statistics(0).full_exits, 1U);
    EXPECT_EQ(source_.statistics(0).overruns, 0U);
}

TEST_F(RingSourceTest, AGuestThatFillsItsRingManyTimesIsTrackedExactly) {
    const std::uint32_t exits = vm_.run(0, 0, 0, 1024);
    EXPECT_EQ(exits, 5U);  // after each 192 pages
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, range(0, 0, 1024));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// RING_FULL comes back once more where another thread has just made room.
TEST_F(RingSourceTest, AnEmptyFullRingIsNotAnOverrunTheFirstTime) {
    ASSERT_EQ(vm_.store_until_full(0, 0, 0, 1024), 192U);
    ASSERT_TRUE(source_.drain());
    ASSERT_TRUE(source_.ring_full(0));
    ASSERT_EQ(vm_.store_until_full(0, 0, 192, 800), 192U);
    ASSERT_TRUE(source_.drain());
    ASSERT_TRUE(source_.ring_full(0));
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, range(0, 0, 384));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(source_.statistics(0).overruns, 0U);
}

TEST_F(RingSourceTest, RingFullHarvestsTheOtherRingsToo) {
    ASSERT_EQ(vm_.store_until_full(0, 0, 0, 1024), 192U);
    ASSERT_EQ(vm_.store_until_full(1, high, 0, 1000), 192U);
    ASSERT_TRUE(source_.ring_full(0));
    EXPECT_TRUE(kernel_.may_run(1));
    EXPECT_EQ(source_.statistics(1).entries, 192U);
    EXPECT_EQ(source_.statistics(1).full_exits, 0U);
}

// Its number is another vCPU's: what is harvested is not what the vCPU waits for.
TEST_F(RingSourceTest, AFullRingThatIsNotThisVcpusIsNotRecoverable) {
    fake::Kernel other({.entries = 256});
    const std::size_t foreign = source_.add(must(Ring::over(other.ring(0))));
    ASSERT_TRUE(source_.ring_full(foreign));
    const Result<void> second = source_.ring_full(foreign);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ENOTRECOVERABLE);
    EXPECT_NE(second.error().message().find("takes nothing from it"), std::string::npos);
    EXPECT_NE(second.error().remedy.find("this vCPU's ring"), std::string::npos);
    EXPECT_EQ(source_.statistics(foreign).lost, 0U);
    // The rings of the VM go on. What has been released on that one is never taken, and so may be
    // pages that are not armed.
    vm_.store(0, 0, 5);
    EXPECT_TRUE(vm_.collect().everything);
    EXPECT_EQ(vm_.lost(), nothing);
}

// Failed and short resets
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceTest, AFailedResetKeepsThePagesForTheNextCollect) {
    vm_.store(0, 0, 5);
    vm_.store(1, high, 6);
    vm_.faults.fail_next(faulty::Call::ioctl, EBADF);
    const Result<Pages> failed = source_.collect({});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EBADF);
    EXPECT_EQ(failed.error().operation, "KVM_RESET_DIRTY_RINGS");
    vm_.store(0, 0, 7);
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, (PageList{{0, 5}, {0, 7}, {high, 6}}));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(source_.statistics().collects, 1U);
}

TEST_F(RingSourceTest, AFailedDrainKeepsThePagesForTheNextCollect) {
    vm_.store(0, 0, 5);
    vm_.faults.fail_next(faulty::Call::ioctl, EBADF);
    ASSERT_FALSE(source_.drain());
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}}));
    EXPECT_EQ(vm_.unarmed(), nothing);
}

TEST_F(RingSourceTest, AFailedRingFullMayBeTriedAgain) {
    ASSERT_EQ(vm_.store_until_full(0, 0, 0, 1024), 192U);
    vm_.faults.fail_next(faulty::Call::ioctl, EBADF);
    ASSERT_FALSE(source_.ring_full(0));
    EXPECT_FALSE(kernel_.may_run(0));
    ASSERT_TRUE(source_.ring_full(0));
    EXPECT_TRUE(kernel_.may_run(0));
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, range(0, 0, 192));
    EXPECT_FALSE(collected.everything);
}

// Which of them the kernel forgot to arm it does not say.
TEST_F(RingSourceTest, AShortResetMakesItsPagesSuspectsUntilTheyAreArmedAgain) {
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
        vm_.store(1, high, page);
    }
    kernel_.kill_after(5);
    const Collected collected = vm_.collect();
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(collected.pages.size(), 20U);
    EXPECT_NE(vm_.unarmed(), nothing);
    EXPECT_EQ(source_.statistics().short_resets, 1U);
    EXPECT_EQ(source_.statistics().suspects, 20U);
    EXPECT_EQ(source_.statistics(0).overruns, 0U);

    // Not armed, so not logged, and reported all the same.
    vm_.store(0, 0, 2);
    vm_.store(0, 0, 100);
    PageList with_suspects = collected.pages;
    with_suspects.insert(with_suspects.begin() + 10, {0, 100});
    EXPECT_EQ(vm_.collect().pages, with_suspects);
    EXPECT_EQ(vm_.lost(), nothing);

    ASSERT_TRUE(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(source_.statistics().suspects, 0U);
    EXPECT_EQ(kernel_.regions_set(), 4U);  // off and on, for each slot
    vm_.store(0, 0, 2);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 2}}));
}

TEST_F(RingSourceTest, OnlySlotsWithSuspectsAreArmedAgain) {
    vm_.store(0, high, 1);
    vm_.store(0, high, 2);
    kernel_.kill_after(1);
    vm_.collect();
    ASSERT_TRUE(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(kernel_.regions_set(), 2U);
    ASSERT_TRUE(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(kernel_.regions_set(), 2U);
}

TEST_F(RingSourceTest, ALossArmsSuspectsAsWell) {
    vm_.store(0, 0, 1);
    vm_.store(0, 0, 2);
    kernel_.kill_after(1);
    vm_.collect();
    vm_.store(0, 0, 3);
    kernel_.kill_after(0);
    EXPECT_TRUE(vm_.collect().everything);
    EXPECT_EQ(source_.statistics().suspects, 0U);
    EXPECT_EQ(vm_.unarmed(), nothing);
    vm_.store(0, 0, 4);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 4}}));
}

TEST_F(RingSourceTest, AShortResetOfADrainIsReportedByTheNextCollect) {
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    kernel_.kill_after(5);
    ASSERT_TRUE(source_.drain());
    EXPECT_NE(vm_.unarmed(), nothing);
    vm_.store(0, 0, 2);
    EXPECT_EQ(vm_.collect().pages, range(0, 0, 10));
    EXPECT_EQ(vm_.collect().pages, range(0, 0, 10));
}

TEST_F(RingSourceTest, AResetThatTookNothingIsMadeUpForByTheNext) {
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    kernel_.kill_after(0);
    EXPECT_TRUE(vm_.collect().everything);
    EXPECT_EQ(vm_.unarmed(), nothing);
    vm_.store(0, 0, 50);
    const Collected next = vm_.collect();
    EXPECT_EQ(next.pages, (PageList{{0, 50}}));
    EXPECT_FALSE(next.everything);
    EXPECT_EQ(kernel_.entries_reset(), 11U);
}

TEST_F(RingSourceTest, ASignalThatCanBeBlockedCostsNothing) {
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    kernel_.signal_after(5);
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, range(0, 0, 10));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(source_.statistics().short_resets, 0U);
}

// The slot at hand is left without logging: what is written then is known to nobody.
TEST(RingSourceRearming, ARearmingThatFailsHalfWayIsDoneAgainByTheNextCollect) {
    // One KVM_RESET_DIRTY_RINGS and 4 changes of slots.
    for (unsigned nth = 1; nth < 5; ++nth) {
        SCOPED_TRACE(nth);
        RingVm vm(two_of_each());
        vm.store(0, 0, 5);
        vm.store(0, high, 6);
        vm.kernel.kill_after(0);
        vm.faults.fail_next(faulty::Call::ioctl, ENOMEM, nth);
        const Result<Pages> failed = vm.source.collect({});
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, ENOMEM);
        EXPECT_EQ(failed.error().operation.find("KVM_SET_USER_MEMORY_REGION"), 0U)
            << failed.error().operation;
        vm.store(0, 0, 7);
        vm.store(0, high, 8);
        EXPECT_TRUE(vm.collect().everything);
        EXPECT_EQ(vm.lost(), nothing);
        EXPECT_EQ(vm.unarmed(), nothing);
        EXPECT_EQ(vm.source.statistics().everything, 1U);
        vm.store(0, high, 9);
        EXPECT_EQ(vm.collect().pages, (PageList{{high, 9}}));
    }
}

TEST_F(RingSourceTest, WritesDuringTheRearmingAreNotLost) {
    vm_.store(0, 0, 5);
    vm_.store(0, 0, 6);
    kernel_.kill_after(0);
    std::uint64_t page = 100;
    kernel_.around_set_region([&] {
        vm_.store(1, 0, page);
        vm_.store(1, high, page);
        ++page;
    });
    EXPECT_TRUE(vm_.collect().everything);
    kernel_.around_set_region(nullptr);
    vm_.collect();
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// Somebody else's KVM_RESET_DIRTY_RINGS takes what this one has released: the pages are armed, and
// yet the counts do not say so.
TEST_F(RingSourceTest, AForeignResetCostsAnEverythingAndNoMore) {
    vm_.store(0, 0, 5);
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    ASSERT_FALSE(source_.drain());
    ASSERT_EQ(must(ResetHandle(fake::Kernel::fd()).reset_once()), 1U);
    EXPECT_TRUE(vm_.collect().everything);
    vm_.store(0, 0, 6);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 6}}));
    EXPECT_EQ(source_.statistics().short_resets, 0U);
}

// The kernel's count is of all rings together: the ten that one ring has too many, from before,
// hide the five that the other lacks.
TEST_F(RingSourceTest, WhatOneRingLacksIsNotMadeUpForByAnother) {
    for (std::uint64_t page = 0; page < 10; ++page) {
        vm_.store(0, 0, page);
    }
    kernel_.kill_after(0);
    ASSERT_TRUE(vm_.collect().everything);
    for (std::uint64_t page = 100; page < 105; ++page) {
        vm_.store(1, 0, page);
    }
    // As an overrun writes over an entry that has been released.
    kernel_.during_reset(0, [this] { kernel_.ring(1)[0].flags = KVM_DIRTY_GFN_F_DIRTY; });
    const Collected collected = vm_.collect();
    EXPECT_EQ(kernel_.entries_reset(), 10U);
    EXPECT_TRUE(collected.everything);
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// Hostile entries
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceTest, StaleEntriesAreCountedAndNeverFollowed) {
    kernel_.push(0, 1, 0);     // no such slot
    kernel_.push(0, 3, 0);     // in this address space
    kernel_.push(0, 0, 1024);  // past its end
    kernel_.push(0, high, 1000);
    kernel_.push(0, high, std::uint64_t{1} << 63);
    kernel_.push(0, 2U << 16 | 3U, 0);  // no such address space
    kernel_.push(0, ~std::uint32_t{0}, ~std::uint64_t{0});
    vm_.store(0, high, 999);
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, (PageList{{high, 999}}));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(source_.statistics().stale, 7U);
    EXPECT_EQ(source_.statistics(0).entries, 8U);
    EXPECT_EQ(source_.statistics(0).fresh, 1U);
    vm_.collect();
    EXPECT_EQ(source_.statistics().stale, 7U);
}

// Statistics
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceTest, StatisticsBeginAtZero) {
    const RingStatistics ring = source_.statistics(0);
    for (const std::uint64_t count : {ring.entries, ring.fresh, ring.full_exits, ring.overruns,
                                      ring.lost, std::uint64_t{ring.largest_fill}}) {
        EXPECT_EQ(count, 0U);
    }
    const RingSourceStatistics all = source_.statistics();
    for (const std::uint64_t count :
         {all.collects, all.everything, all.short_resets, all.suspects, all.stale,
          all.harvest.count(), all.harvest.sum(), all.reset.count(), all.reset.sum()}) {
        EXPECT_EQ(count, 0U);
    }
}

TEST_F(RingSourceTest, StatisticsAddUp) {
    const auto begin = std::chrono::steady_clock::now();
    vm_.run(0, 0, 0, 200);  // 192 and 8
    vm_.run(1, high, 0, 50);
    ASSERT_TRUE(source_.drain());
    vm_.store(0, 0, 3);  // again, in the same collect
    vm_.store(0, 0, 900);
    EXPECT_EQ(vm_.collect().pages.size(), 251U);
    vm_.store(0, 0, 3);
    EXPECT_EQ(vm_.collect().pages.size(), 1U);

    const RingStatistics first = source_.statistics(0);
    EXPECT_EQ(first.entries, 203U);
    EXPECT_EQ(first.fresh, 202U);
    EXPECT_EQ(first.full_exits, 1U);
    EXPECT_EQ(first.largest_fill, 192U);
    EXPECT_EQ(first.overruns, 0U);
    EXPECT_EQ(first.lost, 0U);
    const RingStatistics second = source_.statistics(1);
    EXPECT_EQ(second.entries, 50U);
    EXPECT_EQ(second.fresh, 50U);
    EXPECT_EQ(second.full_exits, 0U);
    EXPECT_EQ(second.largest_fill, 50U);
    const RingSourceStatistics all = source_.statistics();
    EXPECT_EQ(all.collects, 2U);
    EXPECT_EQ(all.everything, 0U);
    EXPECT_EQ(all.short_resets, 0U);
    EXPECT_EQ(all.stale, 0U);
    const std::chrono::nanoseconds elapsed = std::chrono::steady_clock::now() - begin;
    EXPECT_GT(all.harvest.sum(), 0U);
    EXPECT_LT(all.harvest.sum(), static_cast<std::uint64_t>(elapsed.count()));
    EXPECT_GT(all.reset.sum(), 0U);
    EXPECT_LT(all.reset.sum(), static_cast<std::uint64_t>(elapsed.count()));
    EXPECT_EQ(kernel_.entries_reset(), first.entries + second.entries);
}

// Allocation
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceTest, OfARingThatIsNotThereNothingIsCounted) {
    vm_.store(0, 0, 5);
    vm_.store(1, 0, 6);
    vm_.collect();
    for (const std::size_t number : {std::size_t{2}, std::size_t{1000}, ~std::size_t{0}}) {
        EXPECT_EQ(source_.logged(number), 0U) << number;
        EXPECT_EQ(source_.statistics(number).entries, 0U) << number;
        EXPECT_EQ(source_.statistics(number).rate.per_second(), 0) << number;
    }
    EXPECT_EQ(source_.logged(1), 1U);
}

TEST_F(RingSourceTest, NothingIsAllocatedFromTheSecondCollectOn) {
    Pages pages = must(source_.collect({}));
    for (std::uint64_t round = 0; round < 5; ++round) {
        for (std::uint64_t page = 0; page < 150; ++page) {
            vm_.store(0, 0, page * (round + 1));
            vm_.store(1, high, page);
        }
        DirtySet storage = std::move(pages).recycle();
        const std::uint64_t before = allocations();
        Result<Pages> collected = source_.collect(std::move(storage));
        EXPECT_EQ(allocations() - before, 0U) << "round " << round;
        pages = must(std::move(collected));
        EXPECT_EQ(pages.size(), 300U);
    }
}

TEST_F(RingSourceTest, DrainAndRingFullAllocateNothing) {
    for (std::uint64_t round = 0; round < 3; ++round) {
        ASSERT_EQ(vm_.store_until_full(0, 0, round * 192, 300), 192U);
        const std::uint64_t before = allocations();
        const bool done = source_.ring_full(0).has_value() && source_.drain().has_value();
        EXPECT_EQ(allocations() - before, 0U);
        EXPECT_TRUE(done);
    }
}

TEST_F(RingSourceTest, TheCountOfAllocationsCounts) {
    const std::uint64_t before = allocations();
    must(source_.collect({}));
    EXPECT_GT(allocations() - before, 0U);
}

// Indices that wrap at 2^32
// ---------------------------------------------------------------------------------------------

// The kernel's own indices run from where each name says; the ring's places stay the same.
class RingSourceWrap : public ::testing::TestWithParam<std::uint32_t> {
  protected:
    RingVm vm_{{.vcpus = 2, .entries = 256, .first_index = GetParam(), .slots = {{0, 1024}}}};
};

TEST_P(RingSourceWrap, HarvestAndResetGoOn) {
    for (std::uint64_t round = 0; round < 20; ++round) {
        vm_.run(0, 0, 0, 100);
        vm_.run(1, 0, 500, 60);
        PageList expected = range(0, 0, 100);
        const PageList second = range(0, 500, 60);
        expected.insert(expected.end(), second.begin(), second.end());
        const Collected collected = vm_.collect();
        ASSERT_EQ(collected.pages, expected) << round;
        ASSERT_FALSE(collected.everything) << round;
        ASSERT_EQ(vm_.unarmed(), nothing) << round;
    }
    EXPECT_EQ(vm_.kernel.reset_index(0), vm_.kernel.dirty_index(0));
    EXPECT_EQ(vm_.kernel.dirty_index(0), GetParam() + 2000);
}

TEST_P(RingSourceWrap, RingFullGoesOn) {
    EXPECT_EQ(vm_.run(0, 0, 0, 1024), 5U);
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, range(0, 0, 1024));
    EXPECT_FALSE(collected.everything);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 0U);
}

INSTANTIATE_TEST_SUITE_P(From, RingSourceWrap,
                         ::testing::Values(0U, 0U - 256U, 0U - 512U, 0U - 1024U, (1U << 31) - 256U),
                         [](const auto& from) { return "Index" + std::to_string(from.param); });

}  // namespace
}  // namespace dirtyring
