// SPDX-License-Identifier: MIT
//
// What lies where in the VMM's own part of guest memory, 0 .. guest_abi::reserved. Guest-virtual
// and guest-physical addresses are the same there. Everything between the pieces is not mapped.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../guests/abi.hpp"
#include "config.hpp"

namespace dirtyring::machine::layout {

inline constexpr std::uint64_t page = guest_abi::page_size;

// Page 0 is not mapped, so that a null pointer faults.
inline constexpr std::uint64_t gdt = 0x1000;
inline constexpr std::uint64_t idt = 0x2000;
inline constexpr std::uint64_t stubs = 0x3000;
inline constexpr std::uint64_t info = 0x4000;
/// One page for each vCPU: its TSS at the bottom, its exception stack from the top down.
inline constexpr std::uint64_t vcpu_pages = 0x10000;
inline constexpr std::uint64_t vcpu_page(std::uint32_t vcpu) {
    return vcpu_pages + vcpu * page;
}
inline constexpr std::uint64_t tss(std::uint32_t vcpu) {
    return vcpu_page(vcpu);
}
/// The TSS proper, then one bit for each port below `ports_end` (0: ring 3 may use it), then the
/// byte of ones that the architecture asks for.
inline constexpr std::uint64_t io_bitmap = 104;
inline constexpr std::uint64_t ports_end = 0x510;
inline constexpr std::uint64_t tss_size = io_bitmap + ports_end / 8 + 1;
static_assert(guest_abi::round_port + 4 <= ports_end && guest_abi::exit_port + 4 <= ports_end);
inline constexpr std::uint64_t exception_stack_top(std::uint32_t vcpu) {
    return vcpu_page(vcpu) + page;
}

// The page tables: 4 KiB pages for the VMM's own part, 2 MiB pages for all else.
inline constexpr std::uint64_t pml4 = 0x40000;
inline constexpr std::uint64_t pdpt = pml4 + page;
inline constexpr std::uint64_t page_tables = pdpt + page;
inline constexpr std::uint64_t page_table_count = guest_abi::reserved / memory_granule;
/// One for each GiB of guest memory.
inline constexpr std::uint64_t page_directories = page_tables + page_table_count * page;
inline constexpr std::uint64_t page_directory_count = max_memory >> 30;

// The stacks: below each a page that is not mapped, so that one that overflows faults.
inline constexpr std::uint64_t stack_size = 0x10000;
inline constexpr std::uint64_t stack_stride = page + stack_size;
inline constexpr std::uint64_t stacks = guest_abi::reserved - max_vcpus * stack_stride;
inline constexpr std::uint64_t stack_guard(std::uint32_t vcpu) {
    return stacks + vcpu * stack_stride;
}
inline constexpr std::uint64_t stack_bottom(std::uint32_t vcpu) {
    return stack_guard(vcpu) + page;
}
inline constexpr std::uint64_t stack_top(std::uint32_t vcpu) {
    return stack_bottom(vcpu) + stack_size;
}

static_assert(vcpu_page(max_vcpus) <= pml4);
static_assert(page_directories + page_directory_count * page <= stacks);
static_assert(stack_top(max_vcpus - 1) == guest_abi::reserved);
static_assert(guest_abi::reserved % memory_granule == 0);

/// The exceptions of the architecture have the vectors 0 to 31. Each has a stub of 16 bytes.
inline constexpr std::uint32_t vector_count = 32;
inline constexpr std::uint64_t stub_size = 16;

// Guest-physical: slot 0 ends before the interrupt controllers' addresses, below 4 GiB.
inline constexpr std::uint64_t low_memory_end = std::uint64_t{3} << 30;
inline constexpr std::uint64_t high_memory_start = std::uint64_t{4} << 30;
inline constexpr std::uint64_t physical(std::uint64_t guest_virtual) {
    return guest_virtual < low_memory_end ? guest_virtual
                                          : guest_virtual - low_memory_end + high_memory_start;
}
/// Of an address that memory has.
inline constexpr std::uint64_t guest_virtual(std::uint64_t physical) {
    return physical < high_memory_start ? physical : physical - high_memory_start + low_memory_end;
}

}  // namespace dirtyring::machine::layout
