// SPDX-License-Identifier: MIT
#include "dirtyring/memory.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <optional>
#include <ostream>

#include "faulty_sys.hpp"

namespace dirtyring {

static std::ostream& operator<<(std::ostream& out, const SlotByte& byte) {
    return out << "byte " << byte.offset << " of the slot at place " << byte.place;
}

namespace {

std::array<std::byte, 64 * page_size> host;

constexpr std::uint32_t smm = 1 << 16;

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
    ASSERT_TRUE(map.add(slot(smm | 3, 0, 16)));  // another space: it may lie over the first
    EXPECT_EQ(map.find(3), 0U);
    EXPECT_EQ(map.find(0), 1U);
    EXPECT_EQ(map.find(smm | 3), 2U);
    EXPECT_EQ(map.bytes(), 48 * page_size);
    EXPECT_EQ(map.slots()[2], slot(smm | 3, 0, 16));
    for (const std::uint32_t absent : {1U, 2U, 4U, 0xffffU, 1U << 16, 2U << 16 | 3U, ~0U}) {
        EXPECT_EQ(map.find(absent), MemoryMap::npos) << absent;
    }
}

TEST(MemoryMap, ASlotIsSlot0AtAddress0UnlessItSaysOtherwise) {
    MemoryMap map;
    ASSERT_TRUE(map.add({.size = page_size, .host = host.data()}));
    EXPECT_EQ(map.slots()[0], slot(0, 0, 1));
    EXPECT_EQ(map.host({}), host.data()) << "and a byte is the first one of the first slot";
    EXPECT_EQ(MemorySlot().size, 0U) << "which no slot is made of: the kernel takes one away by it";
    EXPECT_EQ(code_of(map.add({})), EINVAL);
}

TEST(MemoryMap, TakesTheHighestIdAndTheHighestAddress) {
    MemoryMap map;
    MemorySlot last = slot(32767, 0, 1);
    last.guest_address = ~std::uint64_t{0} - page_size + 1;
    ASSERT_TRUE(map.add(last));
    EXPECT_EQ(map.find(32767), 0U);
}

TEST(MemoryMap, RefusesAllOnAHostWithLargerPages) {
    MemoryMap map;
    faulty::Faults faults;
    faults.set_page_size(16'384);
    const Result<void> added = map.add(slot(0, 0, 16));
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().code, EOPNOTSUPP);
    EXPECT_NE(added.error().message().find("pages of 16384 bytes"), std::string::npos);
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
    EXPECT_EQ(code_of(map.add(slot(1, 9, 2))), EEXIST);
    EXPECT_EQ(code_of(map.add(slot(1, 12, 2))), EEXIST);
    EXPECT_EQ(code_of(map.add(slot(1, 1, 64))), EEXIST);
    EXPECT_EQ(map.slots().size(), 1U);
    EXPECT_TRUE(map.add(slot(1, 20, 1)));
    EXPECT_TRUE(map.add(slot(2, 9, 1)));
}

TEST(MemoryMap, RefusesOverlapsInTheSecondAddressSpaceToo) {
    MemoryMap map;
    ASSERT_TRUE(map.add(slot(smm | 3, 10, 10)));
    const Result<void> added = map.add(slot(smm | 4, 19, 1));
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().operation, "MemoryMap::add(memory slot 4 of address space 1)");
    EXPECT_EQ(added.error().cause, "it overlaps memory slot 3 of address space 1");
    EXPECT_TRUE(map.add(slot(4, 19, 1)));
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

// Addresses
// ---------------------------------------------------------------------------------------------

constexpr std::optional<SlotByte> nothing;

/// Host memory from a page of the array on.
std::byte* host_page(std::uint64_t page) {
    return host.data() + page * page_size;
}

MemorySlot slot_over(std::uint32_t number, std::uint64_t first_page, std::uint64_t pages,
                     std::uint64_t first_host_page) {
    return {number, first_page * page_size, pages * page_size, host_page(first_host_page)};
}

// In no order of anything: guest pages 10..13 and 20..21, and 12 and 13 again in the second address
// space; between and around them are holes. Host memory the other way round.
MemoryMap three_slots() {
    MemoryMap map;
    EXPECT_TRUE(map.add(slot_over(7, 20, 2, 1)));
    EXPECT_TRUE(map.add(slot_over(smm | 7, 12, 2, 30)));
    EXPECT_TRUE(map.add(slot_over(3, 10, 4, 40)));
    return map;
}

TEST(MemoryMapAddresses, AGuestAddressIsFoundInItsSlotAndInNoHole) {
    const MemoryMap map = three_slots();
    EXPECT_EQ(map.at_guest(10 * page_size), (SlotByte{2, 0}));
    EXPECT_EQ(map.at_guest(13 * page_size + 5), (SlotByte{2, 3 * page_size + 5}));
    EXPECT_EQ(map.at_guest(14 * page_size - 1), (SlotByte{2, 4 * page_size - 1}));
    EXPECT_EQ(map.at_guest(20 * page_size), (SlotByte{0, 0}));
    EXPECT_EQ(map.at_guest(22 * page_size - 1), (SlotByte{0, 2 * page_size - 1}));
    for (const std::uint64_t hole : {std::uint64_t{0}, 10 * page_size - 1, 14 * page_size,
                                     20 * page_size - 1, 22 * page_size, ~std::uint64_t{0}}) {
        EXPECT_EQ(map.at_guest(hole), nothing) << hole;
    }
}

TEST(MemoryMapAddresses, EachAddressSpaceHasItsOwnSlots) {
    const MemoryMap map = three_slots();
    EXPECT_EQ(map.at_guest(12 * page_size, 0), (SlotByte{2, 2 * page_size}));
    EXPECT_EQ(map.at_guest(12 * page_size, 1), (SlotByte{1, 0}));
    EXPECT_EQ(map.at_guest(14 * page_size - 1, 1), (SlotByte{1, 2 * page_size - 1}));
    // What the other space has there is below or above it in any order of the two.
    EXPECT_EQ(map.at_guest(10 * page_size, 1), nothing);
    EXPECT_EQ(map.at_guest(14 * page_size, 1), nothing);
    EXPECT_EQ(map.at_guest(20 * page_size, 1), nothing);
    EXPECT_EQ(map.at_guest(12 * page_size, 2), nothing);
}

TEST(MemoryMapAddresses, TheLastByteOfTheAddressSpaceIsFound) {
    MemoryMap map;
    MemorySlot last = slot(0, 0, 1);
    last.guest_address = ~std::uint64_t{0} - page_size + 1;
    ASSERT_TRUE(map.add(last));
    EXPECT_EQ(map.at_guest(~std::uint64_t{0}), (SlotByte{0, page_size - 1}));
    EXPECT_EQ(map.at_guest(last.guest_address - 1), nothing);
    EXPECT_EQ(map.guest_address({0, page_size - 1}), ~std::uint64_t{0});
}

TEST(MemoryMapAddresses, AHostAddressIsFoundInItsSlotAndInNoHole) {
    const MemoryMap map = three_slots();
    EXPECT_EQ(map.at_host(host_page(40)), (SlotByte{2, 0}));
    EXPECT_EQ(map.at_host(host_page(44) - 1), (SlotByte{2, 4 * page_size - 1}));
    EXPECT_EQ(map.at_host(host_page(1) + 9), (SlotByte{0, 9}));
    EXPECT_EQ(map.at_host(host_page(31)), (SlotByte{1, page_size}));
    EXPECT_EQ(map.at_host(host_page(1) - 1), nothing);
    EXPECT_EQ(map.at_host(host_page(3)), nothing);
    EXPECT_EQ(map.at_host(host_page(40) - 1), nothing);
    EXPECT_EQ(map.at_host(host_page(44)), nothing);
    EXPECT_EQ(map.at_host(nullptr), nothing);
}

TEST(MemoryMapAddresses, SlotsMayShareHostMemory) {
    MemoryMap map;
    ASSERT_TRUE(map.add(slot_over(0, 0, 4, 8)));
    ASSERT_TRUE(map.add(slot_over(1, 100, 4, 8)));   // the same memory again
    ASSERT_TRUE(map.add(slot_over(2, 200, 4, 10)));  // and half of it
    const std::optional<SlotByte> shared = map.at_host(host_page(9));
    ASSERT_TRUE(shared);
    EXPECT_EQ(map.host(*shared), host_page(9));
    EXPECT_LT(shared->place, 2U);
    EXPECT_EQ(map.at_host(host_page(13)), (SlotByte{2, 3 * page_size}));
    EXPECT_EQ(map.at_host(host_page(14)), nothing);
}

TEST(MemoryMapAddresses, ASlotsMemoryMayLieInsideAnothers) {
    MemoryMap map;
    ASSERT_TRUE(map.add(slot_over(0, 0, 30, 0)));
    ASSERT_TRUE(map.add(slot_over(1, 100, 2, 10)));
    ASSERT_TRUE(map.add(slot_over(2, 200, 2, 20)));
    // Behind both of the smaller ones, and yet in the large one.
    EXPECT_EQ(map.at_host(host_page(25)), (SlotByte{0, 25 * page_size}));
    EXPECT_EQ(map.at_host(host_page(15)), (SlotByte{0, 15 * page_size}));
    EXPECT_EQ(map.at_host(host_page(30)), nothing);
    const std::optional<SlotByte> inner = map.at_host(host_page(11));
    ASSERT_TRUE(inner);
    EXPECT_EQ(map.host(*inner), host_page(11));
}

TEST(MemoryMapAddresses, AFileHasTheSlotsEndToEndInTheOrderOfTheirAddition) {
    const MemoryMap map = three_slots();
    EXPECT_EQ(map.at_file(0), (SlotByte{0, 0}));
    EXPECT_EQ(map.at_file(2 * page_size - 1), (SlotByte{0, 2 * page_size - 1}));
    EXPECT_EQ(map.at_file(2 * page_size), (SlotByte{1, 0}));
    EXPECT_EQ(map.at_file(4 * page_size), (SlotByte{2, 0}));
    EXPECT_EQ(map.at_file(8 * page_size - 1), (SlotByte{2, 4 * page_size - 1}));
    EXPECT_EQ(map.at_file(8 * page_size), nothing);
    EXPECT_EQ(map.at_file(~std::uint64_t{0}), nothing);
    EXPECT_EQ(MemoryMap().at_file(0), nothing);
}

TEST(MemoryMapAddresses, EveryByteLeadsToItsAddressesAndBack) {
    const MemoryMap map = three_slots();
    for (std::size_t place = 0; place < map.slots().size(); ++place) {
        const MemorySlot& slot = map.slots()[place];
        for (std::uint64_t offset = 0; offset < slot.size; offset += 1024) {
            for (const SlotByte byte : {SlotByte{place, offset}, SlotByte{place, offset + 1023}}) {
                EXPECT_EQ(map.at_guest(map.guest_address(byte), slot.slot >> 16), byte);
                EXPECT_EQ(map.at_host(map.host(byte)), byte);
                EXPECT_EQ(map.at_file(map.file_offset(byte)), byte);
                EXPECT_EQ(byte.page(), offset / page_size);
            }
        }
    }
}

// A snapshot of a guest with memory on both sides of the hole below 4 GiB: who takes a guest
// address for a place in the file writes the upper part a gigabyte too far.
TEST(MemoryMapAddresses, AFileOffsetIsNoGuestAddress) {
    constexpr std::uint64_t gib = std::uint64_t{1} << 30;
    MemoryMap map;
    ASSERT_TRUE(map.add({0, 0, 3 * gib, host.data()}));
    ASSERT_TRUE(map.add({1, 4 * gib, 2 * gib, host.data()}));  // never touched
    const std::optional<SlotByte> upper = map.at_guest(4 * gib + page_size);
    ASSERT_EQ(upper, (SlotByte{1, page_size}));
    EXPECT_EQ(map.file_offset(*upper), 3 * gib + page_size);
    EXPECT_EQ(map.at_file(4 * gib), (SlotByte{1, gib}));
    EXPECT_EQ(map.guest_address(*map.at_file(4 * gib)), 5 * gib);
    EXPECT_EQ(map.bytes(), 5 * gib);
}

TEST(MemoryMapAddresses, AfterRemoveTheOthersHaveMovedUpInTheFile) {
    MemoryMap map = three_slots();
    ASSERT_TRUE(map.remove(smm | 7));
    EXPECT_EQ(map.at_guest(12 * page_size, 1), nothing);
    EXPECT_EQ(map.at_host(host_page(30)), nothing);
    EXPECT_EQ(map.at_guest(10 * page_size), (SlotByte{1, 0}));
    EXPECT_EQ(map.at_host(host_page(40)), (SlotByte{1, 0}));
    EXPECT_EQ(map.at_file(2 * page_size), (SlotByte{1, 0}));
    EXPECT_EQ(map.file_offset({1, 0}), 2 * page_size);
    EXPECT_EQ(map.at_file(6 * page_size), nothing);
}

}  // namespace
}  // namespace dirtyring
