// SPDX-License-Identifier: MIT
//
// Each reason that KVM_RUN can come back for, as the type that stands for it.
#include <gtest/gtest.h>

#include <cerrno>

#include "dirtyring/kvm/run.hpp"
#include "fake_kvm.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

class ExitTest : public ::testing::Test {
  protected:
    /// The exit that a kernel gives after filling in its kvm_run.
    kvm::Exit exit_after(const std::function<void(kvm_run&)>& fill) {
        faults_.on_ioctl(KVM_RUN, [&](int, void* argument) {
            EXPECT_EQ(argument, nullptr);
            fill(run_.raw());
            return 0;
        });
        return must(run_.run());
    }
    template <typename E>
    E expect(const std::function<void(kvm_run&)>& fill) {
        return std::get<E>(exit_after(fill));
    }

    faulty::Faults faults_;
    kvm::Vcpu vcpu_ = kvm::Vcpu::adopt(make_vcpu_descriptor(), fake_vcpu_mmap_size);
    kvm::Run run_ = must(kvm::Run::map(vcpu_));
};

TEST_F(ExitTest, Io) {
    const auto exit = expect<kvm::IoExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_IO;
        run.io = {KVM_EXIT_IO_OUT, 4, 0x3f8, 3, 0x1000};
    });
    EXPECT_TRUE(exit.out);
    EXPECT_EQ(exit.size, 4);
    EXPECT_EQ(exit.port, 0x3f8);
    EXPECT_EQ(exit.count, 3U);
    EXPECT_EQ(exit.data.size(), 12U);
    EXPECT_EQ(exit.data.data(), std::as_writable_bytes(std::span(&run_.raw(), 1)).data() + 0x1000);
}

TEST_F(ExitTest, IoDataStaysInsideTheMapping) {
    const auto past = expect<kvm::IoExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_IO;
        run.io = {KVM_EXIT_IO_IN, 1, 0, 1, ~std::uint64_t{0}};
    });
    EXPECT_EQ(past.data.size(), 0U);
    const auto over = expect<kvm::IoExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_IO;
        run.io = {KVM_EXIT_IO_IN, 8, 0, ~std::uint32_t{0}, fake_vcpu_mmap_size - 16};
    });
    EXPECT_EQ(over.data.size(), 16U);
}

TEST_F(ExitTest, Mmio) {
    const auto exit = expect<kvm::MmioExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_MMIO;
        run.mmio = {0xfed00000, {1, 2, 3, 4, 5, 6, 7, 8}, 4, 1};
    });
    EXPECT_TRUE(exit.write);
    EXPECT_EQ(exit.address, 0xfed00000U);
    ASSERT_EQ(exit.data.size(), 4U);
    EXPECT_EQ(exit.data[3], std::byte{4});
    const auto longer = expect<kvm::MmioExit>([](kvm_run& run) { run.mmio.len = 99; });
    EXPECT_EQ(longer.data.size(), 8U);
}

TEST_F(ExitTest, ReasonsWithoutData) {
    expect<kvm::HltExit>([](kvm_run& run) { run.exit_reason = KVM_EXIT_HLT; });
    expect<kvm::ShutdownExit>([](kvm_run& run) { run.exit_reason = KVM_EXIT_SHUTDOWN; });
    expect<kvm::RingFullExit>([](kvm_run& run) { run.exit_reason = KVM_EXIT_DIRTY_RING_FULL; });
    expect<kvm::IntrExit>([](kvm_run& run) { run.exit_reason = KVM_EXIT_INTR; });
    expect<kvm::IrqWindowExit>([](kvm_run& run) { run.exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN; });
}

TEST_F(ExitTest, EintrIsAnIntrExitAndNoError) {
    faults_.on_ioctl(KVM_RUN, -EINTR);
    EXPECT_TRUE(std::holds_alternative<kvm::IntrExit>(must(run_.run())));
}

