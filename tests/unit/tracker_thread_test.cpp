// SPDX-License-Identifier: MIT
//
// A tracker with everybody at work at once: for TSan as much as for the assertions. vCPUs store and
// call ring_full, one comes and goes, the host writes pages and marks them, a thread drains, and
// consumers collect, each of which keeps a copy of memory by copying the pages that it is given. In
// the end, with all still, each copy must be what was written.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "must.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using fake::TrackedVm;

// Each page of slot 0 has one writer, who counts its generations; slot 1 is the host's.
constexpr std::uint32_t vcpus = 3;  // the last comes and goes
constexpr std::uint64_t guest_pages = 900;
constexpr std::uint64_t host_pages = 200;

class TrackerThreads : public ::testing::TestWithParam<std::uint32_t> {
  protected:
    /// A consumer with its copy of both slots.
    struct Reader {
        Consumer consumer;
        std::vector<std::uint64_t> guest = std::vector<std::uint64_t>(guest_pages);
        std::vector<std::uint64_t> host = std::vector<std::uint64_t>(host_pages);
        std::uint64_t epochs = 0;

        explicit Reader(Tracker& tracker) : consumer(tracker.add_consumer()) {}
    };

    static void check(const Result<void>& result) {
        if (!result) {
            ADD_FAILURE() << result.error().message();
        }
    }

    /// Gives up every third epoch, after it has copied a part of it.
    void collect(Reader& reader) {
        Result<Epoch> epoch = reader.consumer.collect();
        if (!epoch) {
            ADD_FAILURE() << epoch.error().message();
            return;
        }
        everything_ += epoch->pages().everything() ? 1U : 0U;
        ++collects_;
        const bool given_up = ++reader.epochs % 3 == 0;
        epoch->pages().for_each_run([&](const PageRun& run) {
            const std::uint64_t end = run.first + (given_up ? run.count / 2 : run.count);
            for (std::uint64_t page = run.first; page < end; ++page) {
                std::uint64_t& copy = run.slot->slot == 0 ? reader.guest[page] : reader.host[page];
                const std::uint64_t now =
                    run.slot->slot == 0 ? vm_.kernel.read(0, page) : host_[page].load();
                if (now < copy) {
                    ADD_FAILURE() << "page " << page << " went back in time";
                }
                copy = now;
            }
        });
        if (given_up) {
            epoch->abort();
        } else {
            epoch->commit();
        }
    }

    /// The next generation of a page, by vCPU `vcpu`, whose number in the tracker is `number`.
    void store(std::uint32_t vcpu, std::size_t number, std::uint64_t page) {
        ++generations_[page];
        for (int exits = 0; !vm_.kernel.write(vcpu, 0, page, generations_[page]); ++exits) {
            if (exits == 50) {
                ADD_FAILURE() << "vCPU " << vcpu << " does not run on";
                return;
            }
            check(vm_.tracker.ring_full(number));
        }
    }
    void write(std::uint32_t vcpu, std::size_t number, std::uint64_t seed, std::uint64_t stores) {
        std::uint64_t random = seed;
        for (std::uint64_t i = 0; i < stores; ++i) {
            random = random * 6364136223846793005U + 1442695040888963407U;
            store(vcpu, number, (random >> 33) % (guest_pages / vcpus) * vcpus + vcpu);
        }
    }

    /// The host's thread: a store, and then the mark, each way.
    void mark() {
        const std::uint64_t start = vm_.slot(1).guest_address;
        for (std::uint64_t i = 0; i < 200; ++i) {
            const std::uint64_t page = ++marks_ * 37 % (host_pages - 2);
            host_[page].fetch_add(1, std::memory_order_relaxed);
            host_[page + 1].fetch_add(1, std::memory_order_relaxed);
            if (i % 2 == 0) {
                vm_.tracker.mark(start + page * page_size, 2 * page_size);
            } else {
                vm_.tracker.mark_bitmap(start + page * page_size, std::vector<std::uint64_t>{3});
            }
        }
    }

    /// The last vCPU: run, removed, and added again.
    void come_and_go(std::uint64_t seed) {
        constexpr std::uint32_t vcpu = vcpus - 1;
        write(vcpu, last_, seed, 300);
        // A ring that is read anew is read from its first place on: to there with it.
        while (vm_.kernel.dirty_index(vcpu) % GetParam() != 0) {
            store(vcpu, last_, vcpu);
            check(vm_.tracker.drain());
        }
        check(vm_.tracker.remove_vcpu(last_, VcpuStopped()));
        last_ = must(vm_.tracker.add_vcpu(must(Ring::over(vm_.kernel.ring(vcpu)))));
    }

