// SPDX-License-Identifier: MIT
//
// A tracker whose memory slots change: what stays dirty, what becomes so, what is forgotten.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <optional>

#include "allocations.hpp"
#include "must.hpp"
#include "plain_source.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using fake::collected;
using fake::PageList;
using fake::pages_of;
using fake::PlainSource;
using fake::range;
using fake::TrackedVm;

const PageList nothing;

// Only to be told apart; nothing is read or written there.
std::array<std::byte, 4 * page_size> host;

MemorySlot slot(std::uint32_t number, std::uint64_t first, std::uint64_t pages,
                std::size_t memory = 0) {
    return {number, first * page_size, pages * page_size, &host[memory]};
}

MemoryMap two_slots() {
    MemoryMap map;
    must(map.add(slot(0, 0, 700)));
    must(map.add(slot(4, 0x10000, 100)));
    return map;
}

class TrackerSlots : public ::testing::Test {
  protected:
    using Change = std::function<Result<void>(MemoryMap&)>;

    Result<void> change(const Change& change) {
        return tracker_.change_slots(AllVcpusStopped(), change);
    }
    /// Takes a slot away and gives it back as it is to be.
    void replace(const MemorySlot& with) {
        must(change([&](MemoryMap& slots) {
            must(slots.remove(with.slot));
            return slots.add(with);
        }));
    }

    PlainSource* source_ = new PlainSource(two_slots());
    Tracker tracker_{std::unique_ptr<Source>(source_)};
    Consumer one_ = tracker_.add_consumer();
    Consumer other_ = tracker_.add_consumer();
};

TEST_F(TrackerSlots, ANewSlotIsDirtyForEveryConsumer) {
    must(change([](MemoryMap& slots) { return slots.add(slot(2, 0x20000, 10, 1)); }));
    EXPECT_EQ(collected(one_), range(2, 0, 10));
    EXPECT_EQ(collected(one_), nothing);
    EXPECT_EQ(collected(other_), range(2, 0, 10));
    source_->write(2, 9);
    source_->write(0, 1);
    EXPECT_EQ(collected(one_), (PageList{{0, 1}, {2, 9}}));
    EXPECT_EQ(tracker_.memory().slots().size(), 3U);
    Consumer late = tracker_.add_consumer();
    EXPECT_EQ(collected(late), nothing);
}

TEST_F(TrackerSlots, AnotherSlotsPagesStayDirty) {
    source_->write(0, 1);
    EXPECT_EQ(collected(one_), (PageList{{0, 1}}));  // pending for the other
    source_->write(4, 99);                           // pending in the source
    tracker_.mark(5 * page_size, 1);                 // pending on the board
    must(change([](MemoryMap& slots) { return slots.add(slot(2, 0x20000, 2, 1)); }));
    EXPECT_EQ(collected(one_), (PageList{{0, 5}, {4, 99}, {2, 0}, {2, 1}}));
    EXPECT_EQ(collected(other_), (PageList{{0, 1}, {0, 5}, {4, 99}, {2, 0}, {2, 1}}));
}

TEST_F(TrackerSlots, WhatWasEverythingBeforeAChangeIsEverythingAfterIt) {
    source_->lose();
    must(change([](MemoryMap& slots) { return slots.add(slot(2, 0x20000, 2, 1)); }));
    for (Consumer* consumer : {&one_, &other_}) {
        Epoch epoch = must(consumer->collect());
        EXPECT_TRUE(epoch.pages().everything());
        epoch.commit();
        EXPECT_FALSE(must(consumer->collect()).pages().everything());
    }
}

TEST_F(TrackerSlots, PagesOfASlotThatGoesAreForgotten) {
    source_->write(0, 1);
    source_->write(4, 2);
    EXPECT_EQ(collected(one_), (PageList{{0, 1}, {4, 2}}));
    source_->write(4, 3);
    must(change([](MemoryMap& slots) { return slots.remove(4); }));
    EXPECT_EQ(collected(one_), nothing);
    EXPECT_EQ(collected(other_), (PageList{{0, 1}}));
    tracker_.mark(0x10000 * page_size, 1);
    EXPECT_EQ(collected(one_), nothing);
    EXPECT_EQ(tracker_.statistics().marks_outside, 1U);
}

