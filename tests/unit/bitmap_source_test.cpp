// SPDX-License-Identifier: MIT
#include "dirtyring/source/bitmap_source.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <ostream>
#include <string>
#include <vector>

#include "allocations.hpp"
#include "fake_kernel.hpp"
#include "must.hpp"
#include "page_list.hpp"

namespace dirtyring {
namespace {

using fake::list_of;
using fake::PageList;
using fake::pages_where;
using fake::range;

const PageList nothing;

// A slot of whole words, one whose last word is for one page, one smaller than a word. One of them
// in the second address space.
constexpr std::uint32_t odd = 1U << 16 | 3U;
constexpr std::uint32_t small = 4;
const std::vector<fake::Slot> three_slots = {{0, 1024}, {odd, 961}, {small, 5}};

struct Vm {
    explicit Vm(BitmapMode mode, const std::vector<fake::Slot>& slots = three_slots)
        : kernel(
              {.log = mode == BitmapMode::automatic ? fake::Log::bitmap : fake::Log::manual_bitmap,
               .slots = slots}),
          source(fake::Kernel::fd(), kernel.memory(), mode) {
        kernel.answer(faults);
    }

    void store(std::uint32_t slot, std::uint64_t page) {
        ASSERT_TRUE(kernel.write(0, slot, page, ++stores_));
    }
    void store(const PageList& pages) {
        for (const auto& [slot, page] : pages) {
            store(slot, page);
        }
    }
    PageList collect() {
        const Pages pages = must(source.collect({}));
        EXPECT_FALSE(pages.everything());
        return list_of(pages.set());
    }
    /// The last slot goes.
    void remove_small() {
        ASSERT_EQ(kernel.set_region(MemorySlot{.slot = small}.region(0)), 0);
        source.set_memory(kernel.memory(), AllVcpusStopped());
    }
    [[nodiscard]] PageList unarmed() const {
        return pages_where(kernel.memory(), [this](const fake::Page& page) {
            return !kernel.armed(page.first, page.second);
        });
    }

    faulty::Faults faults;
    fake::Kernel kernel;
    BitmapSource source;

