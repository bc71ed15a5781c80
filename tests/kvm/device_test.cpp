// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/device.hpp"

#include <cerrno>

#include "dirtyring/probe.hpp"
#include "kvm_fixture.hpp"

namespace dirtyring {
namespace {

using DeviceTest = KvmTest;

// Documentation/virt/kvm/devices/vfio.rst: group KVM_DEV_VFIO_FILE (once _GROUP), attribute _ADD.
constexpr std::uint32_t vfio_file = 1;
constexpr std::uint64_t vfio_file_add = 1;

TEST_F(DeviceTest, AVfioDeviceHasItsAttributesAndNoOther) {
    const kvm::Vm vm = must(system().create_vm());
    const Result<kvm::Device> device = vm.create_device(KVM_DEV_TYPE_VFIO);
    if (!device && device.error().code == ENODEV) {
        GTEST_SKIP() << "this host's kernel is built without CONFIG_KVM_VFIO";
    }
    ASSERT_TRUE(device) << device.error().message();
    EXPECT_TRUE(must(device->has_attr(vfio_file, vfio_file_add)));
    EXPECT_FALSE(must(device->has_attr(vfio_file, 99)));
    const Result<void> added = device->set_attr(vfio_file, vfio_file_add, std::int32_t{-1});
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().code, EBADF) << "the attribute's data is a descriptor, here none";
    EXPECT_NE(added.error().message().find("KVM_SET_DEVICE_ATTR"), std::string::npos);
}

TEST_F(DeviceTest, AnUnknownTypeIsRefused) {
    const kvm::Vm vm = must(system().create_vm());
    const Result<kvm::Device> device = vm.create_device(9999);
    ASSERT_FALSE(device);
    EXPECT_EQ(device.error().code, ENODEV);
    EXPECT_NE(device.error().message().find("KVM_CREATE_DEVICE"), std::string::npos);
}

TEST_F(DeviceTest, AVcpusAttributesAreReadAsTheyWereWritten) {
    if (!has(KVM_CAP_VCPU_ATTRIBUTES)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_VCPU_ATTRIBUTES";
    }
    kvm::Vm vm = must(system().create_vm());
    const kvm::Vcpu vcpu = must(vm.create_vcpu(0));
    const kvm::Device attributes = kvm::Device::adopt(vcpu.fd().ref());
    ASSERT_TRUE(must(attributes.has_attr(KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET)));
    must(attributes.set_attr(KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, std::uint64_t{123'456}));
    const auto offset =
        must(attributes.get_attr<std::uint64_t>(KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET));
    if (offset == 0 && must(probe(system())).kvm_module == "kvm_pvm") {
        GTEST_SKIP() << "kvm_pvm takes a TSC offset and does not keep it";
    }
    EXPECT_EQ(offset, 123'456U);
}

}  // namespace
}  // namespace dirtyring
