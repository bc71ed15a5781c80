// SPDX-License-Identifier: MIT
//
// Hot pages as consumers see them: in each epoch of each, until they are let go.
#include <gtest/gtest.h>

#include <chrono>

#include "busy.hpp"
#include "must.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using fake::collected;
using fake::PageList;
using fake::pages_of;
using fake::TrackedVm;

const PageList nothing;
const PageList warm = {{0, 5}, {0, 64}, {5, 999}};

class TrackerHot : public ::testing::TestWithParam<fake::Log> {
  protected:
    TrackerHot() { tracker_.keep_hot(100); }

    void store(const PageList& pages) {
        for (const auto& [slot, page] : pages) {
            vm_.store(0, slot, page);
        }
    }
    /// Two rounds with the same pages make them hot.
    void heat() {
        for (int round = 0; round < 2; ++round) {
            store(warm);
            EXPECT_EQ(collected(consumer_), warm);
        }
    }
    /// Commits an epoch that has all of them, and says that these were not written.
    void found_clean(const PageList& pages) {
        DirtySet clean(tracker_.memory());
        for (const auto& [slot, page] : pages) {
            clean.insert(slot, page);
        }
        Epoch epoch = must(consumer_.collect());
        EXPECT_EQ(pages_of(epoch), warm);
        epoch.commit(clean);
    }
    /// With rings: an entry that needs to arm no page of its own, and so arms another.
    void free_entry() {
        if (vm_.tracker.source().rings() != nullptr) {
            vm_.kernel.push(0, 9, 0);
        }
    }

    TrackedVm vm_{{.entries = 256, .log = GetParam(), .slots = {{0, 1024}, {5, 1000}}}};
    Tracker& tracker_ = vm_.tracker;
    Consumer consumer_ = tracker_.add_consumer();
};

TEST_P(TrackerHot, TheyAreInEachEpochOfEachConsumer) {
    Consumer other = tracker_.add_consumer();
    heat();
    EXPECT_EQ(tracker_.source().hot(), warm.size());
    EXPECT_EQ(vm_.unarmed(), warm);
    for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(collected(consumer_), warm);
        EXPECT_EQ(collected(other), warm);
    }
    Consumer late = tracker_.add_consumer();
    EXPECT_EQ(collected(late), warm);
}

TEST_P(TrackerHot, AnAbortChangesNothing) {
    heat();
    must(consumer_.collect()).abort();
    EXPECT_EQ(vm_.unarmed(), warm);
    EXPECT_EQ(collected(consumer_), warm);
    EXPECT_EQ(collected(consumer_), warm);
}

TEST_P(TrackerHot, OneThatTheUserHasFoundCleanIsLetGo) {
    Consumer other = tracker_.add_consumer();
    heat();
    found_clean({{0, 64}});
    free_entry();
    store({{0, 64}});  // after all: it is in the epoch that arms it
    EXPECT_EQ(collected(consumer_), warm);
    const PageList left = {{0, 5}, {5, 999}};
    EXPECT_EQ(vm_.unarmed(), left);
    EXPECT_EQ(collected(consumer_), left);
    EXPECT_EQ(collected(other), warm) << "nobody has told this one yet";
    EXPECT_EQ(collected(other), left);
}

TEST_P(TrackerHot, WithNoneAllowedAllAreArmedByACollectWithTheVcpusStopped) {
    heat();
    tracker_.keep_hot(0);
    EXPECT_EQ(tracker_.source().hot(), 0U);
    store(warm);
    Epoch epoch = must(consumer_.collect(AllVcpusStopped()));
    EXPECT_EQ(pages_of(epoch), warm);
    epoch.commit();
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(collected(consumer_), nothing);
}

TEST_P(TrackerHot, WhereASlotGoesThoseOfTheOthersAreStillReported) {
    heat();
    must(tracker_.change_slots(AllVcpusStopped(), [this](MemoryMap& slots) {
        EXPECT_EQ(vm_.kernel.set_region(MemorySlot{.slot = 5}.region(0)), 0);
        return slots.remove(5);
    }));
    const PageList left = {{0, 5}, {0, 64}};
    store(left);  // unlogged still
    Epoch epoch = must(consumer_.collect(AllVcpusStopped()));
    EXPECT_EQ(pages_of(epoch), left);
    epoch.commit();
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(collected(consumer_), nothing);
}

INSTANTIATE_TEST_SUITE_P(With, TrackerHot,
                         ::testing::Values(fake::Log::rings, fake::Log::manual_bitmap),
                         [](const auto& log) {
                             return log.param == fake::Log::rings ? "Rings" : "ManualBitmap";
                         });

// No entry comes that could arm them.
TEST(TrackerHotRings, AGuestThatWritesNothingElseHasThemArmedOnceThatIsWorthIt) {
    TrackedVm vm({.entries = 256, .slots = {{0, 1024}}});
    Consumer consumer = vm.tracker.add_consumer();
    vm.tracker.keep_hot(1);
    for (int round = 0; round < 2; ++round) {
        vm.store(0, 0, 5);
        EXPECT_EQ(collected(consumer), (PageList{{0, 5}}));
    }
    const auto found_clean = [](Epoch epoch) {
        EXPECT_EQ(pages_of(epoch), (PageList{{0, 5}}));
        const DirtySet clean = epoch.pages().set();
        be_busy_for(std::chrono::microseconds(20));  // with its use
        epoch.commit(clean);
    };
    found_clean(must(consumer.collect(AllVcpusStopped())));
    found_clean(must(consumer.collect(AllVcpusStopped())));
    EXPECT_EQ(vm.tracker.source().hot(), 1U) << "its use has not cost much yet";
    for (int round = 0; round < 2000; ++round) {
        found_clean(must(consumer.collect()));
    }
    EXPECT_EQ(vm.tracker.source().hot(), 1U) << "it may be written at any moment";
    // Once is enough, but where the first rounds took so long that a fault seems to cost more.
    for (int round = 0; round < 1'000'000 && vm.tracker.source().hot() != 0; ++round) {
        found_clean(must(consumer.collect(AllVcpusStopped())));
    }
    EXPECT_EQ(vm.unarmed(), nothing);
    EXPECT_EQ(collected(consumer), nothing);
}

}  // namespace
}  // namespace dirtyring
