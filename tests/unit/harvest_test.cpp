// SPDX-License-Identifier: MIT
#include "dirtyring/harvest.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>

#include "fake_kernel.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

using PageList = std::vector<std::uint64_t>;

PageList pages_of(const DirtySet& set, std::size_t place = 0) {
    PageList all;
    set.pages(place).for_each([&](std::uint64_t page) { all.push_back(page); });
    return all;
}

class HarvestTest : public ::testing::Test {
  protected:
    HarvestTest() { kernel_.answer(faults_); }

    void write(std::uint32_t vcpu, const PageList& pages) {
        for (const std::uint64_t page : pages) {
            ASSERT_TRUE(kernel_.write(vcpu, 0, page));
        }
    }
    void take_all() {
        harvest_.take(ring0_);
        harvest_.take(ring1_);
    }

    fake::Kernel kernel_{{.vcpus = 2, .entries = 256}};
    faulty::Faults faults_;
    Ring ring0_ = must(Ring::over(kernel_.ring(0)));
    Ring ring1_ = must(Ring::over(kernel_.ring(1)));
    Harvest harvest_{kernel_.memory()};
    ResetHandle handle_{fake::Kernel::fd()};
};

TEST_F(HarvestTest, TakesWhatIsLoggedAndCountsIt) {
    write(0, {5, 900, 6});
    EXPECT_EQ(harvest_.take(ring0_), 3U);
    EXPECT_EQ(harvest_.unreset(), 3U);
    EXPECT_EQ(pages_of(harvest_.pages(AllVcpusStopped())), (PageList{5, 6, 900}));
    EXPECT_EQ(harvest_.take(ring0_), 0U);
    EXPECT_EQ(harvest_.unreset(), 3U);
}

TEST_F(HarvestTest, APageOnSeveralRingsIsFreshOnce) {
    kernel_.push(0, 0, 5);
    kernel_.push(1, 0, 5);
    kernel_.push(1, 0, 6);
    std::uint64_t fresh = 0;
    EXPECT_EQ(harvest_.take(ring0_, fresh), 1U);
    EXPECT_EQ(fresh, 1U);
    EXPECT_EQ(harvest_.take(ring1_, fresh), 2U);
    EXPECT_EQ(fresh, 2U);
    EXPECT_EQ(harvest_.unreset(), 3U);
}

TEST_F(HarvestTest, EntriesThatNamePagesOfNoSlotAreStaleAndStillReset) {
    kernel_.push(0, 7, 5);
    kernel_.push(0, 0, 1024);
    kernel_.push(0, ~std::uint32_t{0}, ~std::uint64_t{0});
    std::uint64_t fresh = 0;
    EXPECT_EQ(harvest_.take(ring0_, fresh), 3U);
    EXPECT_EQ(fresh, 0U);
    EXPECT_EQ(harvest_.stale(), 3U);
    kernel_.push(0, 7, 6);
    EXPECT_EQ(harvest_.take(ring0_), 1U);
    EXPECT_EQ(harvest_.stale(), 4U);
    EXPECT_EQ(must(handle_.settle(harvest_)).entries, 4U);
}

TEST_F(HarvestTest, OneTakeIsAtMostOneRing) {
    for (std::uint64_t page = 0; page < 256; ++page) {
        kernel_.push(0, 0, page);
    }
    EXPECT_EQ(harvest_.take(ring0_), 256U);
    EXPECT_EQ(harvest_.take(ring0_), 0U);
}

TEST_F(HarvestTest, ASoftFullRingHasRoomAgainAfterItsReset) {
    std::uint64_t page = 0;
    while (kernel_.write(0, 0, page)) {
        ++page;
    }
    EXPECT_EQ(page, 192U);
    EXPECT_EQ(harvest_.take(ring0_), 192U);
    EXPECT_FALSE(kernel_.write(0, 0, page));  // reading alone makes no room
    EXPECT_EQ(must(handle_.settle(harvest_)).entries, 192U);
    EXPECT_TRUE(kernel_.write(0, 0, page));
}

TEST_F(HarvestTest, ResetGivesThePagesAndArmsThem) {
    write(0, {5, 6});
    write(1, {7});
    take_all();
    EXPECT_FALSE(kernel_.armed(0, 5));
    ResetReport report;
    const Pages pages = must(handle_.reset(std::move(harvest_), &report));
    EXPECT_EQ(pages_of(pages.set()), (PageList{5, 6, 7}));
    EXPECT_FALSE(pages.everything());
    EXPECT_EQ(report.entries, 3U);
    EXPECT_EQ(report.calls, 1U);
    EXPECT_FALSE(report.suspect());
    for (const std::uint64_t page : PageList{5, 6, 7}) {
        EXPECT_TRUE(kernel_.armed(0, page)) << page;
    }
}

