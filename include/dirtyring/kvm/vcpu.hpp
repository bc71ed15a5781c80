// SPDX-License-Identifier: MIT
//
// One virtual CPU: its state, read and written while it does not run. Running it is kvm::Run's work
// (run.hpp) and its dirty ring is dirtyring::Ring (ring.hpp): three objects, so that a thread can
// read the ring while another runs the vCPU.
//
// To carry a vCPU's state over, write it in the order of the kernel's own tests (selftests/kvm,
// vcpu_load_state): CPUID, sregs, LAPIC, MSRs, xcrs, xsave, vcpu_events, mp_state, debugregs, regs,
// nested state.
#pragma once

#include <csignal>

#include "dirtyring/kvm/abi.hpp"
#include "dirtyring/kvm/ioctl.hpp"

namespace dirtyring::kvm {

/// The kernel holds the vCPU's mutex during KVM_RUN, so a call from another thread waits until the
/// vCPU is back in user space; make these calls from the vCPU's own thread, or with the vCPU
/// stopped.
///
/// Errors of every call: EBADF (no descriptor), ENOTTY or EINVAL (not a vCPU's, or a call that this
/// kernel does not have), EIO (the VM was made by another process, or is dead), EINTR (a fatal
/// signal while waiting for the mutex). What a call says under "Errors" comes on top of these.
class Vcpu : public Handle {
  public:
    /// Uses a vCPU that somebody else made. `mmap_size` is System::vcpu_mmap_size() and is needed
    /// only to run it through kvm::Run; `ring_entries` is the size given when its VM's rings were
    /// enabled, 0 for none or unknown (Ring::adopt finds it out); `xsave_size` is Vm::xsave_size(),
    /// 0 for unknown, and must be given where this process has asked for dynamic features
    /// (arch_prctl, AMX) to use get_xsave and set_xsave.
    [[nodiscard]] static Vcpu adopt(Fd fd, std::size_t mmap_size = 0,
                                    std::uint32_t ring_entries = 0,
                                    std::size_t xsave_size = 0) noexcept {
        return {std::move(fd), mmap_size, ring_entries, xsave_size};
    }

    /// Bytes of the kvm_run mapping; 0 where it was adopted without.
    [[nodiscard]] std::size_t mmap_size() const noexcept { return mmap_size_; }
    /// Entries of this vCPU's dirty ring; 0 where it has none.
    [[nodiscard]] std::uint32_t dirty_ring_entries() const noexcept { return ring_entries_; }

