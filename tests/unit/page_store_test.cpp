// SPDX-License-Identifier: MIT
#include "../../src/page_store.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace dirtyring {
namespace {

using Page = std::array<std::byte, page_size>;

Page page_with(std::byte value) {
    Page page{};
    page[100] = value;
    return page;
}

TEST(PageStoreTest, GivesEachPageTheCopyThatWasAddedForIt) {
    Result<PageStore> store = PageStore::create(100, 10);
    ASSERT_TRUE(store);
    for (const std::uint64_t number : {3U, 99U, 0U}) {
        EXPECT_EQ(store->find(number).bytes, nullptr);
        const Page page = page_with(std::byte(number + 1));
        const PageContent added = store->add(number, page.data());
        EXPECT_NE(added.bytes, page.data());
        EXPECT_EQ(added.bytes, store->find(number).bytes);
    }
    for (const std::uint64_t number : {3U, 99U, 0U}) {
        const Page page = page_with(std::byte(number + 1));
        const PageContent copy = store->find(number);
        ASSERT_NE(copy.bytes, nullptr);
        EXPECT_EQ(std::memcmp(copy.bytes, page.data(), page_size), 0);
        EXPECT_EQ(copy.lines, std::uint64_t{1} << (100 / 64));
    }
    EXPECT_EQ(store->find(1).bytes, nullptr);
}

TEST(PageStoreTest, GivesTheBytesThemselvesWhereItIsFull) {
    Result<PageStore> store = PageStore::create(100, 1);
    ASSERT_TRUE(store);
    const Page page = page_with(std::byte{1});
    store->add(7, page.data());
    EXPECT_EQ(store->add(8, page.data()).bytes, page.data());
    EXPECT_EQ(store->find(8).bytes, nullptr);
    EXPECT_NE(store->find(7).bytes, nullptr);
}

}  // namespace
}  // namespace dirtyring
