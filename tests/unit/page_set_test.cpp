// SPDX-License-Identifier: MIT
#include "dirtyring/page_set.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "faulty_sys.hpp"

namespace dirtyring {
namespace {

using Pages = std::vector<std::uint64_t>;
using Runs = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

Pages pages(const PageSet& set) {
    Pages all;
    set.for_each([&](std::uint64_t page) { all.push_back(page); });
    return all;
}

Runs runs(const PageSet& set, std::uint64_t gap = 0) {
    Runs all;
    set.for_each_run(
        [&](std::uint64_t first, std::uint64_t count) { all.emplace_back(first, count); }, gap);
    return all;
}

PageSet make(std::uint64_t capacity, const Pages& members) {
    PageSet set(capacity);
    for (const std::uint64_t page : members) {
        set.insert(page);
    }
    return set;
}

// Pages on both sides of boundaries between words, and far apart.
const Pages corners = {0, 1, 63, 64, 4095, 4096, 262143, 262144, 299999};
constexpr std::uint64_t corner_capacity = 300000;

TEST(PageSet, IsEmptyAtFirst) {
    const PageSet set(corner_capacity);
    EXPECT_EQ(set.size(), 0U);
    EXPECT_EQ(set.capacity(), corner_capacity);
    EXPECT_EQ(pages(set), Pages{});
    EXPECT_EQ(runs(set), Runs{});
}

TEST(PageSet, OfNoPagesCanBeWalkedAndCleared) {
    PageSet set;
    set.insert_all();
    set.merge(PageSet());
    EXPECT_EQ(set.clear(), 0U);
    EXPECT_EQ(set.size(), 0U);
    EXPECT_EQ(runs(set), Runs{});
}

TEST(PageSet, TellsHowManyPagesItHadWhenCleared) {
    PageSet set = make(corner_capacity, corners);
    EXPECT_EQ(set.clear(), corners.size());
    EXPECT_EQ(set.clear(), 0U);
}

// Of 16 GiB of memory, and of just less than what huge pages are asked for.
TEST(PageSet, AsksForHugePagesWhereItIsLargeAndDoesWithoutThem) {
    constexpr std::uint64_t large = std::uint64_t{4} << 20;
    faulty::Faults faults;
    const PageSet small(large - PageSet::block_pages);
    EXPECT_EQ(faults.calls(faulty::Call::madvise), 0U);
    faults.fail_next(faulty::Call::madvise, EINVAL);
    PageSet set(large);
    EXPECT_EQ(faults.failed(), faulty::Call::madvise);
    set.insert(0);
    set.insert(large - 1);
    const PageSet copy = set;
    EXPECT_EQ(faults.calls(faulty::Call::madvise), 2U);
    EXPECT_EQ(pages(copy), (Pages{0, large - 1}));
}

TEST(PageSet, KeepsEachPageOnceAndInOrder) {
    PageSet set(corner_capacity);
    for (auto page = corners.rbegin(); page != corners.rend(); ++page) {
        EXPECT_TRUE(set.insert(*page)) << *page;
    }
    for (const std::uint64_t page : corners) {
        EXPECT_FALSE(set.insert(page)) << page;
    }
    EXPECT_EQ(set.size(), corners.size());
    EXPECT_EQ(pages(set), corners);
}

TEST(PageSet, ContainsWhatWasInsertedAndNoNeighbour) {
    const PageSet set = make(corner_capacity, {63, 4096, 262143});
    for (const std::uint64_t page : Pages{62, 64, 4095, 4097, 262142, 262144}) {
        EXPECT_FALSE(set.contains(page)) << page;
    }
    for (const std::uint64_t page : Pages{63, 4096, 262143}) {
        EXPECT_TRUE(set.contains(page)) << page;
    }
}

TEST(PageSet, WithoutItsLastPageIsEmptyAgain) {
    PageSet set = make(corner_capacity, corners);
    for (const std::uint64_t page : corners) {
        EXPECT_FALSE(set.empty());
        set.erase(page);
        EXPECT_FALSE(set.contains(page));
    }
    EXPECT_TRUE(set.empty());
}

TEST(PageSet, RunsJoinNeighboursAcrossWords) {
    EXPECT_EQ(runs(make(corner_capacity, corners)),
              (Runs{{0, 2}, {63, 2}, {4095, 2}, {262143, 2}, {299999, 1}}));
    PageSet long_run(1000);
    for (std::uint64_t page = 10; page < 500; ++page) {
        long_run.insert(page);
    }
    EXPECT_EQ(runs(long_run), (Runs{{10, 490}}));
}

TEST(PageSet, RunsOfAFullWordEndAtItsLastPage) {
    PageSet set(256);
    set.insert_word(1, ~std::uint64_t{0});
    EXPECT_EQ(runs(set), (Runs{{64, 64}}));
    set.insert(128);
    EXPECT_EQ(runs(set), (Runs{{64, 65}}));
    set.insert(130);
    EXPECT_EQ(runs(set), (Runs{{64, 65}, {130, 1}}));
}

TEST(PageSet, AGapOfAtMostSoManyCleanPagesJoinsRuns) {
    const PageSet set = make(1000, {5, 8, 12, 700});
    EXPECT_EQ(runs(set, 1), (Runs{{5, 1}, {8, 1}, {12, 1}, {700, 1}}));
    EXPECT_EQ(runs(set, 2), (Runs{{5, 4}, {12, 1}, {700, 1}}));
    EXPECT_EQ(runs(set, 3), (Runs{{5, 8}, {700, 1}}));
    EXPECT_EQ(runs(set, ~std::uint64_t{0}), (Runs{{5, 696}}));
}

TEST(PageSet, ACleanPagePartsRunsUnlessAGapIsAskedFor) {
    unsigned runs = 0;
    make(100, {1, 3}).for_each_run([&](std::uint64_t, std::uint64_t) { ++runs; });
    EXPECT_EQ(runs, 2U);
}

TEST(PageSet, AGapFromPageZeroIsCounted) {
    EXPECT_EQ(runs(make(100, {0, 3}), 1), (Runs{{0, 1}, {3, 1}}));
    EXPECT_EQ(runs(make(100, {0, 3}), 2), (Runs{{0, 4}}));
}

TEST(PageSet, WordsOfABitmapLeaveOutBitsPastTheEnd) {
    PageSet set(70);
    set.insert_word(1, ~std::uint64_t{0});
    EXPECT_EQ(pages(set), (Pages{64, 65, 66, 67, 68, 69}));
    EXPECT_EQ(set.size(), 6U);
    set.insert_word(1, std::uint64_t{1} << 6);
    EXPECT_EQ(set.size(), 6U);
}

TEST(PageSet, WordsAreAddedToWhatIsThere) {
    PageSet set = make(128, {0, 2});
    set.insert_word(0, 0b1110);
    EXPECT_EQ(pages(set), (Pages{0, 1, 2, 3}));
    EXPECT_EQ(set.size(), 4U);
    set.insert_word(0, 0);
    EXPECT_EQ(set.size(), 4U);
}

TEST(PageSet, AllPagesEndAtTheCapacity) {
    for (const std::uint64_t capacity : Pages{1, 63, 64, 65, 4095, 4096, 4097, 262145}) {
        PageSet set(capacity);
        set.insert_all();
        EXPECT_EQ(set.size(), capacity);
        EXPECT_EQ(runs(set), (Runs{{0, capacity}}));
    }
}

TEST(PageSet, MergeIsTheUnion) {
    PageSet set = make(corner_capacity, {1, 64, 5000});
    set.merge(make(corner_capacity, {1, 65, 262144}));
    EXPECT_EQ(pages(set), (Pages{1, 64, 65, 5000, 262144}));
    EXPECT_EQ(set.size(), 5U);
}

TEST(PageSet, MovedFromItHasNoPagesAnywhere) {
    PageSet set = make(corner_capacity, corners);
    const PageSet other = std::move(set);
    EXPECT_EQ(pages(other), corners);
    EXPECT_EQ(set.size(4096, 8192), 0U);
    EXPECT_TRUE(set.empty());
    set.clear();
    EXPECT_EQ(set.size(), 0U);
}

TEST(PageSet, ClearForgetsEverythingOnAllLevels) {
    PageSet set = make(corner_capacity, corners);
    set.clear();
    EXPECT_EQ(set.size(), 0U);
    EXPECT_EQ(pages(set), Pages{});
    for (const std::uint64_t page : corners) {
        EXPECT_FALSE(set.contains(page));
        EXPECT_TRUE(set.insert(page));
    }
    EXPECT_EQ(pages(set), corners);
}

}  // namespace
}  // namespace dirtyring
