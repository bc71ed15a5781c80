// SPDX-License-Identifier: MIT
//
// What a tracker tells its source for the choice of hot pages: how many are allowed, what it has
// measured that pages cost, and which were not written after all.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "busy.hpp"
#include "must.hpp"
#include "plain_source.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using fake::collected;
using fake::list_of;
using fake::PageList;

const PageList nothing;

/// Another source, but for what concerns hot pages, which is noted.
class ListeningSource final : public Source {
  public:
    explicit ListeningSource(std::unique_ptr<Source> source) : source_(std::move(source)) {}

    [[nodiscard]] Result<Pages> collect(DirtySet storage) override {
        return source_->collect(std::move(storage));
    }
    void set_memory(const MemoryMap& map, AllVcpusStopped stopped) override {
        source_->set_memory(map, stopped);
    }
    [[nodiscard]] MemoryMap memory() const override { return source_->memory(); }
    [[nodiscard]] RingSource* rings() noexcept override { return source_->rings(); }

    void keep_hot(std::uint64_t most) override { allowed.push_back(most); }
    void set_hot_costs(const HotPageCosts& told) override { costs.push_back(told); }
    void found_clean(const DirtySet& pages) override { clean.push_back(list_of(pages)); }

    std::vector<std::uint64_t> allowed;
    std::vector<HotPageCosts> costs;
    std::vector<PageList> clean;

  private:
    std::unique_ptr<Source> source_;
};

MemoryMap two_slots() {
    static std::byte never_touched{};
    MemoryMap map;
    must(map.add({0, 0, 1000 * page_size, &never_touched}));
    must(map.add({7, 1 << 30, 600 * page_size, &never_touched}));
    return map;
}

class TrackerHotCosts : public ::testing::Test {
  protected:
    /// An epoch of that many pages.
    Epoch epoch_of(std::uint64_t pages) {
        for (std::uint64_t page = 0; page < pages; ++page) {
            plain_->write(0, page);
        }
        return must(consumer_.collect());
    }
    /// Far longer than a page may cost.
    static void long_use() { be_busy_for(std::chrono::milliseconds(1)); }
    /// What the source is told that the use of a page costs.
    double use() {
        epoch_of(0).abort();
        return source_->costs.back().use;
    }
    DirtySet set_of(const PageList& pages) {
        DirtySet set(tracker_.memory());
        for (const auto& [slot, page] : pages) {
            set.insert(slot, page);
        }
        return set;
    }

    fake::PlainSource* plain_ = new fake::PlainSource(two_slots());
    ListeningSource* source_ = new ListeningSource(std::unique_ptr<Source>(plain_));
    Tracker tracker_{std::unique_ptr<Source>(source_)};
    Consumer consumer_ = tracker_.add_consumer();
};

TEST_F(TrackerHotCosts, HowManyAreAllowed) {
    tracker_.keep_hot(500);
    tracker_.keep_hot(0);
    EXPECT_EQ(source_->allowed, (std::vector<std::uint64_t>{500, 0}));
}

TEST_F(TrackerHotCosts, NoCostsUnlessSomeAreAllowed) {
    epoch_of(10).commit();
    EXPECT_TRUE(source_->costs.empty());
    tracker_.keep_hot(1);
    epoch_of(10).commit();
    EXPECT_EQ(source_->costs.size(), 1U) << "in each collect";
    tracker_.keep_hot(0);
    epoch_of(10).commit();
    EXPECT_EQ(source_->costs.size(), 1U);
}

TEST_F(TrackerHotCosts, TheCostsAreThoseOfTheSourceUntilOthersAreMeasured) {
    tracker_.keep_hot(1);
    EXPECT_EQ(use(), HotPageCosts().use);
    EXPECT_EQ(source_->costs.back().armed, HotPageCosts().armed);
}

