// SPDX-License-Identifier: MIT
//
// Descriptors that stand in for KVM's, and a kernel that says yes to everything, for tests of how
// the library calls and not of what KVM does.
#pragma once

#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <system_error>

#include "dirtyring/kvm/abi.hpp"
#include "dirtyring/kvm/fd.hpp"
#include "faulty_sys.hpp"

namespace dirtyring {

/// A descriptor for nothing in particular.
inline kvm::Fd make_descriptor() {
    const int fd = eventfd(0, EFD_CLOEXEC);
    if (fd < 0) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    return kvm::Fd::own(fd);
}

/// A file in memory with these bytes in it, then zeros up to `size`.
inline kvm::Fd make_file(std::span<const std::byte> bytes, std::size_t size) {
    kvm::Fd fd = kvm::Fd::own(memfd_create("test", MFD_CLOEXEC));
    if (fd.get() < 0 || ftruncate(fd.get(), static_cast<off_t>(size)) != 0 ||
        pwrite(fd.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
        throw std::system_error(errno, std::generic_category(), "memfd_create");
    }
    return fd;
}

/// A vCPU's descriptor, as far as mmap goes: a kvm_run at its start and a ring where rings are.
inline kvm::Fd make_vcpu_descriptor(std::size_t ring_entries = 256) {
    const auto page = static_cast<std::size_t>(getpagesize());
    return make_file({}, KVM_DIRTY_LOG_PAGE_OFFSET * page + ring_entries * sizeof(kvm_dirty_gfn));
}

constexpr int fake_ring_bytes = 1 << 20;
constexpr std::size_t fake_vcpu_mmap_size = 0x3000;

/// What a kernel with everything says: creates what is to be created, and leaves structs as they
/// are.
inline int agreeable_kernel(int /*fd*/, unsigned long request, void* argument) {
    switch (request) {
        case KVM_GET_API_VERSION:
            return KVM_API_VERSION;
        case KVM_GET_VCPU_MMAP_SIZE:
            return fake_vcpu_mmap_size;
        case KVM_CHECK_EXTENSION:
            // SAFETY: this request's argument is a number and is not followed.
            switch (reinterpret_cast<std::uintptr_t>(argument)) {
                case KVM_CAP_DIRTY_LOG_RING:
                case kvm::abi::cap_dirty_log_ring_acq_rel:
                    return fake_ring_bytes;
                case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
                    return KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
                case KVM_CAP_XSAVE2:
                    return 4096;
                default:
                    return 1;
            }
        case KVM_CREATE_VM:
        case KVM_GET_STATS_FD:
            return make_descriptor().release();
        case KVM_CREATE_VCPU:
            return make_vcpu_descriptor().release();
        case KVM_CREATE_DEVICE:
            // SAFETY: this request's argument is a kvm_create_device.
            static_cast<kvm_create_device*>(argument)->fd =
                static_cast<std::uint32_t>(make_descriptor().release());
            return 0;
        case kvm::abi::get_msrs:
        case kvm::abi::set_msrs:
            // SAFETY: these requests' argument begins with a MsrsHeader.
            return static_cast<int>(static_cast<kvm::abi::MsrsHeader*>(argument)->count);
        default:
            return 0;
    }
}

}  // namespace dirtyring
