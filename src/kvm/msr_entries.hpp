// SPDX-License-Identifier: MIT
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

namespace dirtyring::kvm {

/// What KVM_GET_MSRS wants: entries with their index filled in.
inline std::vector<kvm_msr_entry> msr_entries(std::span<const std::uint32_t> indices) {
    std::vector<kvm_msr_entry> entries(indices.size());
    for (std::size_t i = 0; i < indices.size(); ++i) {
        entries[i].index = indices[i];
    }
    return entries;
}

}  // namespace dirtyring::kvm
