// SPDX-License-Identifier: MIT
//
// Why a vCPU comes back from KVM_RUN.
#include "dirtyring/kvm/run.hpp"

#include <pthread.h>

#include <cerrno>
#include <thread>

#include "kvm_fixture.hpp"
#include "small_guest.hpp"

namespace dirtyring {
namespace {

using RunTest = KvmTest;

TEST_F(RunTest, OutGivesThePortAndTheData) {
    SmallGuest guest(system(), {0xb8, 0x34, 0x12,  // mov ax, 0x1234
                                0xba, 0x78, 0x05,  // mov dx, 0x578
                                0xef});            // out dx, ax
    const auto exit = guest.run_to<kvm::IoExit>();
    EXPECT_TRUE(exit.out);
    EXPECT_EQ(exit.port, 0x578);
    EXPECT_EQ(exit.size, 2);
    EXPECT_EQ(exit.count, 1U);
    ASSERT_EQ(exit.data.size(), 2U);
    EXPECT_EQ(exit.data[0], std::byte{0x34});
    EXPECT_EQ(exit.data[1], std::byte{0x12});
}

TEST_F(RunTest, InTakesTheAnswerFromData) {
    SmallGuest guest(system(), {0xe4, 0x60,    // in al, 0x60
                                0xe6, 0x61});  // out 0x61, al
    const auto in = guest.run_to<kvm::IoExit>();
    EXPECT_FALSE(in.out);
    EXPECT_EQ(in.port, 0x60);
    ASSERT_EQ(in.data.size(), 1U);
    in.data[0] = std::byte{0x5a};
    const auto out = guest.run_to<kvm::IoExit>();
    EXPECT_EQ(out.port, 0x61);
    ASSERT_EQ(out.data.size(), 1U);
    EXPECT_EQ(out.data[0], std::byte{0x5a});
}

TEST_F(RunTest, AnAccessToMemoryWithoutASlotIsMmio) {
    SmallGuest guest(system(), {0xb8, 0x00, 0xf0,    // mov ax, 0xf000
                                0x8e, 0xd8,          // mov ds, ax
                                0xa0, 0x10, 0x00,    // mov al, [0x10]: address 0xf0010
                                0xa2, 0x20, 0x00});  // mov [0x20], al
    const auto read = guest.run_to<kvm::MmioExit>();
    EXPECT_FALSE(read.write);
    EXPECT_EQ(read.address, 0xf0010U);
    ASSERT_EQ(read.data.size(), 1U);
    read.data[0] = std::byte{0x77};
    const auto write = guest.run_to<kvm::MmioExit>();
    EXPECT_TRUE(write.write);
    EXPECT_EQ(write.address, 0xf0020U);
    ASSERT_EQ(write.data.size(), 1U);
    EXPECT_EQ(write.data[0], std::byte{0x77});
}

TEST_F(RunTest, Hlt) {
    SmallGuest guest(system(), {0xf4});
    guest.run_to<kvm::HltExit>();
    EXPECT_EQ(must(guest.vcpu.get_regs()).rip, SmallGuest::entry + 1);
}

TEST_F(RunTest, ATripleFaultIsAShutdown) {
    SmallGuest guest(system(), {0x0f, 0x0b});  // ud2
    // Protected mode without a single vector: the fault, the double fault and the triple fault
    // follow one another. Real mode would do without a limit.
    kvm_sregs sregs = must(guest.vcpu.get_sregs());
    sregs.cr0 |= 1;
    for (kvm_segment* segment : {&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss}) {
        segment->selector = 8;
        segment->limit = 0xffffffff;
        segment->type = segment == &sregs.cs ? 11 : 3;
        segment->db = 1;
        segment->g = 1;
    }
    sregs.idt.limit = 0;
    must(guest.vcpu.set_sregs(sregs));
    guest.run_to<kvm::ShutdownExit>();
}

TEST_F(RunTest, RequestedExitComesBeforeTheGuestRuns) {
    SmallGuest guest(system(), {0xf4});
    guest.run.request_exit();
    guest.run_to<kvm::IntrExit>();
    EXPECT_EQ(must(guest.vcpu.get_regs()).rip, SmallGuest::entry) << "the guest has run";
    guest.run.clear_exit_request();
    guest.run_to<kvm::HltExit>();
}

void ignore_signal(int) {}

TEST_F(RunTest, RequestAndSignalEndARunInProgress) {
    struct sigaction action{};
    action.sa_handler = ignore_signal;
    struct sigaction before{};
    ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
    SmallGuest guest(system(), {0xe6, 0x10,    // out 0x10, al
                                0xeb, 0xfe});  // jmp $
    guest.run_to<kvm::IoExit>();               // so that the loop is all that is left
    const pthread_t runner = pthread_self();
    std::jthread kicker([&] {
        guest.run.request_exit();
        pthread_kill(runner, SIGUSR1);
    });
    guest.run_to<kvm::IntrExit>();
    kicker.join();
    ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

TEST_F(RunTest, AVcpuAdoptedWithoutASizeSaysSo) {
    const kvm::Vm vm = must(system().create_vm());
    kvm::Vm same = kvm::Vm::adopt(vm.fd().ref());
    const kvm::Vcpu vcpu = must(same.create_vcpu(0));
    const Result<kvm::Run> run = kvm::Run::map(vcpu);
    ASSERT_FALSE(run);
    EXPECT_EQ(run.error().code, EINVAL);
    EXPECT_NE(run.error().message().find("vcpu_mmap_size"), std::string::npos);
}

}  // namespace
}  // namespace dirtyring
