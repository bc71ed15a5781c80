// SPDX-License-Identifier: MIT
//
// Rings that the kernel runs past the end of (docs/caveats.md). Whatever is lost that way, three
// things hold: the next collect says "everything", no vCPU hangs, and after the next full exit all
// is exact again.
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "ring_vm.hpp"

namespace dirtyring {
namespace {

using fake::Collected;
using fake::PageList;
using fake::range;
using fake::RingVm;

constexpr std::uint32_t entries = 256;
constexpr std::uint32_t soft_limit = entries - 64;
constexpr std::uint64_t pages = 1536;
const PageList nothing;

fake::Config overrunnable(std::uint32_t first_index = 0) {
    return {.vcpus = 2,
            .entries = entries,
            .first_index = first_index,
            .slots = {{0, pages}, {1, 200}}};
}

void expect_everything(RingVm& vm) {
    const Collected collected = vm.collect();
    EXPECT_TRUE(collected.everything);
    EXPECT_EQ(collected.pages, vm.all_pages());
    EXPECT_EQ(vm.lost(), nothing);
    EXPECT_EQ(vm.unarmed(), nothing);
}

/// A full ring later, each collect gives what was written and nothing else.
void expect_exact_after_a_full_exit(RingVm& vm) {
    vm.run(0, 0, 0, 2 * entries);
    vm.collect();
    EXPECT_EQ(vm.lost(), nothing);
    for (std::uint64_t first = 0; first < pages; first += entries) {
        vm.run(0, 0, first, entries);
        vm.run(1, 0, (first + 100) % pages, 10);
        const Collected collected = vm.collect();
        EXPECT_EQ(collected.pages, range(0, first, entries)) << first;
        EXPECT_FALSE(collected.everything) << first;
        EXPECT_EQ(vm.unarmed(), nothing) << first;
        if (::testing::Test::HasFailure()) {
            break;
        }
    }
}

// By how many entries
// ---------------------------------------------------------------------------------------------

struct By {
    std::uint32_t entries;      // past the ring's end
    std::uint32_t first_index;  // of the kernel
};

class RingSourceOverrun : public ::testing::TestWithParam<By> {
  protected:
    /// The vCPU has logged so many entries past its ring's end and come back with RING_FULL.
    RingSourceOverrun() { vm_.overrun(0, 0, 0, entries + GetParam().entries); }

