// SPDX-License-Identifier: MIT
//
// Pages that the host has written, noted by any thread without a lock and without waiting.
//
// A bit for each page of guest-physical memory, in a tree that only grows: a marker follows two
// pointers that never change once they are set, so slots may come and go while it does. Order: a
// marker sets the page's bit, then the bit of its block, then the flag of the board; who drains
// takes them the other way round. Each step is a read-modify-write with release there and acquire
// here, so that what a marker wrote before is visible to who has taken its bit, and a mark that
// comes too late for one drain leaves the flag set for the next.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dirtyring/dirty_set.hpp"
#include "dirtyring/memory.hpp"

namespace dirtyring {

class MarkBoard {
  public:
    /// Marks the pages first .. first + count - 1 of an address space. Pages outside of all slots
    /// ever covered are counted as outside. Any thread.
    void mark(std::uint32_t address_space, std::uint64_t first, std::uint64_t count) noexcept;
    /// Marks the pages first + i for each bit i of `bits`. Any thread.
    void mark_word(std::uint32_t address_space, std::uint64_t first, std::uint64_t bits) noexcept;

    /// Makes room for the slots of `map`. One thread, not while another drains.
    void cover(const MemoryMap& map);
    /// Moves all marks into the set, those outside of its slots to the count. One thread.
    void drain(DirtySet& into) noexcept;
    /// Pages marked where no slot is. Any thread.
    [[nodiscard]] std::uint64_t outside() const noexcept {
        return outside_.load(std::memory_order_relaxed);
    }

  private:
    // 40 bits of page number: guest-physical addresses of 52 bits, the most that x86-64 has.
    static constexpr unsigned leaf_bits = 15;  // 128 MiB of guest memory
    static constexpr unsigned branch_bits = 13;
    static constexpr unsigned root_bits = 12;
    static constexpr std::uint64_t leaf_pages = std::uint64_t{1} << leaf_bits;
    static constexpr std::uint64_t branch_pages = leaf_pages << branch_bits;
    static constexpr std::uint64_t root_pages = branch_pages << root_bits;
    static constexpr std::uint64_t block_words = leaf_pages / 64 / 64;  // a bit of touched each

    struct Leaf {
        std::uint64_t first = 0;  // page
        std::uint32_t address_space = 0;
        std::atomic<std::uint64_t> touched;  // blocks
        std::array<std::atomic<std::uint64_t>, leaf_pages / 64> words;
    };
    struct Branch {
        std::array<std::atomic<Leaf*>, std::size_t{1} << branch_bits> leaves;
    };
    struct Root {
        std::array<std::atomic<Branch*>, std::size_t{1} << root_bits> branches;
    };

    struct Place {
        Leaf* leaf;           // null: no slot was ever there
        std::uint64_t pages;  // from the one asked for on, that have the same answer
    };
    [[nodiscard]] Place find(std::uint32_t address_space, std::uint64_t page) const noexcept;
    static void set(Leaf& leaf, std::uint64_t first, std::uint64_t count) noexcept;
    void cover(std::uint32_t address_space, std::uint64_t page);
    void drain(Leaf& leaf, DirtySet& into) noexcept;
    void drain_word(const Leaf& leaf, std::size_t index, std::uint64_t bits,
                    DirtySet& into) noexcept;
    void count_outside(std::uint64_t pages) noexcept {
        outside_.fetch_add(pages, std::memory_order_relaxed);
    }
    /// After a mark. A store would do for the flag itself; but a drain that finds the flag of the
    /// one who stored last would then not be bound to see what the others had marked before.
    void raise() noexcept { any_.exchange(true, std::memory_order_release); }

    std::array<std::unique_ptr<Root>, 2> roots_{std::make_unique<Root>(), std::make_unique<Root>()};
    std::vector<std::unique_ptr<Branch>> branches_;
    std::vector<std::unique_ptr<Leaf>> leaves_;
    std::atomic<bool> any_ = false;
    std::atomic<std::uint64_t> outside_ = 0;
};

}  // namespace dirtyring
