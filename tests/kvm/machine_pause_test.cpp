// SPDX-License-Identifier: MIT
//
// Holding vCPUs still, from any thread, whatever they are doing.
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>

#include "machine_fixture.hpp"

namespace dirtyring {
namespace {

using machine::Config;
using machine::End;
using machine::Machine;

class MachinePauseTest : public MachineTest {
  protected:
    /// Where vCPU `i` of a counting machine counts.
    static constexpr std::uint64_t counter(std::uint32_t vcpu) {
        return 0x500000 + vcpu * page_size;
    }

    static std::unique_ptr<Machine> make_counting(std::uint32_t vcpus) {
        return make_flat({0x89, 0xf0,                                // mov %esi,%eax
                          0xc1, 0xe0, 0x0c,                          // shl $12,%eax
                          0x48, 0xff, 0x80, 0x00, 0x00, 0x50, 0x00,  // 1: incq 0x500000(%rax)
                          0xeb, 0xf7},                               // jmp 1b
                         {.vcpus = vcpus});
    }

    static std::vector<std::uint64_t> counts(Machine& machine) {
        std::vector<std::uint64_t> counts;
        for (std::uint32_t i = 0; i < machine.vcpu_count(); ++i) {
            counts.push_back(word(machine, counter(i)));
        }
        return counts;
    }

    /// Waits until every vCPU counts beyond what it had.
    static void wait_for_progress(Machine& machine, const std::vector<std::uint64_t>& before) {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        for (std::uint32_t i = 0; i < before.size(); ++i) {
            while (word(machine, counter(i)) == before[i]) {
                ASSERT_LT(std::chrono::steady_clock::now(), deadline)
                    << "vCPU " << i << " does not run";
                std::this_thread::yield();
            }
        }
    }

    /// While the machine is paused: no vCPU moves, though the others' threads get the CPU.
    static void expect_still(Machine& machine) {
        const std::vector<std::uint64_t> before = counts(machine);
        for (int i = 0; i < 20; ++i) {
            std::this_thread::yield();
            ASSERT_EQ(counts(machine), before);
        }
    }
};

TEST_F(MachinePauseTest, NothingMovesWhilePausedAndEverythingAfterwards) {
    const auto machine = make_counting(4);
    must(machine->start());
    for (int i = 0; i < 20; ++i) {
        wait_for_progress(*machine, counts(*machine));
        machine->pause();
        ASSERT_NO_FATAL_FAILURE(expect_still(*machine));
        must(machine->resume());
    }
    machine->stop();
    expect_still(*machine);
}

TEST_F(MachinePauseTest, SeveralThreadsPauseAtOnce) {
    const auto machine = make_counting(4);
    must(machine->start());
    wait_for_progress(*machine, counts(*machine));
    std::atomic<int> moved = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 30; ++i) {
                machine->pause();
                const std::vector<std::uint64_t> before = counts(*machine);
                std::this_thread::yield();
                moved += counts(*machine) != before ? 1 : 0;
                must(machine->resume());
            }
        });
    }
    threads.emplace_back([&] {
        for (std::uint32_t i = 0; i < 100; ++i) {
            machine->kick(i % 4);
        }
    });
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(moved, 0);
    wait_for_progress(*machine, counts(*machine));
}

TEST_F(MachinePauseTest, PausesAreCounted) {
    const auto machine = make_counting(2);
    must(machine->start());
    wait_for_progress(*machine, counts(*machine));
    machine->pause();
    machine->pause();
    must(machine->resume());
    expect_still(*machine);
    must(machine->resume());
    wait_for_progress(*machine, counts(*machine));

    const Result<void> too_often = machine->resume();
    ASSERT_FALSE(too_often);
    EXPECT_EQ(too_often.error().code, EINVAL);
    EXPECT_EQ(too_often.error().operation, "resume the machine");
}

TEST_F(MachinePauseTest, PausedBeforeItStarts) {
    const auto machine = make_counting(2);
    machine->pause();
    must(machine->start());
    expect_still(*machine);
    EXPECT_EQ(counts(*machine), std::vector<std::uint64_t>(2, 0));
    must(machine->resume());
    wait_for_progress(*machine, std::vector<std::uint64_t>(2, 0));
}

TEST_F(MachinePauseTest, RegistersOfAPausedVcpuAreCompleteInACallback) {
    std::latch inside(1);
    std::latch go_on(1);
    const auto machine = make_flat({0xba, 0x02, 0x05, 0x00, 0x00,  // mov $0x502,%edx
                                    0xef,                          // out %eax,(%dx)
                                    0xeb, 0xfe},                   // 1: jmp 1b
                                   {}, {.on_round = [&](std::uint32_t, std::uint64_t) {
                                       inside.count_down();
                                       go_on.wait();
                                   }});
    must(machine->start());
    inside.wait();
    // The callback is stuck; the machine can be paused all the same, and the `out` is behind it.
    machine->pause();
    EXPECT_EQ(must(machine->vcpu(0).get_regs()).rip, 0x400006U);
    go_on.count_down();
    EXPECT_EQ(must(machine->vcpu(0).get_regs()).rip, 0x400006U);
    must(machine->resume());
    EXPECT_FALSE(machine->wait_done(std::chrono::milliseconds(50)));
    machine->stop();
    EXPECT_TRUE(std::holds_alternative<machine::Stopped>(wait(*machine).at(0)));
}

