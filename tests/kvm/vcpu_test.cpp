// SPDX-License-Identifier: MIT
//
// A vCPU's state: what is set is what is read, and what the guest sees.
#include "dirtyring/kvm/vcpu.hpp"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ios>

#include "kvm_fixture.hpp"
#include "small_guest.hpp"

namespace dirtyring {
namespace {

using VcpuTest = KvmTest;

/// The call has failed with EINVAL, and its message has this in it.
template <typename T>
void expect_invalid(const Result<T>& result, const std::string& text) {
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, EINVAL) << result.error().message();
    EXPECT_NE(result.error().message().find(text), std::string::npos) << result.error().message();
}

TEST_F(VcpuTest, AnIdIsUsedOnce) {
    kvm::Vm vm = must(system().create_vm());
    const kvm::Vcpu vcpu = must(vm.create_vcpu(7));
    const Result<kvm::Vcpu> again = vm.create_vcpu(7);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EEXIST);
    EXPECT_NE(again.error().message().find("KVM_CREATE_VCPU(7)"), std::string::npos);
    expect_invalid(vm.create_vcpu(static_cast<std::uint32_t>(must(system().max_vcpu_id()))),
                   "KVM_CREATE_VCPU");
}

TEST_F(VcpuTest, Regs) {
    SmallGuest guest(system(), {0x40,          // inc ax
                                0xe6, 0x10});  // out 0x10, al
    kvm_regs regs = must(guest.vcpu.get_regs());
    regs.rax = 0x41;
    regs.r15 = 0x1122334455667788;
    must(guest.vcpu.set_regs(regs));
    EXPECT_EQ(must(guest.vcpu.get_regs()).r15, 0x1122334455667788U);
    EXPECT_EQ(guest.run_to<kvm::IoExit>().data[0], std::byte{0x42});
}

TEST_F(VcpuTest, Sregs) {
    const SmallGuest guest(system(), {0xf4});
    kvm_sregs sregs = must(guest.vcpu.get_sregs());
    sregs.fs.base = 0x123450;
    sregs.cr3 = 0x5000;
    must(guest.vcpu.set_sregs(sregs));
    const kvm_sregs read = must(guest.vcpu.get_sregs());
    EXPECT_EQ(read.fs.base, 0x123450U);
    EXPECT_EQ(read.cr3, 0x5000U);
}

TEST_F(VcpuTest, SregsOfNoCpuAreRefused) {
    const SmallGuest guest(system(), {0xf4});
    kvm_sregs sregs = must(guest.vcpu.get_sregs());
    sregs.cr0 |= 0x80000000;  // paging without protection
    expect_invalid(guest.vcpu.set_sregs(sregs), "KVM_SET_SREGS");
}

TEST_F(VcpuTest, Sregs2) {
    if (!has(KVM_CAP_SREGS2)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_SREGS2";
    }
    const SmallGuest guest(system(), {0xf4});
    kvm_sregs2 sregs = must(guest.vcpu.get_sregs2());
    sregs.gs.base = 0x654320;
    must(guest.vcpu.set_sregs2(sregs));
    EXPECT_EQ(must(guest.vcpu.get_sregs2()).gs.base, 0x654320U);
    EXPECT_EQ(must(guest.vcpu.get_sregs()).gs.base, 0x654320U);
}

TEST_F(VcpuTest, Fpu) {
    const SmallGuest guest(system(), {0xf4});
    kvm_fpu fpu = must(guest.vcpu.get_fpu());
    fpu.fcw = 0x27f;
    fpu.xmm[3][5] = 0x99;
    must(guest.vcpu.set_fpu(fpu));
    const kvm_fpu read = must(guest.vcpu.get_fpu());
    EXPECT_EQ(read.fcw, 0x27f);
    EXPECT_EQ(read.xmm[3][5], 0x99);
}

