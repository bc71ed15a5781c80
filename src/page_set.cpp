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
    Inserter inserter(*this);
    inserter.insert(page);
    return inserter.finish() != 0;
}

void PageSet::insert_word(std::size_t index, std::uint64_t bits) noexcept {
    const std::uint64_t room = capacity_ - std::uint64_t{index} * 64;
    if (room < 64) {
        bits &= (std::uint64_t{1} << room) - 1;
    }
    if (bits == 0) {
        return;
    }
    std::uint64_t& word = words_[index];
    touched_[index / block_words] = 1;
    size_ += static_cast<std::uint64_t>(std::popcount(bits & ~word));
    word |= bits;
}

void PageSet::insert_all() noexcept {
    for (std::size_t i = 0; i < divided_up(capacity_, 64); ++i) {
        insert_word(i, ~std::uint64_t{0});
    }
}

void PageSet::merge(const PageSet& other) noexcept {
    other.for_each_word([&](std::size_t index, std::uint64_t bits) { insert_word(index, bits); });
}

void PageSet::clear() noexcept {
    for_each_block([&](std::size_t block) {
        std::fill_n(&words_[block * block_words], block_words, 0);
        touched_[block] = 0;
    });
    size_ = 0;
}

}  // namespace dirtyring
