// SPDX-License-Identifier: MIT
#include "dirtyring/dirty_set.hpp"

#include <algorithm>
#include <utility>

namespace dirtyring {

DirtySet::DirtySet(MemoryMap map) : map_(std::move(map)) {
    std::uint64_t end = 0;
    for (const MemorySlot& slot : map_.slots()) {
        std::vector<Room>& rooms = slot.slot >> 16 == 0 ? rooms_ : smm_rooms_;
        const std::size_t id = slot.slot & 0xffff;
        rooms.resize(std::max(rooms.size(), id + 1));
        rooms[id] = {end, slot.pages()};
        constexpr std::uint64_t block = PageSet::block_pages;
        end += (slot.pages() + block - 1) / block * block;
    }
    set_ = PageSet(end);
}

void DirtySet::prepare(const MemoryMap& map) {
    if (std::ranges::equal(map_.slots(), map.slots())) {
        clear();
    } else {
        *this = DirtySet(map);
    }
}

const DirtySet::Room& DirtySet::smm_room(std::uint32_t slot) const noexcept {
    static constexpr Room none;
    const std::size_t id = slot & 0xffff;
    return slot >> 16 == 1 && id < smm_rooms_.size() ? smm_rooms_[id] : none;
}

bool DirtySet::insert(std::uint32_t slot, std::uint64_t offset) noexcept {
    Inserter inserter(*this);
    const bool fresh = inserter.insert(slot, offset);
    inserter.finish();
    return fresh;
}

void DirtySet::insert_word(std::size_t place, std::size_t index, std::uint64_t bits) noexcept {
    const Room& room = this->room(map_.slots()[place].slot);
    const std::uint64_t after = room.pages - std::uint64_t{index} * 64;  // pages to the slot's end
    if (after < 64) {
        bits &= (std::uint64_t{1} << after) - 1;
    }
    set_.insert_word(static_cast<std::size_t>(room.first / 64) + index, bits);
}

void DirtySet::insert_all() noexcept {
    for (const MemorySlot& slot : map_.slots()) {
        const Room& room = this->room(slot.slot);
        set_.insert_range(room.first, room.first + room.pages);
    }
}

void DirtySet::merge(const DirtySet& other) noexcept {
    set_.merge(other.set_);
    stale_ += other.stale_;
}

void DirtySet::clear() noexcept {
    set_.clear();
    stale_ = 0;
}

}  // namespace dirtyring