// Where XMM1 begins in an XSAVE area, and the features that the area has (its header's first word).
constexpr std::size_t xsave_xmm1 = 160 + 16;
constexpr std::size_t xsave_features = 512;
constexpr std::byte xsave_feature_sse{2};

void expect_xsave_round_trip(const kvm::Vcpu& vcpu, std::size_t bytes) {
    std::vector<std::byte> area = must(vcpu.get_xsave());
    ASSERT_EQ(area.size(), bytes);
    area[xsave_xmm1] = std::byte{0x77};
    area[xsave_features] |= xsave_feature_sse;
    must(vcpu.set_xsave(area));
    EXPECT_EQ(must(vcpu.get_xsave())[xsave_xmm1], std::byte{0x77});
    EXPECT_EQ(must(vcpu.get_fpu()).xmm[1][0], 0x77);
}

TEST_F(VcpuTest, XsaveInItsFullSize) {
    const SmallGuest guest(system(), {0xf4});
    const std::size_t bytes = must(guest.vm.xsave_size());
    if (bytes == 0) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_XSAVE2 (Linux 5.17)";
    }
    EXPECT_GE(bytes, 4096U);
    expect_xsave_round_trip(guest.vcpu, bytes);
}

TEST_F(VcpuTest, XsaveOfAVcpuAdoptedWithoutTheSize) {
    const SmallGuest guest(system(), {0xf4});
    if (must(guest.vm.xsave_size()) > 4096) {
        GTEST_SKIP() << "this process's guests have more than 4096 bytes of XSAVE area";
    }
    const kvm::Vcpu adopted = kvm::Vcpu::adopt(guest.vcpu.fd().ref());
    expect_xsave_round_trip(adopted, 4096);
}

TEST_F(VcpuTest, AShortXsaveAreaNeverReachesTheKernel) {
    const SmallGuest guest(system(), {0xf4});
    const std::vector<std::byte> area(4095);
    expect_invalid(guest.vcpu.set_xsave(area), "the area has 4095 bytes, the vCPU's has 4096");
}

TEST_F(VcpuTest, Xcrs) {
    if (!has(KVM_CAP_XCRS)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_XCRS";
    }
    const SmallGuest guest(system(), {0xf4});
    must(guest.vcpu.set_cpuid2(must(system().get_supported_cpuid())));
    kvm_xcrs xcrs = must(guest.vcpu.get_xcrs());
    ASSERT_EQ(xcrs.nr_xcrs, 1U);
    xcrs.xcrs[0].value = 3;  // x87 and SSE
    must(guest.vcpu.set_xcrs(xcrs));
    EXPECT_EQ(must(guest.vcpu.get_xcrs()).xcrs[0].value, 3U);
    xcrs.xcrs[0].value = 2;  // no CPU goes without x87
    expect_invalid(guest.vcpu.set_xcrs(xcrs), "KVM_SET_XCRS");
}

constexpr std::uint32_t msr_sysenter_esp = 0x175;
constexpr std::uint32_t msr_sysenter_eip = 0x176;
constexpr std::uint32_t no_msr = 0xdeadbeef;

TEST_F(VcpuTest, Msrs) {
    const SmallGuest guest(system(), {0xf4});
    const kvm_msr_entry msrs[] = {{msr_sysenter_esp, 0, 0x8000}, {msr_sysenter_eip, 0, 0x9000}};
    must(guest.vcpu.set_msrs(msrs));
    const std::uint32_t indices[] = {msr_sysenter_eip, msr_sysenter_esp};
    const std::vector<kvm_msr_entry> read = must(guest.vcpu.get_msrs(indices));
    ASSERT_EQ(read.size(), 2U);
    EXPECT_EQ(read[0].data, 0x9000U);
    EXPECT_EQ(read[1].data, 0x8000U);
}

