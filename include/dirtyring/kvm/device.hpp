// SPDX-License-Identifier: MIT
//
// A device in the kernel (Vm::create_device), and the attributes that it has.
#pragma once

#include <type_traits>

#include "dirtyring/kvm/ioctl.hpp"

namespace dirtyring::kvm {

/// The same calls work on other descriptors that have attributes: adopt a vCPU's with `fd().ref()`
/// for KVM_VCPU_TSC_CTRL, or /dev/kvm's for KVM_X86_XCOMP_GUEST_SUPP.
///
/// Calls may be made from any thread at any time. Groups, attributes and the type that each has are
/// in the kernel's Documentation/virt/kvm/devices.
///
/// Errors of every call: EBADF (no descriptor), ENOTTY or EINVAL (not a device's), EIO (the VM was
/// made by another process), and what the device adds.
class Device : public Handle {
  public:
    /// Uses a device that somebody else made.
    [[nodiscard]] static Device adopt(Fd fd) noexcept { return Device(std::move(fd)); }

    /// KVM_HAS_DEVICE_ATTR (api.rst 4.81).
    [[nodiscard]] Result<bool> has_attr(std::uint32_t group, std::uint64_t attr) const;

    /// KVM_GET_DEVICE_ATTR (api.rst 4.80). T must be the type that this attribute is documented to
    /// have: the kernel writes that much. Errors: ENXIO (no such attribute), EPERM (not now).
    template <typename T>
    [[nodiscard]] Result<T> get_attr(std::uint32_t group, std::uint64_t attr) const {
        static_assert(std::is_trivially_copyable_v<T>);
        T data{};
        return get(group, attr, &data).map([&] { return data; });
    }
    /// KVM_SET_DEVICE_ATTR (api.rst 4.80). T must be the type that this attribute is documented to
    /// have: the kernel reads that much. Errors: ENXIO (no such attribute), EPERM (not now).
    template <typename T>
    [[nodiscard]] Result<void> set_attr(std::uint32_t group, std::uint64_t attr,
                                        const T& data) const {
        static_assert(std::is_trivially_copyable_v<T>);
        return set_from(group, attr, &data);
    }

  private:
    explicit Device(Fd fd) noexcept : Handle(std::move(fd)) {}

    Result<void> get(std::uint32_t group, std::uint64_t attr, void* data) const;
    Result<void> set_from(std::uint32_t group, std::uint64_t attr, const void* data) const;
};

}  // namespace dirtyring::kvm
