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