  private:
    std::uint64_t stores_ = 0;
};

// Both modes
// ---------------------------------------------------------------------------------------------

class BitmapSourceTest : public ::testing::TestWithParam<BitmapMode> {
  protected:
    Vm vm_{GetParam()};
};

TEST_P(BitmapSourceTest, NothingWrittenIsNothingCollected) {
    EXPECT_EQ(vm_.collect(), nothing);
    EXPECT_EQ(vm_.kernel.clears(), 0U);
}

TEST_P(BitmapSourceTest, CollectGivesExactlyTheWrittenPagesOfAllSlots) {
    const PageList written = {{0, 0},    {0, 63},  {0, 64},   {0, 700},
                              {0, 1023}, {odd, 1}, {odd, 64}, {small, 2}};
    vm_.store(written);
    EXPECT_EQ(vm_.collect(), written);
    EXPECT_EQ(vm_.collect(), nothing);
}

TEST_P(BitmapSourceTest, CollectedPagesAreArmedAgain) {
    vm_.store({{0, 5}, {odd, 960}});
    vm_.collect();
    EXPECT_EQ(vm_.unarmed(), nothing);
    vm_.store(odd, 960);
    EXPECT_EQ(vm_.collect(), (PageList{{odd, 960}}));
}

TEST_P(BitmapSourceTest, TheLastPageOfASlotThatIsNotAMultipleOf64CountsAsAnyOther) {
    vm_.store({{odd, 960}, {small, 4}});
    EXPECT_EQ(vm_.collect(), (PageList{{odd, 960}, {small, 4}}));
    EXPECT_EQ(vm_.unarmed(), nothing);
}

TEST_P(BitmapSourceTest, AllPagesOfAllSlots) {
    const PageList all = pages_where(vm_.kernel.memory(), [](const fake::Page&) { return true; });
    vm_.store(all);
    EXPECT_EQ(vm_.collect(), all);
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(vm_.collect(), nothing);
}

// Slots share the memory that their bitmaps are read into.
TEST_P(BitmapSourceTest, BitsOfOneSlotAreNotTakenForThoseOfTheNext) {
    for (std::uint64_t page = 0; page < 1024; ++page) {
        vm_.store(0, page);
    }
    vm_.store(small, 3);
    PageList expected = range(0, 0, 1024);
    expected.emplace_back(small, 3);
    EXPECT_EQ(vm_.collect(), expected);
}

// A kernel may leave anything in the bits past the slot's end.
TEST_P(BitmapSourceTest, BitsPastTheSlotsEndAreNoPages) {
    fake::Kernel& kernel = vm_.kernel;
    vm_.faults.on_ioctl(KVM_GET_DIRTY_LOG, [&](int, void* argument) {
        // SAFETY: this request's argument is a kvm_dirty_log, with room for the slot's words.
        const auto& log = *static_cast<const kvm_dirty_log*>(argument);
        const MemorySlot& slot = kernel.memory().slots()[kernel.memory().find(log.slot)];
        const std::uint64_t words = (slot.pages() + 63) / 64;
        for (std::uint64_t i = 0; i < words; ++i) {
            static_cast<std::uint64_t*>(log.dirty_bitmap)[i] =
                i + 1 == words ? ~std::uint64_t{0} : 0;
        }
        return 0;
    });
    PageList expected;
    for (const MemorySlot& slot : kernel.memory().slots()) {
        const std::uint64_t first = (slot.pages() - 1) / 64 * 64;
        const PageList last = range(slot.slot, first, slot.pages() - first);
        expected.insert(expected.end(), last.begin(), last.end());
    }
    EXPECT_EQ(vm_.collect(), expected);
}

TEST_P(BitmapSourceTest, AFailedGetLosesNothingForTheNextCollect) {
    // The kernel has cleared the slots before it by then, in the automatic mode.
    const PageList written = {{0, 5}, {odd, 6}, {small, 0}};
    for (unsigned slot = 0; slot < 3; ++slot) {
        SCOPED_TRACE(slot);
        vm_.store(written);
        // Each slot is one KVM_GET_DIRTY_LOG and, in the manual mode, one KVM_CLEAR_DIRTY_LOG.
        vm_.faults.fail_next(faulty::Call::ioctl, EFAULT,
                             slot * (GetParam() == BitmapMode::manual ? 2 : 1));
        const Result<Pages> failed = vm_.source.collect({});
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, EFAULT);
        EXPECT_EQ(failed.error().operation,
                  "KVM_GET_DIRTY_LOG(slot " +
                      std::to_string(vm_.kernel.memory().slots()[slot].slot) + ")");
        vm_.store(0, 900);
        PageList expected = written;
        expected.insert(expected.begin() + 1, {0, 900});
        EXPECT_EQ(vm_.collect(), expected);
        EXPECT_EQ(vm_.unarmed(), nothing);
        EXPECT_EQ(vm_.collect(), nothing);
    }
}

TEST_P(BitmapSourceTest, WhatAFailedCollectHadReadIsKeptWhereItsSlotIsStillThere) {
    vm_.store({{0, 5}, {odd, 6}, {small, 0}});
    vm_.faults.fail_next(faulty::Call::ioctl, EFAULT, GetParam() == BitmapMode::manual ? 4 : 2);
    ASSERT_FALSE(vm_.source.collect({}));
    EXPECT_EQ(vm_.unarmed(), (PageList{{small, 0}}));
    vm_.remove_small();
    EXPECT_EQ(vm_.collect(), (PageList{{0, 5}, {odd, 6}}));
    EXPECT_EQ(vm_.collect(), nothing);
}

TEST_P(BitmapSourceTest, NothingIsAllocatedFromTheSecondCollectOn) {
    Pages pages = must(vm_.source.collect({}));
    for (std::uint64_t round = 0; round < 5; ++round) {
        vm_.store({{0, round}, {0, 500 + 100 * round}, {odd, 960}, {small, 1}});
        DirtySet storage = std::move(pages).recycle();
        const std::uint64_t before = allocations();
        Result<Pages> collected = vm_.source.collect(std::move(storage));
        EXPECT_EQ(allocations() - before, 0U) << "round " << round;
        pages = must(std::move(collected));
        EXPECT_EQ(pages.size(), 4U);
    }
}

TEST_P(BitmapSourceTest, TheStorageMayBeOfAnyOtherMemory) {
    const fake::Kernel other({.slots = {{7, 10}}});
    DirtySet storage(other.memory());
    storage.insert_all();
    ASSERT_TRUE(vm_.source.collect(std::move(storage)));
    vm_.store(odd, 960);
    EXPECT_EQ(vm_.collect(), (PageList{{odd, 960}}));
}

TEST_P(BitmapSourceTest, TheDescriptorIsBorrowed) {
    {
        const BitmapSource other(fake::Kernel::fd(), vm_.kernel.memory(), GetParam());
    }
    EXPECT_EQ(vm_.faults.calls(faulty::Call::close), 0U);
}

INSTANTIATE_TEST_SUITE_P(Mode, BitmapSourceTest,
                         ::testing::Values(BitmapMode::automatic, BitmapMode::manual),
                         [](const auto& mode) {
                             return mode.param == BitmapMode::manual ? "Manual" : "Automatic";
                         });

TEST(BitmapSourceRings, AVmWithRingsIsRefused) {
    fake::Kernel kernel({.slots = {{odd, 10}}});
    faulty::Faults faults;
    kernel.answer(faults);
    BitmapSource source(fake::Kernel::fd(), kernel.memory(), BitmapMode::automatic);
    const Result<Pages> refused = source.collect({});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ENXIO);
    EXPECT_EQ(refused.error().operation, "KVM_GET_DIRTY_LOG(slot 65539)");
}

