// SPDX-License-Identifier: MIT
#include "dirtyring/reaper.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <functional>
#include <memory>
#include <thread>

#include "dirtyring/source/ring_source.hpp"
#include "must.hpp"
#include "plain_source.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using namespace std::chrono_literals;

using fake::PageList;
using fake::TrackedVm;

// The pace, by a clock of its own
// ---------------------------------------------------------------------------------------------

/// A ring that fills at some rate, looked at when the pace says so, and drained when half full.
struct Simulation {
    std::uint32_t entries;
    ReaperPace pace = {};
    ReaperPace::Clock::time_point now = ReaperPace::Clock::now();
    double fill = 0;
    double fullest = 0;
    std::uint64_t looks = 0;
    std::uint64_t drains = 0;
    std::chrono::nanoseconds shortest = 1h;
    std::chrono::nanoseconds longest = 0ns;

    void run(double per_second, std::chrono::nanoseconds time) {
        for (const auto end = now + time; now < end;) {
            fullest = std::max(fullest, fill);
            const auto logged = static_cast<std::uint32_t>(std::min<double>(fill, entries));
            const std::chrono::nanoseconds wait = pace.next(entries, logged, now);
            ++looks;
            if (ReaperPace::drain_is_due(entries, logged)) {
                fill = 0;
                ++drains;
            }
            shortest = std::min(shortest, wait);
            longest = std::max(longest, wait);
            now += wait;
            fill += per_second * std::chrono::duration<double>(wait).count();
        }
    }
};

TEST(ReaperPace, ADrainIsDueFromHalfARingOn) {
    EXPECT_FALSE(ReaperPace::drain_is_due(256, 0));
    EXPECT_FALSE(ReaperPace::drain_is_due(256, 127));
    EXPECT_TRUE(ReaperPace::drain_is_due(256, 128));
    EXPECT_TRUE(ReaperPace::drain_is_due(256, 256));
}