TEST_F(MachinePauseTest, RingFullCallbackThatWaitsForAnotherThreadIsPaused) {
    std::latch inside(1);
    std::latch go_on(1);
    const auto machine = make(
        "writer", {.ring_entries = 1024, .log_dirty = true, .params = {{"working_set", "32M"}}},
        {.on_ring_full = [&](std::uint32_t) -> Result<void> {
            inside.count_down();
            go_on.wait();
            return fail({0, "end here", "the test is over", "none is needed"});
        }});
    must(machine->start());
    inside.wait();
    machine->pause();
    must(machine->resume());
    machine->stop();
    EXPECT_FALSE(machine->wait_done(std::chrono::milliseconds(50))) << "its callback still runs";
    go_on.count_down();
    EXPECT_TRUE(std::holds_alternative<machine::Failed>(wait(*machine).at(0)));
}

TEST_F(MachinePauseTest, CallbacksMayPauseAndStop) {
    Machine* machine = nullptr;
    std::atomic<int> rounds = 0;
    const auto made =
        make("writer", {.vcpus = 2, .params = {{"writes", "100"}, {"working_set", "1M"}}},
             {.on_round = [&](std::uint32_t, std::uint64_t) {
                 machine->pause();
                 must(machine->resume());
                 machine->kick(0);
                 machine->kick(1);
                 if (++rounds == 20) {
                     machine->stop();
                 }
             }});
    machine = made.get();
    must(machine->start());
    for (const End& end : wait(*machine)) {
        EXPECT_TRUE(std::holds_alternative<machine::Stopped>(end)) << machine::describe(0, end);
    }
}

// A vCPU can be held before it enters: no pause waits for it, and nothing but on_stop ends it
// early.
TEST_F(MachinePauseTest, VcpuThatIsHeldBeforeItEntersIsOutsideUntilOnStop) {
    std::latch held(1);
    std::latch stopped(1);
    std::atomic<int> entries = 0;
    std::atomic<int> stops = 0;
    const auto machine = make_flat({0xeb, 0xfe}, {},  // 1: jmp 1b
                                   {.before_enter =
                                        [&](std::uint32_t) {
                                            if (++entries == 2) {
                                                held.count_down();
                                                stopped.wait();
                                            }
                                        },
                                    .on_stop =
                                        [&] {
                                            if (++stops == 1) {
                                                stopped.count_down();
                                            }
                                        }});
    must(machine->start());
    while (!held.try_wait()) {
        machine->kick(0);  // until it has entered once, there is nothing to come out of
    }
    machine->pause();
    must(machine->resume());
    machine->kick(0);
    EXPECT_EQ(entries, 2);
    EXPECT_FALSE(machine->wait_done(std::chrono::milliseconds(50))) << "it is still held";
    EXPECT_EQ(stops, 0);
    machine->stop();
    machine->stop();
    EXPECT_TRUE(std::holds_alternative<machine::Stopped>(wait(*machine).at(0)));
    EXPECT_EQ(stops, 1);
}

TEST_F(MachinePauseTest, BadEndOfOneVcpuCallsOnStopForTheOthers) {
    std::latch stopped(1);
    // vCPU 1 waits for the end of vCPU 0, which runs into ud2.
    const auto machine = make_flat({0x0f, 0x0b}, {.vcpus = 2},  // ud2
                                   {.before_enter =
                                        [&](std::uint32_t vcpu) {
                                            if (vcpu == 1) {
                                                stopped.wait();
                                            }
                                        },
                                    .on_stop = [&] { stopped.count_down(); }});
    const std::vector<End> ends = run(*machine);
    EXPECT_TRUE(std::holds_alternative<machine::Faulted>(ends.at(0)));
    EXPECT_TRUE(std::holds_alternative<machine::Stopped>(ends.at(1)));
}

TEST_F(MachinePauseTest, MachineThatWasNotStartedDoesNotCallOnStop) {
    int stops = 0;
    make_flat({0xeb, 0xfe}, {}, {.on_stop = [&] { ++stops; }})->stop();
    EXPECT_EQ(stops, 0);
}

TEST_F(MachinePauseTest, KickMakesTheVcpuLeaveTheGuest) {
    const auto machine = make_counting(2);
    must(machine->start());
    for (int i = 0; i < 50; ++i) {
        wait_for_progress(*machine, counts(*machine));
        const std::uint64_t before = machine->counters(1).exits;
        machine->kick(1);
        ASSERT_GT(machine->counters(1).exits, before);
    }
}

TEST_F(MachinePauseTest, StopFromSeveralThreadsWhilePaused) {
    const auto machine = make_counting(3);
    must(machine->start());
    wait_for_progress(*machine, counts(*machine));
    machine->pause();
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] { machine->stop(); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (const End& end : wait(*machine)) {
        EXPECT_TRUE(std::holds_alternative<machine::Stopped>(end));
    }
    must(machine->resume());
    expect_still(*machine);
}

TEST_F(MachinePauseTest, StartsOnceAndNotAfterStop) {
    const auto machine = make_counting(1);
    must(machine->start());
    Result<void> again = machine->start();
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EALREADY);
    EXPECT_EQ(again.error().cause, "it has been started before");

    const auto never_started = make_counting(2);
    never_started->stop();
    again = never_started->start();
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().cause, "it has been stopped");
    for (const End& end : wait(*never_started)) {
        EXPECT_TRUE(std::holds_alternative<machine::Stopped>(end));
    }
}

TEST_F(MachinePauseTest, DestructionStopsWhatRuns) {
    for (int i = 0; i < 10; ++i) {
        const auto machine = make_counting(4);
        must(machine->start());
        if (i % 3 == 0) {
            machine->pause();
        }
    }
    static_cast<void>(make_counting(4));
}

}  // namespace
}  // namespace dirtyring