TEST_F(TrackerHotCosts, WhatTheUseOfAPageCostsIsMeasuredFromTheCollectToTheCommit) {
    tracker_.keep_hot(1);
    long_use();  // of the guest
    Epoch epoch = epoch_of(1);
    long_use();
    epoch.commit();
    // 200 before, of which a twentieth gives way to what was measured: more than ten times that,
    // which may be chance and so counts as ten times.
    EXPECT_DOUBLE_EQ(use(), 200 + (2000 - 200) * 0.05);
    for (int i = 0; i < 200; ++i) {
        epoch = epoch_of(1);
        long_use();
        epoch.commit();
    }
    EXPECT_GE(use(), 900'000) << "of the million nanoseconds that each takes at least";
}

TEST_F(TrackerHotCosts, TheUseOfManyPagesIsSharedAmongThem) {
    tracker_.keep_hot(1);
    double bound = HotPageCosts().use;
    for (int i = 0; i < 20; ++i) {
        const auto collected = std::chrono::steady_clock::now();
        Epoch epoch = epoch_of(1000);
        be_busy_for(std::chrono::microseconds(100));
        epoch.commit();
        const std::chrono::duration<double, std::nano> took =
            std::chrono::steady_clock::now() - collected;
        bound += (took.count() / 1000 - bound) * 0.05;
    }
    EXPECT_LE(use(), bound);
    EXPECT_GE(use(), 100) << "what each page takes at least";
}

TEST_F(TrackerHotCosts, WhereNothingWasUsedNothingIsMeasured) {
    tracker_.keep_hot(1);
    Epoch aborted = epoch_of(1);
    long_use();
    aborted.abort();
    EXPECT_EQ(use(), 200);
    Epoch empty = must(consumer_.collect());  // has the page again
    empty.commit();
    const double before = use();
    empty = epoch_of(0);
    long_use();
    empty.commit();
    EXPECT_EQ(use(), before);
    plain_->lose();
    Epoch everything = epoch_of(0);
    long_use();
    everything.commit();
    EXPECT_EQ(use(), before) << "they are not used as a few are";
}

TEST_F(TrackerHotCosts, WhereNoneAreAllowedNoUseIsMeasured) {
    Epoch epoch = epoch_of(1);
    long_use();
    epoch.commit();
    tracker_.keep_hot(1);
    EXPECT_EQ(use(), 200);
}

TEST_F(TrackerHotCosts, WhichPagesWereCleanByACommitThatSaysSo) {
    tracker_.keep_hot(10);
    Epoch epoch = epoch_of(3);
    epoch.commit(set_of({{0, 1}, {7, 5}}));
    EXPECT_EQ(source_->clean, (std::vector<PageList>{{{0, 1}, {7, 5}}}));
    EXPECT_EQ(collected(consumer_), nothing) << "it was committed";
    epoch_of(3).commit();
    epoch_of(3).abort();
    EXPECT_EQ(source_->clean.size(), 1U);
    epoch.commit(set_of({{0, 2}}));
    EXPECT_EQ(source_->clean.size(), 1U) << "the epoch had ended";
}

TEST_F(TrackerHotCosts, NothingOfCleanPagesWhereTheSlotsHaveChangedSince) {
    tracker_.keep_hot(10);
    Epoch epoch = epoch_of(3);
    const DirtySet clean = set_of({{0, 1}});
    must(
        tracker_.change_slots(AllVcpusStopped(), [](MemoryMap& slots) { return slots.remove(7); }));
    epoch.commit(clean);
    EXPECT_TRUE(source_->clean.empty());
    epoch_of(3).commit(set_of({{0, 1}}));
    EXPECT_EQ(source_->clean, (std::vector<PageList>{{{0, 1}}}));
}

class TrackerHotCostsOfRings : public ::testing::Test {
  protected:
    TrackerHotCostsOfRings() {
        kernel_.answer(faults_);
        for (std::uint32_t vcpu = 0; vcpu < 2; ++vcpu) {
            must(tracker_.add_vcpu(must(Ring::over(kernel_.ring(vcpu)))));
        }
    }
    /// Each vCPU writes 50 pages, and the guest takes 2 ms.
    void run() {
        for (std::uint64_t page = 0; page < 50; ++page) {
            kernel_.write(0, 0, page);
            kernel_.write(1, 0, 500 + page);
        }
        be_busy_for(std::chrono::milliseconds(2));
    }
    [[nodiscard]] double armed() const { return source_->costs.back().armed; }

    faulty::Faults faults_;
    fake::Kernel kernel_{{.vcpus = 2, .entries = 256, .slots = {{0, 1024}}}};
    ListeningSource* source_ =
        new ListeningSource(std::make_unique<RingSource>(fake::Kernel::fd(), kernel_.memory()));
    Tracker tracker_{std::unique_ptr<Source>(source_)};
    Consumer consumer_ = tracker_.add_consumer();
};

// Otherwise a page would seem to cost next to nothing: they come again, and no guest has run.
TEST_F(TrackerHotCostsOfRings, TheEntriesOfAnAbortedEpochCountOnce) {
    run();
    tracker_.keep_hot(1);
    for (int round = 0; round < 20; ++round) {
        run();
        must(consumer_.collect()).abort();
        must(consumer_.collect()).commit();
    }
    // It is 20,000, and less on a busy host, but not next to nothing.
    EXPECT_GE(armed(), HotPageCosts().armed / 10);
}

// From the end of an epoch to its collection, by the entries.
TEST_F(TrackerHotCostsOfRings, WhatAPageCostsThatIsWrittenWhileItIsArmedIsMeasured) {
    using Time = std::chrono::duration<double, std::nano>;
    tracker_.keep_hot(1);
    // What a round takes here, from before the end of the last epoch to after its collection, is no
    // less than what the tracker sees of it.
    Time most(0);
    Time most_without(0);
    auto begin = std::chrono::steady_clock::now();
    for (int round = 0; round < 20; ++round) {
        const bool without = round % 2 == 0;
        if (!without) {
            run();
        }
        Epoch epoch = must(consumer_.collect());
        const Time took = std::chrono::steady_clock::now() - begin;
        (without ? most_without : most) = std::max(without ? most_without : most, took);
        if (round < 8) {
            EXPECT_EQ(armed(), HotPageCosts().armed) << "too few to tell";
        }
        be_busy_for(std::chrono::milliseconds(1));  // not of the guest
        begin = std::chrono::steady_clock::now();
        epoch.commit();
    }
    EXPECT_LE(armed(), most.count() / 100);
    EXPECT_GE(armed(), (2e6 - most_without.count()) / 100);
}

}  // namespace
}  // namespace dirtyring
