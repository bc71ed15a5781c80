// SPDX-License-Identifier: MIT
#include "../../src/mark_board.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "page_list.hpp"

namespace dirtyring {
namespace {

using fake::list_of;
using fake::PageList;
using fake::range;

constexpr std::uint32_t smm = 1 << 16;
const PageList nothing;

// 128 MiB: where one part of the board ends and the next begins.
constexpr std::uint64_t leaf = 1 << 15;
// The last page of 52 bits of guest-physical address.
constexpr std::uint64_t last_page = (std::uint64_t{1} << 40) - 1;

std::byte never_touched{};

MemorySlot slot(std::uint32_t number, std::uint64_t first, std::uint64_t pages) {
    return {number, first * page_size, pages * page_size, &never_touched};
}

MemoryMap map_of(const std::vector<MemorySlot>& slots) {
    MemoryMap map;
    for (const MemorySlot& slot : slots) {
        EXPECT_TRUE(map.add(slot));
    }
    return map;
}

/// A board over slots, and the set that marks are drained into.
class MarkBoardTest : public ::testing::Test {
  protected:
    void over(const std::vector<MemorySlot>& slots) {
        map_ = map_of(slots);
        board_.cover(map_);
    }
    PageList drained() {
        DirtySet set(map_);
        board_.drain(set);
        return list_of(set);
    }

