// SPDX-License-Identifier: MIT
//
// The memory slots of a VM, and the way from what a dirty log says (slot, page in the slot) to a
// guest address and to the host memory behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dirtyring/error.hpp"

namespace dirtyring {

/// The unit of dirty logging on x86-64, whatever size the host maps memory with.
inline constexpr std::uint64_t page_size = 4096;

/// One memory slot as KVM_SET_USER_MEMORY_REGION has it.
struct MemorySlot {
    /// Address space << 16 | slot id, as in kvm_dirty_gfn.slot. Address space 1 is SMM's on x86-64.
    std::uint32_t slot = 0;
    std::uint64_t guest_address = 0;  ///< guest-physical, a multiple of page_size
    std::uint64_t size = 0;           ///< bytes, a multiple of page_size, not 0
    std::byte* host = nullptr;        ///< where it lies in this process

    [[nodiscard]] std::uint64_t pages() const noexcept { return size / page_size; }
    [[nodiscard]] bool operator==(const MemorySlot&) const noexcept = default;
};

/// The slots of one VM, in the order in which they were added. Not thread-safe: change it only
/// while nobody reads it, and not while pages of its slots are being collected.
class MemoryMap {
  public:
    /// Adds a slot. Errors: EINVAL (size 0 or not page-aligned, address space above 1 or slot id
    /// above 32,767, no host pointer, past the end of the address space), EEXIST (the slot is there
    /// already, or overlaps another of its address space).
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

    static constexpr std::size_t npos = ~std::size_t{0};

  private:
    void index();

    std::vector<MemorySlot> slots_;
    std::vector<std::size_t> places_[2];  // by address space, by slot id
};

}  // namespace dirtyring