    void at_once(std::vector<Reader*> readers, std::uint64_t seed) {
        std::atomic<bool> over = false;
        const auto until_over = [&over](auto call) {
            return [&over, call] {
                while (!over) {
                    call();
                    std::this_thread::yield();
                }
            };
        };
        std::vector<std::thread> others;
        for (Reader* reader : readers) {
            others.emplace_back(until_over([this, reader] { collect(*reader); }));
        }
        others.emplace_back(until_over([this] { check(vm_.tracker.drain()); }));
        others.emplace_back(until_over([this] {
            const Statistics statistics = vm_.tracker.statistics();
            EXPECT_GE(statistics.vcpus.size(), vm_.tracker.vcpus().size());
            vm_.tracker.note_stopped(0, 1);
        }));
        others.emplace_back(until_over([this] {
            // One who stays for one epoch, of which nobody knows how it ends.
            Consumer guest = vm_.tracker.add_consumer();
            const Result<Epoch> epoch = guest.collect();
            EXPECT_TRUE(epoch);
        }));
        // Each goes on until there have been so many collects.
        const std::uint64_t enough = collects_ + 12;
        const auto until_enough = [&](auto call) {
            return [=, this] {
                for (std::uint64_t i = 0; collects_ < enough && !HasFailure(); ++i) {
                    call(seed + 1000 * i);
                }
            };
        };
        std::vector<std::thread> writers;
        for (std::uint32_t vcpu = 0; vcpu + 1 < vcpus; ++vcpu) {
            writers.emplace_back(until_enough(
                [=, this](std::uint64_t random) { write(vcpu, vcpu, random + vcpu, 200); }));
        }
        writers.emplace_back(until_enough([this](std::uint64_t random) { come_and_go(random); }));
        writers.emplace_back(until_enough([this](std::uint64_t) { mark(); }));
        for (std::thread& writer : writers) {
            writer.join();
        }
        over = true;
        for (std::thread& other : others) {
            other.join();
        }
    }

    TrackedVm vm_{
        {.vcpus = vcpus, .entries = GetParam(), .slots = {{0, guest_pages}, {1, host_pages}}}};
    std::atomic<std::uint64_t> everything_ = 0;
    std::vector<std::uint64_t> generations_ = std::vector<std::uint64_t>(guest_pages);
    std::vector<std::atomic<std::uint64_t>> host_ =
        std::vector<std::atomic<std::uint64_t>>(host_pages);
    std::uint64_t marks_ = 0;
    std::atomic<std::uint64_t> collects_ = 0;
    std::size_t last_ = vcpus - 1;  // the number of the last vCPU
};

TEST_P(TrackerThreads, EveryConsumersCopyIsMemoryInTheEnd) {
    Reader one(vm_.tracker);
    Reader two(vm_.tracker);
    Reader seldom(vm_.tracker);
    for (std::uint64_t quiet = 0; quiet < 3 && !HasFailure(); ++quiet) {
        SCOPED_TRACE("quiet point " + std::to_string(quiet));
        at_once({&one, &two}, 1 + 10 * quiet);
        for (Reader* reader : {&one, &two, &seldom}) {
            do {
                collect(*reader);
            } while (reader->epochs % 3 == 0);  // that one was given up
            EXPECT_EQ(reader->guest, generations_);
            for (std::uint64_t page = 0; page < host_pages; ++page) {
                EXPECT_EQ(reader->host[page], host_[page]) << "page " << page;
            }
        }
        EXPECT_EQ(vm_.unarmed(), fake::PageList());
    }
    EXPECT_EQ(everything_, 0U);  // which would hide what was missed
    const Statistics statistics = vm_.tracker.statistics();
    EXPECT_EQ(statistics.all.overruns, 0U);
    EXPECT_EQ(statistics.stale, 0U);
    EXPECT_EQ(statistics.marks_outside, 0U);
    EXPECT_EQ(statistics.all.entries, vm_.kernel.entries_reset());
}

INSTANTIATE_TEST_SUITE_P(RingsOf, TrackerThreads, ::testing::Values(128U, 256U),
                         ::testing::PrintToStringParamName());

/// Its collect takes until it is told to end, and fails where nobody says so.
class SlowSource final : public Source {
  public:
    void wait_for_collect() { begun_.get_future().wait(); }
    void end_collect() { told_.set_value(); }

    [[nodiscard]] Result<Pages> collect(DirtySet storage) override {
        begun_.set_value();
        if (told_.get_future().wait_for(std::chrono::seconds(10)) != std::future_status::ready) {
            return fail({ETIMEDOUT, "SlowSource::collect", "who was to end it waits for it", {}});
        }
        return Pages(std::move(storage), Rearmed());
    }
    void set_memory(const MemoryMap&, AllVcpusStopped) override {}
    [[nodiscard]] MemoryMap memory() const override { return {}; }

  private:
    std::promise<void> begun_;
    std::promise<void> told_;
};

// A vCPU's thread notes how long it was held, and a throttle's asks who is there to be kicked.
TEST(TrackerSlowCollect, TheListOfVcpusDoesNotWaitForIt) {
    auto* source = new SlowSource;
    Tracker tracker{std::unique_ptr<Source>(source)};
    must(tracker.add_vcpu(kvm::Fd::borrow(-1)));
    Consumer consumer = tracker.add_consumer();
    std::future<Result<Epoch>> epoch =
        std::async(std::launch::async, [&consumer] { return consumer.collect(); });
    source->wait_for_collect();
    EXPECT_EQ(tracker.vcpus(), std::vector<std::size_t>{0});
    tracker.note_stopped(0, 7);
    source->end_collect();
    EXPECT_TRUE(epoch.get());
    EXPECT_EQ(tracker.statistics().vcpus[0].stopped_nanoseconds, 7U);
}

}  // namespace
}  // namespace dirtyring
