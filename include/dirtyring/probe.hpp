// SPDX-License-Identifier: MIT
//
// What this host's KVM offers for tracking dirty pages, and which way of tracking to take.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/system.hpp"

namespace dirtyring {

/// The kernel's ways of telling which pages were written.
enum class Tracking : std::uint8_t {
    ring,              ///< one ring for each vCPU (api.rst 8.29)
    ring_with_bitmap,  ///< and a bitmap for what KVM writes without a vCPU; not x86-64
    bitmap,            ///< KVM_GET_DIRTY_LOG reports and re-arms (api.rst 4.8)
    manual_bitmap      ///< KVM_GET_DIRTY_LOG reports, KVM_CLEAR_DIRTY_LOG re-arms (api.rst 4.117)
};
inline constexpr std::size_t tracking_ways = 4;

/// "ring", "ring with bitmap", "bitmap", "manual bitmap".
[[nodiscard]] const char* name(Tracking way) noexcept;

/// Whether one way of tracking can be used.
struct TrackingSupport {
    Tracking way = Tracking::ring;
    bool usable = false;
    std::string why_not;  ///< one sentence where it is not usable
};

/// What a VM answers. Plain values, as the kernel gives them; 0 is "not there".
struct VmFacilities {
    std::uint32_t ring_bytes = 0;          ///< KVM_CAP_DIRTY_LOG_RING: the largest ring
    std::uint32_t ring_acq_rel_bytes = 0;  ///< KVM_CAP_DIRTY_LOG_RING_ACQ_REL: the largest ring
    bool ring_with_bitmap = false;         ///< KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP
    std::uint32_t manual_protect = 0;      ///< KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: KVM_DIRTY_LOG_...
    std::uint32_t memory_slots = 0;        ///< in each address space
    std::uint32_t address_spaces = 1;      ///< 2 where SMM has its own
    std::uint32_t recommended_vcpus = 0;
    std::uint32_t max_vcpus = 0;
    std::uint32_t max_vcpu_id = 0;         ///< ids are below this
    std::uint32_t sync_registers = 0;      ///< KVM_CAP_SYNC_REGS: KVM_SYNC_X86_... in kvm_run
    bool immediate_exit = false;           ///< Run::request_exit works
    std::uint32_t xsave_bytes = 0;         ///< KVM_CAP_XSAVE2
    std::uint32_t nested_state_bytes = 0;  ///< KVM_CAP_NESTED_STATE
    bool binary_stats = false;             ///< kvm::Stats works
    bool user_memory2 = false;             ///< Vm::set_user_memory_region2 works

    /// Entries of the largest ring; 0 where there are no rings.
    [[nodiscard]] std::uint32_t largest_ring() const noexcept;
};

/// What the host has.
struct HostFacilities {
    std::string kernel_release;  ///< as `uname -r` has it
    /// The module behind /dev/kvm: "kvm_amd", "kvm_intel", "kvm_pvm". Empty where /sys/module does
    /// not say.
    std::string kvm_module;
    /// Whether the CPU logs written pages in hardware (Intel PML), which then reach the ring only
    /// when the vCPU leaves the guest. Empty where /sys/module does not say.
    std::optional<bool> hardware_page_log;
    int api_version = 0;
    VmFacilities vm;  ///< of a VM made for the purpose
    std::uint32_t least_ring =
        0;  ///< entries of the smallest ring that the kernel takes; 0: no rings
    std::array<TrackingSupport, tracking_ways> tracking;  ///< in the order of Tracking
    /// The way to take where nothing speaks for another; empty where none can be used.
    std::optional<Tracking> recommended;
    std::string recommended_why;  ///< one sentence
};

/// Asks one VM. Any thread. Errors: those of KVM_CHECK_EXTENSION.
[[nodiscard]] Result<VmFacilities> probe(const kvm::Vm& vm);

/// Asks the host, and tries each way of tracking on VMs made for the purpose, without vCPUs and
/// gone afterwards. Any thread. Errors: those of KVM_GET_API_VERSION, KVM_CHECK_EXTENSION,
/// KVM_CREATE_VM and uname; EOPNOTSUPP where the host's kernel has pages of another size than
/// page_size. What a way of tracking answers, and what /sys does not show, is no
/// error.
[[nodiscard]] Result<HostFacilities> probe(const kvm::System& system);

}  // namespace dirtyring
