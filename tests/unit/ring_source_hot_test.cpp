// SPDX-License-Identifier: MIT
//
// RingSource with hot pages: which stay writable, in whose entries they are armed again, and that
// nothing is lost whatever happens meanwhile.
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <string>

#include "allocations.hpp"
#include "busy.hpp"
#include "hot_rings.hpp"

namespace dirtyring {
namespace {

using fake::high;
using fake::PageList;
using fake::RingVm;

const PageList nothing;

const PageList warm = {{0, 5}, {0, 1023}, {high, 0}, {high, 999}};

class RingSourceHot : public fake::HotRings {};

// Which pages
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceHot, APageWrittenInMostRoundsStaysWritableAndIsInEachCollect) {
    store(warm);
    vm_.collect();
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(vm_.unarmed(), nothing);
    store(warm);
    EXPECT_EQ(vm_.collect().pages, warm);
    EXPECT_EQ(source_.hot(), warm.size());
    EXPECT_EQ(vm_.unarmed(), warm);
    for (int round = 0; round < 3; ++round) {
        store(warm);
        EXPECT_EQ(vm_.collect().pages, warm);
        EXPECT_EQ(vm_.lost(), nothing);
    }
    EXPECT_EQ(source_.statistics(0).entries, 2 * warm.size()) << "hot pages fault no more";
    EXPECT_EQ(vm_.collect().pages, warm) << "written or not";
}

TEST_F(RingSourceHot, TheNeighboursOfHotPagesAreArmed) {
    heat(warm);
    store({{0, 6}, {high, 998}, {0, 4}});
    EXPECT_EQ(vm_.collect().pages,
              (PageList{{0, 4}, {0, 5}, {0, 6}, {0, 1023}, {high, 0}, {high, 998}, {high, 999}}));
    EXPECT_EQ(vm_.unarmed(), warm);
    EXPECT_EQ(vm_.collect().pages, warm);
}

TEST(RingSourceWithoutHot, NoPageIsUnlessAskedFor) {
    RingVm vm({.slots = {{0, 1024}}});
    vm.source.set_hot_costs({.armed = 1000, .use = 1});
    for (int round = 0; round < 4; ++round) {
        vm.store(0, 0, 5);
        EXPECT_EQ(vm.collect().pages, (PageList{{0, 5}}));
        EXPECT_EQ(vm.unarmed(), nothing);
        vm.source.found_clean(DirtySet(vm.kernel.memory()));
        must(vm.source.rearm_suspects(AllVcpusStopped()));
    }
    EXPECT_EQ(vm.source.hot(), 0U);
    EXPECT_EQ(vm.kernel.regions_set(), 0U);
    EXPECT_EQ(vm.collect().pages, nothing);
}

TEST_F(RingSourceHot, NoMoreAreThanAllowed) {
    source_.keep_hot(1);
    heat(warm);
    EXPECT_EQ(source_.hot(), 1U);
    EXPECT_EQ(vm_.unarmed().size(), 1U);
    EXPECT_EQ(vm_.collect().pages, vm_.unarmed());
}

TEST_F(RingSourceHot, WhereAUseCostsMoreThanAFaultNoneIs) {
    source_.set_hot_costs({.armed = 1, .use = 1000});
    for (int round = 0; round < 3; ++round) {
        store(warm);
        vm_.collect();
        EXPECT_EQ(vm_.unarmed(), nothing);
    }
    source_.set_hot_costs({.armed = 1000, .use = 1});
    store(warm);
    vm_.collect();
    EXPECT_EQ(vm_.unarmed(), warm);
}

TEST_F(RingSourceHot, WithNoneAllowedThoseThatAreAreSuspectsUntilTheyAreArmed) {
    heat(warm);
    source_.keep_hot(0);
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(source_.statistics().suspects, warm.size());
    store(warm);  // nobody sees it
    EXPECT_EQ(vm_.collect().pages, warm);
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), warm);
    must(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(source_.statistics().suspects, 0U);
    heat(warm);
    EXPECT_EQ(source_.hot(), 0U);
    expect_exact_and_armed();
}

