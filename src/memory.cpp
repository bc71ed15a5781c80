// SPDX-License-Identifier: MIT
#include "dirtyring/memory.hpp"

#include <algorithm>
#include <cerrno>

namespace dirtyring {

namespace {

// include/linux/kvm_host.h: KVM_USER_MEM_SLOTS is below SHRT_MAX; the address space is one bit on
// x86-64.
constexpr std::uint32_t most_slot_id = 0x7fff;

std::string name(const MemorySlot& slot) {
    return "memory slot " + std::to_string(slot.slot & 0xffff) + " of address space " +
           std::to_string(slot.slot >> 16);
}

const char* broken_rule(const MemorySlot& slot) {
    if ((slot.slot >> 16) > 1) {
        return "its address space is above 1";
    }
    if ((slot.slot & 0xffff) > most_slot_id) {
        return "its id is above 32767";
    }
    if (slot.size == 0 || slot.size % page_size != 0) {
        return "its size is not a multiple of 4096 bytes above 0";
    }
    if (slot.guest_address % page_size != 0) {
        return "its guest address is not a multiple of 4096";
    }
    if (slot.guest_address + (slot.size - 1) < slot.guest_address) {
        return "it reaches past the end of the address space";
    }
    if (slot.host == nullptr) {
        return "it has no host memory";
    }
    return nullptr;
}

bool overlap(const MemorySlot& a, const MemorySlot& b) {
    return a.slot >> 16 == b.slot >> 16 && a.guest_address <= b.guest_address + (b.size - 1) &&
           b.guest_address <= a.guest_address + (a.size - 1);
}

}  // namespace

Result<void> MemoryMap::add(const MemorySlot& slot) {
    if (const char* rule = broken_rule(slot)) {
        return fail({EINVAL, "MemoryMap::add(" + name(slot) + ")", rule, {}});
    }
    for (const MemorySlot& other : slots_) {
        if (other.slot == slot.slot) {
            return fail({EEXIST, "MemoryMap::add(" + name(slot) + ")", "it is there already",
                         "remove it first"});
        }
        if (overlap(slot, other)) {
            return fail({EEXIST, "MemoryMap::add(" + name(slot) + ")", "it overlaps " + name(other),
                         "give each guest address one slot"});
        }
    }
    slots_.push_back(slot);
    index();
    return {};
}

Result<void> MemoryMap::remove(std::uint32_t slot) {
    const std::size_t place = find(slot);
    if (place == npos) {
        return fail({ENOENT,
                     "MemoryMap::remove(" + name({.slot = slot}) + ")",
                     "there is no such slot",
                     {}});
    }
    slots_.erase(slots_.begin() + static_cast<std::ptrdiff_t>(place));
    index();
    return {};
}

std::uint64_t MemoryMap::bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const MemorySlot& slot : slots_) {
        sum += slot.size;
    }
    return sum;
}

void MemoryMap::index() {
    for (auto& places : places_) {
        places.clear();
    }
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        auto& places = places_[slots_[i].slot >> 16];
        const std::size_t id = slots_[i].slot & 0xffff;
        if (places.size() <= id) {
            places.resize(id + 1, npos);
        }
        places[id] = i;
    }
}

}  // namespace dirtyring
