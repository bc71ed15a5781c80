// SPDX-License-Identifier: MIT
//
// Who is told what, and when: consumers, epochs, and what the host marks. The source is a test's
// own, but where it takes a kernel.
#include "dirtyring/tracker.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "must.hpp"
#include "plain_source.hpp"
#include "tracked_vm.hpp"

namespace dirtyring {
namespace {

using fake::collected;
using fake::PageList;
using fake::pages_of;
using fake::PlainSource;
using fake::range;
using fake::TrackedVm;

const PageList nothing;

constexpr std::uint32_t smm = 1 << 16;
constexpr std::uint64_t upper = std::uint64_t{1} << 32;  // guest address
std::byte never_touched{};

MemoryMap three_slots() {
    MemoryMap map;
    must(map.add({0, 0, 1000 * page_size, &never_touched}));
    must(map.add({7, upper, 600 * page_size, &never_touched}));
    must(map.add({smm | 7, upper, 10 * page_size, &never_touched}));
    return map;
}

PageList all_pages() {
    return fake::pages_where(three_slots(), [](const fake::Page&) { return true; });
}

class TrackerTest : public ::testing::Test {
  protected:
    PlainSource* source_ = new PlainSource(three_slots());
    std::optional<Tracker> tracker_{Tracker(std::unique_ptr<Source>(source_))};
};

// Consumers
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerTest, EachConsumerIsToldEachPageOnce) {
    Consumer often = tracker_->add_consumer();
    Consumer seldom = tracker_->add_consumer();
    source_->write(0, 5);
    EXPECT_EQ(collected(often), (PageList{{0, 5}}));
    source_->write(7, 6);
    source_->write(0, 8);
    EXPECT_EQ(collected(often), (PageList{{0, 8}, {7, 6}}));
    EXPECT_EQ(collected(often), nothing);
    EXPECT_EQ(collected(seldom), (PageList{{0, 5}, {0, 8}, {7, 6}}));
    EXPECT_EQ(collected(seldom), nothing);
    source_->write(0, 5);  // again
    EXPECT_EQ(collected(seldom), (PageList{{0, 5}}));
    EXPECT_EQ(collected(often), (PageList{{0, 5}}));
}

TEST_F(TrackerTest, AConsumerBeginsWithNothing) {
    Consumer first = tracker_->add_consumer();
    source_->write(0, 5);
    EXPECT_EQ(collected(first), (PageList{{0, 5}}));
    Consumer late = tracker_->add_consumer();
    EXPECT_EQ(collected(late), nothing);
    source_->write(0, 6);
    EXPECT_EQ(collected(late), (PageList{{0, 6}}));
    EXPECT_EQ(collected(first), (PageList{{0, 6}}));
}

TEST_F(TrackerTest, AConsumerThatGoesLeavesTheOthersAsTheyWere) {
    Consumer stays = tracker_->add_consumer();
    {
        Consumer goes = tracker_->add_consumer();
        source_->write(0, 5);
        EXPECT_EQ(collected(goes), (PageList{{0, 5}}));
    }
    source_->write(0, 6);
    EXPECT_EQ(collected(stays), (PageList{{0, 5}, {0, 6}}));
}

TEST_F(TrackerTest, AConsumerMayBeMoved) {
    Consumer first = tracker_->add_consumer();
    source_->write(0, 5);
    Consumer second = std::move(first);
    EXPECT_EQ(collected(second), (PageList{{0, 5}}));
    source_->write(0, 6);
    Consumer third = tracker_->add_consumer();
    third = std::move(second);
    EXPECT_EQ(collected(third), (PageList{{0, 6}}));
    EXPECT_EQ(collected(third), nothing);
}

TEST_F(TrackerTest, AConsumerMayBeMovedToItself) {
    Consumer consumer = tracker_->add_consumer();
    Consumer& same = consumer;
    source_->write(0, 5);
    consumer = std::move(same);
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}}));
}

/// One that is there for as long as its `life` is.
class MortalSource final : public Source {
  public:
    explicit MortalSource(std::shared_ptr<int> life) : life_(std::move(life)) {}