TEST_F(RingSourceHot, WithAnotherNumberAllowedTheyAreFoundAnew) {
    heat(warm);
    source_.keep_hot(50);
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(vm_.collect().pages, warm);
    must(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(vm_.unarmed(), nothing);
    heat(warm);
    EXPECT_EQ(source_.hot(), warm.size());
}

// Armed again
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceHot, OneThatIsFoundCleanIsArmedByTheNextFreeEntry) {
    heat({{0, 5}, {high, 999}});
    found_clean({{0, 5}, {0, 6}, {high, 3}});
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {high, 999}})) << "there is no entry";
    store({{0, 100}, {high, 0}});
    vm_.collect();
    EXPECT_EQ(vm_.unarmed(), (PageList{{0, 5}, {high, 999}})) << "they have their own pages to arm";
    free_entries(1);
    store({{0, 5}});  // after all, and nobody sees it
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {high, 999}}));
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), (PageList{{high, 999}}));
    EXPECT_EQ(source_.hot(), 1U);
    store({{0, 5}});
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {high, 999}}));
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(source_.hot(), 2U) << "it came back, and is hot at once";
}

TEST_F(RingSourceHot, OneThatBecomesHotGivesItsEntryToOneThatHasCooledDown) {
    heat({{0, 5}});
    found_clean({{0, 5}});
    heat({{high, 7}});
    EXPECT_EQ(vm_.unarmed(), (PageList{{high, 7}}));
    EXPECT_EQ(vm_.collect().pages, (PageList{{high, 7}}));
}

TEST_F(RingSourceHot, AsManyAreArmedAsEntriesAreFree) {
    heat(warm);
    found_clean(warm);
    store({{0, 500}});
    free_entries(3);
    EXPECT_EQ(vm_.collect().pages.size(), warm.size() + 1);
    EXPECT_EQ(source_.hot(), 1U);
    ASSERT_EQ(vm_.unarmed().size(), 1U);
    EXPECT_EQ(vm_.collect().pages, vm_.unarmed());
    free_entries(3);
    vm_.collect();
    expect_exact_and_armed();
}

TEST_F(RingSourceHot, OneThatNobodySpeaksOfIsTriedInTheEnd) {
    heat({{0, 5}});
    unsigned collects = 0;
    for (; source_.hot() != 0 && collects < 20; ++collects) {
        free_entries(1);
        EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}}));
    }
    EXPECT_EQ(collects, 8U) << "the last of which arms it";
    expect_exact_and_armed();
}

TEST_F(RingSourceHot, APageIsNoEntrysFirstWhereAnotherCarriesIt) {
    heat({{0, 5}, {0, 6}});
    found_clean({{0, 5}, {0, 6}});
    heat({{0, 7}});  // hot at once, and carries one of them
    EXPECT_EQ(source_.hot(), 2U);
    free_entries(1);
    vm_.collect();
    EXPECT_EQ(source_.hot(), 1U);
    EXPECT_EQ(source_.statistics(0).entries, 5U);
    EXPECT_EQ(source_.statistics(0).fresh, 5U);
    EXPECT_EQ(source_.statistics(1).entries, 2U);
    EXPECT_EQ(source_.statistics(1).fresh, 1U);
}