TEST_F(VcpuTest, SettingMsrsStopsAtTheOneThatIsRefused) {
    const SmallGuest guest(system(), {0xf4});
    const kvm_msr_entry msrs[] = {
        {msr_sysenter_esp, 0, 1}, {no_msr, 0, 0x10}, {msr_sysenter_eip, 0, 2}};
    expect_invalid(guest.vcpu.set_msrs(msrs), "set 1 of 3 and stopped at MSR 0xdeadbeef");
    const std::uint32_t indices[] = {msr_sysenter_esp, msr_sysenter_eip};
    const std::vector<kvm_msr_entry> read = must(guest.vcpu.get_msrs(indices));
    EXPECT_EQ(read.at(0).data, 1U);
    EXPECT_EQ(read.at(1).data, 0U);
}

TEST_F(VcpuTest, ReadingMsrsStopsAtTheOneThatIsRefused) {
    const SmallGuest guest(system(), {0xf4});
    const std::uint32_t indices[] = {msr_sysenter_esp, no_msr, msr_sysenter_eip};
    EXPECT_EQ(must(guest.vcpu.get_msrs(indices)).size(), 1U);
}

TEST_F(VcpuTest, TheGuestSeesItsCpuid) {
    SmallGuest guest(system(), {0x66, 0x31, 0xc0,  // xor eax, eax
                                0x66, 0x31, 0xc9,  // xor ecx, ecx
                                0x0f, 0xa2,        // cpuid
                                0x88, 0xd8,        // mov al, bl
                                0xe6, 0x10});      // out 0x10, al
    std::vector<kvm_cpuid_entry2> cpuid = must(system().get_supported_cpuid());
    const auto vendor = std::ranges::find(cpuid, 0U, &kvm_cpuid_entry2::function);
    ASSERT_NE(vendor, cpuid.end());
    vendor->ebx = 0x5a;
    must(guest.vcpu.set_cpuid2(cpuid));
    const std::vector<kvm_cpuid_entry2> read = must(guest.vcpu.get_cpuid2());
    const auto is_in = [](const std::vector<kvm_cpuid_entry2>& all, const kvm_cpuid_entry2& leaf) {
        return std::ranges::any_of(all, [&](const kvm_cpuid_entry2& other) {
            return other.function == leaf.function && other.index == leaf.index;
        });
    };
    for (const kvm_cpuid_entry2& leaf : read) {
        EXPECT_TRUE(is_in(cpuid, leaf)) << std::hex << leaf.function << "." << leaf.index;
    }
    for (const kvm_cpuid_entry2& leaf : cpuid) {
        // Leaves that say nothing may be missing: kvm_pvm leaves out those of AMX and AVX10.
        const bool says_something = (leaf.eax | leaf.ebx | leaf.ecx | leaf.edx) != 0;
        EXPECT_TRUE(!says_something || is_in(read, leaf))
            << std::hex << leaf.function << "." << leaf.index;
    }
    EXPECT_EQ(guest.run_to<kvm::IoExit>().data[0], std::byte{0x5a});
}

TEST_F(VcpuTest, MoreCpuidThanTheKernelTakesIsRefused) {
    const SmallGuest guest(system(), {0xf4});
    const std::vector<kvm_cpuid_entry2> many(257);
    const Result<void> set = guest.vcpu.set_cpuid2(many);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, E2BIG);
    EXPECT_NE(set.error().message().find("KVM_SET_CPUID2"), std::string::npos);
}

TEST_F(VcpuTest, DebugRegisters) {
    const SmallGuest guest(system(), {0xf4});
    kvm_debugregs debugregs = must(guest.vcpu.get_debugregs());
    debugregs.db[2] = 0x4567;
    must(guest.vcpu.set_debugregs(debugregs));
    EXPECT_EQ(must(guest.vcpu.get_debugregs()).db[2], 0x4567U);
    debugregs.flags = 1;
    expect_invalid(guest.vcpu.set_debugregs(debugregs), "KVM_SET_DEBUGREGS");
}