TEST(ReaperPace, ASteadyWritersRingNeverFills) {
    for (const std::uint32_t entries : {1024U, 4096U, 65'536U}) {
        for (const double per_second : {1e3, 1e5, 1e6}) {
            Simulation ring{entries};
            ring.run(per_second, 2s);
            const double most = std::max(0.63 * entries, per_second * 1e-3);
            EXPECT_LE(ring.fullest, most) << entries << " entries, " << per_second << " a second";
            EXPECT_LT(ring.fullest, entries)
                << entries << " entries, " << per_second << " a second";
            EXPECT_GE(static_cast<double>(ring.drains + 1) * 0.63 * entries, 2 * per_second)
                << entries << " entries, " << per_second << " a second";
        }
    }
}

TEST(ReaperPace, AWriterWhoBeginsAfterAPauseIsSeenInTime) {
    for (const std::uint32_t entries : {4096U, 65'536U}) {
        Simulation ring{entries};
        ring.run(0, 10s);
        ring.run(1e6, 100ms);
        EXPECT_LE(ring.fullest, 0.75 * entries) << entries;
    }
}

TEST(ReaperPace, LooksGetFewerWhereNothingIsLogged) {
    Simulation ring{65'536};
    ring.run(1e6, 100ms);
    ring.run(0, 1s);  // and to be sure that the ring has been left
    const std::uint64_t before = ring.looks;
    ring.run(0, 10s);
    EXPECT_LE(ring.looks - before, 10'000 / 16 + 1);
    EXPECT_EQ(ring.longest, 65'536 * 250ns);
    // Twice as long each time.
    ReaperPace pace;
    const auto now = ReaperPace::Clock::now();
    static_cast<void>(pace.next(65'536, 0, now));
    std::chrono::nanoseconds wait = pace.next(65'536, 30'000, now + 1us);
    EXPECT_EQ(wait, 100us);
    for (int i = 1; i <= 10; ++i) {
        const std::chrono::nanoseconds next = pace.next(65'536, 30'000, now + i * 1s);
        EXPECT_EQ(next, std::min<std::chrono::nanoseconds>(2 * wait, 65'536 * 250ns));
        wait = next;
    }
}

TEST(ReaperPace, AFewLooksAreEnoughForADrain) {
    Simulation ring{65'536};
    ring.run(1e5, 10s);  // 30 half rings
    EXPECT_GE(ring.drains, 20U);
    EXPECT_LE(ring.looks, 3 * ring.drains + 10'000 / 16);
}

TEST(ReaperPace, EveryWaitIsWithinBounds) {
    for (const std::uint32_t entries : {0U, 1U, 256U, 65'536U, 1U << 20}) {
        for (const double per_second : {0.0, 1.0, 1e4, 1e9}) {
            Simulation ring{entries};
            ring.run(per_second, 500ms);
            EXPECT_GE(ring.shortest, 100us) << entries << ", " << per_second;
            EXPECT_LE(ring.longest, 50ms) << entries << ", " << per_second;
        }
    }
}

// The clock runs from the start of the machine, months ago perhaps.
TEST(ReaperPace, TheFirstLookAtARingThatHasSomethingIsAsAnyOther) {
    for (const auto since_boot : {1h, 24h * 10, 24h * 1000}) {
        ReaperPace pace;
        EXPECT_EQ(pace.next(65'536, 1, ReaperPace::Clock::time_point(since_boot)), 65'536 * 250ns);
    }
}

TEST(ReaperPace, WhatOthersHaveDrainedIsNotCountedTwice) {
    ReaperPace pace;
    const auto now = ReaperPace::Clock::now();
    static_cast<void>(pace.next(65'536, 0, now));
    static_cast<void>(pace.next(65'536, 20'000, now + 10ms));
    // 10,000 in 10 ms, not 2^32 less 10,000: a quarter of the ring, at half of a million a second.
    const std::chrono::nanoseconds wait = pace.next(65'536, 10'000, now + 20ms);
    EXPECT_NEAR(static_cast<double>(wait.count()), (32'768 - 10'000) * 1000. / 2, 1000);
}

// The thread
// ---------------------------------------------------------------------------------------------

/// Until it is so; false where it is not in a minute.
bool comes_true(const std::function<bool()>& is) {
    const auto end = std::chrono::steady_clock::now() + 1min;
    while (!is()) {
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

class ReaperTest : public ::testing::Test {
  protected:
    TrackedVm vm_{{.vcpus = 2, .entries = 256, .slots = {{0, 1024}}}};
    const RingSource& rings_ = *vm_.tracker.source().rings();
};

TEST_F(ReaperTest, RingsAreDrainedBeforeTheyAreFull) {
    Consumer consumer = vm_.tracker.add_consumer();
    const std::unique_ptr<Reaper> reaper = must(Reaper::start(vm_.tracker));
    for (std::uint64_t half = 0; half < 8; ++half) {
        const std::uint64_t drains = reaper->drains();
        for (std::uint64_t page = 0; page < 128; ++page) {
            vm_.store(half % 2 == 0 ? 0 : 1, 0, 128 * half + page);
        }
        ASSERT_TRUE(comes_true([&] { return reaper->drains() > drains; })) << half;
    }
    must(reaper->stop());
    EXPECT_EQ(fake::collected(consumer), fake::range(0, 0, 1024));
    const Statistics statistics = vm_.tracker.statistics();
    EXPECT_EQ(statistics.all.full_exits, 0U);
    EXPECT_EQ(statistics.all.overruns, 0U);
    EXPECT_EQ(reaper->drains(), 8U);
}

TEST_F(ReaperTest, VcpusMayComeAndGo) {
    const std::unique_ptr<Reaper> reaper = must(Reaper::start(vm_.tracker));
    fake::Kernel other({.entries = 128, .slots = {{0, 1024}}});
    const std::size_t added = must(vm_.tracker.add_vcpu(must(Ring::over(other.ring(0)))));
    must(vm_.tracker.remove_vcpu(0, VcpuStopped()));
    for (std::uint64_t page = 0; page < 64; ++page) {
        ASSERT_TRUE(other.write(0, 0, page));
    }
    EXPECT_TRUE(comes_true([&] { return rings_.statistics(added).entries == 64; }));
    must(vm_.tracker.remove_vcpu(added, VcpuStopped()));
    must(vm_.tracker.remove_vcpu(1, VcpuStopped()));
    must(reaper->stop());
}

TEST_F(ReaperTest, AnErrorEndsItAndStopTellsIt) {
    const std::unique_ptr<Reaper> reaper = must(Reaper::start(vm_.tracker));
    EXPECT_TRUE(reaper->status());
    vm_.faults.fail_next(faulty::Call::ioctl, EIO);
    for (std::uint64_t page = 0; page < 128; ++page) {
        vm_.store(0, 0, page);
    }
    ASSERT_TRUE(comes_true([&] { return !reaper->status(); }));
    EXPECT_EQ(reaper->status().error().operation, "KVM_RESET_DIRTY_RINGS");
    for (int times = 0; times < 2; ++times) {
        const Result<void> stopped = reaper->stop();
        ASSERT_FALSE(stopped);
        EXPECT_EQ(stopped.error().code, EIO);
    }
    EXPECT_EQ(reaper->drains(), 1U);
}

TEST_F(ReaperTest, StopEndsItAndMoreThanOnceIsOnce) {
    std::unique_ptr<Reaper> reaper = must(Reaper::start(vm_.tracker));
    must(reaper->stop());
    must(reaper->stop());
    for (std::uint64_t page = 0; page < 128; ++page) {
        vm_.store(0, 0, page);
    }
    reaper.reset();
    EXPECT_EQ(rings_.fill(), 128U);
    // Without a stop of its own.
    reaper = must(Reaper::start(vm_.tracker));
    reaper.reset();
}

TEST_F(ReaperTest, KicksWhoIsToBeHeldInAThreadWithoutSignals) {
    std::atomic<std::size_t> kicked = ~std::size_t{0};
    std::atomic<bool> blocked = false;
    Throttle throttle(vm_.tracker, 1, [&](std::size_t vcpu) {
        sigset_t mask;
        pthread_sigmask(SIG_SETMASK, nullptr, &mask);
        blocked = sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGTERM) == 1;
        kicked = vcpu;
    });
    EXPECT_EQ(throttle.kick_due(), 0U);  // counts from here on
    const std::unique_ptr<Reaper> reaper = must(Reaper::start(vm_.tracker, &throttle));
    vm_.store(1, 0, 5);
    EXPECT_TRUE(comes_true([&] { return kicked == 1; }));
    must(reaper->stop());
    EXPECT_TRUE(blocked);
    EXPECT_EQ(reaper->drains(), 0U);  // one entry is no reason
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    EXPECT_EQ(sigismember(&mask, SIGUSR1), 0);
}

TEST_F(ReaperTest, WithoutAThreadTheErrorSaysSo) {
    pthread_attr_t before;
    ASSERT_EQ(pthread_getattr_default_np(&before), 0);
    pthread_attr_t greedy;
    ASSERT_EQ(pthread_attr_init(&greedy), 0);
    ASSERT_EQ(pthread_attr_setstacksize(&greedy, std::size_t{1} << 46), 0);
    ASSERT_EQ(pthread_setattr_default_np(&greedy), 0);
    const Result<std::unique_ptr<Reaper>> reaper = Reaper::start(vm_.tracker);
    ASSERT_EQ(pthread_setattr_default_np(&before), 0);
    ASSERT_FALSE(reaper);
    EXPECT_EQ(reaper.error().code, EAGAIN);
    EXPECT_EQ(reaper.error().operation, "Reaper::start");
}

TEST(ReaperWithoutRings, IsNotStarted) {
    Tracker tracker(std::make_unique<fake::PlainSource>(MemoryMap()));
    const Result<std::unique_ptr<Reaper>> reaper = Reaper::start(tracker);
    ASSERT_FALSE(reaper);
    EXPECT_EQ(reaper.error().code, EINVAL);
    EXPECT_EQ(reaper.error().operation, "Reaper::start");
    EXPECT_NE(reaper.error().message().find("does not fill"), std::string::npos);
}

}  // namespace
}  // namespace dirtyring
