// SPDX-License-Identifier: MIT
#include "dirtyring/throttle.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <thread>
#include <vector>

#include "must.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using fake::TrackedVm;
using Clock = DirtyQuota::Clock;

// Quota, by a clock of its own
// ---------------------------------------------------------------------------------------------

constexpr double target = 25'600;                        // pages a second: 100 MiB
constexpr double fast = 1'000'000;                       // what a vCPU hardly exceeds
constexpr std::uint64_t large_ring = 65'536 - 64 - 512;  // its soft limit

/// A vCPU that writes as `rate` says: pages a second, by the seconds that it has been in the guest.
struct Writer {
    std::function<double(double)> rate;
    bool kicked = true;  // as soon as it is due, within a millisecond
    double quota = target;

    double time = 0;
    double logged = 0;
    double held = 0;       // seconds
    double most_over = 0;  // pages beyond the quota, at the end of any hold

    void run(double until) {
        const Clock::time_point start{};
        const auto now = [&] {
            return start +
                   std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(time));
        };
        const auto pages = [this] { return static_cast<std::uint64_t>(logged); };
        DirtyQuota limit(quota, pages(), now());
        std::uint64_t at_exit = pages();
        while (time < until) {
            constexpr double step = 0.001;
            time += step;
            logged += rate(time - held) * step;
            if (pages() - at_exit < large_ring && !(kicked && limit.due(pages()))) {
                continue;
            }
            const double wait = std::chrono::duration<double>(limit.charge(pages(), now())).count();
            time += wait;
            held += wait;
            at_exit = pages();
            most_over = std::max(most_over, logged - quota * time);
        }
    }
    /// Of its quota.
    [[nodiscard]] double share() const { return logged / time / quota; }
};

TEST(DirtyQuota, AFastWriterHasItsQuotaAfterTwoSeconds) {
    for (const double times : {1.2, 2.0, 10.0, 40.0}) {
        Writer writer{[=](double) { return times * target; }};
        writer.run(2);
        EXPECT_NEAR(writer.share(), 1, 0.1) << times;
        EXPECT_GT(writer.held, 0.1) << times;
    }
}

TEST(DirtyQuota, SoHasOneWithALargeOrASmallQuota) {
    for (const double quota : {target / 5, 10 * target}) {
        Writer writer{.rate = [](double) { return fast; }, .quota = quota};
        writer.run(2);
        EXPECT_NEAR(writer.share(), 1, 0.1) << quota;
    }
}

TEST(DirtyQuota, ABurstIsPaidForAfterwards) {
    // A tenth of the time at 20 times the quota. What it does not use in the rest is lost.
    Writer writer{[](double time) { return std::fmod(time, 0.5) < 0.05 ? 20 * target : 0; }};
    writer.run(2);
    EXPECT_LT(writer.share(), 1.1);
    EXPECT_GT(writer.share(), 0.5);
    EXPECT_GT(writer.held, 0.9);
}

TEST(DirtyQuota, WhoWasIdleIsNoRicherForIt) {
    Writer writer{[](double time) { return time < 10 ? 0 : fast; }};
    writer.run(12);
    EXPECT_NEAR(writer.logged / (2 * target), 1, 0.1);
}

// With a large ring, and nobody who kicks: the first exit comes after 65 ms.
TEST(DirtyQuota, ExitsThatComeLateAreMadeUpForByLongHolds) {
    Writer writer{.rate = [](double) { return fast; }, .kicked = false};
    writer.run(2);  // and to the end of the hold
    EXPECT_NEAR(writer.share(), 1, 0.1);
    EXPECT_LE(writer.most_over, 0.05 * target);
    EXPECT_GT(writer.held, 2);
    writer.run(20);
    EXPECT_NEAR(writer.share(), 1, 0.1);
}

TEST(DirtyQuota, ASlowWriterIsNeverHeld) {
    for (const bool kicked : {true, false}) {
        Writer steady{.rate = [](double) { return 0.95 * target; }, .kicked = kicked};
        steady.run(20);
        EXPECT_EQ(steady.held, 0) << kicked;
        Writer uneven{
            .rate = [](double time) { return std::fmod(time, 0.02) > 0.01 ? 1.9 * target : 0; },
            .kicked = kicked};
        uneven.run(20);
        EXPECT_EQ(uneven.held, 0) << kicked;
    }
}

TEST(DirtyQuota, IsDueAfterTenMillisecondsWorth) {
    DirtyQuota quota(1000, 500, Clock::time_point());
    EXPECT_FALSE(quota.due(500));
    EXPECT_FALSE(quota.due(509));
    EXPECT_TRUE(quota.due(510));
    static_cast<void>(quota.charge(510, Clock::time_point()));
    EXPECT_FALSE(quota.due(519));
    EXPECT_TRUE(quota.due(520));
}

TEST(DirtyQuota, WhatWasLoggedBeforeIsNotCharged) {
    DirtyQuota quota(1000, 1'000'000, Clock::time_point());
    EXPECT_EQ(quota.charge(1'000'100, Clock::time_point()), std::chrono::milliseconds(100));
}

