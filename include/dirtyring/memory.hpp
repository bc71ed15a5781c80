// SPDX-License-Identifier: MIT
//
// The memory slots of a VM, and the ways between a page of a slot, which is what a dirty log names,
// its guest address, the host memory behind it, and its place in a file that has all of memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dirtyring/error.hpp"

// NOLINTNEXTLINE(readability-identifier-naming): the kernel's, of <linux/kvm.h>
struct kvm_userspace_memory_region;

namespace dirtyring {

/// The unit of dirty logging, whatever size the host maps memory with. On arm64 that is the page of
/// the host's kernel, which must be of 4 KiB: MemoryMap::add and probe refuse 16 and 64 KiB.
inline constexpr std::uint64_t page_size = 4096;

/// One memory slot as KVM_SET_USER_MEMORY_REGION has it.
struct MemorySlot {
    /// Address space << 16 | slot id, as in kvm_dirty_gfn.slot. Address space 1 is SMM's on x86-64.
    std::uint32_t slot = 0;
    std::uint64_t guest_address = 0;  ///< guest-physical, a multiple of page_size
    std::uint64_t size = 0;           ///< bytes, a multiple of page_size, not 0
    std::byte* host = nullptr;        ///< where it lies in this process

    [[nodiscard]] std::uint64_t pages() const noexcept { return size / page_size; }
    /// What KVM_SET_USER_MEMORY_REGION is to be told of it, with those flags.
    [[nodiscard]] kvm_userspace_memory_region region(std::uint32_t flags) const noexcept;
    [[nodiscard]] bool operator==(const MemorySlot&) const noexcept = default;
};

/// A byte of a slot.
struct SlotByte {
    std::size_t place = 0;     ///< of the slot in MemoryMap::slots()
    std::uint64_t offset = 0;  ///< bytes from the slot's start

    [[nodiscard]] std::uint64_t page() const noexcept { return offset / page_size; }
    [[nodiscard]] bool operator==(const SlotByte&) const noexcept = default;
};

/// The slots of one VM, in the order in which they were added. Not thread-safe: change it only
/// while nobody reads it, and not while pages of its slots are being collected.
class MemoryMap {
  public:
    /// Adds a slot. Errors: EINVAL (size 0 or not page-aligned, address space above 1 or slot id
    /// above 32,767, no host pointer, past the end of the address space), EEXIST (the slot is there
    /// already, or overlaps another of its address space), EOPNOTSUPP (the host's kernel has pages
    /// of another size than page_size).
    Result<void> add(const MemorySlot& slot);
    /// Takes a slot away. Collect what is pending for it first, with the vCPUs stopped: an entry
    /// for a slot that has gone is counted as stale. Errors: ENOENT.
    Result<void> remove(std::uint32_t slot);

    [[nodiscard]] std::span<const MemorySlot> slots() const noexcept { return slots_; }
    /// The slot's place in slots(), or npos.
    [[nodiscard]] std::size_t find(std::uint32_t slot) const noexcept {
        const std::size_t space = slot >> 16;
        const std::size_t id = slot & 0xffff;
        return space < 2 && id < places_[space].size() ? places_[space][id] : npos;
    }
    /// Bytes in all slots.
    [[nodiscard]] std::uint64_t bytes() const noexcept;

    // From an address to the byte of a slot that is there; nothing where no slot is. A search by
    // halves.
    [[nodiscard]] std::optional<SlotByte> at_guest(std::uint64_t address,
                                                   std::uint32_t address_space = 0) const noexcept;
    /// Where slots share host memory, one of them.
    [[nodiscard]] std::optional<SlotByte> at_host(const std::byte* pointer) const noexcept;
    [[nodiscard]] std::optional<SlotByte> at_file(std::uint64_t offset) const noexcept;

    // And back. `byte` must be in a slot.
    [[nodiscard]] std::uint64_t guest_address(SlotByte byte) const noexcept {
        return slots_[byte.place].guest_address + byte.offset;
    }
    [[nodiscard]] std::byte* host(SlotByte byte) const noexcept {
        return slots_[byte.place].host + byte.offset;
    }
    /// In a file that has the slots' memory end to end, in the order of slots(): never a guest
    /// address, as there are holes between slots.
    [[nodiscard]] std::uint64_t file_offset(SlotByte byte) const noexcept {
        return file_starts_[byte.place] + byte.offset;
    }

    static constexpr std::size_t npos = ~std::size_t{0};

  private:
    void index();

    std::vector<MemorySlot> slots_;
    std::array<std::vector<std::size_t>, 2> places_;  // by address space, by slot id
    // Places in order of ...
    std::vector<std::size_t> by_guest_;       // address space, then guest address
    std::vector<std::size_t> by_host_;        // host address
    std::vector<std::uint64_t> file_starts_;  // by place
};

}  // namespace dirtyring
