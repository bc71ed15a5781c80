// SPDX-License-Identifier: MIT
#include "dirtyring/dirty_set.hpp"

#include <algorithm>
#include <utility>

namespace dirtyring {

namespace {

/// Where `before` has the slot of that id, over the same host memory; or npos.
std::size_t place_before(const MemorySlot& slot, const MemoryMap& before) {
    const std::size_t place = before.find(slot.slot);
    return place != MemoryMap::npos && before.slots()[place].host == slot.host ? place
                                                                               : MemoryMap::npos;
}

/// How much of it those have who know the slots of `before`, by whichever address they go.
std::uint64_t pages_known(const MemoryMap& map, std::size_t place, const MemoryMap& before) {
    const MemorySlot& slot = map.slots()[place];
    const std::size_t old = place_before(slot, before);
    if (old == MemoryMap::npos || before.guest_address({old, 0}) != slot.guest_address ||
        before.file_offset({old, 0}) != map.file_offset({place, 0})) {
        return 0;
    }
    return std::min(before.slots()[old].pages(), slot.pages());
}

}  // namespace

DirtySet::DirtySet(MemoryMap map) {
    auto layout = std::make_shared<Layout>();
    layout->map = std::move(map);
    std::uint64_t end = 0;
    for (const MemorySlot& slot : layout->map.slots()) {
        std::vector<Room>& rooms = slot.slot >> 16 == 0 ? layout->rooms : layout->smm_rooms;
        const std::size_t id = slot.slot & 0xffff;
        rooms.resize(std::max(rooms.size(), id + 1));
        rooms[id] = {end, slot.pages()};
        constexpr std::uint64_t block = PageSet::block_pages;
        end += (slot.pages() + block - 1) / block * block;
    }
    layout_ = std::move(layout);
    set_ = PageSet(end);
}

const MemoryMap& DirtySet::no_slots() noexcept {
    static const MemoryMap none;
    return none;
}

void DirtySet::prepare(const MemoryMap& map) {
    if (std::ranges::equal(memory().slots(), map.slots())) {
        clear();
    } else {
        *this = DirtySet(map);
    }
}

const DirtySet::Room& DirtySet::smm_room(std::uint32_t slot) const noexcept {
    static constexpr Room none;
    const std::size_t id = slot & 0xffff;
    return layout_ != nullptr && slot >> 16 == 1 && id < layout_->smm_rooms.size()
               ? layout_->smm_rooms[id]
               : none;
}

bool DirtySet::insert(std::uint32_t slot, std::uint64_t offset) noexcept {
    Inserter inserter(*this);
    const bool fresh = inserter.insert(slot, offset);
    inserter.finish();
    return fresh;
}

void DirtySet::insert_word(std::size_t place, std::size_t index, std::uint64_t bits) noexcept {
    const Room& room = this->room(memory().slots()[place].slot);
    const std::uint64_t after = room.pages - std::uint64_t{index} * 64;  // pages to the slot's end
    if (after < 64) {
        bits &= (std::uint64_t{1} << after) - 1;
    }
    set_.insert_word(static_cast<std::size_t>(room.first / 64) + index, bits);
}

void DirtySet::insert_all() noexcept {
    for (const MemorySlot& slot : memory().slots()) {
        const Room& room = this->room(slot.slot);
        set_.insert_range(room.first, room.first + room.pages);
    }
}

void DirtySet::insert_range(std::size_t place, std::uint64_t first, std::uint64_t end) noexcept {
    const std::uint64_t start = room(memory().slots()[place].slot).first;
    set_.insert_range(start + first, start + end);
}

void DirtySet::merge(const DirtySet& other) noexcept {
    set_.merge(other.set_);
    stale_ += other.stale_;
}

void DirtySet::merge_over(const DirtySet& before) noexcept {
    if (std::ranges::equal(memory().slots(), before.memory().slots())) {
        merge(before);
        return;
    }
    for (std::size_t place = 0; place < memory().slots().size(); ++place) {
        if (const std::size_t old = place_before(memory().slots()[place], before.memory());
            old != MemoryMap::npos) {
            // insert_word leaves out what is past the end; a whole word past it has no room.
            const std::uint64_t words = (memory().slots()[place].pages() + 63) / 64;
            before.pages(old).for_each_word([&](std::size_t index, std::uint64_t bits) {
                if (index < words) {
                    insert_word(place, index, bits);
                }
            });
        }
    }
}

void DirtySet::insert_unknown_to(const MemoryMap& before) noexcept {
    for (std::size_t place = 0; place < memory().slots().size(); ++place) {
        insert_range(place, pages_known(memory(), place, before), memory().slots()[place].pages());
    }
}

std::uint64_t DirtySet::clear() noexcept {
    stale_ = 0;
    return set_.clear();
}

}  // namespace dirtyring