    [[nodiscard]] Result<Pages> collect(DirtySet storage) override {
        return Pages(std::move(storage), Rearmed());
    }
    void set_memory(const MemoryMap&, AllVcpusStopped) override {}
    [[nodiscard]] MemoryMap memory() const override { return {}; }

  private:
    std::shared_ptr<int> life_;
};

TEST_F(TrackerTest, AConsumerThatIsWrittenOverLeavesItsTrackerAtOnce) {
    auto life = std::make_shared<int>();
    const std::weak_ptr<int> other_is_there = life;
    std::optional<Tracker> other(std::make_unique<MortalSource>(std::move(life)));
    Consumer consumer = other->add_consumer();
    Consumer from = tracker_->add_consumer();
    other.reset();
    EXPECT_FALSE(other_is_there.expired());  // the consumer has it
    consumer = std::move(from);
    EXPECT_TRUE(other_is_there.expired());
    source_->write(0, 5);
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}}));
}

// Epochs
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerTest, EpochsAreNumberedFromOneForEachConsumer) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    EXPECT_EQ(must(one.collect()).sequence(), 1U);
    EXPECT_EQ(must(one.collect()).sequence(), 2U);
    EXPECT_EQ(must(other.collect()).sequence(), 1U);
    source_->fail_once();
    EXPECT_FALSE(one.collect());
    EXPECT_EQ(must(one.collect()).sequence(), 3U);
}

TEST_F(TrackerTest, ThePagesOfAnAbortedEpochAreInTheNext) {
    Consumer consumer = tracker_->add_consumer();
    source_->write(0, 5);
    Epoch epoch = must(consumer.collect());
    EXPECT_EQ(pages_of(epoch), (PageList{{0, 5}}));
    epoch.abort();
    source_->write(0, 6);
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}, {0, 6}}));
    EXPECT_EQ(collected(consumer), nothing);
}

TEST_F(TrackerTest, ThePagesOfADroppedEpochAreInTheNext) {
    Consumer consumer = tracker_->add_consumer();
    source_->write(0, 5);
    {
        const Epoch dropped = must(consumer.collect());
    }
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}}));
}

TEST_F(TrackerTest, AnAbortIsNobodyElsesAffair) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    EXPECT_EQ(collected(other), (PageList{{0, 5}}));
    must(one.collect()).abort();
    EXPECT_EQ(collected(other), nothing);
    EXPECT_EQ(collected(one), (PageList{{0, 5}}));
}

TEST_F(TrackerTest, SeveralEpochsMayBeOpenAndEndInAnyOrder) {
    Consumer consumer = tracker_->add_consumer();
    std::vector<Epoch> open;
    for (std::uint64_t page = 0; page < 5; ++page) {
        source_->write(0, page);
        open.push_back(must(consumer.collect()));
        EXPECT_EQ(pages_of(open.back()), (PageList{{0, page}}));
    }
    open[3].commit();
    open[4].abort();
    open[0].commit();
    open[1].abort();
    EXPECT_EQ(collected(consumer), (PageList{{0, 1}, {0, 4}}));
    open.clear();
    EXPECT_EQ(collected(consumer), (PageList{{0, 2}}));
}

TEST_F(TrackerTest, AnEpochEndsOnceAndIsEmptyThen) {
    Consumer consumer = tracker_->add_consumer();
    source_->write(0, 5);
    Epoch epoch = must(consumer.collect());
    epoch.commit();
    EXPECT_EQ(pages_of(epoch), nothing);
    EXPECT_EQ(epoch.pages().size(), 0U);
    EXPECT_FALSE(epoch.pages().everything());
    epoch.abort();
    epoch.commit();
    EXPECT_EQ(collected(consumer), nothing);
    EXPECT_EQ(tracker_->statistics().committed, 2U);
    EXPECT_EQ(tracker_->statistics().aborted, 0U);
}

