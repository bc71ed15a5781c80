// SPDX-License-Identifier: MIT
#include "dirtyring/dirty_set.hpp"

#include <gtest/gtest.h>

#include <array>
#include <tuple>
#include <utility>
#include <vector>

#include "dirtyring/pages.hpp"

namespace dirtyring {
namespace {

std::array<std::byte, 256 * page_size> host;

constexpr std::uint32_t smm = 1 << 16;

MemoryMap two_slots() {
    MemoryMap map;
    // The slot with the higher address comes first, so that order of adding and of address differ.
    EXPECT_TRUE(map.add({5, 1000 * page_size, 100 * page_size, host.data() + 100 * page_size}));
    EXPECT_TRUE(map.add({smm | 5, 0, 70 * page_size, host.data()}));
    return map;
}

using Runs = std::vector<std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>>;

Runs runs(const DirtySet& set, std::uint64_t gap = 0) {
    Runs all;
    set.for_each_run(
        [&](const PageRun& run) { all.emplace_back(run.slot->slot, run.first, run.count); }, gap);
    return all;
}

TEST(DirtySet, KeepsPagesBySlot) {
    DirtySet set(two_slots());
    EXPECT_TRUE(set.insert(5, 7));
    EXPECT_TRUE(set.insert(smm | 5, 7));
    EXPECT_TRUE(set.insert(5, 8));
    EXPECT_FALSE(set.insert(5, 7));
    EXPECT_EQ(set.size(), 3U);
    EXPECT_EQ(set.stale(), 0U);
    EXPECT_EQ(runs(set), (Runs{{5, 7, 2}, {smm | 5, 7, 1}}));
    EXPECT_TRUE(set.pages(0).contains(8));
    EXPECT_FALSE(set.pages(1).contains(8));
}

TEST(DirtySet, CountsWhatNamesNoPageAndNeverFollowsIt) {
    DirtySet set(two_slots());
    EXPECT_FALSE(set.insert(4, 0));                  // no such slot
    EXPECT_FALSE(set.insert(0xffff, 0));             // nor such an id
    EXPECT_FALSE(set.insert(~std::uint32_t{0}, 0));  // nor such an address space
    EXPECT_FALSE(set.insert(5, 100));                // the first page past the end
    EXPECT_FALSE(set.insert(5, ~std::uint64_t{0}));  // far past it
    EXPECT_TRUE(set.insert(5, 99));
    EXPECT_FALSE(set.insert(smm | 5, 70));
    EXPECT_EQ(set.stale(), 6U);
    EXPECT_EQ(set.size(), 1U);
    set.clear();
    EXPECT_EQ(set.stale(), 0U);
}

TEST(DirtySet, WordsOfABitmapEndWithTheirSlot) {
    DirtySet set(two_slots());
    set.insert_word(0, 1, ~std::uint64_t{0});
    set.insert_word(1, 1, ~std::uint64_t{0});
    EXPECT_EQ(runs(set), (Runs{{5, 64, 36}, {smm | 5, 64, 6}}));
    EXPECT_EQ(set.pages(0).size(), 36U);
    EXPECT_EQ(set.pages(1).size(), 6U);
}

TEST(DirtySet, ASlotsPagesHaveTheSlotsNumbers) {
    DirtySet set(two_slots());
    set.insert(smm | 5, 1);
    set.insert(smm | 5, 65);
    std::vector<std::uint64_t> pages;
    set.pages(1).for_each([&](std::uint64_t page) { pages.push_back(page); });
    EXPECT_EQ(pages, (std::vector<std::uint64_t>{1, 65}));
    std::vector<std::pair<std::size_t, std::uint64_t>> words;
    set.pages(1).for_each_word(
        [&](std::size_t index, std::uint64_t bits) { words.emplace_back(index, bits); });
    EXPECT_EQ(words, (std::vector<std::pair<std::size_t, std::uint64_t>>{{0, 2}, {1, 2}}));
    EXPECT_EQ(set.pages(0).size(), 0U);
}

TEST(DirtySet, ThatWasMovedFromCanBePreparedAgain) {
    DirtySet set(two_slots());
    set.insert(5, 1);
    const DirtySet other = std::move(set);
    EXPECT_EQ(other.size(), 1U);
    set.prepare(MemoryMap());  // NOLINT(bugprone-use-after-move): what is tested
    EXPECT_EQ(set.size(), 0U);
    set.prepare(two_slots());
    EXPECT_TRUE(set.insert(5, 1));
}

TEST(DirtySet, OverNoSlotsTakesNothing) {
    DirtySet set;
    EXPECT_FALSE(set.insert(0, 0));
    EXPECT_EQ(set.stale(), 1U);
    set.insert_all();
    EXPECT_EQ(set.size(), 0U);
}

TEST(DirtySet, RunsLeadToGuestAddressAndHostMemory) {
    DirtySet set(two_slots());
    set.insert(5, 3);
    set.insert(5, 4);
    set.for_each_run([&](const PageRun& run) {
        EXPECT_EQ(run.guest_address(), 1003 * page_size);
        EXPECT_EQ(run.host().data(), host.data() + 103 * page_size);
        EXPECT_EQ(run.host().size(), 2 * page_size);
    });
}

TEST(DirtySet, RunsDoNotCrossSlotsWhateverTheGap) {
    DirtySet set(two_slots());
    set.insert(5, 0);
    set.insert(5, 99);
    set.insert(smm | 5, 0);
    EXPECT_EQ(runs(set, ~std::uint64_t{0}), (Runs{{5, 0, 100}, {smm | 5, 0, 1}}));
}

TEST(DirtySet, AllMeansEveryPageOfEverySlot) {
    DirtySet set(two_slots());
    set.insert_all();
    EXPECT_EQ(runs(set), (Runs{{5, 0, 100}, {smm | 5, 0, 70}}));
    EXPECT_EQ(set.size(), 170U);
}

TEST(DirtySet, MergeAddsPagesAndStaleCounts) {
    DirtySet set(two_slots());
    DirtySet other(two_slots());
    set.insert(5, 1);
    other.insert(5, 2);
    other.insert(smm | 5, 3);
    other.insert(9, 9);
    set.merge(other);
    EXPECT_EQ(runs(set), (Runs{{5, 1, 2}, {smm | 5, 3, 1}}));
    EXPECT_EQ(set.stale(), 1U);
}

TEST(DirtySet, PrepareKeepsItsStorageOverTheSameSlots) {
    DirtySet set(two_slots());
    set.insert(5, 1);
    const MemorySlot* slots = set.memory().slots().data();
    set.prepare(two_slots());
    EXPECT_EQ(set.memory().slots().data(), slots);
    EXPECT_EQ(set.size(), 0U);
}

TEST(DirtySet, PrepareForOtherSlotsForgetsTheOldOnes) {
    DirtySet set(two_slots());
    set.insert(5, 1);
    MemoryMap other;
    ASSERT_TRUE(other.add({6, 0, page_size, host.data()}));
    set.prepare(other);
    EXPECT_FALSE(set.insert(5, 1));
    EXPECT_TRUE(set.insert(6, 0));
    EXPECT_FALSE(set.insert(6, 1));
    EXPECT_EQ(runs(set), (Runs{{6, 0, 1}}));
}

TEST(Pages, EverythingIsEveryPageAndSaysSo) {
    DirtySet set(two_slots());
    set.insert(5, 1);
    Pages pages(std::move(set), Rearmed());
    EXPECT_FALSE(pages.everything());
    EXPECT_EQ(pages.size(), 1U);
    pages.mark_everything();
    EXPECT_TRUE(pages.everything());
    EXPECT_EQ(pages.size(), 170U);
    EXPECT_EQ(runs(pages.set()), (Runs{{5, 0, 100}, {smm | 5, 0, 70}}));
}

TEST(Pages, RecycledStorageIsUsedAgain) {
    DirtySet set(two_slots());
    const MemorySlot* slots = set.memory().slots().data();
    Pages pages(std::move(set), Rearmed());
    EXPECT_EQ(std::move(pages).recycle().memory().slots().data(), slots);
}

}  // namespace
}  // namespace dirtyring
