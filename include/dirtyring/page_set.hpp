// SPDX-License-Identifier: MIT
//
// A set of page numbers: each once, in order, given out as runs.
//
// A bitmap, and a byte for each block of 512 pages that says whether anything is in it. Inserting
// sets a bit and a byte; walking and clearing go from block to block, so they cost what the pages
// cost. The next block is found by memchr over the bytes, of which 16 GiB of guest memory have 8
// KiB. One bit a page: 32 KiB for a GiB of guest memory.
//
// Words that are merged stay a list beside the bitmap until something is inserted or taken out: far
// apart, each would have a cache line of the bitmap for itself, to be fetched when it is merged,
// when it is walked and when it is cleared. Nothing is allocated after construction but for that
// list.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "dirtyring/huge_page_allocator.hpp"

namespace dirtyring {

/// The pages 64 * index + i for each bit i of `bits`, as a word of a dirty bitmap has them.
struct PageWord {
    std::size_t index = 0;
    std::uint64_t bits = 0;
};

/// Not thread-safe; any one thread at a time.
class PageSet {
  public:
    /// A set that can hold the pages 0 .. capacity - 1.
    explicit PageSet(std::uint64_t capacity = 0);

    [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
    /// Pages in the set. Costs what walking it costs.
    [[nodiscard]] std::uint64_t size() const noexcept { return size(0, capacity_); }
    /// True where no page is in the set. Costs no walk.
    [[nodiscard]] bool empty() const noexcept {
        return merged_.empty() && (!used_ || touched_.empty() ||
                                   std::memchr(touched_.data(), 1, touched_.size()) == nullptr);
    }

    /// `page` must be below capacity(). True where it was not in the set before.
    bool insert(std::uint64_t page) noexcept;
    /// For many inserts in a row.
    class Inserter;
    /// Takes a page out. `page` must be below capacity().
    void erase(std::uint64_t page) noexcept;
    /// `page` must be below capacity().
    [[nodiscard]] bool contains(std::uint64_t page) const noexcept {
        return ((words_[page / 64] | merged_word(page / 64)) >> (page % 64) & 1) != 0;
    }
    /// Adds the pages 64 * index + i for each bit i of `bits`, as a dirty bitmap has them; bits
    /// past capacity() are left out. `index` must be below capacity() / 64, rounded up.
    void insert_word(std::size_t index, std::uint64_t bits) noexcept;
    /// Adds all pages 0 .. capacity() - 1.
    void insert_all() noexcept;
    /// Adds the pages first .. end - 1; `end` is at most capacity().
    void insert_range(std::uint64_t first, std::uint64_t end) noexcept;
    /// Adds the pages of another set of the same capacity.
    void merge(const PageSet& other) noexcept;
    /// The same, by the words of such a set, in their order. Allocates where there have never been
    /// as many.
    void merge(std::span<const PageWord> words);
    /// Takes all pages out; gives how many there were.
    std::uint64_t clear() noexcept;

    // Walks over the whole set, and over the pages first .. end - 1 of it, where `first` and,
    // unless it is capacity(), `end` are multiples of block_pages.

    /// Calls use(index, bits) for each group of 64 pages that has any, in order: pages 64 * index +
    /// i.
    template <typename Use>
    void for_each_word(Use&& use) const {
        for_each_word(use, 0, capacity_);
    }
    template <typename Use>
    void for_each_word(Use&& use, std::uint64_t first, std::uint64_t end) const {
        if (merged_.empty()) {
            for_each_touched_block(
                [&](std::size_t block) {
                    for_each_word_of(block, &words_[block * block_words], use);
                },
                first, end);
        } else {
            for_each_word_with_merged(use, first, end);
        }
    }
    /// Calls use(page) for each page, in order.
    template <typename Use>
    void for_each(Use&& use) const {
        for_each(use, 0, capacity_);
    }
    template <typename Use>
    void for_each(Use&& use, std::uint64_t first, std::uint64_t end) const {
        for_each_word(
            [&](std::size_t index, std::uint64_t bits) {
                for (; bits != 0; bits &= bits - 1) {
                    use(std::uint64_t{index} * 64 + lowest(bits));
                }
            },
            first, end);
    }
    /// Calls use(first, count) for each run of neighbouring pages, in order. Two runs with at most
    /// `gap` pages between them come as one, which then holds pages that are not in the set.
    template <typename Use>
    void for_each_run(Use&& use, std::uint64_t gap = 0) const {
        for_each_run(use, gap, 0, capacity_);
    }
    template <typename Use>
    void for_each_run(Use&& use, std::uint64_t gap, std::uint64_t first, std::uint64_t end) const {
        std::uint64_t run = 0;
        std::uint64_t run_end = 0;  // of the run being gathered; 0: none yet
        for_each_word(
            [&](std::size_t index, std::uint64_t bits) {
                std::uint64_t base = std::uint64_t{index} * 64;
                while (bits != 0) {
                    const auto skip = lowest(bits);
                    const auto length = static_cast<unsigned>(std::countr_one(bits >> skip));
                    const std::uint64_t start = base + skip;
                    if (run_end != 0 && start - run_end <= gap) {
                        run_end = start + length;
                    } else {
                        if (run_end != 0) {
                            use(run, run_end - run);
                        }
                        run = start;
                        run_end = start + length;
                    }
                    if (skip + length == 64) {
                        break;
                    }
                    bits &= ~std::uint64_t{0} << (skip + length);
                }
            },
            first, end);
        if (run_end != 0) {
            use(run, run_end - run);
        }
    }
    /// Pages among first .. end - 1.
    [[nodiscard]] std::uint64_t size(std::uint64_t first, std::uint64_t end) const noexcept;

    static constexpr std::uint64_t block_pages = 512;

  private:
    static constexpr std::size_t block_words = block_pages / 64;

    static unsigned lowest(std::uint64_t bits) noexcept {
        return static_cast<unsigned>(std::countr_zero(bits));
    }
    /// Calls use(index, bits) for each of a block's words that is not 0, in order.
    template <typename Use>
    static void for_each_word_of(std::size_t block, const std::uint64_t* words, Use&& use) {
        // Which are not 0, without a branch for each, which a CPU could not guess.
        unsigned used = 0;
        for (unsigned w = 0; w < block_words; ++w) {
            used |= (words[w] != 0 ? 1U : 0U) << w;
        }
        for (; used != 0; used &= used - 1) {
            const unsigned w = lowest(used);
            use(block * block_words + w, words[w]);
        }
    }
    /// The block behind the last one before `end`. At most what is there: a set that was moved from
    /// has none.
    [[nodiscard]] std::size_t end_block(std::uint64_t end) const noexcept {
        return std::min<std::size_t>(touched_.size(), (end + block_pages - 1) / block_pages);
    }
    /// Calls use(block) for each block that something was inserted into, in order.
    template <typename Use>
    void for_each_touched_block(Use&& use, std::uint64_t first, std::uint64_t end) const {
        if (!used_) {
            return;
        }
        const std::size_t last = end_block(end);
        std::size_t next = next_block(first / block_pages, last);
        while (next != last) {
            // Some at a time, so that the memory does not have to be waited for one by one.
            std::array<std::size_t, 16> blocks;
            std::size_t count = 0;
            for (; count < blocks.size() && next != last; next = next_block(next + 1, last)) {
                __builtin_prefetch(&words_[next * block_words]);
                blocks[count++] = next;
            }
            for (std::size_t i = 0; i < count; ++i) {
                use(blocks[i]);
            }
        }
    }
    /// Calls use(index, bits) for each word of the bitmap and of those merged, in order.
    template <typename Use>
    void for_each_word_with_merged(Use&& use, std::uint64_t first, std::uint64_t end) const {
        const std::size_t last = end_block(end);
        std::size_t touched = used_ ? next_block(first / block_pages, last) : last;
        std::span<const PageWord> merged = merged_from(first);
        while (true) {
            const std::size_t block =
                merged.empty() ? touched : std::min(touched, merged.front().index / block_words);
            if (block >= last) {
                break;
            }
            std::array<std::uint64_t, block_words> words{};
            if (block == touched) {
                std::copy_n(&words_[block * block_words], block_words, words.begin());
                touched = next_block(touched + 1, last);
            }
            while (!merged.empty() && merged.front().index / block_words == block) {
                words[merged.front().index % block_words] |= merged.front().bits;
                merged = merged.subspan(1);
            }
            for_each_word_of(block, words.data(), use);
        }
    }
    /// The first block from `block` on that something was inserted into; `last` where there is none
    /// before that.
    [[nodiscard]] std::size_t next_block(std::size_t block, std::size_t last) const noexcept {
        if (block >= last) {
            return last;
        }
        if (touched_[block] != 0) {
            return block;
        }
        const void* const found = std::memchr(&touched_[block], 1, last - block);
        return found == nullptr ? last
                                : static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) -
                                                           touched_.data());
    }

