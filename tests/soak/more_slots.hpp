// SPDX-License-Identifier: MIT
//
// Two memory slots beside the guest's own, which come, grow, shrink, move and go. No vCPU writes
// them.
#pragma once

#include <cstdint>

#include "dirtyring/kvm/vm.hpp"
#include "dirtyring/memory.hpp"
#include "guests/random.hpp"
#include "host_memory.hpp"

namespace dirtyring::soak {

class MoreSlots {
  public:
    MoreSlots(const kvm::Vm& vm, const HostMemory& memory, std::uint64_t seed)
        : vm_(vm), memory_(memory), random_(seed) {}

    /// The error that some changes end with, on purpose.
    static constexpr int on_purpose = 12345;

    /// For Tracker::change_slots: one change, in the kernel and in the map. Errors: code
    /// on_purpose, before anything was changed or half-way; those of KVM_SET_USER_MEMORY_REGION.
    Result<void> change(MemoryMap& slots);

  private:
    [[nodiscard]] MemorySlot random_slot(std::uint32_t id);
    [[nodiscard]] Result<void> set(const MemorySlot& slot) const;
    [[nodiscard]] Result<void> add(MemoryMap& slots, const MemorySlot& slot) const;
    [[nodiscard]] Result<void> remove(MemoryMap& slots, MemorySlot slot) const;

    const kvm::Vm& vm_;
    const HostMemory& memory_;
    guest::Random random_;
};

}  // namespace dirtyring::soak