TEST_F(TrackerTest, AnEpochThatIsMovedFromEndsNothing) {
    Consumer consumer = tracker_->add_consumer();
    source_->write(0, 5);
    Epoch from = must(consumer.collect());
    Epoch to = std::move(from);
    from.abort();  // NOLINT(bugprone-use-after-move): what is tested
    EXPECT_EQ(collected(consumer), nothing);
    EXPECT_EQ(pages_of(to), (PageList{{0, 5}}));
    EXPECT_EQ(to.sequence(), 1U);
    to.abort();
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}}));
}

// `epoch = must(consumer.collect())` in a loop: the one before was not committed.
TEST_F(TrackerTest, AnEpochThatIsWrittenOverIsAborted) {
    Consumer consumer = tracker_->add_consumer();
    source_->write(0, 5);
    Epoch epoch = must(consumer.collect());
    source_->write(0, 6);
    epoch = must(consumer.collect());
    EXPECT_EQ(pages_of(epoch), (PageList{{0, 6}}));
    EXPECT_EQ(epoch.sequence(), 2U);
    epoch.commit();
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}}));
}

TEST_F(TrackerTest, AnEpochMayBeWrittenOverByThatOfAnotherConsumer) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    Epoch epoch = must(one.collect());
    source_->write(0, 6);
    epoch = must(other.collect());
    EXPECT_EQ(pages_of(epoch), (PageList{{0, 5}, {0, 6}}));
    EXPECT_EQ(collected(one), (PageList{{0, 5}, {0, 6}}));
    epoch.abort();
    EXPECT_EQ(collected(one), nothing);
    EXPECT_EQ(collected(other), (PageList{{0, 5}, {0, 6}}));
}

TEST_F(TrackerTest, AnEpochOutlivesItsConsumerAndTheTracker) {
    std::optional<Consumer> consumer = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    source_->write(7, 599);
    Epoch aborted = must(consumer->collect());
    source_->write(0, 6);
    Epoch committed = must(consumer->collect());
    Epoch dropped = must(consumer->collect());
    consumer.reset();
    EXPECT_EQ(pages_of(aborted), (PageList{{0, 5}, {7, 599}}));
    aborted.abort();
    tracker_.reset();
    EXPECT_EQ(pages_of(committed), (PageList{{0, 6}}));
    committed.commit();
    // So does a consumer.
    source_->write(0, 8);
    EXPECT_EQ(collected(other), (PageList{{0, 5}, {0, 6}, {0, 8}, {7, 599}}));
}

TEST_F(TrackerTest, AFailedCollectLosesNothing) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 1);
    EXPECT_EQ(collected(other), (PageList{{0, 1}}));  // pending for the first
    must(other.collect()).abort();
    source_->write(0, 2);
    tracker_->mark(upper, 1);
    source_->fail_once();
    const Result<Epoch> failed = one.collect();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, EIO);
    EXPECT_EQ(failed.error().operation, "PlainSource::collect");
    EXPECT_EQ(collected(one), (PageList{{0, 1}, {0, 2}, {7, 0}}));
    EXPECT_EQ(collected(other), (PageList{{0, 2}, {7, 0}}));
}

// Rewriting
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerTest, ThePagesOfARewrittenEpochAreInTheOthersNext) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    EXPECT_EQ(collected(other), (PageList{{0, 5}}));
    Epoch epoch = must(one.collect());
    epoch.rewrite();
    EXPECT_EQ(pages_of(epoch), (PageList{{0, 5}})) << "it goes on as it was";
    epoch.commit();
    EXPECT_EQ(collected(one), nothing) << "who writes knows of it";
    EXPECT_EQ(collected(other), (PageList{{0, 5}}));
    EXPECT_EQ(collected(other), nothing);
}

TEST_F(TrackerTest, ARewrittenEpochMayStillBeAborted) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    EXPECT_EQ(collected(other), (PageList{{0, 5}}));
    Epoch epoch = must(one.collect());
    epoch.rewrite();
    epoch.abort();
    EXPECT_EQ(collected(one), (PageList{{0, 5}}));
    EXPECT_EQ(collected(other), (PageList{{0, 5}}));
}

