// SPDX-License-Identifier: MIT
//
// RingSource over slots and rings that come and go, pages that may not be armed, and rings that
// others empty.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "allocations.hpp"
#include "ring_vm.hpp"

namespace dirtyring {
namespace {

using fake::Collected;
using fake::list_of;
using fake::PageList;
using fake::range;
using fake::RingVm;

const PageList nothing;

class RingSourceSlots : public ::testing::Test {
  protected:
    /// The kernel's slots but for one.
    [[nodiscard]] MemoryMap without(std::uint32_t slot) const {
        MemoryMap map = kernel_.memory();
        must(map.remove(slot));
        return map;
    }
    PageList collect() { return list_of(must(source_.collect({})).set()); }
    /// Leaves pages of slot 0 unarmed: a reset of the pages from `first` on ends early.
    void cut_short(std::uint64_t first, std::uint64_t count) {
        for (std::uint64_t page = first; page < first + count; ++page) {
            vm_.store(0, 0, page);
        }
        kernel_.kill_after(1);
    }

    RingVm vm_{{.vcpus = 2, .entries = 256, .slots = {{0, 700}, {5, 1000}}}};
    RingSource& source_ = vm_.source;
    fake::Kernel& kernel_ = vm_.kernel;
};

// Slots
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceSlots, WhatWasDrainedStaysWhereItsSlotIsStillThere) {
    vm_.store(0, 0, 1);
    vm_.store(1, 5, 2);
    must(source_.drain());
    source_.set_memory(without(0), AllVcpusStopped());
    EXPECT_EQ(collect(), (PageList{{5, 2}}));
    source_.set_memory(kernel_.memory(), AllVcpusStopped());
    vm_.store(0, 0, 3);
    EXPECT_EQ(collect(), (PageList{{0, 3}}));
    EXPECT_EQ(source_.statistics().stale, 0U);
}

TEST_F(RingSourceSlots, WhatIsStillToBeResetStaysToo) {
    vm_.store(0, 0, 1);
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    ASSERT_FALSE(source_.drain());
    source_.set_memory(without(5), AllVcpusStopped());
    const Pages pages = must(source_.collect({}));
    EXPECT_EQ(list_of(pages.set()), (PageList{{0, 1}}));
    EXPECT_FALSE(pages.everything());
    EXPECT_EQ(vm_.unarmed(), nothing);
}

TEST_F(RingSourceSlots, EntriesOfASlotThatHasGoneAreStale) {
    source_.set_memory(without(5), AllVcpusStopped());
    vm_.store(0, 5, 2);
    vm_.store(0, 0, 2);
    EXPECT_EQ(collect(), (PageList{{0, 2}}));
    EXPECT_EQ(source_.statistics().stale, 1U);
}

TEST_F(RingSourceSlots, ALossArmsTheSlotsThatAreThere) {
    source_.set_memory(without(5), AllVcpusStopped());
    vm_.overrun(0, 0, 0, 300);
    const Pages pages = must(source_.collect({}));
    EXPECT_TRUE(pages.everything());
    EXPECT_EQ(pages.size(), 700U);
    EXPECT_EQ(kernel_.regions_set(), 2U);
}

TEST_F(RingSourceSlots, WhatIsWrittenIsArmedAgainWhicheverSlotsThereAre) {
    source_.set_memory(without(0), AllVcpusStopped());
    vm_.store(0, 5, 2);
    collect();
    EXPECT_EQ(vm_.unarmed(), nothing);
    source_.set_memory(kernel_.memory(), AllVcpusStopped());
    vm_.store(0, 0, 3);
    vm_.store(0, 5, 999);
    collect();
    EXPECT_EQ(vm_.unarmed(), nothing);
}

TEST_F(RingSourceSlots, HotPagesAreAllowedOverTheNewSlotsToo) {
    source_.set_memory(without(5), AllVcpusStopped());
    source_.keep_hot(10);
    for (int round = 0; round < 2; ++round) {
        vm_.store(0, 0, 1);
        EXPECT_EQ(collect(), (PageList{{0, 1}}));
    }
    EXPECT_EQ(source_.hot(), 1U);
    EXPECT_EQ(collect(), (PageList{{0, 1}}));
    source_.set_memory(kernel_.memory(), AllVcpusStopped());
    must(source_.rearm_suspects(AllVcpusStopped()));
    for (int round = 0; round < 2; ++round) {
        vm_.store(0, 5, 999);
        collect();
    }
    EXPECT_EQ(source_.hot(), 1U);
    EXPECT_EQ(collect(), (PageList{{5, 999}}));
}

// Rings
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceSlots, ARemovedRingsLastEntriesAreCollected) {
    vm_.store(0, 0, 1);
    vm_.store(1, 5, 2);
    must(source_.remove(1, VcpuStopped()));
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 1}, {5, 2}}));
    EXPECT_EQ(source_.statistics(1).entries, 1U);
    EXPECT_EQ(source_.logged(1), 1U);
    EXPECT_EQ(source_.size(), 2U);
    vm_.store(0, 0, 3);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 3}}));
}