    RingVm vm_{overrunnable(GetParam().first_index)};
};

TEST_P(RingSourceOverrun, IsReportedAsEverythingByTheNextCollect) {
    expect_everything(vm_);
    EXPECT_EQ(vm_.source.statistics().everything, 1U);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
    EXPECT_EQ(vm_.source.statistics(1).overruns, 0U);
}

TEST_P(RingSourceOverrun, FoundByADrainIsReportedByTheNextCollect) {
    must(vm_.source.drain());
    must(vm_.source.drain());
    expect_everything(vm_);
    EXPECT_EQ(vm_.source.statistics().everything, 1U);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
}

TEST_P(RingSourceOverrun, FoundByRingFullIsReportedByTheNextCollect) {
    must(vm_.source.ring_full(0));
    expect_everything(vm_);
    EXPECT_EQ(vm_.source.statistics().everything, 1U);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
}

TEST_P(RingSourceOverrun, TheVcpuRunsOn) {
    const std::uint32_t exits = vm_.run(0, 0, 1400, 1);
    // The first reads the ring; each further one gives the kernel a soft limit's worth of places.
    EXPECT_LE(exits, 2 + (GetParam().entries + soft_limit - 1) / soft_limit);
    expect_everything(vm_);
}

TEST_P(RingSourceOverrun, TheVcpuRunsOnAfterACollect) {
    vm_.collect();
    vm_.run(0, 0, 1400, 1);
    vm_.collect();
    EXPECT_EQ(vm_.lost(), nothing);
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// What a vCPU that is out of step logs cannot be read in order; until it can be, nothing is missed.
TEST_P(RingSourceOverrun, NoWriteIsMissedBeforeTheReaderIsInStepAgain) {
    vm_.run(0, 0, 1400, 1);
    vm_.collect();
    for (std::uint64_t page = 1000; page < 1005; ++page) {
        vm_.run(0, 0, page, 1);
        vm_.run(0, 1, page - 1000, 1);
        vm_.collect();
        EXPECT_EQ(vm_.lost(), nothing) << page;
        EXPECT_EQ(vm_.unarmed(), nothing) << page;
    }
}

TEST_P(RingSourceOverrun, IsHealedByAFullExitAndCountedOnce) {
    vm_.run(0, 0, 1400, 1);
    vm_.collect();
    expect_exact_after_a_full_exit(vm_);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
    EXPECT_EQ(vm_.source.statistics(0).lost, GetParam().entries);
    EXPECT_EQ(vm_.source.statistics(1).overruns, 0U);
    EXPECT_EQ(vm_.source.statistics(1).lost, 0U);
}

TEST_P(RingSourceOverrun, IsHealedWithoutAnyCollectInBetween) {
    vm_.run(0, 0, 0, pages);
    vm_.run(0, 0, 0, pages);
    EXPECT_TRUE(vm_.collect().everything);
    EXPECT_EQ(vm_.lost(), nothing);
    expect_exact_after_a_full_exit(vm_);
}

TEST_P(RingSourceOverrun, LeavesTheOtherVcpusRingAlone) {
    vm_.run(1, 1, 0, 200);
    expect_everything(vm_);
    EXPECT_EQ(vm_.source.statistics(1).entries, 200U);
    EXPECT_EQ(vm_.source.statistics(1).overruns, 0U);
}

TEST_P(RingSourceOverrun, TwiceInARowIsHealedToo) {
    vm_.run(0, 0, 1400, 1);
    vm_.collect();
    vm_.overrun(0, 0, 0, entries + GetParam().entries);
    vm_.run(0, 0, 1400, 1);
    expect_everything(vm_);
    // Where the kernel is now is not known before the next full exit.
    for (std::uint64_t page = 1000; page < 1005; ++page) {
        vm_.run(0, 0, page, 1);
        vm_.collect();
        EXPECT_EQ(vm_.lost(), nothing) << page;
        EXPECT_EQ(vm_.unarmed(), nothing) << page;
    }
    expect_exact_after_a_full_exit(vm_);
}

TEST_P(RingSourceOverrun, AnotherBeforeTheReaderIsInStepIsReportedToo) {
    vm_.run(0, 0, 1400, 1);
    vm_.collect();
    vm_.store_until_full(0, 0, 1300, 1);  // an entry for the next ones to write over
    vm_.overrun(0, 0, 0, entries + GetParam().entries);
    for (int exits = 0; exits < 10 && !vm_.kernel.may_run(0); ++exits) {
        must(vm_.source.ring_full(0));
    }
    EXPECT_TRUE(vm_.kernel.may_run(0));
    expect_everything(vm_);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 2U);
}

std::vector<By> amounts() {
    std::vector<By> all;
    // The whole ring and nothing more; by one; around what is reserved and around the soft limit;
    // exactly to a ring's end again, so that kernel and reader are at the same place; beyond.
    for (const std::uint32_t by :
         {0U, 1U, 63U, 64U, 65U, 191U, 192U, 193U, 254U, 255U, 256U, 257U, 384U, 513U, 1100U}) {
        all.push_back({by, 0});
    }
    for (const std::uint32_t by : {0U, 1U, 200U, 256U, 513U}) {
        all.push_back({by, 0U - 2 * entries});
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(By, RingSourceOverrun, ::testing::ValuesIn(amounts()), [](const auto& by) {
    return std::to_string(by.param.entries) + (by.param.first_index == 0 ? "" : "AcrossTwoToThe32");
});

// When
// ---------------------------------------------------------------------------------------------

class RingSourceOverrunMoment : public ::testing::Test {
  protected:
    RingVm vm_{overrunnable()};
};

// Not one entry is lost, and no soft limit lets that happen: the reader cannot tell.
TEST_F(RingSourceOverrunMoment, ACompletelyFullRingReadInFullCountsAsOne) {
    vm_.overrun(0, 0, 0, entries);
    must(vm_.source.ring_full(0));
    EXPECT_EQ(vm_.source.statistics(0).entries, entries);
    EXPECT_EQ(vm_.source.statistics(0).largest_fill, entries);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
    EXPECT_TRUE(vm_.kernel.may_run(0));
    expect_everything(vm_);
    EXPECT_EQ(vm_.source.statistics(0).lost, 0U);
}

// The entries were released before the kernel wrote over them: no sweep gives a whole ring.
TEST_F(RingSourceOverrunMoment, OfEntriesThatAFailedResetLeft) {
    vm_.run(0, 0, 0, 100);
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    ASSERT_FALSE(vm_.source.drain());
    vm_.overrun(0, 0, 100, entries - 50);
    expect_everything(vm_);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
    vm_.run(0, 0, 1400, 1);
    vm_.collect();
    EXPECT_EQ(vm_.lost(), nothing);
    expect_exact_after_a_full_exit(vm_);
}

TEST(RingSourceOverrunMoments, JustAfterTheHarvest) {
    for (const std::uint64_t by : {1U, 50U, 156U, 257U, 700U}) {
        for (const std::uint32_t moment : {0U, 1U, 49U, 100U}) {
            SCOPED_TRACE(std::to_string(by) + " past the end after " + std::to_string(moment));
            RingVm vm(overrunnable());
            vm.run(0, 0, 0, 100);
            vm.kernel.during_reset(moment, [&] { vm.overrun(0, 0, 100, entries - 100 + by); });
            vm.collect();  // what is lost in the middle of it may be the next one's
            vm.collect();
            EXPECT_EQ(vm.lost(), nothing);
            EXPECT_EQ(vm.unarmed(), nothing);
            // What the reset had taken by then was free again.
            EXPECT_EQ(vm.source.statistics().everything > 0, by > moment);
            vm.run(0, 0, 1400, 1);
            vm.collect();
            EXPECT_EQ(vm.lost(), nothing);
            EXPECT_EQ(vm.unarmed(), nothing);
            expect_exact_after_a_full_exit(vm);
            if (::testing::Test::HasFailure()) {
                return;
            }
        }
    }
}

TEST_F(RingSourceOverrunMoment, OfBothRingsAtOnce) {
    vm_.overrun(0, 0, 0, entries + 30);
    vm_.overrun(1, 0, 1000, entries + 200);
    vm_.run(0, 0, 1400, 1);
    vm_.run(1, 0, 1401, 1);
    expect_everything(vm_);
    vm_.run(1, 0, 1000, 2 * entries);
    expect_exact_after_a_full_exit(vm_);
}

TEST(RingSourceOverrunMoments, BelowTheSoftLimitItCostsNoFullExitMore) {
    for (const std::uint32_t by : {0U, 1U, 64U, soft_limit - 1}) {
        SCOPED_TRACE(by);
        RingVm vm(overrunnable());
        vm.overrun(0, 0, 0, entries + by);
        must(vm.source.ring_full(0));
        EXPECT_TRUE(vm.kernel.may_run(0));
        vm.collect();
        vm.store_until_full(0, 0, 0, entries);
        must(vm.source.ring_full(0));
        EXPECT_TRUE(vm.kernel.may_run(0));
        vm.collect();
        EXPECT_EQ(vm.store_until_full(0, 0, 0, entries), soft_limit);
    }
}

TEST(RingSourceOverrunMoments, BeforeAResetThatFails) {
    for (unsigned nth = 0; nth < 4; ++nth) {
        SCOPED_TRACE(nth);
        RingVm vm(overrunnable());
        vm.overrun(0, 0, 0, entries + 200);
        vm.faults.fail_next(faulty::Call::ioctl, EIO, nth);
        unsigned errors = 0;
        for (int exit = 0; exit < 10 && !vm.kernel.may_run(0); ++exit) {
            const Result<void> done = vm.source.ring_full(0);
            if (!done) {
                EXPECT_EQ(done.error().code, EIO);
                ++errors;
            }
        }
        EXPECT_TRUE(vm.faults.failed() || nth > 2);
        EXPECT_EQ(errors, vm.faults.failed() ? 1U : 0U);
        EXPECT_TRUE(vm.kernel.may_run(0));
        vm.faults.fail_next(faulty::Call::uname, EIO);  // in place of any that has not come
        expect_everything(vm);
        expect_exact_after_a_full_exit(vm);
    }
}

// Another ring has entries for the reset that fails; the one at hand has none.
TEST_F(RingSourceOverrunMoment, AFailedResetIsAnErrorWhateverElseIsToBeCured) {
    vm_.overrun(0, 0, 0, entries + soft_limit);
    must(vm_.source.ring_full(0));
    vm_.run(1, 0, 1000, 5);  // which are armed, as what was lost is not
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    const Result<void> failed = vm_.source.ring_full(0);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EIO);
    EXPECT_FALSE(vm_.kernel.may_run(0));
    vm_.run(0, 0, 1400, 1);
    expect_everything(vm_);
    expect_exact_after_a_full_exit(vm_);
}

// A signal that nobody can block ends a reset of offered places before it takes any, once.
TEST_F(RingSourceOverrunMoment, OfferedPlacesAreOfferedAgainAfterAnInterruptedReset) {
    vm_.overrun(0, 0, 0, entries + 200);
    must(vm_.source.ring_full(0));
    ASSERT_FALSE(vm_.kernel.may_run(0));
    vm_.kernel.kill_after(0);
    EXPECT_TRUE(vm_.source.ring_full(0));
    EXPECT_TRUE(vm_.kernel.may_run(0));
}

// KVM_EXIT_DIRTY_RING_FULL again and again with nothing in the ring: the kernel is ahead by more
// than the soft limit, at a place that nothing shows.
TEST_F(RingSourceOverrunMoment, AFullRingWithNothingInItIsMadeRoomInTheSecondTime) {
    vm_.overrun(0, 0, 0, entries + soft_limit);
    must(vm_.source.ring_full(0));
    EXPECT_FALSE(vm_.kernel.may_run(0));
    EXPECT_EQ(vm_.source.statistics(0).lost, 0U);
    must(vm_.source.ring_full(0));
    EXPECT_TRUE(vm_.kernel.may_run(0));
    EXPECT_EQ(vm_.source.statistics(0).lost, soft_limit);
}

// The kernel has come round while the reader was in the middle of a sweep: that ended where the
// kernel was at the moment, gave less than a ring, and shows no sign of what was written over.
TEST_F(RingSourceOverrunMoment, InTheMiddleOfASweepShowsByAFullRingWithNothingInIt) {
    vm_.overrun(0, 0, 0, 2 * entries);
    for (std::uint32_t place = 100; place < entries; ++place) {
        vm_.kernel.ring(0)[place].flags = 0;
    }
    must(vm_.source.ring_full(0));
    EXPECT_EQ(vm_.source.statistics(0).entries, 100U);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 0U);
    vm_.run(0, 0, 1400, 1);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
    expect_everything(vm_);
    expect_exact_after_a_full_exit(vm_);
    EXPECT_EQ(vm_.source.statistics(0).overruns, 1U);
}

TEST_F(RingSourceOverrunMoment, InTheMiddleOfASweepIsReportedThoughNothingIsWrittenSince) {
    vm_.overrun(0, 0, 0, 2 * entries);
    for (std::uint32_t place = 100; place < entries; ++place) {
        vm_.kernel.ring(0)[place].flags = 0;
    }
    for (int exits = 0; exits < 10 && !vm_.kernel.may_run(0); ++exits) {
        must(vm_.source.ring_full(0));
    }
    EXPECT_TRUE(vm_.kernel.may_run(0));
    expect_everything(vm_);
}

// The place that stays empty tells where the entries begin.
TEST_F(RingSourceOverrunMoment, AllButOneOfARingIsReadExactlyOnceTheReaderHasSeenItBlank) {
    vm_.overrun(0, 0, 0, entries);
    must(vm_.source.ring_full(0));
    vm_.collect();
    vm_.overrun(0, 0, 500, entries - 1);
    must(vm_.source.ring_full(0));
    const Collected collected = vm_.collect();
    EXPECT_EQ(collected.pages, range(0, 500, entries - 1));
    EXPECT_FALSE(collected.everything);
}

// On a host that logs pages in hardware 512 entries more are reserved: the kernel has used that
// much less when it calls a ring full.
TEST(RingSourceOverrunPml, AVcpuThatIsAheadByItsSoftLimitRunsOnExactly) {
    constexpr std::uint32_t size = 1024;
    constexpr std::uint32_t pml_soft_limit = size - 64 - 512;
    for (const std::uint32_t by : {pml_soft_limit, pml_soft_limit + 1, size - 1, size}) {
        SCOPED_TRACE(by);
        RingVm vm({.entries = size, .reserved = size - pml_soft_limit, .slots = {{0, 3 * size}}});
        vm.overrun(0, 0, 0, size + by);
        vm.run(0, 0, 3 * size - 1, 1);
        EXPECT_TRUE(vm.collect().everything);
        EXPECT_EQ(vm.lost(), nothing);
        vm.run(0, 0, 0, size);
        vm.collect();
        vm.run(0, 0, size, size);
        const Collected collected = vm.collect();
        EXPECT_EQ(collected.pages, range(0, size, size));
        EXPECT_FALSE(collected.everything);
        EXPECT_EQ(vm.source.statistics(0).overruns, 1U);
        EXPECT_EQ(vm.source.statistics(0).lost, by);
    }
}

}  // namespace
}  // namespace dirtyring
