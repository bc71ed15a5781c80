// SPDX-License-Identifier: MIT
#include "dirtyring/dirty_set.hpp"

#include <algorithm>

namespace dirtyring {

DirtySet::DirtySet(const MemoryMap& map) : map_(map) {
    for (const MemorySlot& slot : map_.slots()) {
        std::vector<PageSet>& sets = sets_[slot.slot >> 16];
        sets.resize(std::max<std::size_t>(sets.size(), (slot.slot & 0xffff) + 1));
        sets[slot.slot & 0xffff] = PageSet(slot.pages());
    }
}

void DirtySet::prepare(const MemoryMap& map) {
    if (std::ranges::equal(map_.slots(), map.slots())) {
        clear();
    } else {
        *this = DirtySet(map);
    }
}

std::uint64_t DirtySet::size() const noexcept {
    std::uint64_t sum = 0;
    for (std::size_t place = 0; place < map_.slots().size(); ++place) {
        sum += pages(place).size();
    }
    return sum;
}

bool DirtySet::insert(std::uint32_t slot, std::uint64_t offset) noexcept {
    Inserter inserter(*this);
    inserter.insert(slot, offset);
    return inserter.finish() != 0;
}

void DirtySet::insert_all() noexcept {
    for (std::size_t place = 0; place < map_.slots().size(); ++place) {
        pages(place).insert_all();
    }
}

void DirtySet::merge(const DirtySet& other) noexcept {
    for (std::size_t place = 0; place < map_.slots().size(); ++place) {
        pages(place).merge(other.pages(place));
    }
    stale_ += other.stale_;
}

void DirtySet::clear() noexcept {
    for (std::size_t place = 0; place < map_.slots().size(); ++place) {
        pages(place).clear();
    }
    stale_ = 0;
}

}  // namespace dirtyring
