// SPDX-License-Identifier: MIT
//
// The contract between the small VMM (machine/) and the guest programs (guests/).
//
// A guest is a static ELF64 executable for x86-64. It is entered in ring 3, with the ports below
// allowed to it, in 64-bit mode, with paging on, SSE usable, interrupts off and a stack of its own
// for each vCPU, as
//
//     extern "C" void _start(const guest_abi::Info* info, std::uint32_t vcpu);
//
// on every vCPU at once. Guest-virtual addresses 0 .. memory size map the whole of guest memory, in
// order; the first `reserved` bytes belong to the VMM (descriptor tables, page tables, this Info,
// the stacks) and, but for Info and the stacks, are not reachable from ring 3. So a guest is linked
// at `link_address` or above, and a null pointer faults. Memory that its segments do not fill is
// zero.
#pragma once

#include <cstdint>

namespace dirtyring::guest_abi {

/// Bytes written here appear on the console (`out dx, al`, `rep outsb`).
inline constexpr std::uint16_t console_port = 0x3f8;
/// A 32-bit write ends this vCPU with that status: 0 is success, all else is a failed guest.
inline constexpr std::uint16_t exit_port = 0x501;
/// A 32-bit write says that this vCPU has finished a round; the value is how many page writes it
/// made in it.
inline constexpr std::uint16_t round_port = 0x502;
/// Written by the VMM's own exception stubs (ring 0) with the vector; never by a guest program.
inline constexpr std::uint16_t fault_port = 0x503;

inline constexpr std::uint64_t page_size = 4096;
/// Guest memory below this address belongs to the VMM.
inline constexpr std::uint64_t reserved = 0x400000;
/// Where guest programs are linked.
inline constexpr std::uint64_t link_address = reserved;

/// A parameter given by name (`--param keys=1000000`); both are NUL-terminated.
struct Param {
    char name[32];
    char value[96];
};
static_assert(sizeof(Param) == 128);

inline constexpr std::uint32_t info_magic = 0x474e5244;  // "DRNG"
inline constexpr std::uint32_t max_params = 16;

/// What every vCPU finds at its first argument. Read-only for the guest.
struct Info {
    std::uint32_t magic;        ///< info_magic
    std::uint32_t vcpu_count;   ///< how many vCPUs enter `_start`
    std::uint64_t memory_size;  ///< bytes of guest memory, all mapped at 0 .. memory_size
    std::uint64_t heap_base;    ///< first address above the loaded program, page-aligned
    std::uint64_t heap_size;    ///< bytes from heap_base to the end of memory
    std::uint64_t rounds;       ///< end after so many rounds; 0: go on until stopped
    std::uint32_t param_count;  ///< valid entries of `params`
    std::uint32_t tsc_khz;      ///< frequency of the vCPUs' TSC (KVM_GET_TSC_KHZ); 0: unknown
    Param params[max_params];
};
static_assert(sizeof(Info) <= page_size);

}  // namespace dirtyring::guest_abi
