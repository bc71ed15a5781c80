// SPDX-License-Identifier: MIT
//
// What probe says of this host is what this host then does.
#include "dirtyring/probe.hpp"

#include <sys/utsname.h>

#include <cerrno>

#include "kvm_fixture.hpp"

namespace dirtyring {
namespace {

using ProbeTest = KvmTest;

const TrackingSupport& of(const HostFacilities& host, Tracking way) {
    return host.tracking.at(static_cast<std::size_t>(way));
}

TEST_F(ProbeTest, EachWayIsUsableOrSaysWhyNot) {
    const HostFacilities host = must(probe(system()));
    for (std::size_t i = 0; i < host.tracking.size(); ++i) {
        const TrackingSupport& support = host.tracking[i];
        EXPECT_EQ(support.way, static_cast<Tracking>(i));
        EXPECT_EQ(support.why_not.empty(), support.usable) << name(support.way);
    }
    EXPECT_TRUE(of(host, Tracking::bitmap).usable) << of(host, Tracking::bitmap).why_not;
}

TEST_F(ProbeTest, TheRecommendedWayIsUsableAndHasAReason) {
    const HostFacilities host = must(probe(system()));
    ASSERT_TRUE(host.recommended);
    EXPECT_TRUE(of(host, *host.recommended).usable);
    EXPECT_FALSE(host.recommended_why.empty());
}

TEST_F(ProbeTest, RingSizesAreThoseThatTheKernelTakes) {
    const HostFacilities host = must(probe(system()));
    if (!of(host, Tracking::ring).usable) {
        GTEST_SKIP() << "this host's KVM has no dirty ring";
    }
    for (const std::uint32_t entries : {host.least_ring, host.vm.largest_ring()}) {
        kvm::Vm vm = must(system().create_vm());
        must(vm.enable_dirty_ring(entries));
    }
    for (const std::uint32_t entries : {host.least_ring / 2, host.vm.largest_ring() * 2}) {
        kvm::Vm vm = must(system().create_vm());
        EXPECT_FALSE(vm.enable_dirty_ring(entries)) << entries;
    }
}

TEST_F(ProbeTest, TheHostIsNamed) {
    const HostFacilities host = must(probe(system()));
    utsname about{};
    ASSERT_EQ(uname(&about), 0);
    EXPECT_EQ(host.kernel_release, about.release);
    EXPECT_EQ(host.api_version, 12);
    EXPECT_EQ(host.vm.memory_slots, static_cast<std::uint32_t>(must(system().memory_slots())));
    EXPECT_EQ(host.vm.max_vcpus, static_cast<std::uint32_t>(must(system().max_vcpus())));
    EXPECT_GE(host.vm.address_spaces, 1U);
    EXPECT_EQ(host.vm.immediate_exit, has(KVM_CAP_IMMEDIATE_EXIT));
}

TEST_F(ProbeTest, ProbingAVmLeavesItAsItWas) {
    kvm::Vm vm = must(system().create_vm());
    const VmFacilities facilities = must(probe(vm));
    EXPECT_EQ(facilities.memory_slots, static_cast<std::uint32_t>(must(system().memory_slots())));
    EXPECT_EQ(vm.dirty_ring_entries(), 0U);
    if (facilities.largest_ring() != 0) {
        must(vm.enable_dirty_ring(facilities.largest_ring()));
    }
    must(vm.create_vcpu(0));
}

TEST(Probe, AWrongDescriptorIsAnError) {
    const Result<HostFacilities> host = probe(kvm::System::adopt(kvm::Fd::borrow(-1)));
    ASSERT_FALSE(host);
    EXPECT_EQ(host.error().code, EBADF);
    EXPECT_NE(host.error().message().find("KVM_GET_API_VERSION"), std::string::npos);
}

}  // namespace
}  // namespace dirtyring