    /// KVM_SET_SIGNAL_MASK (api.rst 4.21): the signals blocked during KVM_RUN, in place of the
    /// thread's own mask. One that is blocked outside and not here ends a run without its handler
    /// being called.
    [[nodiscard]] Result<void> set_signal_mask(const sigset_t& blocked) const;
    /// KVM_SET_SIGNAL_MASK without a mask: KVM_RUN goes by the thread's own mask again.
    [[nodiscard]] Result<void> clear_signal_mask() const;
    /// KVM_GET_MP_STATE (api.rst 4.38): runnable, halted, waiting for INIT or SIPI.
    /// Errors: EINVAL on x86-64 without an interrupt chip in the kernel, on older kernels.
    [[nodiscard]] Result<kvm_mp_state> get_mp_state() const;
    /// KVM_SET_MP_STATE (api.rst 4.39). Errors: EINVAL (no such state, or, without an interrupt
    /// chip in the kernel, any but KVM_MP_STATE_RUNNABLE).
    [[nodiscard]] Result<void> set_mp_state(const kvm_mp_state& state) const;
    /// KVM_GET_VCPU_EVENTS (api.rst 4.31): pending exceptions, interrupts and NMIs.
    [[nodiscard]] Result<kvm_vcpu_events> get_vcpu_events() const;
    /// KVM_SET_VCPU_EVENTS (api.rst 4.32). Some fields are taken only where their bit in `flags` is
    /// set. Errors: EINVAL (unknown flag, vector above 31, a state no CPU can be in).
    [[nodiscard]] Result<void> set_vcpu_events(const kvm_vcpu_events& events) const;
    /// KVM_SET_GUEST_DEBUG (api.rst 4.87): single steps and breakpoints as DebugExits.
    /// Errors: EBUSY (asks to inject an exception while one is pending), EINVAL.
    [[nodiscard]] Result<void> set_guest_debug(const kvm_guest_debug& debug) const;
    /// KVM_GET_REG_LIST (api.rst 4.84): the ids that get_one_reg and set_one_reg take.
    [[nodiscard]] Result<std::vector<std::uint64_t>> get_reg_list() const;
    /// KVM_GET_ONE_REG (api.rst 4.69). `value` is as large as the id says (KVM_REG_SIZE_MASK).
    /// Errors: EINVAL (another size, or an id that is malformed), ENOENT (no such register).
    [[nodiscard]] Result<void> get_one_reg(std::uint64_t id, std::span<std::byte> value) const;
    /// KVM_SET_ONE_REG (api.rst 4.68). Errors: as get_one_reg, EBUSY, EPERM (not now).
    [[nodiscard]] Result<void> set_one_reg(std::uint64_t id,
                                           std::span<const std::byte> value) const;
    /// KVM_GET_STATS_FD (api.rst 4.133) on this vCPU: a descriptor for kvm::Stats (stats.hpp).
    /// Errors: EMFILE, ENOMEM.
    [[nodiscard]] Result<Fd> get_stats_fd() const;

#if defined(__x86_64__)
    /// KVM_GET_REGS (api.rst 4.11): general registers, RIP and RFLAGS.
    [[nodiscard]] Result<kvm_regs> get_regs() const;
    /// KVM_SET_REGS (api.rst 4.12). Drops a pending exception.
    [[nodiscard]] Result<void> set_regs(const kvm_regs& regs) const;
    /// KVM_GET_SREGS (api.rst 4.13): segments, descriptor tables, control registers, EFER.
    [[nodiscard]] Result<kvm_sregs> get_sregs() const;
    /// KVM_SET_SREGS (api.rst 4.14). Errors: EINVAL (a state no CPU of this CPUID can be in).
    [[nodiscard]] Result<void> set_sregs(const kvm_sregs& sregs) const;
    /// KVM_GET_SREGS2 (api.rst 4.131): the same and the PAE page-directory pointers, without the
    /// interrupt bitmap. Needs KVM_CAP_SREGS2.
    [[nodiscard]] Result<kvm_sregs2> get_sregs2() const;
    /// KVM_SET_SREGS2 (api.rst 4.132). Errors: as set_sregs.
    [[nodiscard]] Result<void> set_sregs2(const kvm_sregs2& sregs) const;
    /// KVM_GET_FPU (api.rst 4.22): x87 and SSE. For AVX and above use get_xsave.
    [[nodiscard]] Result<kvm_fpu> get_fpu() const;
    /// KVM_SET_FPU (api.rst 4.23).
    [[nodiscard]] Result<void> set_fpu(const kvm_fpu& fpu) const;
    /// The whole XSAVE area, at least 4,096 bytes: KVM_GET_XSAVE2 (api.rst 4.134), or KVM_GET_XSAVE
    /// (4.42) where the size is unknown (adopted without, or a kernel before 5.17). Errors: EINVAL
    /// (the area is larger than 4,096 bytes and the size was not given to adopt).
    [[nodiscard]] Result<std::vector<std::byte>> get_xsave() const;
    /// KVM_SET_XSAVE (api.rst 4.43): what get_xsave gave, on this host or one like it.
    /// Errors: EINVAL (shorter than get_xsave's, or features that this host or CPUID does not
    /// have).
    [[nodiscard]] Result<void> set_xsave(std::span<const std::byte> area) const;
    /// KVM_GET_XCRS (api.rst 4.44).
    [[nodiscard]] Result<kvm_xcrs> get_xcrs() const;
    /// KVM_SET_XCRS (api.rst 4.45). Errors: EINVAL (a feature that the CPUID does not have).
    [[nodiscard]] Result<void> set_xcrs(const kvm_xcrs& xcrs) const;
    /// KVM_GET_MSRS (api.rst 4.18), at most 256 at a time. KVM stops at the first that it does not
    /// read: fewer than asked for means that indices[result.size()] was refused. Errors: E2BIG
    /// (more than 256), ENOMEM.
    [[nodiscard]] Result<std::vector<kvm_msr_entry>> get_msrs(
        std::span<const std::uint32_t> indices) const;
    /// KVM_SET_MSRS (api.rst 4.19), at most 256 at a time. KVM stops at the first that it refuses;
    /// the error (EINVAL) then says how many were set and which one was refused. Errors: also
    /// E2BIG, ENOMEM.
    [[nodiscard]] Result<void> set_msrs(std::span<const kvm_msr_entry> msrs) const;
    /// KVM_GET_CPUID2: what the guest's CPUID instruction answers, as set_cpuid2 gave it.
    [[nodiscard]] Result<std::vector<kvm_cpuid_entry2>> get_cpuid2() const;
    /// KVM_SET_CPUID2 (api.rst 4.20, under KVM_SET_CPUID), once, before the first run: often what
    /// System::get_supported_cpuid gives. Errors: E2BIG (more than 256), EINVAL (after a run, or
    /// values that KVM refuses).
    [[nodiscard]] Result<void> set_cpuid2(std::span<const kvm_cpuid_entry2> entries) const;
    /// KVM_GET_LAPIC (api.rst 4.57). Errors: EINVAL (no interrupt chip in the kernel).
    [[nodiscard]] Result<kvm_lapic_state> get_lapic() const;
    /// KVM_SET_LAPIC (api.rst 4.58). Errors: EINVAL (no interrupt chip in the kernel, or another
    /// APIC id).
    [[nodiscard]] Result<void> set_lapic(const kvm_lapic_state& lapic) const;
    /// KVM_GET_DEBUGREGS (api.rst 4.33).
    [[nodiscard]] Result<kvm_debugregs> get_debugregs() const;
    /// KVM_SET_DEBUGREGS (api.rst 4.34). Errors: EINVAL (`flags` not 0, reserved bits of DR6 or
    /// DR7).
    [[nodiscard]] Result<void> set_debugregs(const kvm_debugregs& debugregs) const;
    /// KVM_GET_NESTED_STATE (api.rst 4.114): a kvm_nested_state and what follows it, `size` bytes
    /// in all. Needs KVM_CAP_NESTED_STATE. Errors: EINVAL (no nested virtualization).
    [[nodiscard]] Result<std::vector<std::byte>> get_nested_state() const;
    /// KVM_SET_NESTED_STATE (api.rst 4.115): what get_nested_state gave.
    /// Errors: EINVAL (shorter than its `size` says, or a state that KVM refuses).
    [[nodiscard]] Result<void> set_nested_state(std::span<const std::byte> state) const;
    /// KVM_GET_TSC_KHZ (api.rst 4.56): the guest's TSC frequency. Errors: EIO (the host's TSC is
    /// unstable).
    [[nodiscard]] Result<std::uint32_t> get_tsc_khz() const;
    /// KVM_SET_TSC_KHZ (api.rst 4.55); 0 is the host's own. Errors: EINVAL (a frequency the CPU
    /// cannot scale to; without KVM_CAP_TSC_CONTROL any that is far from the host's).
    [[nodiscard]] Result<void> set_tsc_khz(std::uint32_t khz) const;
    /// KVM_KVMCLOCK_CTRL (api.rst 4.70): tells the guest's watchdog that it was paused.
    /// Errors: EINVAL (the guest does not use kvmclock).
    [[nodiscard]] Result<void> kvmclock_ctrl() const;
    /// KVM_INTERRUPT (api.rst 4.16): queues interrupt vector `vector`, 0 to 255, for a VM without a
    /// PIC in the kernel; one that is queued already it replaces, or, with KVM_CAP_SPLIT_IRQCHIP,
    /// keeps. Errors: EINVAL (vector), ENXIO (PIC in the kernel), EEXIST (keeps).
    [[nodiscard]] Result<void> interrupt(std::uint32_t vector) const;
    /// KVM_NMI (api.rst 4.64): queues an NMI.
    [[nodiscard]] Result<void> nmi() const;
    /// KVM_SMI (api.rst 4.96): queues an SMI. Needs KVM_CAP_X86_SMM.
    [[nodiscard]] Result<void> smi() const;
    /// KVM_TRANSLATE (api.rst 4.15): walks the guest's page tables; `valid` is 0 where nothing is
    /// mapped.
    [[nodiscard]] Result<kvm_translation> translate(std::uint64_t linear_address) const;
#endif

  private:
    Vcpu(Fd fd, std::size_t mmap_size, std::uint32_t ring_entries, std::size_t xsave_size) noexcept
        : Handle(std::move(fd)),
          mmap_size_(mmap_size),
          ring_entries_(ring_entries),
          xsave_size_(xsave_size) {}

    std::size_t mmap_size_;
    std::uint32_t ring_entries_;
    std::size_t xsave_size_;
};

}  // namespace dirtyring::kvm
