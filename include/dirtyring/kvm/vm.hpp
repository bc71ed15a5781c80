// SPDX-License-Identifier: MIT
//
// One virtual machine: its memory slots, interrupt chips and clock, its dirty log, and the way to
// its vCPUs.
#pragma once

#include "dirtyring/kvm/abi.hpp"
#include "dirtyring/kvm/device.hpp"
#include "dirtyring/kvm/ioctl.hpp"
#include "dirtyring/kvm/vcpu.hpp"

namespace dirtyring::kvm {

/// The kernel serialises what must be; calls may be made from any thread at any time, except where
/// a call says otherwise. The object itself must not be moved or destroyed meanwhile.
///
/// Errors of every call: EBADF (no descriptor), ENOTTY or EINVAL (not a VM's, or a call that this
/// kernel does not have), EIO (the VM was made by another process, or is dead), ENOMEM. What a call
/// says under "Errors" comes on top of these.
class Vm : public Handle {
  public:
    /// Uses a VM that somebody else made. `vcpu_mmap_size` is System::vcpu_mmap_size() and is
    /// needed only for vCPUs that are to be run through this library.
    [[nodiscard]] static Vm adopt(Fd fd, std::size_t vcpu_mmap_size = 0) noexcept {
        return {std::move(fd), vcpu_mmap_size};
    }

    /// KVM_CHECK_EXTENSION on the VM (api.rst 4.4), which may know more than the system's answer.
    [[nodiscard]] Result<int> check_extension(int capability) const;
    /// KVM_ENABLE_CAP on the VM (api.rst 4.37). Errors: EINVAL (unknown, or its arguments are), and
    /// what the capability adds. For the dirty ring use enable_dirty_ring.
    [[nodiscard]] Result<void> enable_cap(const kvm_enable_cap& capability) const;

    /// Gives every vCPU made from now on a dirty ring of `entries` entries (api.rst 8.29), by
    /// KVM_CAP_DIRTY_LOG_RING_ACQ_REL where the host has it, else KVM_CAP_DIRTY_LOG_RING.
    /// `entries` is a power of two from 256 (1,024 where the CPU logs pages in hardware, Intel PML)
    /// to what the capability reports, 65,536 on all kernels so far. Once a VM, before its first
    /// vCPU. Errors: EOPNOTSUPP (no such capability), EINVAL and E2BIG with the rule broken and the
    /// nearest legal size. Not from two threads at once, nor while another makes a vCPU.
    [[nodiscard]] Result<void> enable_dirty_ring(std::uint32_t entries);
    /// Keeps a dirty bitmap beside the rings, for what KVM writes while no vCPU runs
    /// (KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, api.rst 8.29; arm64 from Linux 6.2 on, not x86-64).
    /// After enable_dirty_ring and before the first memory slot; RingSource reads it with
    /// RingBackup::bitmap. Errors: EOPNOTSUPP (no such capability), EINVAL (no rings yet, or a slot
    /// already).
    [[nodiscard]] Result<void> enable_dirty_ring_bitmap() const;
    /// Entries of each vCPU's ring; 0 where enable_dirty_ring has not been called.
    [[nodiscard]] std::uint32_t dirty_ring_entries() const noexcept { return ring_entries_; }

    /// KVM_SET_USER_MEMORY_REGION (api.rst 4.35): makes, changes or (size 0) deletes a memory slot.
    /// Errors: EINVAL (alignment, changed size, unknown flag, slot id too high), EEXIST (overlap).
    [[nodiscard]] Result<void> set_user_memory_region(
        const kvm_userspace_memory_region& region) const;

    /// KVM_SET_USER_MEMORY_REGION2 (api.rst 4.140): the same with room for a guest_memfd. Needs
    /// KVM_CAP_USER_MEMORY2 (Linux 6.8). Errors: as above.
    [[nodiscard]] Result<void> set_user_memory_region2(const abi::UserMemoryRegion2& region) const;