TEST_F(HarvestTest, NothingTakenIsNothingReset) {
    write(0, {5});
    const Pages pages = must(handle_.reset(std::move(harvest_)));
    EXPECT_EQ(pages.size(), 0U);
    EXPECT_EQ(kernel_.resets(), 0U);
}

TEST_F(HarvestTest, SettledPagesStayForALaterReset) {
    write(0, {5});
    take_all();
    EXPECT_EQ(must(handle_.settle(harvest_)).entries, 1U);
    EXPECT_EQ(harvest_.unreset(), 0U);
    write(0, {5, 6});  // logged again, as 5 is armed
    take_all();
    EXPECT_EQ(harvest_.unreset(), 2U);
    EXPECT_EQ(pages_of(must(handle_.reset(std::move(harvest_))).set()), (PageList{5, 6}));
}

TEST_F(HarvestTest, RecycledStorageBeginsEmpty) {
    write(0, {5});
    kernel_.push(0, 9, 9);
    take_all();
    Harvest again(must(handle_.reset(std::move(harvest_))).recycle());
    EXPECT_EQ(again.memory().slots().size(), 1U);
    EXPECT_EQ(again.unreset(), 0U);
    EXPECT_EQ(again.stale(), 0U);
    EXPECT_EQ(must(handle_.reset(std::move(again))).size(), 0U);
}

TEST_F(HarvestTest, OtherStorageIsNotUsedWhereThereIsSomethingInItsOwn) {
    DirtySet storage(kernel_.memory());
    write(0, {5});
    take_all();
    harvest_.use(storage);
    EXPECT_TRUE(storage.empty());
    EXPECT_EQ(pages_of(must(handle_.reset(std::move(harvest_))).set()), PageList{5});

    Harvest stale(kernel_.memory());
    kernel_.push(0, 9, 9);
    stale.take(ring0_);
    stale.use(storage);
    EXPECT_EQ(stale.stale(), 1U);
}

// Signals
// ---------------------------------------------------------------------------------------------

TEST_F(HarvestTest, AllSignalsAreBlockedDuringTheResetAndTheMaskIsBackAfterwards) {
    sigset_t usr2;
    sigset_t before;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &usr2, &before), 0);
    int unblocked = 0;
    kernel_.during_reset(1, [&] {
        sigset_t mask;
        ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &mask), 0);
        for (int signal = 1; signal <= SIGRTMAX; ++signal) {
            // glibc keeps 32 and 33 for itself and lets no program block them.
            const bool blockable =
                signal != SIGKILL && signal != SIGSTOP && (signal < 32 || signal >= SIGRTMIN);
            unblocked += blockable && sigismember(&mask, signal) == 0 ? 1 : 0;
        }
    });
    write(0, {5});
    take_all();
    ASSERT_TRUE(handle_.settle(harvest_));
    EXPECT_EQ(unblocked, 0);
    sigset_t after;
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, &after), 0);
    EXPECT_EQ(sigismember(&after, SIGUSR2), 1);
    EXPECT_EQ(sigismember(&after, SIGUSR1), 0);
    EXPECT_EQ(sigismember(&after, SIGTERM), 0);
}

TEST_F(HarvestTest, ASignalThatCanBeBlockedCostsNothing) {
    write(0, {5, 6, 7});
    take_all();
    kernel_.signal_after(1);
    ResetReport report;
    const Pages pages = must(handle_.reset(std::move(harvest_), &report));
    EXPECT_EQ(report.calls, 1U);
    EXPECT_FALSE(report.suspect());
    EXPECT_FALSE(pages.everything());
    EXPECT_TRUE(kernel_.armed(0, 5) && kernel_.armed(0, 6) && kernel_.armed(0, 7));
}

TEST_F(HarvestTest, AShortResetGoesOnUntilTheCountIsMetAndIsReported) {
    write(0, {5, 6, 7});
    write(1, {800});
    take_all();
    kernel_.kill_after(2);
    ResetReport report;
    const Pages pages = must(handle_.reset(std::move(harvest_), &report));
    EXPECT_EQ(report.entries, 4U);
    EXPECT_EQ(report.calls, 2U);
    EXPECT_TRUE(report.short_return);
    EXPECT_EQ(report.missing, 0U);
    EXPECT_TRUE(report.suspect());
    // 5 and 6 were of the batch that was under way.
    EXPECT_FALSE(kernel_.armed(0, 5));
    EXPECT_FALSE(kernel_.armed(0, 6));
    EXPECT_TRUE(kernel_.armed(0, 7));
    EXPECT_TRUE(pages.everything());
    EXPECT_EQ(pages.size(), 1024U);
}