TEST_F(TrackerTest, WhereEverythingIsRewrittenEverythingIsInTheOthersNext) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->lose();
    must(other.collect()).commit();
    Epoch epoch = must(one.collect());
    epoch.rewrite();
    epoch.commit();
    EXPECT_TRUE(must(other.collect()).pages().everything());
    EXPECT_FALSE(must(one.collect()).pages().everything());
}

TEST_F(TrackerTest, AnEpochThatHasEndedRewritesNothing) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    Epoch epoch = must(one.collect());
    epoch.commit();
    EXPECT_EQ(collected(other), (PageList{{0, 5}}));
    epoch.rewrite();
    EXPECT_EQ(collected(other), nothing);
}

TEST_F(TrackerTest, WhereSlotsHaveChangedWhatIsStillThereIsRewritten) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    source_->write(smm | 7, 6);
    EXPECT_EQ(collected(other), (PageList{{0, 5}, {smm | 7, 6}}));
    Epoch epoch = must(one.collect());
    must(tracker_->change_slots(AllVcpusStopped(),
                                [](MemoryMap& slots) { return slots.remove(smm | 7); }));
    epoch.rewrite();
    EXPECT_EQ(collected(other), (PageList{{0, 5}}));
}

// Everything, and suspects
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerTest, EverythingIsForEveryConsumer) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->lose();
    for (Consumer* consumer : {&one, &other}) {
        Epoch epoch = must(consumer->collect());
        EXPECT_TRUE(epoch.pages().everything());
        EXPECT_EQ(pages_of(epoch), all_pages());
        epoch.commit();
        EXPECT_FALSE(must(consumer->collect()).pages().everything());
        EXPECT_EQ(collected(*consumer), nothing);
    }
    Consumer late = tracker_->add_consumer();
    EXPECT_FALSE(must(late.collect()).pages().everything());
    EXPECT_EQ(tracker_->statistics().everything, 1U);
}

TEST_F(TrackerTest, EverythingThatIsAbortedIsEverythingAgain) {
    Consumer consumer = tracker_->add_consumer();
    source_->lose();
    must(consumer.collect()).abort();
    Epoch again = must(consumer.collect());
    EXPECT_TRUE(again.pages().everything());
    again.commit();
    EXPECT_FALSE(must(consumer.collect()).pages().everything());
}

TEST_F(TrackerTest, SuspectsAreInEachEpochOfEachConsumer) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->suspect(7, 3);
    for (int round = 0; round < 3; ++round) {
        for (Consumer* consumer : {&one, &other}) {
            Epoch epoch = must(consumer->collect());
            EXPECT_EQ(pages_of(epoch), (PageList{{7, 3}}));
            EXPECT_EQ(epoch.pages().suspects(), 1U);
            epoch.commit();
        }
    }
}

// Only rings know how to arm them.
TEST_F(TrackerTest, SuspectsOfASourceWithoutRingsStaySuspectsWithAllVcpusStopped) {
    Consumer consumer = tracker_->add_consumer();
    source_->suspect(7, 3);
    for (int round = 0; round < 2; ++round) {
        Epoch epoch = must(consumer.collect(AllVcpusStopped()));
        EXPECT_EQ(pages_of(epoch), (PageList{{7, 3}}));
        epoch.commit();
    }
}

// Marks
// ---------------------------------------------------------------------------------------------

TEST_F(TrackerTest, AMarkIsForEachConsumerOnce) {
    Consumer one = tracker_->add_consumer();
    Consumer other = tracker_->add_consumer();
    source_->write(0, 5);
    tracker_->mark(6 * page_size, page_size);
    EXPECT_EQ(collected(one), (PageList{{0, 5}, {0, 6}}));
    EXPECT_EQ(collected(one), nothing);
    EXPECT_EQ(collected(other), (PageList{{0, 5}, {0, 6}}));
    tracker_->mark(6 * page_size, page_size);
    EXPECT_EQ(collected(other), (PageList{{0, 6}}));
    EXPECT_EQ(collected(one), (PageList{{0, 6}}));
}

