// SPDX-License-Identifier: MIT
#include "more_slots.hpp"

namespace dirtyring::soak {

namespace {

constexpr std::uint32_t ids[] = {5, 9};

tl::unexpected<Error> fail_on_purpose() {
    return fail({MoreSlots::on_purpose, "change a slot", "it was to fail", "none is needed"});
}

}  // namespace

// Each id has two windows, and a GiB of guest-physical addresses of its own, one of them above 4
// GiB. Addresses and sizes are no multiples of anything but a page.
MemorySlot MoreSlots::random_slot(std::uint32_t id) {
    const bool first = id == ids[0];
    constexpr std::uint64_t gib = std::uint64_t{1} << 30;
    MemorySlot slot;
    slot.slot = id;
    slot.guest_address = (first ? 1 : 5) * gib + random_.below(gib / page_size / 2) * page_size;
    slot.size = (1 + random_.below(HostMemory::window_pages)) * page_size;
    slot.host = memory_.window((first ? 0U : 2U) + random_.below(2));
    return slot;
}

Result<void> MoreSlots::set(const MemorySlot& slot) const {
    return vm_.set_user_memory_region(slot.region(slot.size == 0 ? 0 : KVM_MEM_LOG_DIRTY_PAGES));
}

Result<void> MoreSlots::add(MemoryMap& slots, const MemorySlot& slot) const {
    return set(slot).and_then([&] { return slots.add(slot); });
}

Result<void> MoreSlots::remove(MemoryMap& slots, MemorySlot slot) const {
    slot.size = 0;
    return set(slot).and_then([&] { return slots.remove(slot.slot); });
}

Result<void> MoreSlots::change(MemoryMap& slots) {
    const std::uint32_t id = ids[random_.below(2)];
    MemorySlot next = random_slot(id);
    const std::size_t place = slots.find(id);
    if (place == MemoryMap::npos) {
        return add(slots, next);
    }
    const MemorySlot now = slots.slots()[place];
    switch (random_.below(7)) {
        case 0:
            return remove(slots, now);
        case 1:
            return fail_on_purpose();
        case 2:
            return remove(slots, now).and_then([]() -> Result<void> { return fail_on_purpose(); });
        case 3:
            next.size = now.size;
            [[fallthrough]];
        case 4:
            // The kernel moves a slot whose size and memory stay.
            next.host = now.host;
            if (next.size == now.size) {
                return set(next).and_then([&] { return slots.remove(id); }).and_then([&] {
                    return slots.add(next);
                });
            }
            break;
        case 5:
            next.host = now.host;
            next.guest_address = now.guest_address;
            break;
        default:
            break;  // other memory, or the same, somewhere else
    }
    return remove(slots, now).and_then([&] { return add(slots, next); });
}

}  // namespace dirtyring::soak