TEST_F(RingSourceHot, WhereNoEntriesComeAllAreArmedOnceThatIsWorthIt) {
    heat({{0, 5}, {0, 6}});
    must(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(kernel_.regions_set(), 0U) << "they may be written";
    found_clean({{0, 5}});
    must(source_.rearm_suspects(AllVcpusStopped()));
    EXPECT_EQ(kernel_.regions_set(), 2U) << "off and on, where they are";
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(source_.statistics().suspects, 0U);
    expect_exact_and_armed();
}

TEST_F(RingSourceHot, TheLongerArmingAllHasTakenTheLaterItIsWorthIt) {
    constexpr double use = 1e5;
    const auto rounds_to_arming = [&] {
        heat({{high, 5}});
        source_.set_hot_costs({.armed = 1, .use = use});
        unsigned rounds = 0;
        for (; source_.hot() != 0 && rounds < 10'000'000; ++rounds) {
            found_clean({{high, 5}});
            must(source_.rearm_suspects(AllVcpusStopped()));
        }
        EXPECT_EQ(vm_.unarmed(), nothing);
        vm_.collect();
        vm_.collect();  // it has not come back
        return rounds;
    };
    // Half a millisecond before and after each change, so two at least for a slot off and on.
    kernel_.around_set_region([] { be_busy_for(std::chrono::microseconds(500)); });
    EXPECT_LT(rounds_to_arming(), 20U) << "as guessed, before it was measured";
    EXPECT_GE(rounds_to_arming(), 40U) << "four milliseconds for two slots";
}

// What goes wrong
// ---------------------------------------------------------------------------------------------

TEST_F(RingSourceHot, ACarriedPageIsInTheNextCollectWhereTheResetFails) {
    heat({{0, 5}});
    found_clean({{0, 5}});
    free_entries(1);
    store({{0, 5}});
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    ASSERT_FALSE(source_.collect({}));
    store({{0, 5}});
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}}));
    expect_exact_and_armed();
}

TEST_F(RingSourceHot, ACarriedPageIsASuspectWhereTheResetIsCutShort) {
    heat({{0, 5}});
    found_clean({{0, 5}});
    store({{0, 200}, {0, 300}});
    kernel_.push(0, 9, 0);
    kernel_.kill_after(1);
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {0, 200}, {0, 300}}));
    EXPECT_EQ(vm_.unarmed(), (PageList{{0, 5}}));
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(source_.statistics().suspects, 3U);
    store({{0, 5}});
    EXPECT_EQ(vm_.collect().pages, (PageList{{0, 5}, {0, 200}, {0, 300}}));
    must(source_.rearm_suspects(AllVcpusStopped()));
    expect_exact_and_armed();
}

TEST_F(RingSourceHot, ALossArmsThemAll) {
    heat(warm);
    store(warm);
    vm_.overrun(0, 0, 100, 300);
    EXPECT_TRUE(vm_.collect().everything);
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), nothing);
    must(source_.remove(0, VcpuStopped()));  // it is out of step
    vm_.collect();
    expect_exact_and_armed();
}

TEST_F(RingSourceHot, WhereASlotGoesThoseOfTheOthersAreSuspects) {
    heat(warm);
    ASSERT_EQ(kernel_.set_region(MemorySlot{.slot = high}.region(0)), 0);
    source_.set_memory(kernel_.memory(), AllVcpusStopped());
    const PageList left = {{0, 5}, {0, 1023}};
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(source_.statistics().suspects, 2U);
    vm_.store(0, 0, 5);
    EXPECT_EQ(vm_.collect().pages, left);
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), left);
    must(source_.rearm_suspects(AllVcpusStopped()));
    expect_exact_and_armed();
    heat(left);
    EXPECT_EQ(vm_.unarmed(), left) << "and they are found anew";
}

TEST_F(RingSourceHot, NothingIsAllocatedOnceTheyAreHot) {
    heat(warm);
    Pages pages = must(source_.collect({}));
    for (std::uint64_t round = 0; round < 5; ++round) {
        vm_.store(1, 0, 100);
        DirtySet storage = std::move(pages).recycle();
        const std::uint64_t before = allocations();
        Result<Pages> collected = source_.collect(std::move(storage));
        if (round > 1) {  // by then the lists have their size
            EXPECT_EQ(allocations() - before, 0U) << "round " << round;
        }
        pages = must(std::move(collected));
        EXPECT_EQ(pages.size(), warm.size() + 1);
    }
}

}  // namespace
}  // namespace dirtyring
