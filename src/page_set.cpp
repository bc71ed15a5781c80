// SPDX-License-Identifier: MIT
#include "dirtyring/page_set.hpp"

#include <algorithm>

namespace dirtyring {

namespace {

std::size_t divided_up(std::uint64_t count, std::uint64_t by) {
    return static_cast<std::size_t>((count + by - 1) / by);
}

}  // namespace

PageSet::PageSet(std::uint64_t capacity)
    : capacity_(capacity),
      words_(divided_up(capacity, block_words * 64) * block_words),
      touched_(words_.size() / block_words) {}

bool PageSet::insert(std::uint64_t page) noexcept {
    return Inserter(*this).insert(page);
}

void PageSet::insert_word(std::size_t index, std::uint64_t bits) noexcept {
    const std::uint64_t room = capacity_ - std::uint64_t{index} * 64;
    if (room < 64) {
        bits &= (std::uint64_t{1} << room) - 1;
    }
    if (bits == 0) {
        return;
    }
    words_[index] |= bits;
    touched_[index / block_words] = 1;
    used_ = true;
}

void PageSet::insert_all() noexcept {
    insert_range(0, capacity_);
}

void PageSet::insert_range(std::uint64_t first, std::uint64_t end) noexcept {
    while (first < end) {
        const std::uint64_t next = std::min(end, (first / 64 + 1) * 64);
        const std::uint64_t bits = ~std::uint64_t{0} >> (64 - (next - first));
        insert_word(static_cast<std::size_t>(first / 64), bits << (first % 64));
        first = next;
    }
}

std::uint64_t PageSet::size(std::uint64_t first, std::uint64_t end) const noexcept {
    std::uint64_t sum = 0;
    for_each_word(
        [&](std::size_t, std::uint64_t bits) {
            sum += static_cast<std::uint64_t>(std::popcount(bits));
        },
        first, end);
    return sum;
}

void PageSet::merge(const PageSet& other) noexcept {
    other.for_each_word([&](std::size_t index, std::uint64_t bits) { insert_word(index, bits); });
}

void PageSet::merge(std::span<const PageWord> words) noexcept {
    for (const PageWord& word : words) {
        insert_word(word.index, word.bits);
    }
}

std::uint64_t PageSet::clear() noexcept {
    std::uint64_t pages = 0;
    for_each_block(
        [&](std::size_t block) {
            for_each_word_of(block, [&](std::size_t, std::uint64_t bits) {
                pages += static_cast<std::uint64_t>(std::popcount(bits));
            });
            std::fill_n(&words_[block * block_words], block_words, 0);
            touched_[block] = 0;
        },
        0, capacity_);
    used_ = false;
    return pages;
}

}  // namespace dirtyring