    /// KVM_GET_DIRTY_LOG (api.rst 4.8): one bit for each page of the slot, in 64-bit words.
    /// `bitmap` must hold the slot's pages rounded up to a multiple of 64: the kernel goes by the
    /// slot and writes that much. Without KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 it also clears and
    /// re-protects. `slot` is address space << 16 | slot id. Errors: ENOENT (no such slot, or not
    /// logged), ENXIO (the VM has dirty rings, and not enable_dirty_ring_bitmap), EFAULT.
    [[nodiscard]] Result<void> get_dirty_log(std::uint32_t slot,
                                             std::span<std::uint64_t> bitmap) const;
    /// KVM_CLEAR_DIRTY_LOG (api.rst 4.117): re-protects the pages whose bits are set, `pages` pages
    /// from `first_page` on. `first_page` is a multiple of 64; so is `pages` unless it reaches the
    /// slot's end. Errors: EINVAL (those rules), ENOENT, ENXIO (dirty rings), EFAULT, EBADF.
    [[nodiscard]] Result<void> clear_dirty_log(std::uint32_t slot, std::uint64_t first_page,
                                               std::uint32_t pages,
                                               std::span<const std::uint64_t> bitmap) const;
    /// KVM_RESET_DIRTY_RINGS (api.rst 8.29), bare: takes the released entries of all rings of this
    /// VM, gives how many. May end early with a short count when a signal is pending (Linux 6.17
    /// and later): dirtyring::ResetHandle knows what to do then. Errors: EINVAL (no rings).
    [[nodiscard]] Result<int> reset_dirty_rings() const;

