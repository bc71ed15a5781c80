// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/system.hpp"

#include <fcntl.h>

#include <cerrno>

#include "../sys.hpp"
#if defined(__x86_64__)
#include "msr_entries.hpp"
#endif

namespace dirtyring::kvm {

namespace {

std::string open_remedy(int code) {
    switch (code) {
        case ENOENT:
        case ENXIO:
        case ENODEV:
            return "load the module (modprobe kvm-amd or kvm-intel) and enable virtualization in "
                   "the "
                   "firmware, or allow nested virtualization on the outer host";
        case EACCES:
        case EPERM:
            return "run as root, or join the device's group (usermod -aG kvm $USER) and log in "
                   "again";
        default:
            return {};
    }
}

}  // namespace

Result<int> System::api_version() const {
    return value({KVM_GET_API_VERSION, "KVM_GET_API_VERSION"});
}

Result<int> System::check_extension(int capability) const {
    return value({KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION"},
                 static_cast<std::uint64_t>(capability));
}

Result<int> System::recommended_vcpus() const {
    return check_extension(KVM_CAP_NR_VCPUS);
}

Result<int> System::max_vcpus() const {
    return check_extension(KVM_CAP_MAX_VCPUS);
}

Result<int> System::max_vcpu_id() const {
    return check_extension(KVM_CAP_MAX_VCPU_ID);
}

Result<int> System::memory_slots() const {
    return check_extension(KVM_CAP_NR_MEMSLOTS);
}

Result<System> System::open(const char* path) {
    const int fd = sys::open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return fail({-fd, std::string("open(") + path + ")", {}, open_remedy(-fd)});
    }
    System system(Fd::own(fd));
    Result<int> version = system.api_version();
    if (!version) {
        version.error().cause = std::string(path) + " is not a KVM device";
        return fail(std::move(version.error()));
    }
    if (*version != KVM_API_VERSION) {
        return fail({0, "KVM_GET_API_VERSION",
                     "this kernel speaks version " + std::to_string(*version) + ", not 12",
                     "use Linux 2.6.22 or later"});
    }
    return system;
}

Result<std::size_t> System::vcpu_mmap_size() const {
    return value({KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE"}).map([](int size) {
        return static_cast<std::size_t>(size);
    });
}

#if defined(__x86_64__)

Result<std::vector<kvm_cpuid_entry2>> System::get_supported_cpuid() const {
    return out_array<kvm_cpuid_entry2, abi::CpuidHeader>(
        {abi::get_supported_cpuid, "KVM_GET_SUPPORTED_CPUID"}, abi::max_cpuid_entries);
}

Result<std::vector<kvm_cpuid_entry2>> System::get_emulated_cpuid() const {
    return out_array<kvm_cpuid_entry2, abi::CpuidHeader>(
        {abi::get_emulated_cpuid, "KVM_GET_EMULATED_CPUID"}, abi::max_cpuid_entries);
}

Result<std::vector<std::uint32_t>> System::get_msr_index_list() const {
    return out_array<std::uint32_t, abi::MsrListHeader>(
        {abi::get_msr_index_list, "KVM_GET_MSR_INDEX_LIST"}, 0);
}

Result<std::vector<std::uint32_t>> System::get_msr_feature_index_list() const {
    return out_array<std::uint32_t, abi::MsrListHeader>(
        {abi::get_msr_feature_index_list, "KVM_GET_MSR_FEATURE_INDEX_LIST"}, 0);
}

Result<std::vector<kvm_msr_entry>> System::get_msrs(std::span<const std::uint32_t> indices) const {
    const std::vector<kvm_msr_entry> entries = msr_entries(indices);
    return inout_array<abi::MsrsHeader, kvm_msr_entry>(
        {abi::get_msrs, "KVM_GET_MSRS"}, {static_cast<std::uint32_t>(entries.size()), 0}, entries);
}

#endif

Result<Vm> System::create_vm(unsigned long type) const {
    Result<std::size_t> run_size = vcpu_mmap_size();
    if (!run_size) {
        return fail(std::move(run_size.error()));
    }
    return value({KVM_CREATE_VM, "KVM_CREATE_VM"}, type).map([&](int fd) {
        return Vm::adopt(Fd::own(fd), *run_size);
    });
}

}  // namespace dirtyring::kvm