TEST_F(VcpuTest, ASingleStepIsADebugExit) {
    SmallGuest guest(system(), {0x90, 0x90, 0xf4});  // nop; nop; hlt
    kvm_guest_debug debug{};
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    must(guest.vcpu.set_guest_debug(debug));
    EXPECT_EQ(guest.run_to<kvm::DebugExit>().pc, SmallGuest::entry + 1);
    EXPECT_EQ(guest.run_to<kvm::DebugExit>().pc, SmallGuest::entry + 2);
    must(guest.vcpu.set_guest_debug({}));
    guest.run_to<kvm::HltExit>();
}

TEST_F(VcpuTest, Events) {
    const SmallGuest guest(system(), {0xf4});
    kvm_vcpu_events events = must(guest.vcpu.get_vcpu_events());
    EXPECT_EQ(events.nmi.pending, 0);
    events.nmi.pending = 1;
    events.nmi.masked = 1;
    events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
    must(guest.vcpu.set_vcpu_events(events));
    EXPECT_EQ(must(guest.vcpu.get_vcpu_events()).nmi.pending, 1);
    EXPECT_EQ(must(guest.vcpu.get_vcpu_events()).nmi.masked, 1);
    events.flags = 0x80000000;
    expect_invalid(guest.vcpu.set_vcpu_events(events), "KVM_SET_VCPU_EVENTS");
}

TEST_F(VcpuTest, MpState) {
    kvm::Vm vm = must(system().create_vm());
    must(vm.create_irqchip());
    const kvm::Vcpu boot = must(vm.create_vcpu(0));
    const kvm::Vcpu other = must(vm.create_vcpu(1));
    EXPECT_EQ(must(boot.get_mp_state()).mp_state, static_cast<__u32>(KVM_MP_STATE_RUNNABLE));
    EXPECT_EQ(must(other.get_mp_state()).mp_state, static_cast<__u32>(KVM_MP_STATE_UNINITIALIZED));
    must(other.set_mp_state({KVM_MP_STATE_HALTED}));
    EXPECT_EQ(must(other.get_mp_state()).mp_state, static_cast<__u32>(KVM_MP_STATE_HALTED));
}

TEST_F(VcpuTest, MpStateWithoutControllersIsRunnableOnly) {
    const SmallGuest guest(system(), {0xf4});
    expect_invalid(guest.vcpu.set_mp_state({KVM_MP_STATE_UNINITIALIZED}), "KVM_SET_MP_STATE");
}

TEST_F(VcpuTest, NestedState) {
    const int most = must(system().check_extension(KVM_CAP_NESTED_STATE));
    if (most == 0) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_NESTED_STATE";
    }
    const SmallGuest guest(system(), {0xf4});
    must(guest.vcpu.set_cpuid2(must(system().get_supported_cpuid())));
    std::vector<std::byte> state = must(guest.vcpu.get_nested_state());
    EXPECT_GE(state.size(), sizeof(kvm::abi::NestedStateHeader));
    EXPECT_LE(state.size(), static_cast<std::size_t>(most));
    kvm::abi::NestedStateHeader header{};
    std::memcpy(&header, state.data(), sizeof header);
    EXPECT_EQ(header.size, state.size());
    must(guest.vcpu.set_nested_state(state));
}

TEST_F(VcpuTest, ANestedStateShorterThanItSaysNeverReachesTheKernel) {
    const SmallGuest guest(system(), {0xf4});
    kvm::abi::NestedStateHeader header{};
    header.size = 4096;
    const auto bytes = std::as_bytes(std::span(&header, 1));
    expect_invalid(guest.vcpu.set_nested_state(bytes), "has 128 bytes, its header says 4096");
    expect_invalid(guest.vcpu.set_nested_state(bytes.first(7)), "has 7 bytes");
}

// KVM_X86_REG_MSR (Linux 6.18), which the header lacks.
constexpr std::uint64_t one_reg_msr(std::uint32_t index) {
    return KVM_REG_X86 | KVM_REG_SIZE_U64 | std::uint64_t{2} << 32 | index;
}