// The manual mode
// ---------------------------------------------------------------------------------------------

struct Cleared {
    std::uint32_t slot;
    std::uint64_t first;
    std::uint64_t pages;
    bool operator==(const Cleared&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Cleared& cleared) {
    return out << "slot " << cleared.slot << ": " << cleared.pages << " from " << cleared.first;
}

class BitmapSourceClear : public ::testing::Test {
  protected:
    explicit BitmapSourceClear(const std::vector<fake::Slot>& slots = three_slots)
        : vm_(BitmapMode::manual, slots) {
        vm_.kernel.before_clear([this](const kvm_clear_dirty_log& log) {
            cleared_.push_back({log.slot, log.first_page, log.num_pages});
        });
    }

    Vm vm_;
    std::vector<Cleared> cleared_;
};

TEST_F(BitmapSourceClear, IsForTheWordsThatHadPagesOnly) {
    vm_.store({{0, 130}, {0, 200}, {odd, 5}});
    vm_.collect();
    EXPECT_EQ(cleared_, (std::vector<Cleared>{{0, 128, 128}, {odd, 0, 64}}));
}

TEST_F(BitmapSourceClear, EndsWithItsSlotWhereThatIsNotAMultipleOf64) {
    vm_.store({{0, 1023}, {odd, 960}, {small, 0}});
    vm_.collect();
    EXPECT_EQ(cleared_, (std::vector<Cleared>{{0, 960, 64}, {odd, 960, 1}, {small, 0, 5}}));
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// The slot before it has left bits where its own would go on.
TEST(BitmapSourceClears, IsNotForWordsPastTheSlotsEnd) {
    Vm vm(BitmapMode::manual, {{0, 1024}, {small, 64}});
    vm.store(range(0, 0, 1024));
    vm.collect();
    EXPECT_EQ(vm.kernel.clears(), 1U);
}

// Written after the KVM_GET_DIRTY_LOG: its bit is not among those that were got, and stays.
TEST_F(BitmapSourceClear, APageWrittenBeforeItIsNotCleared) {
    vm_.store({{0, 5}, {0, 6}});
    vm_.kernel.before_clear([this](const kvm_clear_dirty_log& log) {
        if (log.slot == 0 && cleared_.empty()) {
            vm_.store({{0, 7}, {0, 900}, {odd, 1}});
            cleared_.push_back({});  // once
        }
    });
    // The second slot's turn comes after the write.
    EXPECT_EQ(vm_.collect(), (PageList{{0, 5}, {0, 6}, {odd, 1}}));
    EXPECT_EQ(vm_.unarmed(), (PageList{{0, 7}, {0, 900}}));  // and in the kernel's bitmap
    EXPECT_EQ(vm_.collect(), (PageList{{0, 7}, {0, 900}}));
    EXPECT_EQ(vm_.unarmed(), nothing);
}

// So large that it pays to leave clean words out.
constexpr std::uint32_t large = 9;
constexpr std::uint64_t large_pages = 64 * 300 + 7;

class BitmapSourceClearLarge : public BitmapSourceClear {
  protected:
    BitmapSourceClearLarge() : BitmapSourceClear({{0, 64}, {large, large_pages}}) {}
};

TEST_F(BitmapSourceClearLarge, PagesNearEachOtherShareACallAndThoseFarApartDoNot) {
    vm_.store({{large, 0}, {large, 64 * 200}});
    vm_.collect();
    EXPECT_EQ(cleared_, (std::vector<Cleared>{{large, 0, 64 * 201}}));
    cleared_.clear();
    vm_.store({{large, 64 * 280}, {large, 64 * 290}});
    vm_.collect();
    EXPECT_EQ(cleared_, (std::vector<Cleared>{{large, 64 * 280, 64 * 11}}));
    cleared_.clear();
    vm_.store({{large, 0}, {large, 64 * 30}, {large, large_pages - 1}});
    vm_.collect();
    EXPECT_EQ(cleared_, (std::vector<Cleared>{{large, 0, 64 * 31}, {large, 64 * 300, 7}}));
    cleared_.clear();
    vm_.store({{large, 0}, {large, large_pages - 1}});
    vm_.collect();
    EXPECT_EQ(cleared_, (std::vector<Cleared>{{large, 0, 64}, {large, 64 * 300, 7}}));
    EXPECT_EQ(vm_.unarmed(), nothing);
    EXPECT_EQ(vm_.collect(), nothing);
}

TEST_F(BitmapSourceClearLarge, AFailedOneLosesNothingForTheNextCollect) {
    const PageList written = {{0, 5}, {large, 7}, {large, 64 * 299}};
    // Each slot is one KVM_GET_DIRTY_LOG; then come one KVM_CLEAR_DIRTY_LOG and two.
    for (const unsigned nth : {1U, 3U, 4U}) {
        SCOPED_TRACE(nth);
        vm_.store(written);
        vm_.faults.fail_next(faulty::Call::ioctl, EFAULT, nth);
        const Result<Pages> failed = vm_.source.collect({});
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, EFAULT);
        EXPECT_EQ(failed.error().operation,
                  nth == 1 ? "KVM_CLEAR_DIRTY_LOG(slot 0)" : "KVM_CLEAR_DIRTY_LOG(slot 9)");
        EXPECT_NE(vm_.unarmed(), nothing);
        EXPECT_EQ(vm_.collect(), written);
        EXPECT_EQ(vm_.unarmed(), nothing);
        EXPECT_EQ(vm_.collect(), nothing);
    }
}

// A KVM_CLEAR_DIRTY_LOG counts its pages with 32 bits, a slot may have more.
TEST(BitmapSourceHuge, ASlotIsClearedInPieces) {
    constexpr std::uint64_t pages = (std::uint64_t{3} << 26) + 64;  // 768 GiB
    constexpr std::uint64_t most = std::uint64_t{1} << 26;
    std::byte never_touched{};
    MemoryMap memory;
    must(memory.add(
        {.slot = 1, .guest_address = 0, .size = pages * page_size, .host = &never_touched}));
    faulty::Faults faults;
    faults.on_ioctl(KVM_GET_DIRTY_LOG, [](int, void* argument) {
        // SAFETY: this request's argument is a kvm_dirty_log, with room for the slot's words.
        auto* bits =
            static_cast<std::uint64_t*>(static_cast<kvm_dirty_log*>(argument)->dirty_bitmap);
        std::fill_n(bits, pages / 64, ~std::uint64_t{0});
        return 0;
    });
    std::uint64_t cleared = 0;
    unsigned calls = 0;
    faults.on_ioctl(KVM_CLEAR_DIRTY_LOG, [&](int, void* argument) {
        // SAFETY: this request's argument is a kvm_clear_dirty_log.
        const auto& log = *static_cast<const kvm_clear_dirty_log*>(argument);
        EXPECT_EQ(log.first_page, cleared);
        EXPECT_LE(log.num_pages, most);
        cleared += log.num_pages;
        ++calls;
        return 0;
    });
    BitmapSource source(fake::Kernel::fd(), memory, BitmapMode::manual);
    EXPECT_EQ(must(source.collect({})).size(), pages);
    EXPECT_EQ(cleared, pages);
    EXPECT_EQ(calls, 4U);
}

// Hot pages
// ---------------------------------------------------------------------------------------------

// First and last of a word, of a slot, and in between.
const PageList warm = {{0, 5}, {0, 64}, {odd, 127}, {odd, 960}, {small, 2}};

class BitmapSourceHot : public ::testing::Test {
  protected:
    BitmapSourceHot() { source_.keep_hot(100); }
    /// Writes the pages in two rounds, which makes them hot.
    void heat(const PageList& pages) {
        for (int round = 0; round < 2; ++round) {
            vm_.store(pages);
            vm_.collect();
        }
    }

