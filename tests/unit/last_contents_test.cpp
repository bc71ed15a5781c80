// SPDX-License-Identifier: MIT
#include "../../src/last_contents.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "allocations.hpp"

namespace dirtyring {
namespace {

/// A walk over these pages, each of which is kept; gives those of which something was known.
std::vector<std::uint64_t> walk(LastContents& last, const std::vector<std::uint64_t>& numbers) {
    static const std::byte bytes{};
    std::vector<std::uint64_t> known;
    last.begin();
    for (const std::uint64_t number : numbers) {
        if (const LastContents::Page* const page = last.find(number)) {
            EXPECT_EQ(page->number, number);
            EXPECT_EQ(page->walks, 7U);
            EXPECT_EQ(page->content.bytes, &bytes);
            EXPECT_EQ(page->content.lines, number);  // to tell one page's from another's
            known.push_back(number);
        }
        last.keep({.number = number, .walks = 7, .content = {&bytes, number}});
    }
    return known;
}

using Numbers = std::vector<std::uint64_t>;

TEST(LastContentsTest, KnowsWhatTheWalkBeforeKept) {
    LastContents last;
    EXPECT_EQ(walk(last, {3, 5, 900}), Numbers{});
    EXPECT_EQ(walk(last, {3, 5, 900}), (Numbers{3, 5, 900}));
}

TEST(LastContentsTest, KnowsOnlyWhatTheLastWalkKept) {
    LastContents last;
    walk(last, {0, 3, 5, 7, 900});
    EXPECT_EQ(walk(last, {1, 3, 4, 7, 8, 1000}), (Numbers{3, 7}));
    EXPECT_EQ(walk(last, {0, 3, 5, 7, 8, 900}), (Numbers{3, 7, 8}));
    last.begin();
    EXPECT_EQ(walk(last, {3}), Numbers{});
}

TEST(LastContentsTest, AllocatesNothingOnceItHasGrown) {
    LastContents last;
    Numbers numbers;
    for (std::uint64_t number = 0; number < 1000; ++number) {
        numbers.push_back(number * 7);
    }
    walk(last, numbers);
    walk(last, numbers);
    const std::uint64_t before = allocations();
    last.begin();
    for (const std::uint64_t number : numbers) {
        last.keep(*last.find(number));
    }
    EXPECT_EQ(allocations(), before);
}

}  // namespace
}  // namespace dirtyring
