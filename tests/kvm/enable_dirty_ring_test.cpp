// SPDX-License-Identifier: MIT
//
// The rules of enabling, each broken once: the error says which and what is legal, and nothing has
// happened to the VM.
#include <cerrno>

#include "dirtyring/kvm/vm.hpp"
#include "dirtyring/probe.hpp"
#include "kvm_fixture.hpp"

namespace dirtyring {
namespace {

class EnableDirtyRing : public KvmTest {
  protected:
    void SetUp() override {
        KvmTest::SetUp();
        if (IsSkipped()) {
            return;
        }
        const HostFacilities host = must(probe(system()));
        if (host.least_ring == 0) {
            GTEST_SKIP() << "this host's KVM has no dirty ring";
        }
        legal_ = host.least_ring;
        largest_ = host.vm.largest_ring();
    }

    /// A refusal with this cause and remedy, after which a legal size is taken.
    void expect_refused(std::uint32_t entries, int code, const std::string& cause,
                        const std::string& remedy) {
        kvm::Vm vm = must(system().create_vm());
        const Result<void> enabled = vm.enable_dirty_ring(entries);
        ASSERT_FALSE(enabled) << entries << " entries";
        const std::string message = enabled.error().message();
        EXPECT_EQ(enabled.error().code, code) << message;
        EXPECT_NE(message.find(std::to_string(entries)), std::string::npos) << message;
        EXPECT_NE(message.find(cause), std::string::npos) << message;
        EXPECT_NE(message.find(remedy), std::string::npos) << message;
        EXPECT_EQ(vm.dirty_ring_entries(), 0U);
        must(vm.enable_dirty_ring(legal_));
        EXPECT_EQ(must(vm.create_vcpu(0)).dirty_ring_entries(), legal_);
    }

    std::uint32_t legal_ = 0;
    std::uint32_t largest_ = 0;
};

TEST_F(EnableDirtyRing, ZeroOneAnd255AreTooSmall) {
    for (const std::uint32_t entries : {0U, 1U, 255U}) {
        expect_refused(entries, EINVAL, "a ring holds at least 256 entries", "use 256");
    }
}

TEST_F(EnableDirtyRing, OtherThanPowersOfTwoAreRefusedWithTheNearest) {
    expect_refused(300, EINVAL, "a power of two", "use 256");
    expect_refused(400, EINVAL, "a power of two", "use 512");
    expect_refused(3000, EINVAL, "a power of two", "use 2048");
    expect_refused(largest_ - 1, EINVAL, "a power of two", "use " + std::to_string(largest_));
}

TEST_F(EnableDirtyRing, MoreThanTheKernelTakesIsRefusedWithTheMost) {
    const std::string most = std::to_string(largest_);
    expect_refused(largest_ * 2, E2BIG, "at most " + most + " entries", "use " + most);
    expect_refused(largest_ + 1, E2BIG, "at most " + most + " entries", "use " + most);
    expect_refused(~std::uint32_t{0}, E2BIG, "at most " + most + " entries", "use " + most);
}

TEST_F(EnableDirtyRing, TheLeastAndTheMostAreTaken) {
    for (const std::uint32_t entries : {legal_, legal_ * 2, largest_}) {
        kvm::Vm vm = must(system().create_vm());
        must(vm.enable_dirty_ring(entries));
        EXPECT_EQ(vm.dirty_ring_entries(), entries);
        EXPECT_EQ(must(vm.create_vcpu(0)).dirty_ring_entries(), entries);
        EXPECT_EQ(must(vm.reset_dirty_rings()), 0);
    }
}

TEST_F(EnableDirtyRing, TwiceIsOnceTooOften) {
    kvm::Vm vm = must(system().create_vm());
    must(vm.enable_dirty_ring(legal_ * 2));
    const Result<void> again = vm.enable_dirty_ring(legal_);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EINVAL);
    EXPECT_NE(again.error().message().find("already has dirty rings of " +
                                           std::to_string(legal_ * 2) + " entries"),
              std::string::npos)
        << again.error().message();
    EXPECT_EQ(vm.dirty_ring_entries(), legal_ * 2);
}

TEST_F(EnableDirtyRing, AfterAVcpuIsTooLate) {
    kvm::Vm vm = must(system().create_vm());
    const kvm::Vcpu vcpu = must(vm.create_vcpu(0));
    const Result<void> late = vm.enable_dirty_ring(legal_);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code, EINVAL);
    EXPECT_NE(late.error().message().find("already has a vCPU"), std::string::npos);
    EXPECT_NE(late.error().message().find("before the first vCPU"), std::string::npos);
    EXPECT_EQ(vm.dirty_ring_entries(), 0U);
    EXPECT_EQ(must(vm.create_vcpu(1)).dirty_ring_entries(), 0U);
}

// Another program's VM: only the kernel knows what it has, and answers EINVAL.
TEST_F(EnableDirtyRing, AForeignVmWithAVcpuOrRingSaysWhatMayBeWrong) {
    kvm::Vm own = must(system().create_vm());
    kvm::Vm foreign = kvm::Vm::adopt(own.fd().ref());
    const kvm::Vcpu vcpu = must(own.create_vcpu(0));
    const Result<void> late = foreign.enable_dirty_ring(1024);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code, EINVAL);
    const std::string message = late.error().message();
    EXPECT_NE(message.find("KVM_ENABLE_CAP(KVM_CAP_DIRTY_LOG_RING"), std::string::npos) << message;
    EXPECT_NE(message.find("the VM has a vCPU or a ring already"), std::string::npos) << message;
    EXPECT_NE(message.find("1024 entries"), std::string::npos) << message;
}

TEST_F(EnableDirtyRing, TheBitmapIsThereOrTheErrorSaysWhereItIs) {
    kvm::Vm vm = must(system().create_vm());
    must(vm.enable_dirty_ring(legal_));
    const Result<void> enabled = vm.enable_dirty_ring_bitmap();
    if (has(kvm::abi::cap_dirty_log_ring_with_bitmap)) {
        must(enabled);
        return;
    }
    ASSERT_FALSE(enabled);
    EXPECT_EQ(enabled.error().code, EOPNOTSUPP);
    EXPECT_NE(enabled.error().message().find("arm64"), std::string::npos);
}

TEST_F(EnableDirtyRing, ResettingWithoutRingsIsAnError) {
    const kvm::Vm vm = must(system().create_vm());
    const Result<int> reset = vm.reset_dirty_rings();
    ASSERT_FALSE(reset);
    EXPECT_EQ(reset.error().code, EINVAL);
    EXPECT_NE(reset.error().message().find("KVM_RESET_DIRTY_RINGS"), std::string::npos);
}

}  // namespace
}  // namespace dirtyring
