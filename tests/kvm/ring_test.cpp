// SPDX-License-Identifier: MIT
//
// A ring is mapped with its true size, whoever made the vCPU: mmap itself accepts any.
#include "dirtyring/ring.hpp"

#include <fcntl.h>

#include <cerrno>

#include "kvm_fixture.hpp"

namespace dirtyring {
namespace {

class RingTest : public KvmTest {
  protected:
    void SetUp() override {
        KvmTest::SetUp();
        if (!IsSkipped() && !has(KVM_CAP_DIRTY_LOG_RING)) {
            GTEST_SKIP() << "this kernel's KVM has no dirty ring";
        }
    }

    // A VM with rings of so many entries; 0 for none.
    [[nodiscard]] kvm::Vm vm(std::uint32_t entries) const {
        kvm::Vm made = must(system().create_vm());
        if (entries != 0) {
            must(made.enable_dirty_ring(entries));
        }
        return made;
    }
};

TEST_F(RingTest, IsMappedWithTheSizeThatItsVmWasGiven) {
    for (const std::uint32_t entries : {1024U, 4096U, 65536U}) {
        kvm::Vm made = vm(entries);
        const kvm::Vcpu vcpu = must(made.create_vcpu(0));
        const Ring ring = must(Ring::map(vcpu));
        EXPECT_EQ(ring.size(), entries);
        EXPECT_TRUE(ring.peek().empty()) << "nothing has run yet";
    }
}

TEST_F(RingTest, OfAForeignVcpuIsFoundToBeAsLargeAsItIs) {
    for (std::uint32_t entries = 1024; entries <= 65536; entries *= 2) {
        kvm::Vm made = vm(entries);
        const kvm::Vcpu vcpu = must(made.create_vcpu(0));
        const Ring ring = must(Ring::adopt(kvm::Fd::borrow(vcpu.fd().get())));
        EXPECT_EQ(ring.size(), entries);
        // Reads every entry: a ring taken for larger than it is would end in SIGBUS here.
        EXPECT_FALSE(ring.out_of_step());
    }
}

TEST_F(RingTest, IsRefusedWhereTheVcpuHasNone) {
    kvm::Vm made = vm(0);
    const kvm::Vcpu vcpu = must(made.create_vcpu(0));
    const Result<Ring> mapped = Ring::map(vcpu);
    ASSERT_FALSE(mapped);
    EXPECT_EQ(mapped.error().code, ENXIO);
    EXPECT_NE(mapped.error().message().find("no dirty ring"), std::string::npos);
    EXPECT_NE(mapped.error().message().find("enable_dirty_ring"), std::string::npos);

    const Result<Ring> adopted = Ring::adopt(vcpu.fd());
    ASSERT_FALSE(adopted);
    EXPECT_EQ(adopted.error().code, ENXIO);
}

TEST_F(RingTest, IsRefusedForWhatIsNoVcpu) {
    const kvm::Vm made = vm(1024);
    EXPECT_FALSE(Ring::adopt(made.fd()));
    const Result<Ring> none = Ring::adopt(kvm::Fd::borrow(-1));
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, EBADF);
    const kvm::Fd file = kvm::Fd::own(::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_FALSE(Ring::adopt(file));
}

TEST_F(RingTest, OutlivesTheDescriptorThatItWasMappedFrom) {
    kvm::Vm made = vm(1024);
    Ring ring = [&] {
        const kvm::Vcpu vcpu = must(made.create_vcpu(0));
        return must(Ring::adopt(vcpu.fd()));
    }();
    EXPECT_TRUE(ring.peek().empty());
}

}  // namespace
}  // namespace dirtyring