    Vm vm_{BitmapMode::manual};
    BitmapSource& source_ = vm_.source;
};

TEST_F(BitmapSourceHot, PagesWrittenInEachRoundStayWritableAndAreInEachCollect) {
    source_.keep_hot(warm.size());
    heat(warm);
    EXPECT_EQ(vm_.unarmed(), warm);
    EXPECT_EQ(source_.hot(), warm.size());
    EXPECT_EQ(vm_.collect(), warm) << "though nothing is known to have been written";
    vm_.store({{0, 6}, {0, 127}, {small, 0}});
    EXPECT_EQ(
        vm_.collect(),
        (PageList{
            {0, 5}, {0, 6}, {0, 64}, {0, 127}, {odd, 127}, {odd, 960}, {small, 0}, {small, 2}}));
    EXPECT_EQ(vm_.unarmed(), warm) << "their neighbours are armed, and they are not";
    EXPECT_EQ(vm_.collect(), warm);
}

TEST_F(BitmapSourceHot, OneThatIsFoundCleanIsArmedByTheNextCollect) {
    heat(warm);
    DirtySet clean(vm_.kernel.memory());
    clean.insert(0, 64);
    clean.insert(odd, 127);
    clean.insert(odd, 128);  // not hot
    source_.found_clean(clean);
    vm_.store(odd, 127);  // after all, and nobody sees it
    EXPECT_EQ(vm_.collect(), warm);
    PageList hot = {{0, 5}, {odd, 960}, {small, 2}};
    EXPECT_EQ(vm_.unarmed(), hot);
    EXPECT_EQ(source_.hot(), 3U);
    // One comes back in the next round, and is hot at once.
    vm_.store(odd, 127);
    hot.insert(hot.begin() + 1, {odd, 127});
    EXPECT_EQ(vm_.collect(), hot);
    EXPECT_EQ(vm_.unarmed(), hot);
    EXPECT_EQ(source_.hot(), 4U);
}

TEST_F(BitmapSourceHot, OneThatCoolsDownIsArmedInTheEndAndReportedNoMore) {
    heat({{0, 5}});
    unsigned collects = 0;
    for (; vm_.unarmed() != nothing && collects < 20; ++collects) {
        EXPECT_EQ(vm_.collect(), (PageList{{0, 5}}));
    }
    EXPECT_LE(collects, 16U) << "the last of which arms it";
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(vm_.collect(), nothing);
    vm_.store(0, 5);
    EXPECT_EQ(vm_.collect(), (PageList{{0, 5}}));
}

TEST_F(BitmapSourceHot, NoMoreAreHotThanAllowed) {
    source_.keep_hot(1);
    heat(warm);
    EXPECT_EQ(source_.hot(), 1U);
    EXPECT_EQ(vm_.unarmed().size(), 1U);
    EXPECT_EQ(vm_.collect(), vm_.unarmed());
}

TEST_F(BitmapSourceHot, WithNoneAllowedThoseThatAreHotAreArmedByTheNextCollect) {
    heat(warm);
    source_.keep_hot(0);
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(vm_.collect(), warm);
    EXPECT_EQ(vm_.unarmed(), nothing);
    heat(warm);
    EXPECT_EQ(source_.hot(), 0U);
    EXPECT_EQ(vm_.unarmed(), nothing);
}

TEST_F(BitmapSourceHot, WhereAUseCostsMoreThanAFaultNoneIs) {
    source_.set_hot_costs({.armed = 1, .use = 1000});
    heat(warm);
    EXPECT_EQ(vm_.unarmed(), nothing);
    source_.set_hot_costs({.armed = 1000, .use = 1});
    heat(warm);
    EXPECT_EQ(vm_.unarmed(), warm);
}

TEST_F(BitmapSourceHot, AfterAChangeOfSlotsTheyAreReportedOnceMoreAndFoundAnew) {
    heat(warm);
    vm_.remove_small();
    EXPECT_EQ(source_.hot(), 0U);
    const PageList left(warm.begin(), warm.end() - 1);
    EXPECT_EQ(vm_.collect(), left);
    EXPECT_EQ(vm_.unarmed(), nothing);
    heat(left);
    EXPECT_EQ(vm_.unarmed(), left);
}

TEST(BitmapSourceAutomatic, HasNoHotPages) {
    Vm vm(BitmapMode::automatic);
    vm.source.keep_hot(100);
    for (int round = 0; round < 4; ++round) {
        vm.store(warm);
        EXPECT_EQ(vm.collect(), warm);
        EXPECT_EQ(vm.unarmed(), nothing);
        EXPECT_EQ(vm.source.hot(), 0U);
    }
    EXPECT_EQ(vm.collect(), nothing);
}

}  // namespace
}  // namespace dirtyring