TEST_F(ExitTest, InternalError) {
    const auto exit = expect<kvm::InternalErrorExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
        run.internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
        run.internal.ndata = 2;
        run.internal.data[1] = 0x99;
    });
    EXPECT_EQ(exit.suberror, static_cast<std::uint32_t>(KVM_INTERNAL_ERROR_EMULATION));
    ASSERT_EQ(exit.data.size(), 2U);
    EXPECT_EQ(exit.data[1], 0x99U);
    const auto more =
        expect<kvm::InternalErrorExit>([](kvm_run& run) { run.internal.ndata = 1000; });
    EXPECT_EQ(more.data.size(), std::size(kvm_run{}.internal.data));
}

TEST_F(ExitTest, FailEntryAndUnknown) {
    const auto fail_entry = expect<kvm::FailEntryExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_FAIL_ENTRY;
        run.fail_entry = {0x80000021, 3};
    });
    EXPECT_EQ(fail_entry.hardware_reason, 0x80000021U);
    EXPECT_EQ(fail_entry.cpu, 3U);
    const auto unknown = expect<kvm::UnknownExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_UNKNOWN;
        run.hw.hardware_exit_reason = 77;
    });
    EXPECT_EQ(unknown.hardware_reason, 77U);
}

TEST_F(ExitTest, Debug) {
    const auto exit = expect<kvm::DebugExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_DEBUG;
        run.debug.arch = {1, 0, 0x1234, 0x4000, 0x400};
    });
    EXPECT_EQ(exit.exception, 1U);
    EXPECT_EQ(exit.pc, 0x1234U);
    EXPECT_EQ(exit.dr6, 0x4000U);
    EXPECT_EQ(exit.dr7, 0x400U);
}

TEST_F(ExitTest, MsrAccessIsAnsweredInPlace) {
    const auto exit = expect<kvm::MsrExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_X86_RDMSR;
        run.msr.index = 0x1a0;
        run.msr.reason = KVM_MSR_EXIT_REASON_UNKNOWN;
    });
    EXPECT_FALSE(exit.write);
    EXPECT_EQ(exit.index, 0x1a0U);
    EXPECT_EQ(exit.reason, static_cast<std::uint32_t>(KVM_MSR_EXIT_REASON_UNKNOWN));
    *exit.data = 5;
    *exit.error = 1;
    EXPECT_EQ(run_.raw().msr.data, 5U);
    EXPECT_EQ(run_.raw().msr.error, 1);
    EXPECT_TRUE(
        expect<kvm::MsrExit>([](kvm_run& run) { run.exit_reason = KVM_EXIT_X86_WRMSR; }).write);
}

TEST_F(ExitTest, HypercallIsAnsweredInPlace) {
    const auto exit = expect<kvm::HypercallExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_HYPERCALL;
        run.hypercall.nr = 12;
        run.hypercall.args[5] = 6;
    });
    EXPECT_EQ(exit.number, 12U);
    EXPECT_EQ(exit.arguments[5], 6U);
    *exit.result = 7;
    EXPECT_EQ(run_.raw().hypercall.ret, 7U);
}

TEST_F(ExitTest, SystemEvent) {
    const auto exit = expect<kvm::SystemEventExit>([](kvm_run& run) {
        run.exit_reason = KVM_EXIT_SYSTEM_EVENT;
        run.system_event.type = KVM_SYSTEM_EVENT_RESET;
        run.system_event.ndata = 1;
        run.system_event.data[0] = 8;
    });
    EXPECT_EQ(exit.type, static_cast<std::uint32_t>(KVM_SYSTEM_EVENT_RESET));
    ASSERT_EQ(exit.data.size(), 1U);
    EXPECT_EQ(exit.data[0], 8U);
}

TEST_F(ExitTest, AnyOtherReasonKeepsItsNumber) {
    EXPECT_EQ(expect<kvm::OtherExit>([](kvm_run& run) { run.exit_reason = 4711; }).reason, 4711U);
}

TEST_F(ExitTest, ARequestedExitIsInTheMappingAndTakenBack) {
    run_.request_exit();
    EXPECT_EQ(run_.raw().immediate_exit, 1);
    run_.clear_exit_request();
    EXPECT_EQ(run_.raw().immediate_exit, 0);
}

}  // namespace
}  // namespace dirtyring
