// SPDX-License-Identifier: MIT
#include "../../src/page_copy.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "../../src/copy_choice.hpp"
#include "dirtyring/memory.hpp"

namespace dirtyring {
namespace {

using Page = std::array<std::byte, page_size>;

Page page_of(unsigned seed) {
    Page page;
    for (std::size_t i = 0; i < page.size(); ++i) {
        page[i] = static_cast<std::byte>(i * 31 + i / 251 + seed);
    }
    return page;
}

TEST(PageCopyTest, EveryWayMakesAPageEqualWhereverItWasChanged) {
    const Page was = page_of(0);
    for (const PageCopy copy : page_copies()) {
        for (std::size_t at = 0; at < page_size; ++at) {
            Page page = was;
            page[at] ^= std::byte{1};
            ASSERT_TRUE(copy(page.data(), {was.data()}, page.data())) << at;
            ASSERT_EQ(page, was) << at;
        }
    }
}

TEST(PageCopyTest, EveryWayReplacesAWholePage) {
    const Page was = page_of(0);
    for (const PageCopy copy : page_copies()) {
        Page page = page_of(1);
        EXPECT_TRUE(copy(page.data(), {was.data()}, page.data()));
        EXPECT_EQ(page, was);
    }
}

TEST(PageCopyTest, EveryWaySaysThatAPageIsAsItWas) {
    const Page was = page_of(0);
    for (const PageCopy copy : page_copies()) {
        Page page = was;
        EXPECT_FALSE(copy(page.data(), {was.data()}, page.data()));
        EXPECT_EQ(page, was);
    }
}

TEST(PageCopyTest, LinesOfZeroesAreMadeSo) {
    Page was{};
    was[5 * 64 + 7] = std::byte{1};
    const PageContent content{was.data(), used_lines(was.data())};
    for (const PageCopy copy : page_copies()) {
        for (std::size_t at = 0; at < page_size; ++at) {
            Page page = was;
            page[at] ^= std::byte{2};
            ASSERT_TRUE(copy(page.data(), content, page.data())) << at;
            ASSERT_EQ(page, was) << at;
            ASSERT_FALSE(copy(page.data(), content, page.data())) << at;
        }
    }
}

TEST(PageCopyTest, ALineIsUsedWhereAnyOfItsBytesIsNotZero) {
    Page page{};
    EXPECT_EQ(used_lines(page.data()), 0U);
    for (std::size_t at = 0; at < page_size; ++at) {
        page[at] = std::byte{0x80};
        ASSERT_EQ(used_lines(page.data()), std::uint64_t{1} << (at / 64)) << at;
        page[at] = std::byte{0};
    }
}

TEST(PageCopyTest, PagesAreCopiedOnlyUpToTheirEnds) {
    for (const PageCopy copy : page_copies()) {
        const std::array<Page, 2> was = {page_of(0), page_of(0)};
        std::array<Page, 2> pages = {page_of(1), page_of(2)};
        copy(pages[0].data(), {was[0].data()}, pages[1].data());
        EXPECT_EQ(pages[1], page_of(2));
    }
}

// Which one it is for each of so many choices, where each way takes `cost(way)` a page.
template <typename Cost>
std::array<unsigned, 7> used_in(CopyChoice& choice, unsigned choices, const Cost& cost,
                                std::uint64_t pages = 100) {
    std::array<unsigned, 7> used{};
    for (unsigned i = 0; i < choices; ++i) {
        const PageCopy copy = choice.choose();
        std::size_t way = 0;
        while (page_copies()[way] != copy) {
            ++way;
        }
        ++used[way];
        choice.took(pages, pages * cost(way));
    }
    return used;
}

TEST(CopyChoiceTest, TheFastestIsUsedInNearlyAllRestores) {
    CopyChoice choice;
    const auto used = used_in(choice, 1000, [](std::size_t way) { return way == 1 ? 50U : 80U; });
    EXPECT_GT(used[1], 950U);
}

TEST(CopyChoiceTest, AWayThatHasBecomeFasterIsFound) {
    CopyChoice choice;
    used_in(choice, 1000, [](std::size_t way) { return way == 1 ? 50U : 80U; });
    used_in(choice, 10000, [](std::size_t way) { return way == 0 ? 20U : 80U; });
    const auto used = used_in(choice, 1000, [](std::size_t way) { return way == 0 ? 20U : 80U; });
    EXPECT_GT(used[0], 950U);
}

TEST(CopyChoiceTest, WhatComesInBetweenOnceDecidesNothing) {
    CopyChoice choice;
    unsigned restores = 0;
    const auto cost = [&](std::size_t way) {
        const bool disturbed = ++restores <= page_copies().size();
        return way == 1 ? (disturbed ? 500U : 50U) : 80U;
    };
    EXPECT_GT(used_in(choice, 300, cost)[1], 200U);
}

TEST(CopyChoiceTest, AFewPagesDecideNothing) {
    CopyChoice choice;
    const PageCopy first = choice.choose();
    choice.took(15, 1);
    EXPECT_EQ(choice.choose(), first);
    choice.took(0, 1'000'000);
    EXPECT_EQ(choice.choose(), first);
}

TEST(CopyChoiceTest, WhereFewPagesAreRestoredTheFastestIsFoundTooInTheEnd) {
    CopyChoice choice;
    const auto cost = [](std::size_t way) { return way == 1 ? 50U : 80U; };
    used_in(choice, 1000, cost, 5);
    EXPECT_GT(used_in(choice, 1000, cost, 5)[1], 950U);
}

}  // namespace
}  // namespace dirtyring