TEST_F(TrackerSlots, ASlotThatComesBackIsNew) {
    must(change([](MemoryMap& slots) { return slots.remove(4); }));
    must(change([](MemoryMap& slots) { return slots.add(slot(4, 0x10000, 100)); }));
    EXPECT_EQ(collected(one_), range(4, 0, 100));
}

TEST_F(TrackerSlots, WhatASlotHasGrownByIsDirty) {
    source_->write(4, 2);
    replace(slot(4, 0x10000, 600));
    PageList grown = {{4, 2}};
    const PageList rest = range(4, 100, 500);
    grown.insert(grown.end(), rest.begin(), rest.end());
    EXPECT_EQ(collected(one_), grown);
    EXPECT_EQ(collected(other_), grown);
    source_->write(4, 599);
    EXPECT_EQ(collected(one_), (PageList{{4, 599}}));
}

TEST_F(TrackerSlots, AShrunkSlotKeepsThePagesThatItStillHas) {
    source_->write(4, 69);
    source_->write(4, 70);
    source_->write(0, 699);
    replace(slot(4, 0x10000, 70));
    EXPECT_EQ(collected(one_), (PageList{{0, 699}, {4, 69}}));
    EXPECT_EQ(collected(other_), (PageList{{0, 699}, {4, 69}}));
}

TEST_F(TrackerSlots, ASlotOverOtherHostMemoryIsDirty) {
    source_->write(4, 2);
    replace(slot(4, 0x10000, 100, 1));
    EXPECT_EQ(collected(one_), range(4, 0, 100));
    EXPECT_EQ(collected(other_), range(4, 0, 100));
}

// Whoever saves by guest address has its pages where they no longer are.
TEST_F(TrackerSlots, AMovedSlotIsDirty) {
    source_->write(0, 1);
    source_->write(4, 2);
    EXPECT_EQ(collected(one_), (PageList{{0, 1}, {4, 2}}));
    replace(slot(4, 0x30000, 100));
    EXPECT_EQ(collected(one_), range(4, 0, 100));
    PageList expected = range(4, 0, 100);
    expected.insert(expected.begin(), {0, 1});
    EXPECT_EQ(collected(other_), expected);
    tracker_.mark(0x30003 * page_size, 1);
    EXPECT_EQ(collected(one_), (PageList{{4, 3}}));
}

// And so has whoever saves to a file, end to end.
TEST_F(TrackerSlots, ASlotWhosePlaceInAFileChangesIsDirty) {
    must(change([](MemoryMap& slots) { return slots.remove(0); }));
    EXPECT_EQ(collected(one_), range(4, 0, 100));
    must(change([](MemoryMap& slots) { return slots.add(slot(0, 0, 700)); }));
    EXPECT_EQ(collected(one_), range(0, 0, 700));
    replace(slot(4, 0x10000, 50));  // now it is the last
    PageList all = range(0, 0, 700);
    const PageList last = range(4, 0, 50);
    all.insert(all.end(), last.begin(), last.end());
    EXPECT_EQ(collected(one_), all);
    EXPECT_EQ(collected(other_), all);
    EXPECT_EQ(collected(one_), nothing);
}

// A page is marked by the address that it had when it was written.
TEST_F(TrackerSlots, MarksFromBeforeTheChangeAreOfTheOldAddresses) {
    tracker_.mark(0x10002 * page_size, 1);
    replace(slot(4, 0x30000, 100));
    EXPECT_EQ(tracker_.statistics().marks_outside, 0U);
    EXPECT_EQ(collected(one_), range(4, 0, 100));
    tracker_.mark(0x10002 * page_size, 1);
    EXPECT_EQ(collected(one_), nothing);
    EXPECT_EQ(tracker_.statistics().marks_outside, 1U);
}

TEST_F(TrackerSlots, TheChangeMayMark) {
    must(change([this](MemoryMap& slots) {
        tracker_.mark(3 * page_size, 1);
        return slots.add(slot(2, 0x20000, 1, 1));
    }));
    EXPECT_EQ(collected(one_), (PageList{{0, 3}, {2, 0}}));
}

