// SPDX-License-Identifier: MIT
//
// /dev/kvm itself: what the host's KVM offers, and the way to a VM.
#pragma once

#include "dirtyring/kvm/ioctl.hpp"
#include "dirtyring/kvm/vm.hpp"

namespace dirtyring::kvm {

/// Calls on one System may be made from any thread at any time; the object itself must not be moved
/// or destroyed meanwhile.
///
/// Errors of every call: EBADF (no descriptor), ENOTTY or EINVAL (not /dev/kvm's, or a call that
/// this kernel does not have), ENOMEM. What a call says under "Errors" comes on top of these.
class System : public Handle {
  public:
    /// Opens /dev/kvm and checks that it speaks API version 12 (api.rst 4.1), the only one since
    /// Linux 2.6.22. Errors: ENOENT, ENXIO or ENODEV (no KVM on this host), EACCES (no permission),
    /// each with what to do.
    [[nodiscard]] static Result<System> open(const char* path = "/dev/kvm");
    /// Uses a /dev/kvm that somebody else opened.
    [[nodiscard]] static System adopt(Fd fd) noexcept { return System(std::move(fd)); }

    /// KVM_GET_API_VERSION (api.rst 4.1): 12.
    [[nodiscard]] Result<int> api_version() const;
    /// KVM_CHECK_EXTENSION (api.rst 4.4): 0 where `capability` is unknown, else 1 or a number whose
    /// meaning depends on the capability.
    [[nodiscard]] Result<int> check_extension(int capability) const;
    /// KVM_GET_VCPU_MMAP_SIZE (api.rst 4.5): bytes of a vCPU's kvm_run mapping.
    [[nodiscard]] Result<std::size_t> vcpu_mmap_size() const;
    /// KVM_CAP_NR_VCPUS (api.rst 4.7): vCPUs that a VM had better not exceed on this host.
    [[nodiscard]] Result<int> recommended_vcpus() const;
    /// KVM_CAP_MAX_VCPUS (api.rst 4.7): vCPUs that a VM can have.
    [[nodiscard]] Result<int> max_vcpus() const;
    /// KVM_CAP_MAX_VCPU_ID (api.rst 4.7): vCPU ids are below this.
    [[nodiscard]] Result<int> max_vcpu_id() const;
    /// KVM_CAP_NR_MEMSLOTS (api.rst 4.35): memory slots that a VM can have in an address space.
    [[nodiscard]] Result<int> memory_slots() const;

#if defined(__x86_64__)
    /// KVM_GET_SUPPORTED_CPUID (api.rst 4.46): what CPU and KVM both offer; for Vcpu::set_cpuid2.
    /// Errors: E2BIG (more than 256 entries).
    [[nodiscard]] Result<std::vector<kvm_cpuid_entry2>> get_supported_cpuid() const;
    /// KVM_GET_EMULATED_CPUID (api.rst 4.88): features that KVM can emulate in software, if slowly.
    /// Errors: E2BIG (more than 256 entries).
    [[nodiscard]] Result<std::vector<kvm_cpuid_entry2>> get_emulated_cpuid() const;
    /// KVM_GET_MSR_INDEX_LIST (api.rst 4.3): the MSRs of a vCPU that make up its state. A vCPU may
    /// still refuse some of them, by its CPUID.
    [[nodiscard]] Result<std::vector<std::uint32_t>> get_msr_index_list() const;
    /// KVM_GET_MSR_FEATURE_INDEX_LIST (api.rst 4.3): the MSRs that describe what this host offers.
    [[nodiscard]] Result<std::vector<std::uint32_t>> get_msr_feature_index_list() const;
    /// KVM_GET_MSRS on the system (api.rst 4.18): values of feature MSRs, at most 256 at a time.
    /// KVM stops at the first that is none: fewer than asked for means that indices[result.size()]
    /// was refused. Errors: E2BIG (more than 256).
    [[nodiscard]] Result<std::vector<kvm_msr_entry>> get_msrs(
        std::span<const std::uint32_t> indices) const;
#endif

    /// KVM_CREATE_VM (api.rst 4.2) of the given machine type (0 is the host's default).
    /// Errors: EINVAL (unknown type), EMFILE.
    [[nodiscard]] Result<Vm> create_vm(unsigned long type = 0) const;

  private:
    explicit System(Fd fd) noexcept : Handle(std::move(fd)) {}
};

}  // namespace dirtyring::kvm
