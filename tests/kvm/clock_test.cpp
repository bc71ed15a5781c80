// SPDX-License-Identifier: MIT
//
// A guest's clocks, and the addresses that Intel hosts want.
#include <cerrno>

#include "kvm_fixture.hpp"
#include "small_guest.hpp"

namespace dirtyring {
namespace {

using ClockTest = KvmTest;

TEST_F(ClockTest, KvmclockGoesOnFromWhereItWasSet) {
    const kvm::Vm vm = must(system().create_vm());
    constexpr std::uint64_t day = 86'400ULL * 1'000'000'000;
    kvm_clock_data clock{};
    clock.clock = day;
    must(vm.set_clock(clock));
    const std::uint64_t first = must(vm.get_clock()).clock;
    const std::uint64_t second = must(vm.get_clock()).clock;
    EXPECT_GE(first, day);
    EXPECT_LT(first, day + day);
    EXPECT_GE(second, first);
}

TEST_F(ClockTest, AnUnknownClockFlagIsRefused) {
    const kvm::Vm vm = must(system().create_vm());
    kvm_clock_data clock{};
    clock.flags = 0x80000000;
    const Result<void> set = vm.set_clock(clock);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, EINVAL);
    EXPECT_NE(set.error().message().find("KVM_SET_CLOCK"), std::string::npos);
}

TEST_F(ClockTest, TheFrequencyOfAVcpuIsReadAsItWasWritten) {
    const SmallGuest guest(system(), {0xf4});
    const std::uint32_t khz = must(guest.vcpu.get_tsc_khz());
    EXPECT_GT(khz, 100'000U);
    must(guest.vcpu.set_tsc_khz(khz));
    EXPECT_EQ(must(guest.vcpu.get_tsc_khz()), khz);
}

TEST_F(ClockTest, AFrequencyFarOffIsRefusedWhereTheCpuCannotScale) {
    if (has(KVM_CAP_TSC_CONTROL)) {
        GTEST_SKIP() << "this host's CPU can scale the TSC (KVM_CAP_TSC_CONTROL)";
    }
    const SmallGuest guest(system(), {0xf4});
    const Result<void> set = guest.vcpu.set_tsc_khz(1000);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, EINVAL);
    EXPECT_NE(set.error().message().find("KVM_SET_TSC_KHZ(1000)"), std::string::npos);
}

TEST_F(ClockTest, TheFrequencyOfAVmIsThatOfItsVcpus) {
    kvm::Vm vm = must(system().create_vm());
    const std::uint32_t host_khz = must(vm.get_tsc_khz());
    EXPECT_GT(host_khz, 100'000U);
    const std::uint32_t khz = has(KVM_CAP_VM_TSC_CONTROL) ? host_khz / 2 : host_khz;
    must(vm.set_tsc_khz(khz));
    EXPECT_EQ(must(vm.get_tsc_khz()), khz);
    EXPECT_EQ(must(must(vm.create_vcpu(0)).get_tsc_khz()), khz);
}

// struct pvclock_vcpu_time_info: its flags, and that of a guest that was stopped.
constexpr std::uint64_t pvclock = 0x4000;
constexpr std::size_t pvclock_flags = 29;
constexpr std::byte pvclock_guest_stopped{2};
constexpr std::uint32_t msr_kvm_system_time_new = 0x4b564d01;

TEST_F(ClockTest, KvmclockCtrlTellsTheGuestThatItWasStopped) {
    SmallGuest guest(system(), {0xe6, 0x10,    // out 0x10, al
                                0xe6, 0x11});  // out 0x11, al
    const Result<void> unused = guest.vcpu.kvmclock_ctrl();
    ASSERT_FALSE(unused);
    EXPECT_EQ(unused.error().code, EINVAL);

    must(guest.vcpu.set_cpuid2(must(system().get_supported_cpuid())));
    const kvm_msr_entry enable{msr_kvm_system_time_new, 0, pvclock | 1};
    must(guest.vcpu.set_msrs({&enable, 1}));
    guest.run_to<kvm::IoExit>();
    const std::byte& flags = guest.memory.data()[pvclock + pvclock_flags];
    EXPECT_EQ(flags & pvclock_guest_stopped, std::byte{0});
    must(guest.vcpu.kvmclock_ctrl());
    guest.run_to<kvm::IoExit>();
    EXPECT_EQ(flags & pvclock_guest_stopped, pvclock_guest_stopped);
}

TEST_F(ClockTest, TssAndIdentityMapAddressesAreTaken) {
    const kvm::Vm vm = must(system().create_vm());
    must(vm.set_identity_map_addr(0xfeffc000));
    must(vm.set_tss_addr(0xfeffd000));
}

TEST_F(ClockTest, ATssAddressMustLieBelow4GiB) {
    const kvm::Vm vm = must(system().create_vm());
    const Result<void> set = vm.set_tss_addr(0xfffff000);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, EINVAL);
    EXPECT_NE(set.error().message().find("KVM_SET_TSS_ADDR(4294963200)"), std::string::npos);
}

TEST_F(ClockTest, AnIdentityMapAddressComesBeforeTheFirstVcpu) {
    const SmallGuest guest(system(), {0xf4});
    const Result<void> set = guest.vm.set_identity_map_addr(0xfeffc000);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, EINVAL);
}

}  // namespace
}  // namespace dirtyring
