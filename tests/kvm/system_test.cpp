// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/system.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "kvm_fixture.hpp"

namespace dirtyring {
namespace {

using SystemTest = KvmTest;

TEST(SystemOpen, AMissingDeviceSaysWhatToDo) {
    const Result<kvm::System> opened = kvm::System::open("/dev/there-is-no-such-device");
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ENOENT);
    EXPECT_NE(opened.error().message().find("/dev/there-is-no-such-device"), std::string::npos);
    EXPECT_NE(opened.error().remedy.find("modprobe"), std::string::npos);
}

TEST(SystemOpen, AnotherDeviceIsNamed) {
    const Result<kvm::System> opened = kvm::System::open("/dev/null");
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ENOTTY);
    EXPECT_NE(opened.error().message().find("/dev/null is not a KVM device"), std::string::npos);
}

TEST_F(SystemTest, ApiVersionIs12) {
    EXPECT_EQ(must(system().api_version()), 12);
}

TEST_F(SystemTest, CheckExtensionKnowsTheBasicOnesAndNoInventedOne) {
    EXPECT_EQ(must(system().check_extension(KVM_CAP_USER_MEMORY)), 1);
    EXPECT_EQ(must(system().check_extension(1'000'000)), 0);
}

TEST_F(SystemTest, TheRunMappingHoldsAKvmRun) {
    EXPECT_GE(must(system().vcpu_mmap_size()), sizeof(kvm_run));
}

TEST_F(SystemTest, LimitsAreInOrder) {
    EXPECT_GE(must(system().recommended_vcpus()), 1);
    EXPECT_GE(must(system().max_vcpus()), must(system().recommended_vcpus()));
    EXPECT_GE(must(system().max_vcpu_id()), must(system().max_vcpus()));
    EXPECT_GE(must(system().memory_slots()), 32);
}

TEST_F(SystemTest, SupportedCpuidHasTheVendorLeafOfThisCpu) {
    const std::vector<kvm_cpuid_entry2> cpuid = must(system().get_supported_cpuid());
    const auto leaf = std::ranges::find(cpuid, 0U, &kvm_cpuid_entry2::function);
    ASSERT_NE(leaf, cpuid.end());
    EXPECT_GE(leaf->eax, 1U) << "leaf 1 must be there";
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    asm("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(0), "c"(0));
    EXPECT_EQ(leaf->ebx, ebx);
    EXPECT_EQ(leaf->ecx, ecx);
    EXPECT_EQ(leaf->edx, edx);
}

TEST_F(SystemTest, EmulatedCpuidIsAList) {
    if (!has(KVM_CAP_EXT_EMUL_CPUID)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_EXT_EMUL_CPUID";
    }
    const std::vector<kvm_cpuid_entry2> cpuid = must(system().get_emulated_cpuid());
    ASSERT_FALSE(cpuid.empty());
    EXPECT_NE(std::ranges::find(cpuid, 1U, &kvm_cpuid_entry2::function), cpuid.end())
        << "KVM emulates MOVBE, a feature of leaf 1, everywhere";
}

constexpr std::uint32_t msr_tsc = 0x10;
constexpr std::uint32_t msr_star = 0xc0000081;
constexpr std::uint32_t no_msr = 0xdeadbeef;

TEST_F(SystemTest, MsrIndexListHasWhatEveryVcpuHas) {
    const std::vector<std::uint32_t> list = must(system().get_msr_index_list());
    EXPECT_NE(std::ranges::find(list, msr_tsc), list.end());
    EXPECT_NE(std::ranges::find(list, msr_star), list.end());
}

TEST_F(SystemTest, FeatureMsrsAreListedAndRead) {
    if (!has(KVM_CAP_GET_MSR_FEATURES)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_GET_MSR_FEATURES";
    }
    const std::vector<std::uint32_t> list = must(system().get_msr_feature_index_list());
    ASSERT_FALSE(list.empty());
    const std::vector<kvm_msr_entry> values = must(system().get_msrs(list));
    ASSERT_EQ(values.size(), list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
        EXPECT_EQ(values[i].index, list[i]);
    }
}

TEST_F(SystemTest, FeatureMsrsStopAtTheFirstThatIsNone) {
    if (!has(KVM_CAP_GET_MSR_FEATURES)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_GET_MSR_FEATURES";
    }
    const std::uint32_t first = must(system().get_msr_feature_index_list()).at(0);
    const std::uint32_t indices[] = {first, no_msr, first};
    EXPECT_EQ(must(system().get_msrs(indices)).size(), 1U);
}

TEST_F(SystemTest, MoreThan256MsrsAtOnceAreRefused) {
    const std::vector<std::uint32_t> many(257, msr_tsc);
    const auto values = system().get_msrs(many);
    ASSERT_FALSE(values);
    EXPECT_EQ(values.error().code, E2BIG);
}

TEST_F(SystemTest, AnUnknownMachineTypeIsRefused) {
    const Result<kvm::Vm> vm = system().create_vm(0x7fff);
    ASSERT_FALSE(vm);
    EXPECT_EQ(vm.error().code, EINVAL);
    EXPECT_NE(vm.error().message().find("KVM_CREATE_VM(32767)"), std::string::npos);
}

TEST_F(SystemTest, AnAdoptedDescriptorIsNotClosed) {
    const kvm::Fd& fd = system().fd();
    {
        const kvm::System borrowed = kvm::System::adopt(fd.ref());
    }
    EXPECT_EQ(must(system().api_version()), 12);
}

}  // namespace
}  // namespace dirtyring