TEST_F(TrackerSlots, AChangeThatFailsHalfWayLeavesTheMapAsItIsThen) {
    source_->write(0, 1);
    source_->write(4, 2);
    const Result<void> failed = change([](MemoryMap& slots) -> Result<void> {
        must(slots.remove(4));
        must(slots.add(slot(2, 0x20000, 3, 1)));
        return fail({ENOMEM, "KVM_SET_USER_MEMORY_REGION", {}, {}});
    });
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ENOMEM);
    EXPECT_EQ(failed.error().operation, "KVM_SET_USER_MEMORY_REGION");
    EXPECT_EQ(tracker_.memory().find(4), MemoryMap::npos);
    EXPECT_EQ(collected(one_), (PageList{{0, 1}, {2, 0}, {2, 1}, {2, 2}}));
    source_->write(2, 1);
    EXPECT_EQ(collected(one_), (PageList{{2, 1}}));
}

TEST_F(TrackerSlots, WithoutTheCollectNothingIsChanged) {
    source_->write(0, 1);
    source_->fail_once();
    bool called = false;
    const Result<void> failed = change([&](MemoryMap& slots) {
        called = true;
        return slots.remove(4);
    });
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EIO);
    EXPECT_FALSE(called);
    EXPECT_NE(tracker_.memory().find(4), MemoryMap::npos);
    EXPECT_EQ(collected(one_), (PageList{{0, 1}}));
}

TEST_F(TrackerSlots, AnEpochThatIsOpenAcrossTheChangeKeepsItsPagesAndMayBeCommitted) {
    source_->write(0, 1);
    source_->write(4, 99);
    Epoch epoch = must(one_.collect());
    must(change([](MemoryMap& slots) { return slots.remove(4); }));
    EXPECT_EQ(pages_of(epoch), (PageList{{0, 1}, {4, 99}}));
    epoch.commit();
    EXPECT_EQ(collected(one_), nothing);
    EXPECT_EQ(collected(one_), nothing);
}

TEST_F(TrackerSlots, AnEpochThatIsAbortedAfterTheChangePutsBackWhatIsStillThere) {
    source_->write(0, 1);
    source_->write(4, 69);
    source_->write(4, 70);
    Epoch epoch = must(one_.collect());
    replace(slot(4, 0x10000, 70));
    source_->write(0, 2);
    must(change([](MemoryMap& slots) { return slots.add(slot(2, 0x20000, 1, 1)); }));
    epoch.abort();
    EXPECT_EQ(collected(one_), (PageList{{0, 1}, {0, 2}, {4, 69}, {2, 0}}));
    EXPECT_EQ(collected(one_), nothing);
}

TEST_F(TrackerSlots, EverythingIsEverythingOfTheNewSlots) {
    source_->lose();
    Epoch open = must(one_.collect());
    source_->lose();
    must(change([](MemoryMap& slots) { return slots.add(slot(2, 0x20000, 5, 1)); }));
    Epoch epoch = must(other_.collect());
    EXPECT_TRUE(epoch.pages().everything());
    EXPECT_EQ(epoch.pages().size(), 805U);
    must(one_.collect()).commit();
    open.abort();
    epoch = must(one_.collect());
    EXPECT_TRUE(epoch.pages().everything());
    EXPECT_EQ(epoch.pages().size(), 805U);
}

TEST_F(TrackerSlots, SuspectsOfASlotThatIsStillThereStay) {
    source_->suspect(0, 1);
    source_->suspect(4, 2);
    must(change([](MemoryMap& slots) { return slots.remove(4); }));
    EXPECT_EQ(collected(one_), (PageList{{0, 1}}));
    EXPECT_EQ(collected(one_), (PageList{{0, 1}}));
}

// Each consumer has a set of its own to be made anew.
TEST_F(TrackerSlots, AConsumerThatHasGoneCostsAChangeNothing) {
    const auto cost = [this] {
        const std::uint64_t before = allocations();
        replace(slot(0, 0, 700));
        return allocations() - before;
    };
    cost();
    const std::uint64_t of_two = cost();
    {
        const Consumer third = tracker_.add_consumer();
        EXPECT_GT(cost(), of_two);
    }
    EXPECT_EQ(cost(), of_two);
}