// What is read of a ring that is out of step is some number; and two threads may come here in
// another order than they have read in.
TEST(DirtyQuota, ACountThatGoesBackIsNoNews) {
    DirtyQuota quota(1000, 500, Clock::time_point());
    EXPECT_EQ(quota.charge(400, Clock::time_point()).count(), 0);
    EXPECT_FALSE(quota.due(400));
    EXPECT_EQ(quota.charge(600, Clock::time_point()), std::chrono::milliseconds(100));
    EXPECT_EQ(quota.charge(450, Clock::time_point()), std::chrono::milliseconds(100));
    EXPECT_EQ(quota.charge(600, Clock::time_point()), std::chrono::milliseconds(100));
    EXPECT_EQ(quota.charge(610, Clock::time_point()), std::chrono::milliseconds(110));
}

// Throttle
// ---------------------------------------------------------------------------------------------

class ThrottleTest : public ::testing::Test {
  protected:
    using Numbers = std::vector<std::size_t>;

    void store(std::uint32_t vcpu, std::uint64_t pages) {
        for (std::uint64_t i = 0; i < pages; ++i) {
            vm_.store(vcpu, 0, next_++ % 1024);
        }
    }

    TrackedVm vm_{{.vcpus = 2, .entries = 256, .slots = {{0, 1024}}}};
    Numbers kicked_;
    std::uint64_t next_ = 0;
    // One page a second: whoever is held stays so until the release.
    Throttle throttle_{vm_.tracker, 1, [this](std::size_t vcpu) { kicked_.push_back(vcpu); }};
};

TEST_F(ThrottleTest, KicksOnceWhoHasLoggedEnoughToBeHeld) {
    EXPECT_EQ(throttle_.kick_due(), 0U);  // from now on it counts
    store(1, 1);
    EXPECT_EQ(throttle_.kick_due(), 1U);
    EXPECT_EQ(throttle_.kick_due(), 0U);  // it is on its way
    EXPECT_EQ(kicked_, (Numbers{1}));
    store(0, 1);
    store(1, 1);
    EXPECT_EQ(throttle_.kick_due(), 1U);
    EXPECT_EQ(kicked_, (Numbers{1, 0}));
}

TEST_F(ThrottleTest, ARemovedVcpuIsNotKicked) {
    EXPECT_EQ(throttle_.kick_due(), 0U);
    store(0, 1);
    store(1, 1);
    must(vm_.tracker.remove_vcpu(1, VcpuStopped()));
    EXPECT_EQ(throttle_.kick_due(), 1U);
    EXPECT_EQ(kicked_, (Numbers{0}));
}

TEST_F(ThrottleTest, WhoHasLoggedNothingIsNotHeld) {
    store(0, 100);
    throttle_.hold(0);  // what was logged before is not charged
    throttle_.hold(0);
    throttle_.hold(1);
    EXPECT_EQ(vm_.tracker.statistics().all.stopped_nanoseconds, 0U);
}

TEST_F(ThrottleTest, ReleaseLetsWhoIsHeldGoOnAndHoldsNobodyAgain) {
    EXPECT_EQ(throttle_.kick_due(), 0U);
    store(0, 100);
    std::thread held([this] { throttle_.hold(0); });
    throttle_.release();
    held.join();
    store(0, 50);
    throttle_.hold(0);
    EXPECT_EQ(throttle_.kick_due(), 0U);
    EXPECT_EQ(kicked_, Numbers());
}

TEST_F(ThrottleTest, TheTimeOfAHoldIsTheVcpus) {
    Throttle quick(vm_.tracker, page_size * 10'000, {});
    quick.hold(0);
    const auto stopped = [this](std::size_t vcpu) {
        return vm_.tracker.statistics().vcpus[vcpu].stopped_nanoseconds;
    };
    // 15 ms' worth; on a busy machine all of that may have passed by the time of the hold.
    for (int i = 0; i < 100 && stopped(0) == 0; ++i) {
        store(0, 150);
        quick.hold(0);
        must(vm_.tracker.drain());
    }
    EXPECT_GT(stopped(0), 0U);
    EXPECT_EQ(stopped(1), 0U);
}

TEST_F(ThrottleTest, AHeldVcpuMayBeKickedAgain) {
    Throttle quick(vm_.tracker, page_size * 1000,
                   [this](std::size_t vcpu) { kicked_.push_back(vcpu); });
    EXPECT_EQ(quick.kick_due(), 0U);
    store(0, 10);
    EXPECT_EQ(quick.kick_due(), 1U);
    quick.hold(0);
    store(0, 10);
    EXPECT_EQ(quick.kick_due(), 1U);
    EXPECT_EQ(kicked_, (Numbers{0, 0}));
}

TEST(ThrottleWithBitmap, NobodyIsHeld) {
    TrackedVm vm({.log = fake::Log::bitmap, .slots = {{0, 1024}}});
    must(vm.tracker.add_vcpu(fake::Kernel::fd()));
    Throttle throttle(vm.tracker, 1, [](std::size_t) { ADD_FAILURE(); });
    for (std::uint64_t page = 0; page < 1000; ++page) {
        vm.store(0, 0, page);
    }
    throttle.hold(0);
    EXPECT_EQ(throttle.kick_due(), 0U);
}

}  // namespace
}  // namespace dirtyring
