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

void PageSet::erase(std::uint64_t page) noexcept {
    put_merged_into_bitmap();
    words_[page / 64] &= ~(std::uint64_t{1} << (page % 64));
    // A set that lives long would in the end be walked as a whole.
    const std::size_t block = page / block_pages;
    const std::uint64_t* const words = &words_[block * block_words];
    if (std::all_of(words, words + block_words, [](std::uint64_t word) { return word == 0; })) {
        touched_[block] = 0;
    }
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

void PageSet::merge(std::span<const PageWord> words) {
    put_merged_into_bitmap();
    merged_.assign(words.begin(), words.end());
}

void PageSet::put_merged_into_bitmap() noexcept {
    for (const PageWord& word : merged_) {
        insert_word(word.index, word.bits);
    }
    merged_.clear();
}

std::span<const PageWord> PageSet::merged_from(std::uint64_t first) const noexcept {
    const auto begin = std::ranges::lower_bound(merged_, first / 64, {}, &PageWord::index);
    return {begin, merged_.end()};
}

std::uint64_t PageSet::find_merged_word(std::size_t index) const noexcept {
    const auto found = std::ranges::lower_bound(merged_, index, {}, &PageWord::index);
    return found != merged_.end() && found->index == index ? found->bits : 0;
}

std::uint64_t PageSet::clear() noexcept {
    std::uint64_t pages = 0;
    const auto add = [&](std::size_t, std::uint64_t bits) {
        pages += static_cast<std::uint64_t>(std::popcount(bits));
    };
    for (const PageWord& word : merged_) {
        // Those of the bitmap come with it. It is looked at only where there is something.
        const bool both = used_ && touched_[word.index / block_words] != 0;
        add(word.index, both ? word.bits & ~words_[word.index] : word.bits);
    }
    merged_.clear();
    for_each_touched_block(
        [&](std::size_t block) {
            std::uint64_t* const words = &words_[block * block_words];
            for_each_word_of(block, words, add);
            std::fill_n(words, block_words, 0);
            touched_[block] = 0;
        },
        0, capacity_);
    used_ = false;
    return pages;
}

}  // namespace dirtyring