TEST_F(TrackerTest, AMarkIsOfThePagesThatTheBytesAreIn) {
    Consumer consumer = tracker_->add_consumer();
    tracker_->mark(5 * page_size, 0);
    EXPECT_EQ(collected(consumer), nothing);
    tracker_->mark(5 * page_size + 17, 1);
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}}));
    tracker_->mark(6 * page_size - 1, 2);
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}, {0, 6}}));
    tracker_->mark(6 * page_size - 1, page_size + 1);
    EXPECT_EQ(collected(consumer), (PageList{{0, 5}, {0, 6}}));
    tracker_->mark(upper + 599 * page_size, page_size);
    EXPECT_EQ(collected(consumer), (PageList{{7, 599}}));
    tracker_->mark(upper + page_size, 3 * page_size, 1);
    EXPECT_EQ(collected(consumer), range(smm | 7, 1, 3));
    EXPECT_EQ(tracker_->statistics().marks_outside, 0U);
}

TEST_F(TrackerTest, MarksOutsideOfAllSlotsAreCounted) {
    Consumer consumer = tracker_->add_consumer();
    tracker_->mark(1000 * page_size - 1, 2);  // the last page of the slot, and one behind
    tracker_->mark(2 * upper, page_size);
    tracker_->mark(0, page_size, 1);
    tracker_->mark(0, page_size, 2);
    EXPECT_EQ(collected(consumer), (PageList{{0, 999}}));
    EXPECT_EQ(tracker_->statistics().marks_outside, 4U);
}

TEST_F(TrackerTest, AMarkEndsWithTheAddressSpace) {
    Consumer consumer = tracker_->add_consumer();
    tracker_->mark(~std::uint64_t{0}, 2);
    tracker_->mark(~std::uint64_t{0} - page_size, ~std::uint64_t{0});
    EXPECT_EQ(tracker_->statistics().marks_outside, 3U);
    tracker_->mark(0, ~std::uint64_t{0});
    EXPECT_EQ(collected(consumer).size(), 1600U);
}

TEST_F(TrackerTest, ABitmapFromElsewhereIsMarked) {
    Consumer consumer = tracker_->add_consumer();
    const std::array<std::uint64_t, 3> bitmap = {1, 0, std::uint64_t{1} << 63 | 2};
    tracker_->mark_bitmap(upper, bitmap);
    EXPECT_EQ(collected(consumer), (PageList{{7, 0}, {7, 129}, {7, 191}}));
    tracker_->mark_bitmap(upper + 37 * page_size, bitmap);
    EXPECT_EQ(collected(consumer), (PageList{{7, 37}, {7, 166}, {7, 228}}));
    tracker_->mark_bitmap(upper, std::array<std::uint64_t, 1>{1 << 9}, 1);
    EXPECT_EQ(collected(consumer), (PageList{{smm | 7, 9}}));
    tracker_->mark_bitmap(upper, {});
    EXPECT_EQ(collected(consumer), nothing);
}

TEST_F(TrackerTest, MarksOfAnAbortedEpochComeAgain) {
    Consumer consumer = tracker_->add_consumer();
    tracker_->mark(0, 1);
    must(consumer.collect()).abort();
    EXPECT_EQ(collected(consumer), (PageList{{0, 0}}));
}

TEST(TrackerMarks, AMarkDuringACollectIsNotLost) {
    TrackedVm vm({.slots = {{0, 1024}}});
    Consumer consumer = vm.tracker.add_consumer();
    vm.store(0, 0, 5);
    vm.store(0, 0, 6);
    vm.kernel.during_reset(1, [&] { vm.tracker.mark(100 * page_size, 1); });
    PageList pages = collected(consumer);
    const PageList next = collected(consumer);
    pages.insert(pages.end(), next.begin(), next.end());
    EXPECT_EQ(pages, (PageList{{0, 5}, {0, 6}, {0, 100}}));
}

}  // namespace
}  // namespace dirtyring