    /// Those of the merged words that have no page before `first`, a multiple of block_pages.
    [[nodiscard]] std::span<const PageWord> merged_from(std::uint64_t first) const noexcept;
    [[nodiscard]] std::uint64_t merged_word(std::size_t index) const noexcept {
        return merged_.empty() ? 0 : find_merged_word(index);
    }
    [[nodiscard]] std::uint64_t find_merged_word(std::size_t index) const noexcept;
    void put_merged_into_bitmap() noexcept;

    std::uint64_t capacity_;
    // A bit a page, whole blocks. Few pages far apart are in as many small pages of a large set,
    // and the CPU would have to look up each.
    std::vector<std::uint64_t, HugePageAllocator<std::uint64_t>> words_;
    std::vector<std::uint8_t> touched_;  // for each block, 1 where a word of it may not be 0
    bool used_ = false;                  // whether anything may be in the bitmap
    std::vector<PageWord> merged_;       // in order of their index, each once
};

/// Inserts pages in a loop whose speed counts: what it needs of the set is in registers. The set
/// must stay as large as it is meanwhile, and not be cleared.
class PageSet::Inserter {
  public:
    explicit Inserter(PageSet& set) noexcept
        : words_(set.words_.data()), touched_(set.touched_.data()) {
        set.put_merged_into_bitmap();  // or a page of theirs would be taken for a new one
        set.used_ = true;
    }

    /// As PageSet::insert. Who does not use the result does not pay for it.
    [[gnu::always_inline]] bool insert(std::uint64_t page) noexcept {
        const std::uint64_t index = page / 64;
        const std::uint64_t before = words_[index];
        const std::uint64_t after = before | std::uint64_t{1} << (page % 64);
        words_[index] = after;
        // A byte is stored as it is; a bit would have to be read first, and waited for.
        touched_[index / block_words] = 1;
        return before < after;
    }

  private:
    std::uint64_t* words_;
    std::uint8_t* touched_;
};

}  // namespace dirtyring
