// SPDX-License-Identifier: MIT
#include "dirtyring/memory.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>

namespace dirtyring {
namespace {

std::array<std::byte, 64 * page_size> host;

MemorySlot slot(std::uint32_t number, std::uint64_t first_page, std::uint64_t pages) {
    return {number, first_page * page_size, pages * page_size, host.data()};
}

int code_of(const Result<void>& result) {
    return result ? 0 : result.error().code;
}

TEST(MemoryMap, FindsSlotsInBothAddressSpaces) {
    MemoryMap map;
    ASSERT_TRUE(map.add(slot(3, 0, 16)));
    ASSERT_TRUE(map.add(slot(0, 100, 16)));
    ASSERT_TRUE(map.add(slot(1 << 16 | 3, 0, 16)));  // another space: it may lie over the first
    EXPECT_EQ(map.find(3), 0U);
    EXPECT_EQ(map.find(0), 1U);
    EXPECT_EQ(map.find(1 << 16 | 3), 2U);
    EXPECT_EQ(map.bytes(), 48 * page_size);
    EXPECT_EQ(map.slots()[2], slot(1 << 16 | 3, 0, 16));
    for (const std::uint32_t absent : {1U, 2U, 4U, 0xffffU, 1U << 16, 2U << 16 | 3U, ~0U}) {
        EXPECT_EQ(map.find(absent), MemoryMap::npos) << absent;
    }
}

TEST(MemoryMap, TakesTheHighestIdAndTheHighestAddress) {
    MemoryMap map;
    MemorySlot last = slot(32767, 0, 1);
    last.guest_address = ~std::uint64_t{0} - page_size + 1;
    ASSERT_TRUE(map.add(last));
    EXPECT_EQ(map.find(32767), 0U);
}

TEST(MemoryMap, RefusesSlotsThatBreakARule) {
    struct Broken {
        MemorySlot slot;
        const char* says;
    };
    MemorySlot unaligned = slot(0, 0, 1);
    unaligned.guest_address = 1;
    MemorySlot half_page = slot(0, 0, 1);
    half_page.size += 2048;
    MemorySlot no_host = slot(0, 0, 1);
    no_host.host = nullptr;
    MemorySlot past_the_end = slot(0, 0, 2);
    past_the_end.guest_address = ~std::uint64_t{0} - page_size + 1;
    for (const Broken& broken :
         {Broken{slot(2 << 16, 0, 1), "address space is above 1"},
          Broken{slot(32768, 0, 1), "id is above 32767"}, Broken{slot(0, 0, 0), "above 0"},
          Broken{half_page, "multiple of 4096"}, Broken{unaligned, "guest address"},
          Broken{no_host, "no host memory"}, Broken{past_the_end, "past the end"}}) {
        MemoryMap map;
        const Result<void> added = map.add(broken.slot);
        ASSERT_FALSE(added) << broken.says;
        EXPECT_EQ(added.error().code, EINVAL);
        EXPECT_NE(added.error().message().find(broken.says), std::string::npos)
            << added.error().message();
        EXPECT_TRUE(map.slots().empty());
    }
}

TEST(MemoryMap, RefusesASlotTwiceAndOverlaps) {
    MemoryMap map;
    ASSERT_TRUE(map.add(slot(0, 10, 10)));
    EXPECT_EQ(code_of(map.add(slot(0, 100, 10))), EEXIST);
    EXPECT_EQ(code_of(map.add(slot(1, 19, 1))), EEXIST);
    EXPECT_EQ(code_of(map.add(slot(1, 1, 10))), EEXIST);
    EXPECT_EQ(code_of(map.add(slot(1, 12, 2))), EEXIST);
    EXPECT_EQ(code_of(map.add(slot(1, 1, 64))), EEXIST);
    EXPECT_EQ(map.slots().size(), 1U);
    EXPECT_TRUE(map.add(slot(1, 20, 1)));
    EXPECT_TRUE(map.add(slot(2, 9, 1)));
}

TEST(MemoryMap, AfterRemoveTheOthersAreFoundAndTheIdIsFree) {
    MemoryMap map;
    for (std::uint32_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(map.add(slot(i, i * 16, 16)));
    }
    ASSERT_TRUE(map.remove(1));
    EXPECT_EQ(map.find(0), 0U);
    EXPECT_EQ(map.find(1), MemoryMap::npos);
    EXPECT_EQ(map.find(2), 1U);
    EXPECT_EQ(code_of(map.remove(1)), ENOENT);
    EXPECT_TRUE(map.add(slot(1, 20, 2)));
    EXPECT_EQ(map.find(1), 2U);
}

}  // namespace
}  // namespace dirtyring
