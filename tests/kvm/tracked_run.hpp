// SPDX-License-Identifier: MIT
//
// A guest that is tracked while it runs, with the oracle looking: again and again the vCPUs are
// paused, the pages collected, and all of guest memory compared with what it was.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <iostream>
#include <mutex>
#include <thread>

#include "dirtyring/dirtyring.hpp"
#include "machine_fixture.hpp"
#include "oracle.hpp"
#include "test_scale.hpp"

namespace dirtyring {

enum class Way { ring, bitmap, manual_bitmap };

struct TrackedRun {
    const char* name;
    Way way = Way::ring;
    std::uint32_t entries = 0;  // of each ring
    std::uint32_t vcpus = 1;
    std::string guest = "writer";
    int privilege = 3;
    std::vector<std::pair<std::string, std::string>> params = {};
    bool drained = true;       // another thread harvests and resets all the time
    std::uint64_t storm = 0;   // and gets signals all the time, so many at least
    std::uint64_t writes = 0;  // to be made at least, before scaled()
};

struct TrackedOutcome {
    std::uint64_t writes = 0;  // said by the guest
    std::uint64_t wanted = 0;
    std::uint64_t checks = 0;      // collects, each followed by a comparison of all memory
    std::uint64_t changed = 0;     // pages seen changed
    std::uint64_t lost = 0;        // of these, not reported
    std::uint64_t everything = 0;  // collects that said "everything"
    std::uint64_t overruns = 0;
    std::uint64_t short_resets = 0;
    std::uint64_t signals = 0;
};

// A guest's rounds, for a thread that waits for the next.
class Rounds {
  public:
    void done() {
        const std::lock_guard lock(mutex_);
        ++count_;
        changed_.notify_all();
    }
    // Waits until `more` rounds have been done since the last call; false if that takes too long.
    bool wait(std::uint64_t more, std::chrono::minutes limit) {
        std::unique_lock lock(mutex_);
        const bool done = changed_.wait_for(lock, limit, [&] { return count_ >= seen_ + more; });
        seen_ = count_;
        return done;
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t count_ = 0;
    std::uint64_t seen_ = 0;
};

class TrackedTest : public MachineTest {
  protected:
    TrackedOutcome run(const TrackedRun& test) {
        RingSource* rings = nullptr;
        Rounds rounds;
        machine::Callbacks callbacks;
        callbacks.on_ring_full = [&](std::uint32_t vcpu) { return rings->ring_full(vcpu); };
        callbacks.on_round = [&](std::uint32_t, std::uint64_t) { rounds.done(); };
        machine::Config config;
        config.vcpus = test.vcpus;
        config.memory = std::uint64_t{32} << 20;
        config.ring_entries = test.entries;
        config.log_dirty = true;
        config.manual_protect = test.way == Way::manual_bitmap;
        config.privilege = test.privilege;
        config.params = test.params;
        const auto machine = make(test.guest, config, callbacks);

        std::unique_ptr<Source> source;
        if (test.way == Way::ring) {
            auto made = std::make_unique<RingSource>(machine->vm().fd(), machine->memory());
            for (std::uint32_t i = 0; i < test.vcpus; ++i) {
                made->add(must(Ring::map(machine->vcpu(i))));
            }
            rings = made.get();
            source = std::move(made);
        } else {
            source = std::make_unique<BitmapSource>(
                machine->vm().fd(), machine->memory(),
                test.way == Way::bitmap ? BitmapMode::automatic : BitmapMode::manual);
        }

        TrackedOutcome outcome;
        outcome.wanted = scaled(test.writes);
        Oracle oracle(machine->memory());
        must(machine->start());
        std::atomic<bool> over = false;
        std::thread drainer([&] {
            while (test.drained && !over) {
                must(rings->drain());
                std::this_thread::yield();
            }
            while (!over) {  // stays, to be the target of signals
                std::this_thread::yield();
            }
        });
        std::atomic<std::uint64_t> signals = 0;
        std::thread storm = storm_on(test.storm > 0, drainer.native_handle(), over, signals);

        DirtySet storage;
        while ((outcome.writes < outcome.wanted || signals < test.storm) &&
               rounds.wait(test.vcpus * 4, limit)) {
            machine->pause();
            Pages pages = must(source->collect(std::move(storage)));
            outcome.lost += oracle.lost(pages);
            outcome.everything += pages.everything() ? 1U : 0U;
            ++outcome.checks;
            must(machine->resume());
            storage = std::move(pages).recycle();
            outcome.writes = 0;
            for (std::uint32_t i = 0; i < test.vcpus; ++i) {
                outcome.writes += machine->counters(i).page_writes;
            }
        }
        over = true;
        storm.join();
        drainer.join();
        outcome.signals = signals;
        machine->stop();
        for (const machine::End& end : machine->wait_done()) {
            EXPECT_TRUE(std::holds_alternative<machine::Stopped>(end)) << machine::describe(0, end);
        }
        outcome.changed = oracle.changed();
        if (rings != nullptr) {
            outcome.short_resets = rings->statistics().short_resets;
            for (std::uint32_t i = 0; i < test.vcpus; ++i) {
                outcome.overruns += rings->statistics(i).overruns;
            }
        }
        std::cout << "page writes checked: " << outcome.writes << " in " << outcome.checks
                  << " rounds, " << outcome.changed << " changed pages, " << outcome.lost
                  << " lost\n";
        return outcome;
    }

    // What holds for every run, whatever the kernel did.
    static void expect_nothing_lost(const TrackedOutcome& outcome) {
        EXPECT_EQ(outcome.lost, 0U);
        EXPECT_GE(outcome.writes, outcome.wanted);
        EXPECT_GT(outcome.changed, outcome.checks) << "the guest has hardly changed anything";
    }

  private:
    // Signals at `target`, as fast as they can be sent, until `over`.
    static std::thread storm_on(bool wanted, pthread_t target, const std::atomic<bool>& over,
                                std::atomic<std::uint64_t>& sent) {
        struct sigaction action{};
        action.sa_handler = [](int) {};
        ::sigaction(SIGUSR2, &action, nullptr);
        return std::thread([wanted, target, &over, &sent] {
            while (wanted && !over) {
                sent += ::pthread_kill(target, SIGUSR2) == 0 ? 1U : 0U;
                std::this_thread::yield();
            }
        });
    }
};

}  // namespace dirtyring
