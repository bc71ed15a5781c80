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
    EXPECT_FALSE(set.insert(4, 0));  // no such slot
    EXPECT_FALSE(set.insert(6, 0));  // nor the one after the last
    EXPECT_FALSE(set.insert(smm | 6, 0));
    EXPECT_FALSE(set.insert(0xffff, 0));             // nor such an id
    EXPECT_FALSE(set.insert(~std::uint32_t{0}, 0));  // nor such an address space
    EXPECT_FALSE(set.insert(5, 100));                // the first page past the end
    EXPECT_FALSE(set.insert(5, ~std::uint64_t{0}));  // far past it
    EXPECT_TRUE(set.insert(5, 99));
    EXPECT_FALSE(set.insert(smm | 5, 70));
    EXPECT_EQ(set.stale(), 8U);
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

TEST(DirtySet, ACleanPagePartsRunsUnlessAGapIsAskedFor) {
    DirtySet set(two_slots());
    set.insert(smm | 5, 1);
    set.insert(smm | 5, 3);
    std::vector<std::uint64_t> firsts;
    set.for_each_run([&](const PageRun& run) { firsts.push_back(run.first); });
    set.pages(1).for_each_run([&](std::uint64_t first, std::uint64_t) { firsts.push_back(first); });
    const Pages pages(std::move(set), Rearmed());
    pages.for_each_run([&](const PageRun& run) { firsts.push_back(run.first); });
    EXPECT_EQ(firsts, (std::vector<std::uint64_t>{1, 3, 1, 3, 1, 3}));
    pages.for_each_run([](const PageRun& run) { EXPECT_EQ(run.count, 3U); }, 1);
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

TEST(DirtySet, RunsLeadToTheirPlaceInAFileOfAllMemory) {
    DirtySet set(two_slots());
    set.insert(5, 3);
    set.insert(smm | 5, 0);
    set.insert(smm | 5, 9);
    std::vector<std::uint64_t> offsets;
    set.for_each_run([&](const PageRun& run) { offsets.push_back(run.file_offset); });
    EXPECT_EQ(offsets,
              (std::vector<std::uint64_t>{3 * page_size, 100 * page_size, 109 * page_size}));
}

TEST(DirtySet, ARangeIsOfItsSlotOnly) {
    DirtySet set(two_slots());
    set.insert_range(0, 60, 100);
    set.insert_range(1, 0, 1);
    set.insert_range(1, 5, 5);
    EXPECT_EQ(runs(set), (Runs{{5, 60, 40}, {smm | 5, 0, 1}}));
    EXPECT_EQ(set.size(), 41U);
}

TEST(DirtySet, IsEmptyUntilSomethingIsInsertedAndAfterClear) {
    DirtySet set(two_slots());
    EXPECT_TRUE(set.empty());
    set.insert(5, 100);  // names no page
    EXPECT_TRUE(set.empty());
    set.insert(smm | 5, 69);
    EXPECT_FALSE(set.empty());
    set.clear();
    EXPECT_TRUE(set.empty());
    EXPECT_TRUE(DirtySet().empty());
}

TEST(DirtySet, ASlotsPagesAreWrittenDownAsADirtyBitmap) {
    DirtySet set(two_slots());
    set.insert(5, 99);
    set.insert(smm | 5, 0);
    set.insert(smm | 5, 69);
    std::array<std::uint64_t, 2> bitmap = {~std::uint64_t{0}, ~std::uint64_t{0}};
    set.pages(1).copy_bitmap(bitmap);
    EXPECT_EQ(bitmap, (std::array<std::uint64_t, 2>{1, 1 << 5}));
    set.pages(0).copy_bitmap(bitmap);
    EXPECT_EQ(bitmap, (std::array<std::uint64_t, 2>{0, std::uint64_t{1} << 35}));
    set.clear();
    set.pages(0).copy_bitmap(bitmap);
    EXPECT_EQ(bitmap, (std::array<std::uint64_t, 2>{0, 0}));
}

// Slots that change
// ---------------------------------------------------------------------------------------------

// No page of it is touched.
std::byte* const large = host.data();

/// One slot of `pages` pages, behind another that keeps it from being the first.
MemoryMap slot_of(std::uint64_t pages, std::byte* memory = large, std::uint64_t first = 0x100000) {
    MemoryMap map;
    EXPECT_TRUE(map.add({9, 0, page_size, host.data()}));
    EXPECT_TRUE(map.add({5, first * page_size, pages * page_size, memory}));
    return map;
}

DirtySet merged_over(const MemoryMap& now, const DirtySet& before) {
    DirtySet set(now);
    set.merge_over(before);
    return set;
}

TEST(DirtySetMergeOver, TheSameSlotsIsAMerge) {
    DirtySet before(two_slots());
    before.insert(5, 99);
    before.insert(9, 9);
    const DirtySet set = merged_over(two_slots(), before);
    EXPECT_EQ(runs(set), (Runs{{5, 99, 1}}));
    EXPECT_EQ(set.stale(), 1U);
}

TEST(DirtySetMergeOver, AGrownSlotKeepsItsPages) {
    DirtySet before(slot_of(700));
    before.insert(5, 0);
    before.insert(5, 699);
    const DirtySet set = merged_over(slot_of(5000), before);
    EXPECT_EQ(runs(set), (Runs{{5, 0, 1}, {5, 699, 1}}));
}

TEST(DirtySetMergeOver, AShrunkSlotKeepsThePagesThatItStillHas) {
    DirtySet before(slot_of(5000));
    before.insert_all();
    // Ends of words and of blocks, and one page to either side.
    for (const std::uint64_t pages :
         {1U, 63U, 64U, 65U, 100U, 511U, 512U, 513U, 600U, 1024U, 1025U, 4999U}) {
        const DirtySet set = merged_over(slot_of(pages), before);
        EXPECT_EQ(runs(set), (Runs{{9, 0, 1}, {5, 0, pages}})) << pages;
        EXPECT_EQ(set.size(), pages + 1);
    }
}

TEST(DirtySetMergeOver, PagesPastTheNewEndAreNotTakenForThoseOfTheSlotBehind) {
    MemoryMap wide;
    ASSERT_TRUE(wide.add({1, 0, 600 * page_size, large}));
    ASSERT_TRUE(wide.add({2, 0x1000000, 600 * page_size, large}));
    MemoryMap narrow;
    ASSERT_TRUE(narrow.add({1, 0, 70 * page_size, large}));
    ASSERT_TRUE(narrow.add({2, 0x1000000, 600 * page_size, large}));
    DirtySet before(wide);
    before.insert(1, 69);
    before.insert(1, 70);
    before.insert(1, 512);
    before.insert(1, 599);
    EXPECT_EQ(runs(merged_over(narrow, before)), (Runs{{1, 69, 1}}));
}

TEST(DirtySetMergeOver, AMovedSlotKeepsItsPages) {
    DirtySet before(slot_of(700));
    before.insert(5, 650);
    EXPECT_EQ(runs(merged_over(slot_of(700, large, 0x200000), before)), (Runs{{5, 650, 1}}));
    // At another place among the slots.
    MemoryMap alone;
    ASSERT_TRUE(alone.add({5, 0, 700 * page_size, large}));
    EXPECT_EQ(runs(merged_over(alone, before)), (Runs{{5, 650, 1}}));
}

TEST(DirtySetMergeOver, ASlotOverOtherHostMemoryIsAnother) {
    DirtySet before(slot_of(700));
    before.insert(5, 1);
    before.insert(9, 0);
    EXPECT_EQ(runs(merged_over(slot_of(700, large + page_size), before)), (Runs{{9, 0, 1}}));
}

TEST(DirtySetMergeOver, PagesOfARemovedSlotGo) {
    DirtySet before(two_slots());
    before.insert(5, 1);
    before.insert(smm | 5, 2);
    MemoryMap rest = two_slots();
    ASSERT_TRUE(rest.remove(5));
    EXPECT_EQ(runs(merged_over(rest, before)), (Runs{{smm | 5, 2, 1}}));
    EXPECT_TRUE(merged_over(MemoryMap(), before).empty());
}

TEST(DirtySetMergeOver, AddsToWhatIsThere) {
    DirtySet before(slot_of(700));
    before.insert(5, 1);
    DirtySet set(slot_of(5000));
    set.insert(5, 2);
    set.merge_over(before);
    EXPECT_EQ(runs(set), (Runs{{5, 1, 2}}));
}

Runs unknown(const MemoryMap& now, const MemoryMap& before) {
    DirtySet set(now);
    set.insert_unknown_to(before);
    return runs(set);
}

TEST(DirtySetUnknown, NothingOfSlotsThatAreAsTheyWere) {
    EXPECT_EQ(unknown(two_slots(), two_slots()), Runs());
    EXPECT_EQ(unknown(slot_of(70), slot_of(700)), Runs());
}

TEST(DirtySetUnknown, WhatASlotHasGrownBy) {
    EXPECT_EQ(unknown(slot_of(5000), slot_of(700)), (Runs{{5, 700, 4300}}));
    EXPECT_EQ(unknown(slot_of(701), slot_of(700)), (Runs{{5, 700, 1}}));
}

TEST(DirtySetUnknown, AllOfANewSlotAndOfOneOverOtherHostMemory) {
    MemoryMap one = two_slots();
    ASSERT_TRUE(one.remove(smm | 5));
    EXPECT_EQ(unknown(two_slots(), one), (Runs{{smm | 5, 0, 70}}));
    EXPECT_EQ(unknown(slot_of(700, large + page_size), slot_of(700)), (Runs{{5, 0, 700}}));
    EXPECT_EQ(unknown(two_slots(), MemoryMap()), (Runs{{5, 0, 100}, {smm | 5, 0, 70}}));
}

// Whoever saved it by its address has it where it no longer is.
TEST(DirtySetUnknown, AllOfASlotAtAnotherGuestAddressOrPlaceInAFile) {
    EXPECT_EQ(unknown(slot_of(700, large, 0x200000), slot_of(700)), (Runs{{5, 0, 700}}));
    MemoryMap second = two_slots();
    ASSERT_TRUE(second.remove(5));
    EXPECT_EQ(unknown(second, two_slots()), (Runs{{smm | 5, 0, 70}}));
    EXPECT_EQ(unknown(two_slots(), second), (Runs{{5, 0, 100}, {smm | 5, 0, 70}}));
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

TEST(Pages, SuspectsAreAmongThePagesAndCounted) {
    DirtySet set(two_slots());
    set.insert(5, 1);
    DirtySet suspects(two_slots());
    suspects.insert(5, 1);
    suspects.insert(smm | 5, 2);
    Pages pages(std::move(set), Rearmed());
    EXPECT_EQ(pages.suspects(), 0U);
    pages.mark_suspects(suspects);
    EXPECT_EQ(pages.suspects(), 2U);
    EXPECT_FALSE(pages.everything());
    EXPECT_EQ(runs(pages.set()), (Runs{{5, 1, 1}, {smm | 5, 2, 1}}));
}

}  // namespace
}  // namespace dirtyring