TEST_F(RingSourceSlots, ARemovedRingIsReadNoMore) {
    must(source_.remove(1, VcpuStopped()));
    vm_.store(1, 5, 2);
    EXPECT_EQ(source_.fill(), 0U);
    EXPECT_EQ(vm_.collect().pages, nothing);
    EXPECT_EQ(source_.statistics(1).entries, 0U);
}

TEST_F(RingSourceSlots, ARingIsRemovedOnceAndItsNumberIsNotUsedAgain) {
    must(source_.remove(0, VcpuStopped()));
    for (const std::size_t number : {std::size_t{0}, std::size_t{2}, ~std::size_t{0}}) {
        const Result<void> removed = source_.remove(number, VcpuStopped());
        ASSERT_FALSE(removed);
        EXPECT_EQ(removed.error().code, ENOENT);
        EXPECT_EQ(removed.error().operation,
                  "RingSource::remove(ring " + std::to_string(number) + ")");
        const Result<void> full = source_.ring_full(number);
        ASSERT_FALSE(full);
        EXPECT_EQ(full.error().code, ENOENT);
        EXPECT_EQ(full.error().operation,
                  "RingSource::ring_full(ring " + std::to_string(number) + ")");
    }
    fake::Kernel other({.entries = 256});
    EXPECT_EQ(source_.add(must(Ring::over(other.ring(0)))), 2U);
}

TEST_F(RingSourceSlots, ARingStaysWhereItsRemovalFails) {
    vm_.store(1, 5, 2);
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    const Result<void> failed = source_.remove(1, VcpuStopped());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EIO);
    vm_.store(1, 5, 3);
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, (PageList{{5, 2}, {5, 3}}));
    EXPECT_FALSE(collected.everything);
    must(source_.remove(1, VcpuStopped()));
}

TEST_F(RingSourceSlots, WhatARemovedRingHasLostIsNotForgotten) {
    vm_.overrun(1, 5, 0, 400);
    must(source_.remove(1, VcpuStopped()));
    EXPECT_TRUE(vm_.collect().everything);
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), nothing);
    vm_.store(0, 0, 1);
    const Collected next = vm_.collect();
    EXPECT_EQ(next.pages, (PageList{{0, 1}}));
    EXPECT_FALSE(next.everything);
}

