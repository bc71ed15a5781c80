// SPDX-License-Identifier: MIT
#include "dirtyring/memory.hpp"

#include <linux/kvm.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <utility>

#include "host_pages.hpp"

namespace dirtyring {

namespace {

// include/linux/kvm_host.h: KVM_USER_MEM_SLOTS is below SHRT_MAX; the address space is one bit on
// x86-64.
constexpr std::uint32_t most_slot_id = 0x7fff;

std::uint32_t space_of(const MemorySlot& slot) {
    return slot.slot >> 16;
}

std::string name(const MemorySlot& slot) {
    return "memory slot " + std::to_string(slot.slot & 0xffff) + " of address space " +
           std::to_string(slot.slot >> 16);
}

const char* broken_rule(const MemorySlot& slot) {
    if (space_of(slot) > 1) {
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
    return space_of(a) == space_of(b) && a.guest_address <= b.guest_address + (b.size - 1) &&
           b.guest_address <= a.guest_address + (a.size - 1);
}

// SAFETY: an address is compared as a number, as pointers into different objects have no order, or
// handed to the kernel, which takes it as one.
std::uintptr_t number(const std::byte* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer);
}

}  // namespace

kvm_userspace_memory_region MemorySlot::region(std::uint32_t flags) const noexcept {
    return {slot, flags, guest_address, size, number(host)};
}

Result<void> MemoryMap::add(const MemorySlot& slot) {
    if (const char* rule = broken_rule(slot)) {
        return fail({EINVAL, "MemoryMap::add(" + name(slot) + ")", rule, {}});
    }
    if (Result<void> pages = check_host_pages("MemoryMap::add(" + name(slot) + ")"); !pages) {
        return pages;
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

std::optional<SlotByte> MemoryMap::at_guest(std::uint64_t address,
                                            std::uint32_t address_space) const noexcept {
    const auto key = [this](std::size_t place) {
        return std::pair(space_of(slots_[place]), slots_[place].guest_address);
    };
    const auto after =
        std::ranges::upper_bound(by_guest_, std::pair(address_space, address), {}, key);
    if (after == by_guest_.begin()) {
        return std::nullopt;
    }
    const std::size_t place = *(after - 1);
    const std::uint64_t offset = address - slots_[place].guest_address;
    if (space_of(slots_[place]) != address_space || offset >= slots_[place].size) {
        return std::nullopt;
    }
    return SlotByte{place, offset};
}

std::optional<SlotByte> MemoryMap::at_host(const std::byte* pointer) const noexcept {
    auto after = std::ranges::upper_bound(by_host_, number(pointer), {}, [this](std::size_t place) {
        return number(slots_[place].host);
    });
    // More than one step back only where a slot's memory lies inside another's.
    while (after != by_host_.begin()) {
        const std::size_t place = *--after;
        const std::uint64_t offset = number(pointer) - number(slots_[place].host);
        if (offset < slots_[place].size) {
            return SlotByte{place, offset};
        }
    }
    return std::nullopt;
}

std::optional<SlotByte> MemoryMap::at_file(std::uint64_t offset) const noexcept {
    const auto after = std::ranges::upper_bound(file_starts_, offset);
    if (after == file_starts_.begin()) {
        return std::nullopt;
    }
    const auto place = static_cast<std::size_t>(after - file_starts_.begin()) - 1;
    const std::uint64_t in_slot = offset - file_starts_[place];
    if (in_slot >= slots_[place].size) {
        return std::nullopt;
    }
    return SlotByte{place, in_slot};
}

void MemoryMap::index() {
    for (auto& places : places_) {
        places.clear();
    }
    file_starts_.clear();
    std::uint64_t file_end = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        auto& places = places_[space_of(slots_[i])];
        const std::size_t id = slots_[i].slot & 0xffff;
        if (places.size() <= id) {
            places.resize(id + 1, npos);
        }
        places[id] = i;
        file_starts_.push_back(file_end);
        file_end += slots_[i].size;
    }
    by_guest_.resize(slots_.size());
    std::iota(by_guest_.begin(), by_guest_.end(), std::size_t{0});
    by_host_ = by_guest_;
    std::ranges::sort(by_guest_, {}, [this](std::size_t place) {
        return std::pair(space_of(slots_[place]), slots_[place].guest_address);
    });
    std::ranges::sort(by_host_, {},
                      [this](std::size_t place) { return number(slots_[place].host); });
}

}  // namespace dirtyring
