// SPDX-License-Identifier: MIT
#include "host_writer.hpp"

#include <algorithm>
#include <array>

#include "guests/writer_plan.hpp"

namespace dirtyring::soak {

void HostWriter::burst(const MemoryMap& slots) {
    const Place place = random_place(slots);
    switch (random_.below(3)) {
        case 0:
            tracker_.mark(store(place, random_.below(place.range.pages)), 8);
            break;
        case 1:
            run(place);
            break;
        default:
            scattered(place);
    }
}

HostWriter::Place HostWriter::random_place(const MemoryMap& slots) {
    const std::uint64_t choice = random_.below(slots.slots().size() - 1 + ranges_.size());
    if (choice < ranges_.size()) {
        return {slots.slots().data(), ranges_[choice]};
    }
    const MemorySlot& slot = slots.slots()[choice - ranges_.size() + 1];
    return {&slot, {0, slot.pages()}};
}

std::uint64_t HostWriter::store(const Place& place, std::uint64_t page) {
    std::uint64_t word = random_.below(words_a_page);
    if (place.range.stamped && word == guest::writer_stamp_offset(page) / 8) {
        word = (word + 1) % words_a_page;
    }
    const std::uint64_t in_slot = place.range.first + page;
    shared_word(place.slot->host + in_slot * page_size, word)
        .store(random_.next(), std::memory_order_relaxed);
    ++stores_;
    return place.slot->guest_address + in_slot * page_size + word * 8;
}

void HostWriter::run(const Place& place) {
    const std::uint64_t first = random_.below(place.range.pages);
    const std::uint64_t end = std::min(first + 1 + random_.below(100), place.range.pages);
    const std::uint64_t from = store(place, first);
    std::uint64_t to = from;
    for (std::uint64_t page = first + 1; page < end; ++page) {
        to = store(place, page);
    }
    tracker_.mark(from, to + 8 - from);
}

void HostWriter::scattered(const Place& place) {
    constexpr std::uint64_t most = 256;
    std::array<std::uint64_t, most / 64 + 1> bitmap{};
    const std::uint64_t first = random_.below(place.range.pages);
    const std::uint64_t reach = std::min(place.range.pages - first, most);
    const std::uint64_t begin = place.slot->guest_address / page_size + place.range.first + first;
    const std::uint64_t base = begin / 64 * 64;
    for (std::uint64_t i = 0; i <= reach / 8; ++i) {
        const std::uint64_t page = random_.below(reach);
        store(place, first + page);
        const std::uint64_t bit = begin + page - base;
        bitmap[bit / 64] |= std::uint64_t{1} << bit % 64;
    }
    tracker_.mark_bitmap(base * page_size, bitmap);
}

}  // namespace dirtyring::soak