TEST_F(TrackerSlots, AllSlotsMayGo) {
    source_->write(0, 1);
    Epoch epoch = must(one_.collect());
    must(change([](MemoryMap& slots) {
        slots = MemoryMap();
        return Result<void>();
    }));
    EXPECT_EQ(collected(one_), nothing);
    epoch.abort();
    EXPECT_EQ(collected(one_), nothing);
    must(change([](MemoryMap& slots) { return slots.add(slot(0, 0, 3)); }));
    EXPECT_EQ(collected(other_), range(0, 0, 3));
}

// There is no second place to say them, nor to forget them.
TEST_F(TrackerSlots, TheTrackerBeginsWithTheSlotsOfItsSource) {
    EXPECT_TRUE(std::ranges::equal(tracker_.memory().slots(), two_slots().slots()));
    source_->write(0, 1);
    tracker_.mark(0x10063 * page_size, 1);
    EXPECT_EQ(collected(one_), (PageList{{0, 1}, {4, 99}}));
    EXPECT_EQ(tracker_.statistics().marks_outside, 0U);
}

// By each way of the kernel
// ---------------------------------------------------------------------------------------------

class TrackerSlotsOfKernel : public ::testing::TestWithParam<fake::Log> {
  protected:
    TrackedVm vm_{{.entries = 256, .log = GetParam(), .slots = {{0, 700}, {5, 1000}}}, 1};
    Consumer consumer_ = vm_.tracker.add_consumer();
};

TEST_P(TrackerSlotsOfKernel, TheTrackersAreTheSources) {
    ASSERT_EQ(vm_.tracker.memory().slots().size(), 1U);
    EXPECT_EQ(vm_.tracker.memory().slots()[0], vm_.slot(0));
    const auto expect_same = [this] {
        EXPECT_TRUE(std::ranges::equal(vm_.tracker.source().memory().slots(),
                                       vm_.tracker.memory().slots()));
    };
    expect_same();
    must(vm_.tracker.change_slots(AllVcpusStopped(),
                                  [this](MemoryMap& slots) { return slots.add(vm_.slot(5)); }));
    expect_same();
}

TEST_P(TrackerSlotsOfKernel, ASlotThatComesIsTracked) {
    vm_.store(0, 0, 1);
    must(vm_.tracker.change_slots(AllVcpusStopped(),
                                  [this](MemoryMap& slots) { return slots.add(vm_.slot(5)); }));
    PageList expected = range(5, 0, 1000);
    expected.insert(expected.begin(), {0, 1});
    EXPECT_EQ(collected(consumer_), expected);
    vm_.store(0, 5, 999);
    vm_.store(0, 0, 1);
    EXPECT_EQ(collected(consumer_), (PageList{{0, 1}, {5, 999}}));
    EXPECT_EQ(vm_.unarmed(), nothing);
}

TEST_P(TrackerSlotsOfKernel, ASlotThatGoesIsNoLongerAskedFor) {
    must(vm_.tracker.change_slots(AllVcpusStopped(), [this](MemoryMap& slots) {
        must(slots.remove(0));
        return slots.add(vm_.slot(5));
    }));
    EXPECT_EQ(collected(consumer_), range(5, 0, 1000));
    vm_.store(0, 5, 1);
    EXPECT_EQ(collected(consumer_), (PageList{{5, 1}}));
    EXPECT_EQ(vm_.tracker.statistics().stale, 0U);
}

INSTANTIATE_TEST_SUITE_P(By, TrackerSlotsOfKernel,
                         ::testing::Values(fake::Log::rings, fake::Log::bitmap,
                                           fake::Log::manual_bitmap),
                         [](const auto& log) {
                             return log.param == fake::Log::rings    ? "Rings"
                                    : log.param == fake::Log::bitmap ? "Bitmap"
                                                                     : "ManualBitmap";
                         });

}  // namespace
}  // namespace dirtyring