    /// KVM_CREATE_IRQCHIP (api.rst 4.24): interrupt controllers in the kernel, before the first
    /// vCPU. Errors: EEXIST (there already, or KVM_CAP_SPLIT_IRQCHIP is on), EINVAL (a vCPU is).
    [[nodiscard]] Result<void> create_irqchip() const;
    /// KVM_IRQ_LINE (api.rst 4.25): raises or lowers an input of the kernel's interrupt
    /// controllers. Errors: ENXIO (there are none).
    [[nodiscard]] Result<void> irq_line(std::uint32_t gsi, bool level) const;
    /// KVM_IRQFD (api.rst 4.75): a write to an eventfd raises an interrupt; or, with
    /// KVM_IRQFD_FLAG_DEASSIGN, no longer. Errors: EINVAL (not an eventfd, unknown flag, no
    /// interrupt controllers), EBUSY (that eventfd is in use).
    [[nodiscard]] Result<void> irqfd(const kvm_irqfd& irqfd) const;
    /// KVM_IOEVENTFD (api.rst 4.59): a guest's write to an address or port signals an eventfd in
    /// place of an exit. Errors: EINVAL (length, flags, not an eventfd), EEXIST (taken), ENOENT
    /// (nothing to take off), ENOSPC (too many).
    [[nodiscard]] Result<void> ioeventfd(const kvm_ioeventfd& ioeventfd) const;
    /// KVM_SET_GSI_ROUTING (api.rst 4.52): the whole table anew.
    /// Errors: EINVAL (no interrupt controllers, unknown type, more than KVM_CAP_IRQ_ROUTING says).
    [[nodiscard]] Result<void> set_gsi_routing(
        std::span<const kvm_irq_routing_entry> entries) const;
    /// KVM_SIGNAL_MSI (api.rst 4.71): false where the guest has that interrupt blocked.
    /// Errors: EINVAL (no interrupt controllers, unknown flag).
    [[nodiscard]] Result<bool> signal_msi(const kvm_msi& msi) const;
    /// KVM_CREATE_DEVICE (api.rst 4.79): a device in the kernel, of type KVM_DEV_TYPE_...
    /// Errors: ENODEV (unknown type), EEXIST (there can be only one), EMFILE.
    [[nodiscard]] Result<Device> create_device(std::uint32_t type) const;
    /// KVM_GET_STATS_FD (api.rst 4.133) on the VM: a descriptor for kvm::Stats (stats.hpp).
    /// Errors: EMFILE.
    [[nodiscard]] Result<Fd> get_stats_fd() const;

#if defined(__x86_64__)
    /// KVM_GET_IRQCHIP (api.rst 4.26): the state of KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE or _IOAPIC.
    /// Errors: ENXIO (no interrupt controllers), EINVAL (no such chip).
    [[nodiscard]] Result<kvm_irqchip> get_irqchip(std::uint32_t chip_id) const;
    /// KVM_SET_IRQCHIP (api.rst 4.27). Errors: as get_irqchip.
    [[nodiscard]] Result<void> set_irqchip(const kvm_irqchip& chip) const;
    /// KVM_CREATE_PIT2 (api.rst 4.71, the second of that number): an i8254 timer in the kernel,
    /// after create_irqchip. Errors: EEXIST (there already), ENOENT (no interrupt controllers).
    [[nodiscard]] Result<void> create_pit2(const kvm_pit_config& config = {}) const;
    /// KVM_GET_PIT2 (api.rst 4.72). Errors: ENXIO (no PIT).
    [[nodiscard]] Result<kvm_pit_state2> get_pit2() const;
    /// KVM_SET_PIT2 (api.rst 4.73). Errors: ENXIO (no PIT).
    [[nodiscard]] Result<void> set_pit2(const kvm_pit_state2& state) const;
    /// KVM_GET_CLOCK (api.rst 4.29): kvmclock, in nanoseconds.
    [[nodiscard]] Result<kvm_clock_data> get_clock() const;
    /// KVM_SET_CLOCK (api.rst 4.30). Errors: EINVAL (unknown flag).
    [[nodiscard]] Result<void> set_clock(const kvm_clock_data& clock) const;
    /// KVM_SET_TSS_ADDR (api.rst 4.36): three pages below 4 GiB that no slot has, for Intel hosts.
    /// Errors: EINVAL (above 4 GiB - 3 pages).
    [[nodiscard]] Result<void> set_tss_addr(std::uint64_t guest_address) const;
    /// KVM_SET_IDENTITY_MAP_ADDR (api.rst 4.40): one page below 4 GiB that no slot has, for Intel
    /// hosts; 0 is the default, 0xfffbc000. Errors: EINVAL (there is a vCPU already).
    [[nodiscard]] Result<void> set_identity_map_addr(std::uint64_t guest_address) const;
    /// KVM_GET_TSC_KHZ on the VM (api.rst 4.56): the TSC frequency of vCPUs made from now on.
    /// Errors: EIO (the host's TSC is unstable).
    [[nodiscard]] Result<std::uint32_t> get_tsc_khz() const;
    /// KVM_SET_TSC_KHZ on the VM (api.rst 4.55); 0 is the host's own.
    /// Other than the host's it takes KVM_CAP_VM_TSC_CONTROL.
    /// Errors: EINVAL (a frequency the CPU cannot scale to, or there is a vCPU already).
    [[nodiscard]] Result<void> set_tsc_khz(std::uint32_t khz) const;
    /// KVM_CAP_XSAVE2 on the VM (api.rst 4.43): bytes of a vCPU's XSAVE area, at least 4,096; 0
    /// where the kernel does not say (before 5.17: 4,096).
    [[nodiscard]] Result<std::size_t> xsave_size() const;
#endif

    /// KVM_CREATE_VCPU (api.rst 4.7). `id` is below KVM_CAP_MAX_VCPU_ID.
    /// Errors: EEXIST (the id is taken), EINVAL (too large, or KVM_CAP_MAX_VCPUS are there),
    /// EMFILE. Not from two threads at once.
    [[nodiscard]] Result<Vcpu> create_vcpu(std::uint32_t id);

  private:
    Vm(Fd fd, std::size_t vcpu_mmap_size) noexcept
        : Handle(std::move(fd)), vcpu_mmap_size_(vcpu_mmap_size) {}

    std::size_t vcpu_mmap_size_;
    std::uint32_t ring_entries_ = 0;
    std::uint32_t vcpus_made_ = 0;
};

}  // namespace dirtyring::kvm