// Nobody blocks what cannot be blocked: a first call that takes nothing must not end the loop
// silently.
TEST_F(HarvestTest, AResetThatTakesNothingIsReportedAsMissing) {
    write(0, {5, 6, 7});
    take_all();
    kernel_.kill_after(0);
    ResetReport report;
    const Pages pages = must(handle_.reset(std::move(harvest_), &report));
    EXPECT_EQ(report.entries, 0U);
    EXPECT_EQ(report.missing, 3U);
    EXPECT_TRUE(report.suspect());
    EXPECT_TRUE(pages.everything());
}

TEST_F(HarvestTest, WhatTheKernelDoesNotTakeIsMissing) {
    write(0, {5, 6, 7});
    take_all();
    kernel_.ring(0)[1].flags = KVM_DIRTY_GFN_F_DIRTY;  // as an overrun writes over an entry
    ResetReport report;
    const Pages pages = must(handle_.reset(std::move(harvest_), &report));
    EXPECT_EQ(report.entries, 1U);
    EXPECT_EQ(report.missing, 2U);
    EXPECT_FALSE(report.short_return);
    EXPECT_TRUE(pages.everything());
}

TEST_F(HarvestTest, WhatWasMissingOnceDoesNotMakeALaterResetAShortOne) {
    write(0, {5, 6});
    take_all();
    kernel_.ring(0)[1].flags = KVM_DIRTY_GFN_F_DIRTY;
    const ResetReport first = must(handle_.settle(harvest_));
    EXPECT_EQ(first.missing, 1U);
    EXPECT_TRUE(first.suspect());
    write(1, {7});
    take_all();
    const ResetReport second = must(handle_.settle(harvest_));
    EXPECT_EQ(second.entries, 1U);
    EXPECT_FALSE(second.suspect());
}

// Errors
// ---------------------------------------------------------------------------------------------

TEST_F(HarvestTest, AFailedResetLeavesTheHarvestAsItWas) {
    write(0, {5, 6});
    take_all();
    faults_.fail_next(faulty::Call::ioctl, EBADF);
    const Result<Pages> failed = handle_.reset(std::move(harvest_));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EBADF);
    EXPECT_NE(failed.error().message().find("KVM_RESET_DIRTY_RINGS"), std::string::npos);
    EXPECT_EQ(harvest_.unreset(), 2U);
    EXPECT_EQ(pages_of(harvest_.pages(AllVcpusStopped())), (PageList{5, 6}));

    const Pages pages = must(handle_.reset(std::move(harvest_)));
    EXPECT_EQ(pages_of(pages.set()), (PageList{5, 6}));
    EXPECT_TRUE(kernel_.armed(0, 5) && kernel_.armed(0, 6));
}

TEST_F(HarvestTest, ASignalMaskThatCannotBeSetIsAnError) {
    write(0, {5});
    take_all();
    faults_.fail_next(faulty::Call::thread_sigmask, EINVAL);
    const Result<ResetReport> failed = handle_.settle(harvest_);
    ASSERT_FALSE(failed);
    EXPECT_NE(failed.error().message().find("pthread_sigmask"), std::string::npos);
    EXPECT_EQ(kernel_.resets(), 0U);
    EXPECT_EQ(must(handle_.settle(harvest_)).entries, 1U);
}

// The first call of two took entries, of which it forgot some, and the second failed.
TEST_F(HarvestTest, AnErrorInTheMiddleDoesNotHideAShortReset) {
    write(0, {5, 300, 600});
    take_all();
    kernel_.kill_after(1);
    faults_.fail_next(faulty::Call::ioctl, EBADF, 1);
    ASSERT_FALSE(handle_.settle(harvest_));
    EXPECT_FALSE(kernel_.armed(0, 5));
    EXPECT_TRUE(must(handle_.settle(harvest_)).suspect());
    EXPECT_TRUE(kernel_.armed(0, 300) && kernel_.armed(0, 600));
}

TEST_F(HarvestTest, AVmWithoutRingsSaysSo) {
    fake::Kernel without({.log = fake::Log::bitmap});
    without.answer(faults_);
    const Result<std::uint32_t> reset = handle_.reset_once();
    ASSERT_FALSE(reset);
    EXPECT_EQ(reset.error().code, EINVAL);
    EXPECT_NE(reset.error().message().find("no dirty rings"), std::string::npos);
}

TEST_F(HarvestTest, TheHandleBorrowsTheDescriptor) {
    EXPECT_EQ(faults_.calls(faulty::Call::close), 0U);
    {
        const ResetHandle handle(fake::Kernel::fd());
    }
    EXPECT_EQ(faults_.calls(faulty::Call::close), 0U);
}

}  // namespace
}  // namespace dirtyring
