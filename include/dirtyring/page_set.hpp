// SPDX-License-Identifier: MIT
//
// A set of page numbers: each once, in order, given out as runs.
//
// A bitmap, and a byte for each block of 512 pages that says whether anything is in it. Inserting
// sets a bit and a byte; walking and clearing go from block to block, so they cost what the pages
// cost. The next block is found by memchr over the bytes, of which 16 GiB of guest memory have 8
// KiB. One bit a page: 32 KiB for a GiB of guest memory. Nothing is allocated after construction.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace dirtyring {

/// Not thread-safe; any one thread at a time.
class PageSet {
  public:
    /// A set that can hold the pages 0 .. capacity - 1.
    explicit PageSet(std::uint64_t capacity = 0);

    [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

    /// `page` must be below capacity(). True where it was not in the set before.
    bool insert(std::uint64_t page) noexcept;
    /// For many inserts in a row.
    class Inserter;
    /// `page` must be below capacity().
    [[nodiscard]] bool contains(std::uint64_t page) const noexcept {
        return (words_[page / 64] >> (page % 64) & 1) != 0;
    }
    /// Adds the pages 64 * index + i for each bit i of `bits`, as a dirty bitmap has them; bits
    /// past capacity() are left out. `index` must be below capacity() / 64, rounded up.
    void insert_word(std::size_t index, std::uint64_t bits) noexcept;
    /// Adds all pages 0 .. capacity() - 1.
    void insert_all() noexcept;
    /// Adds the pages of another set of the same capacity.
    void merge(const PageSet& other) noexcept;
    void clear() noexcept;

    /// Calls use(index, bits) for each group of 64 pages that has any, in order: pages 64 * index +
    /// i.
    template <typename Use>
    void for_each_word(Use&& use) const {
        for_each_block([&](std::size_t block) {
            for (std::size_t w = block * block_words; w < (block + 1) * block_words; ++w) {
                if (words_[w] != 0) {
                    use(w, words_[w]);
                }
            }
        });
    }
    /// Calls use(page) for each page, in order.
    template <typename Use>
    void for_each(Use&& use) const {
        for_each_word([&](std::size_t index, std::uint64_t bits) {
            for (; bits != 0; bits &= bits - 1) {
                use(std::uint64_t{index} * 64 + lowest(bits));
            }
        });
    }
    /// Calls use(first, count) for each run of neighbouring pages, in order. Two runs with at most
    /// `gap` pages between them come as one, which then holds pages that are not in the set.
    template <typename Use>
    void for_each_run(Use&& use, std::uint64_t gap = 0) const {
        std::uint64_t first = 0;
        std::uint64_t end = 0;  // of the run being gathered; 0: none yet
        for_each_word([&](std::size_t index, std::uint64_t bits) {
            std::uint64_t base = std::uint64_t{index} * 64;
            while (bits != 0) {
                const auto skip = lowest(bits);
                const auto length = static_cast<unsigned>(std::countr_one(bits >> skip));
                const std::uint64_t start = base + skip;
                if (end != 0 && start - end <= gap) {
                    end = start + length;
                } else {
                    if (end != 0) {
                        use(first, end - first);
                    }
                    first = start;
                    end = start + length;
                }
                if (skip + length == 64) {
                    break;
                }
                bits &= ~std::uint64_t{0} << (skip + length);
            }
        });
        if (end != 0) {
            use(first, end - first);
        }
    }

  private:
    static unsigned lowest(std::uint64_t bits) noexcept {
        return static_cast<unsigned>(std::countr_zero(bits));
    }
    /// Calls use(block) for each block that something was inserted into, in order.
    template <typename Use>
    void for_each_block(Use&& use) const {
        for (std::size_t block = 0; block < touched_.size(); ++block) {
            if (touched_[block] == 0) {
                const void* next = std::memchr(&touched_[block], 1, touched_.size() - block);
                if (next == nullptr) {
                    return;
                }
                block = static_cast<std::size_t>(static_cast<const std::uint8_t*>(next) -
                                                 touched_.data());
            }
            use(block);
        }
    }

    static constexpr std::size_t block_words = 8;

    std::uint64_t capacity_;
    std::uint64_t size_ = 0;
    std::vector<std::uint64_t> words_;   // a bit a page, whole blocks
    std::vector<std::uint8_t> touched_;  // for each block, 1 where a word of it may not be 0
};

/// Inserts pages in a loop whose speed counts: the word at hand and the count are in registers. The
/// set is not used otherwise meanwhile, and is right again, its size() too, after finish().
class PageSet::Inserter {
  public:
    /// Of no set: only finish may be called.
    Inserter() = default;
    explicit Inserter(PageSet& set) noexcept
        : set_(&set), words_(set.words_.data()), touched_(set.touched_.data()) {}

    /// As PageSet::insert.
    [[gnu::always_inline]] bool insert(std::uint64_t page) noexcept {
        const std::uint64_t index = page / 64;
        // Neighbouring pages share a word. It would come back from memory only when the store
        // before has got there, so it is kept. Pages far apart wait for memory anyway: theirs is
        // the way without a jump.
        if (index != index_) [[likely]] {
            index_ = index;
            word_ = words_[index];
            // A byte is stored as it is; a bit would have to be read first, and waited for.
            touched_[index / block_words] = 1;
        }
        const std::uint64_t before = word_;
        word_ = before | std::uint64_t{1} << (page % 64);
        words_[index] = word_;
        const bool fresh = before < word_;
        fresh_ += fresh ? 1 : 0;
        return fresh;
    }

    /// Ends it; gives how many of the pages were not in the set before.
    std::uint64_t finish() noexcept {
        if (set_ != nullptr) {
            set_->size_ += fresh_;
        }
        return fresh_;
    }

  private:
    PageSet* set_ = nullptr;
    std::uint64_t* words_ = nullptr;
    std::uint8_t* touched_ = nullptr;
    std::uint64_t index_ = ~std::uint64_t{0};  // of word_; at first of none
    std::uint64_t word_ = 0;
    std::uint64_t fresh_ = 0;
};

}  // namespace dirtyring
