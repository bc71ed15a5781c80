// SPDX-License-Identifier: MIT
//
// The state a guest starts in: descriptor and page tables in its memory, and each vCPU's registers.
// The host sets all of it, so no boot code runs in the guest.
#pragma once

#include <cstdint>

#include "config.hpp"
#include "dirtyring/error.hpp"
#include "dirtyring/kvm/vcpu.hpp"
#include "guest_memory.hpp"

namespace dirtyring::machine {

/// Writes the tables and the exception stubs. The Config has been checked.
void write_tables(const GuestMemory& memory, const Config& config);

/// Writes guest_abi::Info. `program_end` is Image::end(), `tsc_khz` the frequency of the vCPUs' TSC
/// or 0.
void write_info(const GuestMemory& memory, const Config& config, std::uint64_t program_end,
                std::uint32_t tsc_khz);

/// Puts vCPU `index` into 64-bit mode at `entry`, with the arguments of `_start`. Errors: the KVM
/// calls'.
Result<void> set_registers(const kvm::Vcpu& vcpu, std::uint32_t index, const Config& config,
                           std::uint64_t entry);

}  // namespace dirtyring::machine
