// SPDX-License-Identifier: MIT
//
// Which capability a ring is enabled by, and what is said where the kernel refuses.
#include <gtest/gtest.h>

#include <cerrno>

#include "dirtyring/kvm/vm.hpp"
#include "fake_kvm.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

class EnableDirtyRingUnit : public ::testing::Test {
  protected:
    /// What the kernel says to have, and how it takes the enabling.
    void kernel(int ring_bytes, int acq_rel_bytes, int answer, int with_bitmap = 0) {
        faults_.on_ioctl(KVM_CHECK_EXTENSION, [=](int, void* argument) {
            // SAFETY: this request's argument is a number and is not followed.
            const auto capability = reinterpret_cast<std::uintptr_t>(argument);
            return capability == KVM_CAP_DIRTY_LOG_RING                     ? ring_bytes
                   : capability == kvm::abi::cap_dirty_log_ring_acq_rel     ? acq_rel_bytes
                   : capability == kvm::abi::cap_dirty_log_ring_with_bitmap ? with_bitmap
                                                                            : 0;
        });
        faults_.on_ioctl(KVM_ENABLE_CAP, [this, answer](int, void* argument) {
            // SAFETY: this request's argument is a kvm_enable_cap.
            asked_ = *static_cast<const kvm_enable_cap*>(argument);
            return answer;
        });
    }

    faulty::Faults faults_;
    kvm::Vm vm_ = kvm::Vm::adopt(make_descriptor());
    kvm_enable_cap asked_{};
};

TEST_F(EnableDirtyRingUnit, AcqRelIsPreferred) {
    kernel(1 << 20, 1 << 20, 0);
    must(vm_.enable_dirty_ring(4096));
    EXPECT_EQ(asked_.cap, static_cast<std::uint32_t>(kvm::abi::cap_dirty_log_ring_acq_rel));
    EXPECT_EQ(asked_.args[0], 65'536U) << "the kernel counts bytes";
    EXPECT_EQ(vm_.dirty_ring_entries(), 4096U);
}

TEST_F(EnableDirtyRingUnit, TheOlderCapabilityIsUsedWhereItIsTheOnlyOne) {
    kernel(1 << 20, 0, 0);
    must(vm_.enable_dirty_ring(4096));
    EXPECT_EQ(asked_.cap, static_cast<std::uint32_t>(KVM_CAP_DIRTY_LOG_RING));
}

TEST_F(EnableDirtyRingUnit, WithoutEitherTheKernelIsNotAsked) {
    kernel(0, 0, 0);
    const Result<void> enabled = vm_.enable_dirty_ring(4096);
    ASSERT_FALSE(enabled);
    EXPECT_EQ(enabled.error().code, EOPNOTSUPP);
    EXPECT_EQ(asked_.cap, 0U);
    EXPECT_EQ(vm_.dirty_ring_entries(), 0U);
}

TEST_F(EnableDirtyRingUnit, ARefusalOfASmallRingMentionsPml) {
    kernel(1 << 20, 1 << 20, -EINVAL);
    const Result<void> small = vm_.enable_dirty_ring(512);
    ASSERT_FALSE(small);
    EXPECT_EQ(small.error().code, EINVAL);
    EXPECT_NE(small.error().message().find("PML"), std::string::npos);
    EXPECT_NE(small.error().message().find("1024 entries"), std::string::npos);
    const Result<void> large = vm_.enable_dirty_ring(1024);
    ASSERT_FALSE(large);
    EXPECT_EQ(large.error().message().find("PML"), std::string::npos) << "1024 is enough for that";
    EXPECT_EQ(vm_.dirty_ring_entries(), 0U);
}

TEST_F(EnableDirtyRingUnit, TheBitmapIsEnabledByItsOwnCapability) {
    kernel(0, 1 << 20, 0, 1);
    must(vm_.enable_dirty_ring(4096));
    must(vm_.enable_dirty_ring_bitmap());
    EXPECT_EQ(asked_.cap, static_cast<std::uint32_t>(kvm::abi::cap_dirty_log_ring_with_bitmap));
    EXPECT_EQ(asked_.args[0], 0U);
}

TEST_F(EnableDirtyRingUnit, WithoutABitmapTheKernelIsNotAsked) {
    kernel(1 << 20, 1 << 20, 0, 0);
    const Result<void> enabled = vm_.enable_dirty_ring_bitmap();
    ASSERT_FALSE(enabled);
    EXPECT_EQ(enabled.error().code, EOPNOTSUPP);
    EXPECT_NE(enabled.error().message().find("WITH_BITMAP"), std::string::npos);
    EXPECT_EQ(asked_.cap, 0U);
}

TEST_F(EnableDirtyRingUnit, ARefusalOfTheBitmapSaysWhenToAsk) {
    kernel(0, 1 << 20, -EINVAL, 1);
    const Result<void> enabled = vm_.enable_dirty_ring_bitmap();
    ASSERT_FALSE(enabled);
    EXPECT_EQ(enabled.error().code, EINVAL);
    EXPECT_NE(enabled.error().message().find("no dirty rings yet, or a memory slot already"),
              std::string::npos);
}

}  // namespace
}  // namespace dirtyring
