// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/device.hpp"

namespace dirtyring::kvm {

Result<bool> Device::has_attr(std::uint32_t group, std::uint64_t attr) const {
    Result<void> has =
        set<kvm_device_attr>({KVM_HAS_DEVICE_ATTR, "KVM_HAS_DEVICE_ATTR"}, {0, group, attr, 0});
    if (!has && has.error().code == ENXIO) {
        return false;
    }
    return has.map([] { return true; });
}

Result<void> Device::get(std::uint32_t group, std::uint64_t attr, void* data) const {
    // SAFETY: the kernel writes the attribute's documented type, which get_attr's caller has given.
    return set<kvm_device_attr>({KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR"},
                                {0, group, attr, reinterpret_cast<std::uint64_t>(data)});
}

Result<void> Device::set_from(std::uint32_t group, std::uint64_t attr, const void* data) const {
    // SAFETY: the kernel reads the attribute's documented type, which set_attr's caller has given.
    return set<kvm_device_attr>({KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR"},
                                {0, group, attr, reinterpret_cast<std::uint64_t>(data)});
}

}  // namespace dirtyring::kvm
