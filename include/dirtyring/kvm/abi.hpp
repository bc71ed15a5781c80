// SPDX-License-Identifier: MIT
//
// What linux/kvm.h gets wrong or lacks. Debian 12's header (linux-libc-dev 6.1) wraps flexible
// arrays so that in C++ each carries an empty struct of one byte: the structs are four or eight
// bytes too large, and ioctl numbers made from their sizes are ones the kernel refuses with EINVAL.
// The structs here are only the fixed part that the ioctl's number is made from; kvm::FlexArray
// puts the elements behind it.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace dirtyring::kvm::abi {

// The ring: kernel's struct kvm_dirty_gfn, api.rst 8.29.
static_assert(sizeof(kvm_dirty_gfn) == 16);
static_assert(offsetof(kvm_dirty_gfn, flags) == 0);
static_assert(offsetof(kvm_dirty_gfn, slot) == 4);
static_assert(offsetof(kvm_dirty_gfn, offset) == 8);
/// Where in a vCPU's descriptor its ring is, in pages: the same on x86-64 and on arm64, for which
/// headers before Linux 6.2 say 0.
inline constexpr long dirty_log_page_offset = 64;
#if KVM_DIRTY_LOG_PAGE_OFFSET != 0
static_assert(dirty_log_page_offset == KVM_DIRTY_LOG_PAGE_OFFSET);
#endif

// Capabilities newer than the header.
inline constexpr int cap_dirty_log_ring_acq_rel = 223;
inline constexpr int cap_dirty_log_ring_with_bitmap = 225;
inline constexpr int cap_user_memory2 = 231;
static_assert(cap_dirty_log_ring_acq_rel == KVM_CAP_DIRTY_LOG_RING_ACQ_REL);

/// struct kvm_irq_routing without its entries.
struct IrqRoutingHeader {
    std::uint32_t count;
    std::uint32_t flags;
};
inline constexpr unsigned long set_gsi_routing = _IOW(KVMIO, 0x6a, IrqRoutingHeader);
static_assert(sizeof(kvm_irq_routing_entry) == 48);
static_assert(set_gsi_routing == 0x4008ae6a);

/// struct kvm_signal_mask without its signals.
struct SignalMaskHeader {
    std::uint32_t length;
};
inline constexpr unsigned long set_signal_mask = _IOW(KVMIO, 0x8b, SignalMaskHeader);
static_assert(set_signal_mask == 0x4004ae8b);

/// struct kvm_reg_list without its registers.
struct RegListHeader {
    std::uint64_t count;
};
inline constexpr unsigned long get_reg_list = _IOWR(KVMIO, 0xb0, RegListHeader);
static_assert(get_reg_list == 0xc008aeb0);

/// struct kvm_userspace_memory_region2 (Linux 6.8), which the header lacks.
struct UserMemoryRegion2 {
    std::uint32_t slot;
    std::uint32_t flags;
    std::uint64_t guest_phys_addr;
    std::uint64_t memory_size;
    std::uint64_t userspace_addr;
    std::uint64_t guest_memfd_offset;
    std::uint32_t guest_memfd;
    std::uint32_t pad1;
    std::uint64_t pad2[14];
};
inline constexpr unsigned long set_user_memory_region2 = _IOW(KVMIO, 0x49, UserMemoryRegion2);
static_assert(sizeof(UserMemoryRegion2) == 160);
static_assert(set_user_memory_region2 == 0x40a0ae49);

// A statistics descriptor's file (api.rst 4.133) begins with this.
static_assert(sizeof(kvm_stats_header) == 24);
/// struct kvm_stats_desc without its name.
struct StatsDescriptor {
    std::uint32_t flags;
    std::int16_t exponent;
    std::uint16_t size;  ///< number of values
    std::uint32_t offset;
    std::uint32_t bucket_size;
};
static_assert(sizeof(StatsDescriptor) == 16);

#if defined(__x86_64__)

/// struct kvm_cpuid2 without its entries.
struct CpuidHeader {
    std::uint32_t count;
    std::uint32_t padding;
};
inline constexpr unsigned long get_supported_cpuid = _IOWR(KVMIO, 0x05, CpuidHeader);
inline constexpr unsigned long get_emulated_cpuid = _IOWR(KVMIO, 0x09, CpuidHeader);
inline constexpr unsigned long set_cpuid2 = _IOW(KVMIO, 0x90, CpuidHeader);
inline constexpr unsigned long get_cpuid2 = _IOWR(KVMIO, 0x91, CpuidHeader);
/// KVM_MAX_CPUID_ENTRIES of the kernel (arch/x86/include/asm/kvm_host.h).
inline constexpr std::uint32_t max_cpuid_entries = 256;
static_assert(sizeof(kvm_cpuid_entry2) == 40);
static_assert(get_supported_cpuid == 0xc008ae05);
static_assert(get_emulated_cpuid == 0xc008ae09);
static_assert(set_cpuid2 == 0x4008ae90);
static_assert(get_cpuid2 == 0xc008ae91);

/// struct kvm_msrs without its entries.
struct MsrsHeader {
    std::uint32_t count;
    std::uint32_t padding;
};
inline constexpr unsigned long get_msrs = _IOWR(KVMIO, 0x88, MsrsHeader);
inline constexpr unsigned long set_msrs = _IOW(KVMIO, 0x89, MsrsHeader);
static_assert(sizeof(kvm_msr_entry) == 16);
static_assert(get_msrs == 0xc008ae88);
static_assert(set_msrs == 0x4008ae89);

/// struct kvm_msr_list without its indices.
struct MsrListHeader {
    std::uint32_t count;
};
inline constexpr unsigned long get_msr_index_list = _IOWR(KVMIO, 0x02, MsrListHeader);
inline constexpr unsigned long get_msr_feature_index_list = _IOWR(KVMIO, 0x0a, MsrListHeader);
static_assert(get_msr_index_list == 0xc004ae02);
static_assert(get_msr_feature_index_list == 0xc004ae0a);

/// struct kvm_nested_state without its data: the header's 120 bytes differ between Intel and AMD.
struct NestedStateHeader {
    std::uint16_t flags;
    std::uint16_t format;
    std::uint32_t size;  ///< bytes with the data behind it
    std::uint8_t vendor[120];
};
inline constexpr unsigned long get_nested_state = _IOWR(KVMIO, 0xbe, NestedStateHeader);
inline constexpr unsigned long set_nested_state = _IOW(KVMIO, 0xbf, NestedStateHeader);
static_assert(get_nested_state == 0xc080aebe);
static_assert(set_nested_state == 0x4080aebf);

/// struct kvm_xsave: the first 4,096 bytes; more where KVM_CAP_XSAVE2 says so.
struct XsaveHeader {
    std::uint32_t region[1024];
};
inline constexpr unsigned long get_xsave = _IOR(KVMIO, 0xa4, XsaveHeader);
inline constexpr unsigned long set_xsave = _IOW(KVMIO, 0xa5, XsaveHeader);
inline constexpr unsigned long get_xsave2 = _IOR(KVMIO, 0xcf, XsaveHeader);
static_assert(get_xsave == 0x9000aea4);
static_assert(set_xsave == 0x5000aea5);
static_assert(get_xsave2 == 0x9000aecf);

#endif

}  // namespace dirtyring::kvm::abi