TEST_F(VcpuTest, OneReg) {
    if (!has(KVM_CAP_ONE_REG)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_ONE_REG (on x86-64 from Linux 6.18 on)";
    }
    const SmallGuest guest(system(), {0xf4});
    const std::uint64_t set = 0x8765;
    must(guest.vcpu.set_one_reg(one_reg_msr(msr_sysenter_eip), std::as_bytes(std::span(&set, 1))));
    std::uint64_t read = 0;
    must(guest.vcpu.get_one_reg(one_reg_msr(msr_sysenter_eip),
                                std::as_writable_bytes(std::span(&read, 1))));
    EXPECT_EQ(read, set);
    EXPECT_EQ(must(guest.vcpu.get_msrs({&msr_sysenter_eip, 1})).at(0).data, set);
}

TEST_F(VcpuTest, OneRegOfAnotherSizeNeverReachesTheKernel) {
    const SmallGuest guest(system(), {0xf4});
    std::uint32_t value = 0;
    expect_invalid(guest.vcpu.get_one_reg(one_reg_msr(msr_sysenter_eip),
                                          std::as_writable_bytes(std::span(&value, 1))),
                   "KVM_GET_ONE_REG(0x2030000200000176): the value has 4 bytes, the register 8");
    expect_invalid(
        guest.vcpu.set_one_reg(one_reg_msr(msr_sysenter_eip), std::as_bytes(std::span(&value, 1))),
        "KVM_SET_ONE_REG(0x2030000200000176): the value has 4 bytes, the register 8");
}

TEST_F(VcpuTest, RegListIsWhatOneRegReads) {
    const SmallGuest guest(system(), {0xf4});
    const Result<std::vector<std::uint64_t>> list = guest.vcpu.get_reg_list();
    if (!list) {
        ASSERT_FALSE(has(KVM_CAP_ONE_REG)) << list.error().message();
        GTEST_SKIP() << "this host's KVM has no KVM_GET_REG_LIST (on x86-64 from Linux 6.18 on)";
    }
    for (const std::uint64_t id : *list) {
        std::array<std::byte, 256> value{};
        const std::size_t size = std::size_t{1} << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
        EXPECT_TRUE(guest.vcpu.get_one_reg(id, std::span(value).first(size))) << id;
    }
}

TEST_F(VcpuTest, TranslateWithoutPagingIsTheSameAddress) {
    const SmallGuest guest(system(), {0xf4});
    const kvm_translation translation = must(guest.vcpu.translate(0x2345));
    EXPECT_EQ(translation.valid, 1);
    EXPECT_EQ(translation.physical_address, 0x2345U);
}

/// A signal of this thread that is pending and blocked, for as long as it lives.
class PendingSignal {
  public:
    explicit PendingSignal(int signal) {
        sigemptyset(&set_);
        sigaddset(&set_, signal);
        pthread_sigmask(SIG_BLOCK, &set_, &before_);
        pthread_kill(pthread_self(), signal);
    }
    ~PendingSignal() {
        int taken = 0;
        sigwait(&set_, &taken);
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    PendingSignal(const PendingSignal&) = delete;
    PendingSignal& operator=(const PendingSignal&) = delete;

  private:
    sigset_t set_{};
    sigset_t before_{};
};

TEST_F(VcpuTest, TheSignalMaskDecidesWhichSignalEndsARun) {
    SmallGuest guest(system(), {0xf4});
    const PendingSignal pending(SIGUSR1);
    sigset_t none{};
    sigemptyset(&none);
    must(guest.vcpu.set_signal_mask(none));
    guest.run_to<kvm::IntrExit>();
    must(guest.vcpu.clear_signal_mask());
    guest.run_to<kvm::HltExit>();
}

}  // namespace
}  // namespace dirtyring