// The ring overran, a collect said so, and more was logged since at a place that is not known.
TEST_F(RingSourceSlots, ARingThatIsOutOfStepIsReadOnceMoreBeforeItGoes) {
    vm_.overrun(1, 5, 0, 400);
    EXPECT_TRUE(vm_.collect().everything);
    vm_.store(1, 5, 999);
    must(source_.remove(1, VcpuStopped()));
    vm_.collect();
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// A ring that was full to its last place may have overrun. It has been read to its end since: what
// came then stands in one piece.
TEST_F(RingSourceSlots, TheLastEntriesOfARingWhoseEndIsKnownAgainAreExact) {
    vm_.overrun(1, 5, 0, 256);
    must(source_.ring_full(1));
    EXPECT_TRUE(vm_.collect().everything);
    vm_.store(1, 5, 999);
    must(source_.remove(1, VcpuStopped()));
    const Collected last = vm_.collect();
    EXPECT_EQ(last.pages, (PageList{{5, 999}}));
    EXPECT_FALSE(last.everything);
    EXPECT_EQ(vm_.unarmed(), nothing);
}

TEST_F(RingSourceSlots, EntriesIsOfTheSmallestRingThatIsThere) {
    EXPECT_EQ(source_.entries(), 256U);
    fake::Kernel small({.entries = 128});
    const std::size_t number = source_.add(must(Ring::over(small.ring(0))));
    EXPECT_EQ(source_.entries(), 128U);
    must(source_.remove(number, VcpuStopped()));
    EXPECT_EQ(source_.entries(), 256U);
    must(source_.remove(0, VcpuStopped()));
    must(source_.remove(1, VcpuStopped()));
    EXPECT_EQ(source_.entries(), 0U);
    EXPECT_EQ(source_.fill(), 0U);
}

// Suspects
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceSlots, SuspectsAreInEachCollectUntilTheyAreArmed) {
    cut_short(0, 10);
    {
        const Pages pages = must(source_.collect({}));
        EXPECT_FALSE(pages.everything());
        EXPECT_EQ(pages.suspects(), 10U);
        EXPECT_EQ(list_of(pages.set()), range(0, 0, 10));
    }
    EXPECT_EQ(source_.statistics().short_resets, 1U);
    EXPECT_EQ(source_.statistics().suspects, 10U);
    EXPECT_NE(vm_.unarmed(), nothing);
    vm_.store(0, 5, 3);
    PageList more = range(0, 0, 10);
    more.emplace_back(5, 3);
    EXPECT_EQ(collect(), more);
    EXPECT_EQ(kernel_.regions_set(), 0U);

    must(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(kernel_.regions_set(), 2U);  // of their slot only
    EXPECT_EQ(source_.statistics().suspects, 0U);
    EXPECT_EQ(collect(), nothing);
    vm_.store(0, 0, 0);
    EXPECT_EQ(collect(), (PageList{{0, 0}}));
    must(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(kernel_.regions_set(), 2U);  // there were none
}

TEST_F(RingSourceSlots, SuspectsOfADrainAreInTheNextCollects) {
    cut_short(0, 10);
    must(source_.drain());
    EXPECT_EQ(collect(), range(0, 0, 10));
    EXPECT_EQ(collect(), range(0, 0, 10));
}

TEST_F(RingSourceSlots, SuspectsFollowTheirSlots) {
    vm_.store(1, 5, 999);
    cut_short(0, 3);
    must(source_.drain());
    source_.set_memory(without(0), AllVcpusStopped());
    EXPECT_EQ(collect(), (PageList{{5, 999}}));
    EXPECT_EQ(source_.statistics().suspects, 1U);
    EXPECT_EQ(collect(), (PageList{{5, 999}}));
}

TEST_F(RingSourceSlots, EverythingArmsTheSuspectsToo) {
    cut_short(0, 10);
    EXPECT_EQ(must(source_.collect({})).suspects(), 10U);
    vm_.overrun(1, 5, 0, 300);
    const Pages pages = must(source_.collect({}));
    EXPECT_TRUE(pages.everything());
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(source_.statistics().suspects, 0U);
}

// The slot at hand is left without logging: what is written then is known to nobody.
TEST(RingSourceSuspects, ARearmingThatFailsCostsAnEverything) {
    for (unsigned nth = 0; nth < 2; ++nth) {
        SCOPED_TRACE(nth);
        RingVm vm({.vcpus = 1, .entries = 256, .slots = {{0, 700}, {5, 1000}}});
        for (std::uint64_t page = 0; page < 10; ++page) {
            vm.store(0, 0, page);
        }
        vm.kernel.kill_after(1);
        vm.collect();
        vm.faults.fail_next(faulty::Call::ioctl, ENOMEM, nth);
        const Result<void> failed = vm.source.rearm_suspects(AllVcpusStopped());
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, ENOMEM);
        EXPECT_EQ(failed.error().operation.find("KVM_SET_USER_MEMORY_REGION"), 0U);
        EXPECT_EQ(vm.source.statistics().suspects, 10U);
        vm.store(0, 0, 500);  // no suspect
        vm.store(0, 0, 1);
        vm.collect();
        EXPECT_EQ(vm.lost(), nothing);
        EXPECT_EQ(vm.unarmed(), nothing);
        vm.store(0, 0, 501);
        EXPECT_EQ(vm.collect().pages, (PageList{{0, 501}}));
        EXPECT_EQ(vm.lost(), nothing);
    }
}

// Rings that others have emptied, and how full they are
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceSlots, RingFullMakesNoResetWhereTheRingHasBeenEmptied) {
    ASSERT_EQ(vm_.store_until_full(0, 0, 0, 700), 192U);
    ASSERT_EQ(vm_.store_until_full(1, 5, 0, 50), 50U);
    must(source_.drain());
    ASSERT_EQ(kernel_.resets(), 1U);
    vm_.store(1, 5, 60);
    must(source_.ring_full(0));
    EXPECT_EQ(kernel_.resets(), 1U);
    EXPECT_EQ(source_.statistics(1).entries, 50U);
    EXPECT_TRUE(kernel_.may_run(0));
    EXPECT_EQ(source_.statistics(0).full_exits, 1U);
}

TEST_F(RingSourceSlots, RingFullResetsWhatAFailedDrainHasRead) {
    ASSERT_EQ(vm_.store_until_full(0, 0, 0, 700), 192U);
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    ASSERT_FALSE(source_.drain());
    must(source_.ring_full(0));
    EXPECT_TRUE(kernel_.may_run(0));
    EXPECT_EQ(source_.statistics(0).overruns, 0U);
}

TEST_F(RingSourceSlots, LoggedCountsWhatIsReadAndWhatIsNot) {
    EXPECT_EQ(source_.logged(0), 0U);
    vm_.store_until_full(0, 0, 0, 100);
    EXPECT_EQ(source_.logged(0), 100U);
    EXPECT_EQ(source_.logged(1), 0U);
    EXPECT_EQ(source_.fill(), 100U);
    must(source_.drain());
    EXPECT_EQ(source_.logged(0), 100U);
    EXPECT_EQ(source_.fill(), 0U);
    vm_.store(0, 0, 1);
    vm_.store(1, 5, 1);
    EXPECT_EQ(source_.logged(0), 101U);
    EXPECT_EQ(source_.logged(1), 1U);
    EXPECT_EQ(source_.fill(), 1U);
}

}  // namespace
}  // namespace dirtyring