    MemoryMap map_;
    MarkBoard board_;
};

TEST_F(MarkBoardTest, WhatIsMarkedIsDrainedOnce) {
    over({slot(0, 0, 1000)});
    board_.mark(0, 5, 1);
    board_.mark(0, 999, 1);
    board_.mark(0, 5, 1);
    EXPECT_EQ(drained(), (PageList{{0, 5}, {0, 999}}));
    EXPECT_EQ(drained(), nothing);
    board_.mark(0, 5, 1);
    EXPECT_EQ(drained(), (PageList{{0, 5}}));
    EXPECT_EQ(board_.outside(), 0U);
}

TEST_F(MarkBoardTest, ADrainAddsToTheSet) {
    over({slot(0, 0, 1000)});
    DirtySet set(map_);
    set.insert(0, 7);
    board_.mark(0, 5, 1);
    board_.drain(set);
    EXPECT_EQ(list_of(set), (PageList{{0, 5}, {0, 7}}));
}

TEST_F(MarkBoardTest, ARangeIsEveryPageOfItAndNoOther) {
    over({slot(0, 0, 2 * leaf)});
    struct Range {
        std::uint64_t first;
        std::uint64_t count;
    };
    // Within a word; to its end; of it and one more; of a block of 512; from one part to the next.
    for (const auto& [first, count] :
         {Range{3, 2}, Range{60, 4}, Range{60, 5}, Range{64, 64}, Range{63, 66}, Range{500, 600},
          Range{leaf - 1, 2}, Range{0, 2 * leaf}, Range{leaf - 100, 1000}}) {
        board_.mark(0, first, count);
        EXPECT_EQ(drained(), range(0, first, count)) << first << ", " << count;
    }
    board_.mark(0, 5, 0);
    EXPECT_EQ(drained(), nothing);
}

TEST_F(MarkBoardTest, ABitmapsWordIsThePagesOfItsBits) {
    over({slot(0, 0, 1000)});
    board_.mark_word(0, 128, 1 | std::uint64_t{1} << 63 | 1 << 5);
    board_.mark_word(0, 192, 0);
    EXPECT_EQ(drained(), (PageList{{0, 128}, {0, 133}, {0, 191}}));
}

// As VFIO gives them: from any page on.
TEST_F(MarkBoardTest, ABitmapsWordMayBeginAtAnyPage) {
    over({slot(0, 0, 1000)});
    board_.mark_word(0, 161, 1 | std::uint64_t{1} << 30 | std::uint64_t{1} << 31);
    EXPECT_EQ(drained(), (PageList{{0, 161}, {0, 191}, {0, 192}}));
    board_.mark_word(0, 127, ~std::uint64_t{0});
    EXPECT_EQ(drained(), range(0, 127, 64));
    board_.mark_word(0, 65, 3);
    EXPECT_EQ(drained(), range(0, 65, 2));
}

TEST_F(MarkBoardTest, PagesAreThoseOfTheSlotNotOfGuestMemory) {
    over({slot(3, 1000, 50), slot(7, 100, 10)});
    board_.mark(0, 1049, 1);
    board_.mark(0, 100, 2);
    EXPECT_EQ(drained(), (PageList{{3, 49}, {7, 0}, {7, 1}}));
}

TEST_F(MarkBoardTest, ARangeOverTwoSlotsAndTheHoleBetweenThem) {
    over({slot(0, 10, 10), slot(1, 30, 10)});
    board_.mark(0, 0, 64);
    PageList both = range(0, 0, 10);
    const PageList second = range(1, 0, 10);
    both.insert(both.end(), second.begin(), second.end());
    EXPECT_EQ(drained(), both);
    EXPECT_EQ(board_.outside(), 44U);
}

TEST_F(MarkBoardTest, SlotsThatMeetShareAWord) {
    over({slot(0, 0, 33), slot(1, 33, 100)});
    board_.mark(0, 32, 2);
    EXPECT_EQ(drained(), (PageList{{0, 32}, {1, 0}}));
    EXPECT_EQ(board_.outside(), 0U);
}

TEST_F(MarkBoardTest, EachAddressSpaceHasItsOwnPages) {
    over({slot(0, 0, 100), slot(smm | 0, 50, 100)});
    board_.mark(0, 60, 1);
    board_.mark(1, 61, 1);
    board_.mark(1, 10, 1);   // a slot is there only in the other
    board_.mark(0, 120, 1);  // the same
    board_.mark(2, 60, 1);   // there is no such space
    EXPECT_EQ(drained(), (PageList{{0, 60}, {smm | 0, 11}}));
    EXPECT_EQ(board_.outside(), 3U);
}

TEST_F(MarkBoardTest, GuestPhysicalMemoryEndsAt52Bits) {
    over({slot(0, last_page - 9, 10)});
    board_.mark(0, last_page, 1);
    board_.mark(0, last_page - 9, 1);
    EXPECT_EQ(drained(), (PageList{{0, 0}, {0, 9}}));
    board_.mark(0, last_page + 1, 1);
    board_.mark(0, ~std::uint64_t{0} / page_size, 1);
    EXPECT_EQ(drained(), nothing);
    EXPECT_EQ(board_.outside(), 2U);
    over({slot(0, last_page + 1, 10)});
    board_.mark(0, last_page + 1, 10);
    EXPECT_EQ(drained(), nothing);
    EXPECT_EQ(board_.outside(), 12U);
}

TEST_F(MarkBoardTest, ASlotMayEndWithTheFirstPageOfAPartAndItsMarksDoToo) {
    over({slot(0, leaf - 1, 2)});
    board_.mark(0, leaf, 1);
    EXPECT_EQ(drained(), (PageList{{0, 1}}));
    // What is past that part is outside at once: no slot was ever there.
    board_.mark(0, 2 * leaf, 1);
    EXPECT_EQ(board_.outside(), 1U);
}

// Who passes a garbled length does not wait for its end.
TEST_F(MarkBoardTest, HolesOfAnySizeAreOneStep) {
    over({slot(0, 10, 10), slot(1, last_page - 9, 10)});
    board_.mark(0, 0, std::uint64_t{1} << 52);
    EXPECT_EQ(drained().size(), 20U);
    EXPECT_EQ(board_.outside(), (std::uint64_t{1} << 52) - 20);
}

TEST_F(MarkBoardTest, OfABoardOverNothingAllIsOutside) {
    board_.mark(0, 0, 100);
    board_.mark_word(1, 64, 7);
    EXPECT_EQ(board_.outside(), 103U);
    EXPECT_EQ(drained(), nothing);
}

// Slots that come and go
// ---------------------------------------------------------------------------------------------

TEST_F(MarkBoardTest, ASlotThatComesIsFoundAndThoseThatWereThereStay) {
    over({slot(0, 0, 100)});
    board_.mark(0, 1, 1);
    over({slot(0, 0, 100), slot(1, 5 * leaf, 100)});
    board_.mark(0, 5 * leaf, 1);
    EXPECT_EQ(drained(), (PageList{{0, 1}, {1, 0}}));
    EXPECT_EQ(board_.outside(), 0U);
}

TEST_F(MarkBoardTest, MarksOfASlotThatHasGoneAreOutside) {
    over({slot(0, 0, 100), slot(1, 5 * leaf, 100)});
    board_.mark(0, 5 * leaf, 10);
    board_.mark(0, 1, 1);
    over({slot(0, 0, 100)});
    EXPECT_EQ(drained(), (PageList{{0, 1}}));
    EXPECT_EQ(board_.outside(), 10U);
    board_.mark(0, 5 * leaf, 1);
    EXPECT_EQ(drained(), nothing);
    EXPECT_EQ(board_.outside(), 11U);
}

TEST_F(MarkBoardTest, ASlotThatTakesTheAddressesOfAnotherTakesItsMarks) {
    over({slot(0, 100, 100)});
    board_.mark(0, 150, 1);
    over({slot(4, 140, 100)});
    EXPECT_EQ(drained(), (PageList{{4, 10}}));
}

// Threads
// ---------------------------------------------------------------------------------------------

// What markers have written to a page before they marked it is seen by who drains the mark, in a
// plain load: TSan tells where that is not so. And no mark is left behind, whatever the others do.
TEST(MarkBoardThreads, WhoSeesAMarkSeesWhatWasWritten) {
    constexpr std::uint64_t pages = 2 * leaf;
    constexpr std::uint64_t markers = 3;
    constexpr std::uint64_t rounds = 5'000;
    constexpr std::uint64_t own = 40;  // pages of each marker, in words that all of them share
    const MemoryMap map = map_of({slot(0, 0, pages)});
    MarkBoard board;
    board.cover(map);

    // Page p is marker p % markers' alone. Each writes a page once: then the value is there when
    // the mark is.
    std::vector<std::uint64_t> memory(pages);
    const auto page_of = [](std::uint64_t marker, std::uint64_t i) {
        return (i * own % (pages / markers - own) + i % own) * markers + marker;
    };
    std::vector<std::uint64_t> times(pages);  // that it is to be marked
    for (std::uint64_t marker = 0; marker < markers; ++marker) {
        for (std::uint64_t i = 0; i < rounds; ++i) {
            ++times[page_of(marker, i)];
        }
    }
    std::atomic<std::uint64_t> running = markers;
    std::vector<std::thread> threads;
    for (std::uint64_t marker = 0; marker < markers; ++marker) {
        threads.emplace_back([&, marker] {
            std::vector<bool> written(pages);
            for (std::uint64_t i = 0; i < rounds; ++i) {
                const std::uint64_t page = page_of(marker, i);
                if (!written[page]) {
                    memory[page] = page + 1;
                    written[page] = true;
                }
                board.mark(0, page, 1);
            }
            --running;
        });
    }

    DirtySet set(map);
    std::vector<std::uint64_t> copy(pages);
    bool last = false;
    while (!last) {
        last = running == 0;  // and then once more
        board.drain(set);
        set.pages(0).for_each([&](std::uint64_t page) { copy[page] = memory[page]; });
        set.clear();
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (std::uint64_t page = 0; page < pages; ++page) {
        EXPECT_EQ(copy[page], times[page] != 0 ? page + 1 : 0) << page;
    }
    EXPECT_EQ(board.outside(), 0U);
}

// One page is marked again and again, and must come out after the last time: in no round may a
// drain that was under way take the flag and leave the page.
TEST(MarkBoardThreads, NoMarkWaitsForAnotherToBeSeen) {
    constexpr int rounds = 500;
    const MemoryMap map = map_of({slot(0, 0, 200)});
    MarkBoard board;
    board.cover(map);
    DirtySet set(map);
    std::atomic<int> round = 0;
    std::atomic<int> done = 0;
    std::vector<std::thread> markers;
    for (const std::uint64_t page : {std::uint64_t{1}, std::uint64_t{130}}) {
        markers.emplace_back([&, page] {
            for (int mine = 1; mine <= rounds; ++mine) {
                while (round < mine) {
                    std::this_thread::yield();
                }
                board.mark(0, page, 1);
                ++done;
            }
        });
    }
    int missing = 0;
    for (int now = 1; now <= rounds; ++now) {
        round = now;
        while (done < 2 * now) {
            board.drain(set);
            std::this_thread::yield();
        }
        board.drain(set);
        missing += list_of(set) == PageList{{0, 1}, {0, 130}} ? 0 : 1;
        set.clear();
    }
    for (std::thread& marker : markers) {
        marker.join();
    }
    EXPECT_EQ(missing, 0);
}

// Markers follow the board while it grows.
TEST(MarkBoardThreads, SlotsMayComeMeanwhile) {
    constexpr std::uint64_t slots = 30;
    MarkBoard board;
    MemoryMap map = map_of({slot(0, 0, 10)});
    board.cover(map);
    std::atomic<bool> over = false;
    std::thread marker([&] {
        for (std::uint64_t i = 0; !over; ++i) {
            board.mark(0, i % slots * 3 * leaf, 1);
        }
    });
    for (std::uint32_t i = 1; i < slots; ++i) {
        EXPECT_TRUE(map.add(slot(i, std::uint64_t{i} * 3 * leaf, 10)));
        board.cover(map);
        DirtySet set(map);
        board.drain(set);
        EXPECT_LE(set.size(), i + 1);
    }
    over = true;
    marker.join();
    DirtySet set(map);
    board.drain(set);
    set.clear();
    board.mark(0, 0, slots * 3 * leaf);
    board.drain(set);
    EXPECT_EQ(set.size(), slots * 10);
}

}  // namespace
}  // namespace dirtyring
