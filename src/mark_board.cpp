// SPDX-License-Identifier: MIT
#include "mark_board.hpp"

#include <algorithm>
#include <bit>

namespace dirtyring {

MarkBoard::Place MarkBoard::find(std::uint32_t address_space, std::uint64_t page) const noexcept {
    if (address_space >= roots_.size() || page >= root_pages) {
        return {nullptr, ~std::uint64_t{0}};
    }
    const Branch* branch =
        roots_[address_space]->branches[page / branch_pages].load(std::memory_order_acquire);
    if (branch == nullptr) {
        return {nullptr, branch_pages - page % branch_pages};
    }
    return {branch->leaves[page % branch_pages / leaf_pages].load(std::memory_order_acquire),
            leaf_pages - page % leaf_pages};
}

// Also where a bit is set already: the read-modify-write is what makes this marker's stores visible
// to who takes the bit.
void MarkBoard::set(Leaf& leaf, std::uint64_t first, std::uint64_t count) noexcept {
    std::uint64_t blocks = 0;
    while (count != 0) {
        const std::uint64_t word = first / 64;
        const std::uint64_t in_word = std::min(count, 64 - first % 64);
        const std::uint64_t bits = ~std::uint64_t{0} >> (64 - in_word) << (first % 64);
        leaf.words[word].fetch_or(bits, std::memory_order_release);
        blocks |= std::uint64_t{1} << (word / block_words);
        first += in_word;
        count -= in_word;
    }
    leaf.touched.fetch_or(blocks, std::memory_order_release);
}

void MarkBoard::mark_word(std::uint32_t address_space, std::uint64_t first,
                          std::uint64_t bits) noexcept {
    if (bits == 0) {
        return;
    }
    if (const std::uint64_t shift = first % 64; shift != 0) {
        mark_word(address_space, first - shift, bits << shift);
        mark_word(address_space, first - shift + 64, bits >> (64 - shift));
        return;
    }
    Leaf* leaf = find(address_space, first).leaf;
    if (leaf == nullptr) {
        count_outside(static_cast<std::uint64_t>(std::popcount(bits)));
        return;
    }
    const std::uint64_t word = first % leaf_pages / 64;
    leaf->words[word].fetch_or(bits, std::memory_order_release);
    leaf->touched.fetch_or(std::uint64_t{1} << (word / block_words), std::memory_order_release);
    raise();
}

void MarkBoard::mark(std::uint32_t address_space, std::uint64_t first,
                     std::uint64_t count) noexcept {
    bool inside = false;
    while (count != 0) {
        const auto [leaf, room] = find(address_space, first);
        const std::uint64_t pages = std::min(count, room);
        if (leaf != nullptr) {
            set(*leaf, first % leaf_pages, pages);
            inside = true;
        } else {
            count_outside(pages);
        }
        first += pages;
        count -= pages;
    }
    if (inside) {
        raise();
    }
}

void MarkBoard::cover(const MemoryMap& map) {
    for (const MemorySlot& slot : map.slots()) {
        const std::uint64_t first = slot.guest_address / page_size;
        const std::uint64_t last = first + slot.pages() - 1;
        for (std::uint64_t leaf = first / leaf_pages; leaf <= last / leaf_pages; ++leaf) {
            cover(slot.slot >> 16, leaf * leaf_pages);
        }
    }
}

void MarkBoard::cover(std::uint32_t address_space, std::uint64_t page) {
    if (page >= root_pages || find(address_space, page).leaf != nullptr) {
        return;
    }
    std::atomic<Branch*>& branch = roots_[address_space]->branches[page / branch_pages];
    if (branch.load(std::memory_order_relaxed) == nullptr) {
        branches_.push_back(std::make_unique<Branch>());
        branch.store(branches_.back().get(), std::memory_order_release);
    }
    leaves_.push_back(std::make_unique<Leaf>());
    Leaf& leaf = *leaves_.back();
    leaf.first = page;
    leaf.address_space = address_space;
    branch.load(std::memory_order_relaxed)
        ->leaves[page % branch_pages / leaf_pages]
        .store(&leaf, std::memory_order_release);
}

void MarkBoard::drain(DirtySet& into) noexcept {
    // A look before the exchange: nobody marks most of the time, and a plain load costs nothing.
    if (!any_.load(std::memory_order_relaxed) || !any_.exchange(false, std::memory_order_acquire)) {
        return;
    }
    for (const std::unique_ptr<Leaf>& leaf : leaves_) {
        if (leaf->touched.load(std::memory_order_relaxed) != 0) {
            drain(*leaf, into);
        }
    }
}

void MarkBoard::drain(Leaf& leaf, DirtySet& into) noexcept {
    std::uint64_t blocks = leaf.touched.exchange(0, std::memory_order_acquire);
    for (; blocks != 0; blocks &= blocks - 1) {
        const auto block = static_cast<std::size_t>(std::countr_zero(blocks));
        for (std::size_t word = block * block_words; word < (block + 1) * block_words; ++word) {
            drain_word(leaf, word, leaf.words[word].exchange(0, std::memory_order_acquire), into);
        }
    }
}

void MarkBoard::drain_word(const Leaf& leaf, std::size_t index, std::uint64_t bits,
                           DirtySet& into) noexcept {
    const std::uint64_t base = leaf.first + std::uint64_t{index} * 64;
    while (bits != 0) {
        const auto skip = static_cast<unsigned>(std::countr_zero(bits));
        const auto marked = static_cast<std::uint64_t>(std::countr_one(bits >> skip));
        std::uint64_t count = 1;
        const std::uint64_t address = (base + skip) * page_size;
        if (const auto found = into.memory().at_guest(address, leaf.address_space)) {
            const std::uint64_t first = found->page();
            count = std::min(marked, into.memory().slots()[found->place].pages() - first);
            into.insert_range(found->place, first, first + count);
        } else {
            count_outside(1);
        }
        bits = skip + count == 64 ? 0 : bits & ~std::uint64_t{0} << (skip + count);
    }
}

}  // namespace dirtyring
